"""ISSTAD's tokens as cached feature maps of a frozen network: every image is encoded once, before any training.

A bottleneck stands before the decoder: a whole-map PCA (FRE, arXiv 2211.12650) restores what the whole image makes
probable, and the decoder gets and repairs only the rest. The PCA cannot copy what it was not fitted to, so what is
missing or turned shows in that rest even where the decoder would pass it through. Training images get the rest of a PCA
that was fitted without them, as a new image would.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.detectors.isstad.decoder import FillingLoss, GrowingDecoder
from unmask.detectors.isstad.feature_damage import damage_features
from unmask.detectors.isstad.tokens import VIEWS, DamagedBatch, NormalTokens, Stage, Terms, Tokens, View
from unmask.errors import SettingError
from unmask.features.groups import groups_of
from unmask.features.maps import CachedMaps, CachedValue, FeatureMaps, Images
from unmask.features.neighbours import Bank, sample_rows
from unmask.features.standard_maps import StandardMaps
from unmask.features.subspace import Subspace, principal_subspace
from unmask.training.masking import random_hidden
from unmask.training.trainer import Trainer, generator_for

TOKEN_STRIDE = 16
FOLDS = 4
SUBSPACE_IMAGES = 1000  # a Gram matrix of more takes minutes and changes little


class FeatureTokens(Tokens):
    """Frozen features as tokens, their bottleneck, and banks of normal vectors.

    Args:
        backbone: name for `backbones.load`.
        image_size: pixels along a side, a multiple of the largest stride.
        mlp_ratio: hidden width of a decoder block over its width.
        variance_share: share of the features' variance that the bottleneck keeps.
        bank_size: normal vectors that each bank keeps for the nearest-neighbour terms.
    """

    class_token = False
    stage1_time = 0.25
    subspace_mean: Tensor
    subspace_basis: Tensor

    def __init__(
        self, backbone: str, image_size: int, *, mlp_ratio: float, variance_share: float, bank_size: int
    ) -> None:
        super().__init__()
        if image_size % TOKEN_STRIDE:
            raise SettingError(f"image_size={image_size} holds no whole tokens; give a multiple of {TOKEN_STRIDE}")
        self.maps = StandardMaps(backbone, image_size)
        self.shapes, self.mlp_ratio, self.variance_share = self.maps.shapes, mlp_ratio, variance_share
        self.grid = image_size // TOKEN_STRIDE
        self.cells = max(1, self.shapes[0][1] // self.grid)
        self.widths = [c * max(1, side // self.grid) ** 2 for c, side in self.shapes]
        self.latent_dim = self.target_dim = sum(self.widths)
        self.terms = terms_of(self.maps.backbone.strides)
        weights = torch.cat([torch.full((width,), 1 / width / len(self.widths)) for width in self.widths])
        self.register_buffer("channel_weights", weights, persistent=False)  # each level counts the same
        self.register_buffer("subspace_mean", torch.empty(0))
        self.register_buffer("subspace_basis", torch.empty(0, dtype=torch.float16))
        self.basis = CachedValue(Tensor.float)
        fine = [i for i, (_, side) in enumerate(self.shapes) if side >= self.grid]
        deep = [i for i, (_, side) in enumerate(self.shapes) if side <= self.grid]
        self.fine_bank = Bank(fine, self.grid * self.cells, bank_size)
        self.deep_bank = Bank(deep, self.grid, bank_size)

    # --- stage 1 ----------------------------------------------------------------------------------------------------

    def fit(self, images: Images, decoder: GrowingDecoder, trainer: Trainer, stage: Stage) -> NormalFeatures:
        """Encode all images once; fit standardisation, bottleneck and banks; train the decoder to fill in."""
        seed = trainer.training.seed
        self.maps.fit(images, trainer.training)
        cached = self.maps.cached
        self.maps.release()
        groups = groups_of(images).unique(return_inverse=True)[1]
        normals = NormalFeatures(self, cached, groups, self._fit_bottleneck(cached, groups, seed), seed)
        for bank in (self.fine_bank, self.deep_bank):
            bank.fill(groups, normals.chunks(), seed)
        trainer.run(
            "stage 1",
            FillingLoss(decoder, self.channel_weights),
            lambda step: normals.hidden_batch(step, stage.batch, stage.mask_ratio),
            steps=stage.steps,
            lr=stage.lr,
            time_share=self.stage1_time,
        )
        return normals

    def _fit_bottleneck(self, cached: CachedMaps, groups: Int[Tensor, " n"], seed: int) -> list[Subspace]:
        """Fit the bottleneck of new images; the bottlenecks that were fitted without each fold are returned."""
        rows = sample_rows(len(cached), SUBSPACE_IMAGES, generator_for(seed, "subspace"))
        vectors = torch.cat([self.as_vectors(self.standard_maps(cached, part)) for part in rows.split(64)])
        whole = principal_subspace(vectors, self.variance_share)
        self.subspace_mean, self.subspace_basis = whole.mean, whole.basis.half()
        fold = groups[rows] % FOLDS
        return [principal_subspace(vectors[fold != k], self.variance_share) for k in range(FOLDS)]

    def standard_maps(self, cached: CachedMaps, rows: Int[Tensor, " b"]) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Standardised maps of cached images."""
        return self.maps.standardised(cached.maps_of(rows))

    # --- new images -------------------------------------------------------------------------------------------------

    @property
    def features(self) -> FeatureMaps:
        """The frozen network; its maps are all that these tokens are made of."""
        return self.maps.features

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> View:
        """New images as the decoder takes them."""
        return self.encode_maps(self.maps.features(images))

    def encode_maps(self, maps: list[Tensor]) -> View:
        """The same for images whose maps are known already, as `features` makes them."""
        whole = Subspace(self.subspace_mean, self.basis(self.subspace_basis))
        return self.view_of(self.maps.standardised(maps), whole)

    def view_of(self, levels: list[Tensor], subspace: Subspace, groups: Int[Tensor, " b"] | None = None) -> View:
        """Standardised maps as the decoder takes them.

        Args:
            levels: standardised maps of b images.
            subspace: their bottleneck.
            groups: the photographs of the fit that they show, on the CPU, whose own vectors in the banks then do not
                count; None = they are new.
        """
        latents, _ = self.split(levels, subspace)
        vectors = self.as_vectors(levels)
        missed = [x.pow(2).mean(1) for x in self._from_vectors(vectors - subspace.project(vectors))]
        near = [bank.distances(levels, groups) for bank in (self.fine_bank, self.deep_bank)]
        extras = [self._on_status_grid(x) for x in (*missed, *near)]
        return View(latents, latents, torch.stack(extras, dim=1))

    def repair_maps(self, repaired: Float[Tensor, "b n d"], wanted: Float[Tensor, "b n d"]) -> Float[Tensor, "b r s s"]:
        """Squared repair error of each level, averaged over 3 x 3 cells first: noise there is no damage."""
        missed = []
        for part, (_, side) in zip((repaired - wanted).split(self.widths, dim=2), self.shapes, strict=True):
            grid = part.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # b c gh gw
            finer = F.pixel_shuffle(grid, side // self.grid) if side > self.grid else grid
            missed.append(self._on_status_grid(F.avg_pool2d(finer, 3, 1, 1).pow(2).mean(1)))
        return torch.stack(missed, dim=1)

    # --- maps, tokens, vectors --------------------------------------------------------------------------------------

    def split(self, levels: list[Tensor], subspace: Subspace) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n c"]]:
        """Tokens less what the bottleneck restores of them, and what it restores."""
        restored = self._from_vectors(subspace.project(self.as_vectors(levels)))
        probable = [
            F.interpolate(x, size=side, mode="bilinear") for x, (_, side) in zip(restored, self.shapes, strict=True)
        ]
        probable_tokens = self.as_tokens(probable)
        return self.as_tokens(levels) - probable_tokens, probable_tokens

    def as_tokens(self, levels: list[Tensor]) -> Float[Tensor, "b n c"]:
        """All levels on the token grid: finer ones folded into channels, coarser ones repeated."""
        folded = []
        for x in levels:
            finer = x.shape[-1] // self.grid
            folded.append(F.pixel_unshuffle(x, finer) if finer > 1 else F.interpolate(x, size=self.grid))
        return torch.cat(folded, dim=1).flatten(2).transpose(1, 2)

    def as_vectors(self, levels: list[Tensor]) -> Float[Tensor, "b v"]:
        """The whole image as one vector: each level on a coarser grid and scaled to count the same."""
        pooled = [F.adaptive_avg_pool2d(x, side) for x, side in zip(levels, self._coarse_sides(), strict=True)]
        return torch.cat([x.flatten(1) / x[0].numel() ** 0.5 for x in pooled], dim=1)

    def _from_vectors(self, vectors: Float[Tensor, "b v"]) -> list[Tensor]:
        """The inverse of `as_vectors`, on its coarser grids."""
        shapes = [(c, side, side) for (c, _), side in zip(self.shapes, self._coarse_sides(), strict=True)]
        parts = vectors.split([math.prod(shape) for shape in shapes], dim=1)
        return [part.unflatten(1, shape) * math.prod(shape) ** 0.5 for part, shape in zip(parts, shapes, strict=True)]

    def _coarse_sides(self) -> list[int]:
        """Levels finer than the tokens go to the token grid, the others to half of it."""
        return [self.grid if side > self.grid else max(1, self.grid // 2) for _, side in self.shapes]

    def _on_status_grid(self, maps: Float[Tensor, "b gh gw"]) -> Float[Tensor, "b s s"]:
        return F.interpolate(maps[:, None], size=self.grid * self.cells, mode="bilinear")[:, 0]


class NormalFeatures(NormalTokens):
    """Cached maps of the normal images, dealt into folds; each fold has a bottleneck that was fitted without it.

    Args:
        tokens: the tokens that are being fitted.
        cached: maps of all images, as the network gives them.
        groups: the photograph that each of them shows, numbered from 0.
        subspaces: the bottleneck of each fold.
        seed: of the fit.
    """

    def __init__(
        self, tokens: FeatureTokens, cached: CachedMaps, groups: Tensor, subspaces: list[Subspace], seed: int
    ) -> None:
        self.tokens, self.cached, self.groups, self.subspaces, self.seed = tokens, cached, groups, subspaces, seed

    def chunks(self) -> Iterator[tuple[int, list[Tensor]]]:
        """Standardised maps of all images in order, with the number of the first image of each chunk."""
        for rows in torch.arange(len(self.cached)).split(64):
            yield int(rows[0]), self.tokens.standard_maps(self.cached, rows)

    def hidden_batch(
        self, step: int, size: int, mask_ratio: float
    ) -> tuple[Float[Tensor, "b n c"], Bool[Tensor, "b n"]]:
        """A step of stage 1: the rest of normal images, and which tokens to hide."""
        generator = generator_for(self.seed, "stage 1", step)
        levels, subspace = self._draw(step, size, generator)
        latents, _ = self.tokens.split(levels, subspace)
        return latents, random_hidden(size, self.tokens.grid**2, mask_ratio, generator)

    def damaged_batch(self, step: int, size: int, target: str) -> DamagedBatch:
        """A step of stage 2: the cached maps of whole images are damaged anew."""
        generator = generator_for(self.seed, "stage 2", step)
        whole, subspace = self._draw(step, size, generator)
        damaged, cells = damage_features(whole, generator)
        latents, probable = self.tokens.split(damaged, subspace)
        wanted = latents if target == "input" else self.tokens.as_tokens(whole) - probable
        return DamagedBatch(latents, wanted, cells)

    def views(self) -> Iterator[View]:
        """Each image without its own part of the bottleneck and of the banks."""
        generator = generator_for(self.seed, "views")
        for fold, subspace in enumerate(self.subspaces):
            rows = self._rows(fold)
            chosen = rows[sample_rows(len(rows), VIEWS // FOLDS, generator)]
            for part in chosen.split(8):
                maps = self.tokens.standard_maps(self.cached, part)
                yield self.tokens.view_of(maps, subspace, self.groups[part])

    def _rows(self, fold: int) -> Int[Tensor, " k"]:
        """The images of a fold."""
        return (self.groups % FOLDS == fold).nonzero()[:, 0]

    def _draw(self, step: int, size: int, generator: torch.Generator) -> tuple[list[Tensor], Subspace]:
        """Maps of images of one fold, and its bottleneck."""
        fold = step % FOLDS
        rows = self._rows(fold)
        rows = rows[torch.randint(len(rows), (size,), generator=generator)]
        return self.tokens.standard_maps(self.cached, rows), self.subspaces[fold]


def terms_of(strides: Sequence[int]) -> Terms:
    """A repair error and a bottleneck for each stride, and two distances to normal features."""
    repair = tuple(f"repair {stride}" for stride in strides)
    bottleneck = tuple(f"bottleneck {stride}" for stride in strides)
    near = ("neighbour", "deep neighbour")
    return Terms(repair, (*bottleneck, *near), (repair[0], bottleneck[0], *near), bottleneck)
