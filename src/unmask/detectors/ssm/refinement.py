"""SSM's progressive mask refinement (arXiv 2205.06568): hide, restore, compare, uncover, and again."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.detectors.ssm.restorer import Encoded, Restorer
from unmask.training.losses import gaussian_blur
from unmask.training.masking import MASKS, disjoint_masks
from unmask.training.trainer import generator_for

BLOCKS = 16
"""Blocks along a side of an image; a block is uncovered as a whole, or not."""


class Pass(NamedTuple):
    """b images, hidden and restored once.

    Attributes:
        visible: what was uncovered before the pass; True = never hidden.
        random_masks: the pass's masks before anything was uncovered; True = visible.
        errors: errors of each term, in [0, 1] or in units of their variance.
        squares: the squared errors whose mean joins the score.
        maps: A, the errors smoothed.
        confirmed: what is uncovered after the pass.
        restored: mean of R_k over the scales, as the restorer has it.
    """

    visible: Bool[Tensor, "b g g"]
    random_masks: Bool[Tensor, "k n g g"]
    errors: Float[Tensor, "b t g g"]
    squares: Float[Tensor, "b t g g"]
    maps: Float[Tensor, "b t g g"]
    confirmed: Bool[Tensor, "b g g"]
    restored: Float[Tensor, "b ..."]

    def subset(self, rows: Tensor) -> Pass:
        """Some of the images."""
        return Pass(*(part if name == "random_masks" else part[rows] for name, part in self._asdict().items()))

    def updated(self, rows: Tensor, fresh: Pass) -> Pass:
        """This pass with the images `rows` taken from a later one; the others had stopped."""
        return Pass(
            *(
                new if name == "random_masks" else old.index_copy(0, rows, new)
                for (name, old), new in zip(self._asdict().items(), fresh, strict=True)
            )
        )


class Refinement(nn.Module):
    """Passes 1 to T over images, each image until nothing changes or everything is uncovered.

    Args:
        terms: number of terms of the score.
        passes: T.
        weights: weights of the scales in the map; their sum is 1.
        uncovered: "kept", what was uncovered keeps the error that it was uncovered with, or "zero", as R = I there.
        sigma: of the gaussian over the errors, in cells of the masks' grid.
        block_share: share of a block's pixels below tau above which it is uncovered.
        seed: of the random masks.
    """

    weights: Tensor
    scale: Tensor
    threshold: Tensor
    normal_map: Tensor
    mask_seed: Tensor

    def __init__(
        self,
        terms: int,
        *,
        passes: int,
        weights: Float[Tensor, " k"],
        uncovered: str,
        sigma: float,
        block_share: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.passes, self.uncovered, self.sigma, self.block_share = passes, uncovered, sigma, block_share
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("scale", torch.zeros(terms))
        self.register_buffer("threshold", torch.tensor(0.0))  # tau
        self.register_buffer("normal_map", torch.zeros(2))  # mean and deviation of A on normal images, first pass
        self.register_buffer("mask_seed", torch.tensor(seed))

    def fit(self, first: list[Pass], tau: float, tau_quantile: float) -> None:
        """Take the scale of each term, tau, and what A is like, from the first passes over normal images.

        Args:
            first: their first passes, which do not depend on tau.
            tau: tau itself; 0 = take the quantile.
            tau_quantile: quantile of the joined maps that becomes tau.
        """
        maps = torch.cat([one.maps for one in first])
        self.scale = maps.mean((0, 2, 3)).clamp(min=1e-12) if maps.shape[1] > 1 else maps.new_ones(1)
        joined = self.join(maps)
        self.threshold = torch.tensor(tau).to(maps) if tau > 0 else _quantile(joined, tau_quantile)
        self.normal_map = torch.stack([joined.mean(), joined.std()])

    def forward(self, restorer: Restorer, encoded: Encoded) -> list[Pass]:
        """The passes; images that stopped keep the result of their last one."""
        passes = [self.run_pass(restorer, encoded, None, 0)]
        for t in range(1, self.passes):
            last = passes[-1]
            changed = (last.confirmed & ~last.visible).flatten(1).any(1)
            going = (changed & ~last.confirmed.flatten(1).all(1)).nonzero()[:, 0]
            if len(going) == 0:
                break
            fresh = self.run_pass(restorer, encoded.subset(going), last.subset(going), t)
            passes.append(last.updated(going, fresh))
        return passes

    def run_pass(self, restorer: Restorer, encoded: Encoded, last: Pass | None, t: int) -> Pass:
        """Hide in turn all that is not confirmed, restore it, and confirm what came back.

        Args:
            restorer: compares what is restored.
            encoded: the images.
            last: the pass before; None = nothing is confirmed yet.
            t: number of the pass, from 0; each has masks of its own.
        """
        masks = self._masks(restorer, t)
        visible = masks.new_zeros(len(encoded.values), *masks.shape[2:]) if last is None else last.confirmed
        restored = encoded.restore(encoded.values, masks | visible[:, None, None])
        errors, squares = restorer.compare(encoded.values, restored, self.weights)
        if last is not None and self.uncovered == "kept":
            errors, squares = (
                torch.where(visible[:, None], old, new) for old, new in ((last.errors, errors), (last.squares, squares))
            )
        maps = gaussian_blur(errors.flatten(0, 1), self.sigma).unflatten(0, errors.shape[:2])
        confirmed = visible | self.restored_blocks(self.join(maps))
        return Pass(visible, masks, errors, squares, maps, confirmed, restored.mean(1))

    def _masks(self, restorer: Restorer, t: int) -> Bool[Tensor, "k n g g"]:
        """Disjoint masks of every scale, others in each pass, the same for every image."""
        seed = int(self.mask_seed)
        masks = [
            disjoint_masks(restorer.side, cell, MASKS, generator_for(seed, "pass", t, cell)) for cell in restorer.cells
        ]
        return torch.stack(masks).to(self.mask_seed.device)

    def join(self, maps: Float[Tensor, "b t g g"]) -> Float[Tensor, "b g g"]:
        """A: one term as it is; several in units of their mean on normal images, added."""
        return (maps / self.scale[:, None, None]).sum(1)

    def restored_blocks(self, joined: Float[Tensor, "b g g"]) -> Bool[Tensor, "b g g"]:
        """The blocks of which more than `block_share` lies below tau."""
        side = joined.shape[-1]
        block = max(1, side // BLOCKS)
        share = F.avg_pool2d((joined < self.threshold).float(), block, ceil_mode=True)  # the last one may be cut off
        return (share > self.block_share).repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :side, :side]


def _quantile(values: Tensor, q: float) -> Float[Tensor, ""]:
    """Of any number of values; torch's own refuses more than 2^24."""
    flat = values.flatten()
    return flat.kthvalue(max(1, min(len(flat), round(q * len(flat))))).values
