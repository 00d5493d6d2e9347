"""ISSTAD's tokens as cached feature maps of a frozen network: every image is encoded once, before any training.

A bottleneck stands before the decoder: a whole-map PCA (FRE, arXiv 2211.12650) tells what the whole image makes
probable, and the decoder sees and repairs only the rest. The PCA cannot copy what it has not seen, so what is missing
or turned shows in that rest even where the decoder would pass it through. Training images get the rest of a PCA that
was fitted without them, as a new image would.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn

from unmask.detectors.isstad.decoder import View
from unmask.detectors.isstad.feature_damage import damage_features
from unmask.features.maps import CachedValue, Images
from unmask.features.neighbours import Bank, sample_rows
from unmask.features.standard_maps import StandardMaps
from unmask.features.subspace import Subspace, principal_subspace
from unmask.training.masking import random_hidden
from unmask.training.trainer import Trainer, generator_for

TOKEN_STRIDE = 16
FOLDS = 4
SUBSPACE_IMAGES = 1000  # a Gram matrix of more takes minutes and changes little


class FeatureSpace(nn.Module):
    """Frozen features as tokens, their bottleneck, and a bank of normal vectors.

    Args:
        backbone: name for `backbones.load`.
        image_size: pixels along a side, a multiple of the largest stride.
        variance_share: of the features' variance that the bottleneck keeps.
        bank_size: normal vectors kept for the nearest-neighbour term.
    """

    channel_weights: Tensor
    subspace_mean: Tensor
    subspace_basis: Tensor
    class_token = False

    def __init__(self, backbone: str, image_size: int, *, variance_share: float, bank_size: int) -> None:
        super().__init__()
        self.maps = StandardMaps(backbone, image_size)
        self.shapes, strides = self.maps.shapes, self.maps.backbone.strides
        self.variance_share = variance_share
        self.grid = image_size // TOKEN_STRIDE
        self.cells = max(1, self.shapes[0][1] // self.grid)
        self.widths = [c * max(1, side // self.grid) ** 2 for c, side in self.shapes]
        self.latent_dim = self.target_dim = sum(self.widths)
        weights = torch.cat([torch.full((width,), 1 / width / len(self.widths)) for width in self.widths])
        self.register_buffer("channel_weights", weights, persistent=False)  # each level counts the same
        self.register_buffer("subspace_mean", torch.empty(0))
        self.register_buffer("subspace_basis", torch.empty(0, dtype=torch.float16))
        self.basis = CachedValue(Tensor.float)
        self.repair_names = tuple(f"repair {stride}" for stride in strides)
        self.whole_names = tuple(f"bottleneck {stride}" for stride in strides)
        self.extra_names = (*self.whole_names, "neighbour", "deep neighbour")
        self.local_names = (self.repair_names[0], self.whole_names[0], "neighbour", "deep neighbour")
        fine = [i for i, (_, side) in enumerate(self.shapes) if side >= self.grid]
        deep = [i for i, (_, side) in enumerate(self.shapes) if side <= self.grid]
        self.fine_bank = Bank(fine, self.grid * self.cells, bank_size)
        self.deep_bank = Bank(deep, self.grid, bank_size)

    # --- learning ---------------------------------------------------------------------------------------------------

    def learn(self, images: Images, trainer: Trainer) -> None:
        """Encode all images once; fit the standardisation, the bottleneck and the bank."""
        self.seed = trainer.training.seed
        self.maps.fit(images, trainer.training)
        self._fit_bottleneck()
        for bank in (self.fine_bank, self.deep_bank):
            bank.fill(len(self.maps), self.maps.chunks(), self.seed)

    def forget_images(self) -> None:
        """Let go of what only training needs."""
        self.maps.release()
        self.__dict__.pop("subspaces", None)

    def _fit_bottleneck(self) -> None:
        rows = sample_rows(len(self.maps), SUBSPACE_IMAGES, generator_for(self.seed, "subspace"))
        vectors = torch.cat([self._as_vectors(self.maps.maps_of(part)) for part in rows.split(64)])
        self.subspaces = [principal_subspace(vectors[rows % FOLDS != k], self.variance_share) for k in range(FOLDS)]
        whole = principal_subspace(vectors, self.variance_share)
        self.subspace_mean, self.subspace_basis = whole.mean, whole.basis.half()

    # --- batches ----------------------------------------------------------------------------------------------------

    def hidden_batch(self, step: int, size: int, mask_ratio: float) -> tuple[Tensor, Tensor]:
        """Stage 1: the rest of normal images, and which tokens to hide."""
        generator = generator_for(self.seed, "stage 1", step)
        rows, subspace = self._one_fold(step, size, generator)
        tokens, _ = self._rest(self.maps.maps_of(rows), subspace)
        return tokens, random_hidden(len(tokens), self.grid**2, mask_ratio, generator)

    def damaged_batch(self, step: int, size: int, target: str) -> tuple[Tensor, Tensor, Tensor]:
        """Stage 2: the rest of damaged images, of what they should be repaired to, and where they are damaged."""
        generator = generator_for(self.seed, "stage 2", step)
        rows, subspace = self._one_fold(step, size, generator)
        whole = self.maps.maps_of(rows)
        damaged, cells = damage_features(whole, generator)
        latents, probable = self._rest(damaged, subspace)
        wanted = latents if target == "input" else self._tokens(whole) - probable
        return latents, wanted, cells

    def _one_fold(self, step: int, size: int, generator: torch.Generator) -> tuple[Tensor, Subspace]:
        fold = step % min(FOLDS, len(self.maps))
        rows = torch.arange(fold, len(self.maps), FOLDS)
        return rows[torch.randint(len(rows), (size,), generator=generator)], self.subspaces[fold]

    # --- looking ----------------------------------------------------------------------------------------------------

    def view(self, images: Float[Tensor, "b 3 s s"]) -> View:
        """New images as the decoder sees them."""
        return self.view_of(self.maps.features(images))

    def view_of(self, maps: list[Tensor]) -> View:
        """Maps of new images, as the backbone gives them, as the decoder sees them."""
        whole = Subspace(self.subspace_mean, self.basis(self.subspace_basis))
        return self._view(self.maps.standardised(maps), whole)

    def normal_views(self, most: int = 200) -> Iterator[View]:
        """Training images as if they were new: without their own part of the bottleneck and of the bank."""
        per_fold = -(-most // FOLDS)
        for fold in range(min(FOLDS, len(self.maps))):
            rows = torch.arange(fold, len(self.maps), FOLDS)[:per_fold]
            for part in rows.split(8):
                yield self._view(self.maps.maps_of(part), self.subspaces[fold], part)

    def repair_maps(self, repaired: Float[Tensor, "b n d"], wanted: Float[Tensor, "b n d"]) -> Float[Tensor, "b l s s"]:
        """Squared repair error of each of the l levels, averaged over 3 x 3 cells first: noise there is no damage."""
        missed = []
        for part, (_, side) in zip((repaired - wanted).split(self.widths, dim=2), self.shapes, strict=True):
            grid = part.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # b c gh gw
            finer = F.pixel_shuffle(grid, side // self.grid) if side > self.grid else grid
            missed.append(self._on_status_grid(F.avg_pool2d(finer, 3, 1, 1).pow(2).mean(1)))
        return torch.stack(missed, dim=1)

    def picture(self, repaired: Tensor) -> None:
        """Features have no picture."""
        return

    def _view(self, levels: list[Tensor], subspace: Subspace, images: Tensor | None = None) -> View:
        latents, _ = self._rest(levels, subspace)
        vectors = self._as_vectors(levels)
        missed = [x.pow(2).mean(1) for x in self._from_vectors(vectors - subspace.project(vectors))]
        near = [bank.distances(levels, images) for bank in (self.fine_bank, self.deep_bank)]
        extras = [self._on_status_grid(x) for x in (*missed, *near)]
        return View(latents, latents, torch.stack(extras, dim=1))

    def _rest(self, levels: list[Tensor], subspace: Subspace) -> tuple[Tensor, Tensor]:
        """Tokens less what the bottleneck restores of them, and what it restores."""
        restored = self._from_vectors(subspace.project(self._as_vectors(levels)))
        probable = [
            F.interpolate(x, size=side, mode="bilinear") for x, (_, side) in zip(restored, self.shapes, strict=True)
        ]
        probable_tokens = self._tokens(probable)
        return self._tokens(levels) - probable_tokens, probable_tokens

    def _as_vectors(self, levels: list[Tensor]) -> Float[Tensor, "b d"]:
        """The whole image as one vector: each level on a coarser grid and scaled to count the same."""
        pooled = [F.adaptive_avg_pool2d(x, side) for x, side in zip(levels, self._coarse_sides(), strict=True)]
        return torch.cat([x.flatten(1) / x[0].numel() ** 0.5 for x in pooled], dim=1)

    def _from_vectors(self, vectors: Float[Tensor, "b d"]) -> list[Tensor]:
        """The inverse of `_as_vectors`, on its coarser grids."""
        shapes = [(c, side, side) for (c, _), side in zip(self.shapes, self._coarse_sides(), strict=True)]
        parts = vectors.split([math.prod(shape) for shape in shapes], dim=1)
        return [part.unflatten(1, shape) * math.prod(shape) ** 0.5 for part, shape in zip(parts, shapes, strict=True)]

    def _coarse_sides(self) -> list[int]:
        """Levels finer than the tokens go to the token grid, the others to half of it."""
        return [self.grid if side > self.grid else max(1, self.grid // 2) for _, side in self.shapes]

    def _tokens(self, levels: list[Tensor]) -> Float[Tensor, "b n c"]:
        """All levels on the token grid: finer ones folded into channels, coarser ones repeated."""
        folded = []
        for x in levels:
            finer = x.shape[-1] // self.grid
            folded.append(F.pixel_unshuffle(x, finer) if finer > 1 else F.interpolate(x, size=self.grid))
        return torch.cat(folded, dim=1).flatten(2).transpose(1, 2)

    def _on_status_grid(self, maps: Float[Tensor, "b gh gw"]) -> Float[Tensor, "b s s"]:
        return F.interpolate(maps[:, None], size=self.grid * self.cells, mode="bilinear")[:, 0]
