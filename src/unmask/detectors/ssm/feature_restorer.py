"""SSM on cached feature maps: hide tokens of a frozen network, restore them from the visible ones, see how far off."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.detectors.ssm.gaussian import LEAST_RIDGE, ConditionalGaussian, fit_gaussian
from unmask.detectors.ssm.painter import Painter, paint
from unmask.errors import SettingError
from unmask.features.maps import CachedValue, Images
from unmask.features.standard_maps import StandardMaps
from unmask.features.subspace import Subspace
from unmask.training.clock import Clock
from unmask.training.trainer import Trainer, generator_for

TOKEN_STRIDE = 16
FOLDS = 4
PAINTED = 100  # images that teach how features look
MOST_IMAGES = 1000  # a Gram matrix of more takes minutes and changes little


class FeatureRestoration(nn.Module):
    """Tokens of all levels of a backbone, and the Gaussian that restores them.

    Args:
        backbone: name for `backbones.load`.
        image_size: pixels along a side.
        cells: sides of the masks' cells, in pixels.
        variance_share: of the features' variance that the Gaussian keeps.
        rank: directions that it keeps, at the most.

    Attributes:
        side: tokens along a side; masks live on this grid.
        cells: sides of the masks' cells, in tokens.
        names: of the terms of the score, one a level.

    Raises:
        SettingError: the sizes do not fit the strides.
    """

    gaussian_mean: Tensor
    gaussian_basis: Tensor
    ridge: Tensor
    brush: Tensor

    def __init__(
        self, backbone: str, image_size: int, *, cells: tuple[int, ...], variance_share: float, rank: int
    ) -> None:
        super().__init__()
        self.maps = StandardMaps(backbone, image_size)
        strides = self.maps.backbone.strides
        deepest = max(TOKEN_STRIDE, *strides)
        if wrong := [cell for cell in cells if cell % deepest]:
            raise SettingError(f"a cell of {wrong[0]} pixels hides no whole feature; give multiples of {deepest}")
        self.side = image_size // TOKEN_STRIDE
        self.cells = tuple(cell // TOKEN_STRIDE for cell in cells)
        self.names = tuple(f"stride {stride}" for stride in strides)
        self.variance_share, self.rank = variance_share, rank
        sides = [min(side, self.side) for _, side in self.maps.shapes]
        self.groups = [  # levels that share a grid: its side, and their channels
            (side, [c for (c, _), own in zip(self.maps.shapes, sides, strict=True) if own == side])
            for side in dict.fromkeys(sides)
        ]
        self.register_buffer("gaussian_mean", torch.empty(0))
        self.register_buffer("gaussian_basis", torch.empty(0, dtype=torch.float16))
        self.register_buffer("ridge", torch.empty(0))
        self.register_buffer("brush", torch.empty(0, dtype=torch.float16))
        self.gaussian = CachedValue(self._gaussian)

    # --- learning ---------------------------------------------------------------------------------------------------

    def learn(self, images: Images, trainer: Trainer) -> None:
        """Encode all images once; fit a Gaussian to all of them, and one without each fold."""
        self.maps.fit(images, trainer.training)
        order = torch.randperm(len(images), generator=generator_for(trainer.training.seed, "gaussian"))[:MOST_IMAGES]
        self.vectors = torch.cat([self._vectors(self.maps.maps_of(rows)) for rows in order.split(64)])
        self.maps.release()
        fold = torch.arange(len(self.vectors)) % FOLDS
        clock = Clock(FOLDS + 1, math.inf)

        def fitted_to(vectors: Tensor) -> tuple[Subspace, Tensor]:
            found = fit_gaussian(vectors, self.variance_share, self.rank)
            clock.tick()
            trainer.training.progress("gaussian", clock.done, clock.steps, clock.seconds_left())
            return found

        fitted = [fitted_to(self.vectors[fold != k]) for k in range(FOLDS)]
        missed = [(x := self.vectors[fold == k]) - one.project(x) for k, (one, _) in enumerate(fitted)]
        noise = torch.cat(missed).pow(2).mean()  # as of new images: a subspace's own images lie too close to it
        self.folds = [ConditionalGaussian(one, _ridge(noise, v), self._layout()) for one, v in fitted]
        whole, variances = fitted_to(self.vectors)
        self.gaussian_mean, self.gaussian_basis = whole.mean, whole.basis.half()
        self.ridge = _ridge(noise, variances)
        painter = Painter()
        for row, vector in zip(order[:PAINTED].tolist(), self.vectors, strict=False):
            painter.add(self._tokens(vector[None]), images[row][None])
        self.brush = painter.solved().half()

    def unseen(self, most: int = 200) -> Iterator[tuple[ConditionalGaussian, Float[Tensor, "b d"]]]:
        """Normal images, each with a Gaussian that was fitted without it."""
        for k, gaussian in enumerate(self.folds):
            for seen in self.vectors[k::FOLDS][: -(-most // FOLDS)].split(8):
                yield gaussian, seen

    def forget_images(self) -> None:
        """Let go of what only learning needs."""
        for name in ("vectors", "folds"):
            self.__dict__.pop(name, None)

    # --- hide, restore, compare -------------------------------------------------------------------------------------

    def look(self, images: Float[Tensor, "b 3 s s"]) -> tuple[ConditionalGaussian, Float[Tensor, "b d"]]:
        """What restores new images, and what it is to restore."""
        return self.look_at(self.maps.features(images))

    def look_at(self, maps: list[Tensor]) -> tuple[ConditionalGaussian, Float[Tensor, "b d"]]:
        """The same of maps as the backbone gives them."""
        return self.gaussian(self.gaussian_basis), self._vectors(self.maps.standardised(maps))

    def restore(
        self, gaussian: ConditionalGaussian, seen: Float[Tensor, "b d"], visible: Bool[Tensor, "b k n g g"]
    ) -> Float[Tensor, "b k d"]:
        """R_k: each value as restored under the mask that hides it, and as it is where none of the n masks does."""
        shown = self._tokens_shown(visible)
        restored = torch.stack(
            [
                gaussian(x[None], one.flatten(0, 1)[None])[0].unflatten(0, one.shape[:2])
                for x, one in zip(seen, shown, strict=True)
            ]
        )  # b k n d
        hidden = 1 - self._per_value(shown)
        return (restored * hidden).sum(2) + seen[:, None] * (1 - hidden.sum(2))

    def differ(
        self, seen: Float[Tensor, "b d"], restored: Float[Tensor, "b k d"], weights: Float[Tensor, " k"]
    ) -> tuple[Float[Tensor, "b t g g"], Float[Tensor, "b t g g"]]:
        """Squared error of each level, in units of its variance on normal images: it is both A and the energy."""
        error = torch.einsum("bkd,k->bd", (restored - seen[:, None]) ** 2, weights)
        maps = []
        for part, (side, channels) in zip(error.split(self._sizes(), dim=1), self.groups, strict=True):
            tokens = part.unflatten(1, (side * side, -1))  # b n c
            maps += [level.sum(2).unflatten(1, (side, side)) * side**2 for level in tokens.split(channels, dim=2)]
        fitted = torch.cat([F.interpolate(one[:, None], size=self.side, mode="bilinear") for one in maps], dim=1)
        return fitted, fitted

    def picture(self, restored: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 s s"]:
        """What restored features stand for: blurred, for they know no pixels."""
        return paint(self._tokens(restored), self.brush.float())

    # --- whole maps as vectors --------------------------------------------------------------------------------------

    def _vectors(self, levels: list[Tensor]) -> Float[Tensor, "b d"]:
        """Group after group, token by token; each level is scaled to count the same."""
        pooled = [F.adaptive_avg_pool2d(x, min(x.shape[-1], self.side)) for x in levels]
        scaled = [x / x[0].numel() ** 0.5 for x in pooled]
        groups = [torch.cat([x for x in scaled if x.shape[-1] == side], dim=1) for side, _ in self.groups]
        return torch.cat([group.flatten(2).transpose(1, 2).flatten(1) for group in groups], dim=1)

    def _tokens(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b c g g"]:
        """All groups on the token grid."""
        groups = [
            part.unflatten(1, (side, side, -1)).permute(0, 3, 1, 2) * side
            for part, (side, _) in zip(vectors.split(self._sizes(), dim=1), self.groups, strict=True)
        ]
        return torch.cat([F.interpolate(x, size=self.side) for x in groups], dim=1)

    def _layout(self) -> list[tuple[int, int]]:
        return [(side * side, sum(channels)) for side, channels in self.groups]

    def _sizes(self) -> list[int]:
        return [n * c for n, c in self._layout()]

    def _tokens_shown(self, visible: Bool[Tensor, "b k n g g"]) -> Float[Tensor, "b k n tokens"]:
        """A coarser token is visible where all that it spans is."""
        flat = visible.flatten(0, 2)[:, None].float()
        shown = [1 - F.max_pool2d(1 - flat, self.side // side).flatten(1) for side, _ in self.groups]
        tokens: Tensor = torch.cat(shown, dim=1).unflatten(0, visible.shape[:3])
        return tokens

    def _per_value(self, tokens: Float[Tensor, "b k n tokens"]) -> Float[Tensor, "b k n d"]:
        parts = tokens.split([n for n, _ in self._layout()], dim=-1)
        return torch.cat(
            [part.repeat_interleave(c, -1) for part, (_, c) in zip(parts, self._layout(), strict=True)], -1
        )

    def _gaussian(self, basis: Tensor) -> ConditionalGaussian:
        return ConditionalGaussian(Subspace(self.gaussian_mean, basis.float()), self.ridge, self._layout())


def _ridge(noise: Tensor, variances: Tensor) -> Tensor:
    return (noise / variances.clamp(min=1e-12)).clamp(min=LEAST_RIDGE)
