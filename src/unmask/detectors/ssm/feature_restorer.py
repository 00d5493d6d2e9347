"""SSM on cached feature maps: hide tokens of a frozen network, restore them from the visible ones, compare."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.detectors.ssm.gaussian import LEAST_RIDGE, ConditionalGaussian, fit_gaussian
from unmask.detectors.ssm.picture import draw_picture, fit_picture_map
from unmask.detectors.ssm.restorer import Encoded, Observe, Restorer
from unmask.errors import SettingError
from unmask.features.groups import groups_of
from unmask.features.maps import CachedValue, FeatureMaps, Images
from unmask.features.standard_maps import StandardMaps
from unmask.features.subspace import Subspace
from unmask.training.clock import Clock
from unmask.training.trainer import Progress, Trainer, generator_for

TOKEN_STRIDE = 16
FOLDS = 4
PICTURES = 100  # images that the picture of features is fitted to
MOST_IMAGES = 1000  # a Gram matrix of more takes minutes and changes little
VALIDATION_IMAGES = 200


class FeatureRestorer(Restorer):
    """Tokens of all levels of a backbone, and the Gaussian that restores them. It takes no training steps.

    Args:
        backbone: name for `backbones.load`.
        image_size: pixels along a side.
        cells: sides of the masks' cells, in pixels.
        variance_share: share of the features' variance that the Gaussian keeps.
        rank: directions that it keeps, at the most.

    Raises:
        SettingError: the sizes do not fit the strides.
    """

    repairs = False
    gaussian_mean: Tensor
    gaussian_basis: Tensor
    ridge: Tensor
    picture_map: Tensor

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
        self.register_buffer("picture_map", torch.empty(0, dtype=torch.float16))
        self.gaussian = CachedValue(self._gaussian)

    # --- learning ---------------------------------------------------------------------------------------------------

    def fit(self, images: Images, trainer: Trainer, observe: Observe) -> list[Encoded]:
        """Encode all images once; fit a Gaussian to all of them, and one without each fold."""
        order = torch.randperm(len(images), generator=generator_for(trainer.training.seed, "gaussian"))[:MOST_IMAGES]
        vectors = self._encode_all(images, order, trainer)
        validation = self._fit_gaussians(vectors, groups_of(images)[order], trainer.training.progress)
        self.picture_map = fit_picture_map(self._picture_pairs(images, order, vectors)).half()
        return validation

    def _encode_all(self, images: Images, order: Tensor, trainer: Trainer) -> Float[Tensor, "n d"]:
        self.maps.fit(images, trainer.training)
        cached = self.maps.cached
        self.maps.release()
        return torch.cat([self._vectors(self.maps.standardised(cached.maps_of(rows))) for rows in order.split(64)])

    def _fit_gaussians(
        self, vectors: Float[Tensor, "n d"], groups: Int[Tensor, " n"], progress: Progress
    ) -> list[Encoded]:
        """Fit the Gaussian of new images; the images of each fold are returned with one that was fitted without it."""
        clock = Clock(FOLDS + 1, math.inf)

        def fit_to(some: Tensor) -> tuple[Subspace, Tensor]:
            found = fit_gaussian(some, self.variance_share, self.rank)
            clock.tick()
            progress("gaussian", clock.done, clock.steps, clock.seconds_left())
            return found

        fold = (groups.unique(return_inverse=True)[1] % FOLDS).to(vectors.device)
        fitted = [fit_to(vectors[fold != k]) for k in range(FOLDS)]
        missed = [(x := vectors[fold == k]) - one.project(x) for k, (one, _) in enumerate(fitted)]
        noise = torch.cat(missed).pow(2).mean()  # as of new images: a subspace's own images lie too close to it
        whole, variances = fit_to(vectors)
        self.gaussian_mean, self.gaussian_basis = whole.mean, whole.basis.half()
        self.ridge = _ridge(noise, variances)
        restorers = [ConditionalGaussian(one, _ridge(noise, v), self._layout()) for one, v in fitted]
        return [
            Encoded(part, partial(self.restore, gaussian))
            for k, gaussian in enumerate(restorers)
            for part in vectors[fold == k][: VALIDATION_IMAGES // FOLDS].split(8)
        ]

    def _picture_pairs(
        self, images: Images, order: Tensor, vectors: Float[Tensor, "n d"]
    ) -> Iterator[tuple[Float[Tensor, "1 c g g"], Float[Tensor, "1 3 s s"]]]:
        for row, vector in zip(order[:PICTURES].tolist(), vectors, strict=False):
            yield self._tokens(vector[None]), images[row][None].to(vector.device)

    # --- hide, restore, compare -------------------------------------------------------------------------------------

    @property
    def features(self) -> FeatureMaps:
        """The frozen network; its maps are all that is restored."""
        return self.maps.features

    def frozen(self) -> dict[str, str]:
        """The backbone."""
        return {self.maps.backbone.name: self.maps.backbone.checksum}

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Encoded:
        """New images."""
        return self.encode_maps(self.maps.features(images))

    def encode_maps(self, maps: list[Tensor]) -> Encoded:
        """The same for images whose maps are known already."""
        gaussian = self.gaussian(self.gaussian_basis)
        return Encoded(self._vectors(self.maps.standardised(maps)), partial(self.restore, gaussian))

    def restore(
        self, gaussian: ConditionalGaussian, values: Float[Tensor, "b d"], visible: Bool[Tensor, "b k n g g"]
    ) -> Float[Tensor, "b k d"]:
        """R_k: each value as restored under the mask that hides it, and as it is where none of the n masks does."""
        shown = self._tokens_shown(visible)
        restored = torch.stack(
            [
                gaussian(x[None], one.flatten(0, 1)[None])[0].unflatten(0, one.shape[:2])
                for x, one in zip(values, shown, strict=True)
            ]
        )  # b k n d
        hidden = 1 - self._per_value(shown)
        return (restored * hidden).sum(2) + values[:, None] * (1 - hidden.sum(2))

    def compare(
        self, values: Float[Tensor, "b d"], restored: Float[Tensor, "b k d"], weights: Float[Tensor, " k"]
    ) -> tuple[Float[Tensor, "b t g g"], Float[Tensor, "b t g g"]]:
        """Squared error of each level, in units of its variance on normal images, as errors and as squared errors."""
        error = torch.einsum("bkd,k->bd", (restored - values[:, None]) ** 2, weights)
        maps = []
        for part, (side, channels) in zip(error.split(self._sizes(), dim=1), self.groups, strict=True):
            tokens = part.unflatten(1, (side * side, -1))  # b n c
            maps += [level.sum(2).unflatten(1, (side, side)) * side**2 for level in tokens.split(channels, dim=2)]
        fitted = torch.cat([F.interpolate(one[:, None], size=self.side, mode="bilinear") for one in maps], dim=1)
        return fitted, fitted

    def picture(self, restored: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        """A linear guess at the pixels of restored features; it is blurred."""
        return draw_picture(self._tokens(restored), self.picture_map.float())

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
