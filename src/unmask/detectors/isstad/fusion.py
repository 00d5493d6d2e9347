"""The terms of ISSTAD's score, made comparable on normal images and added."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.detectors.isstad.tokens import Terms
from unmask.detectors.scoring import top_mean


class Fusion(nn.Module):
    """Standardise each term by its mean and deviation on normal images, then add all terms.

    A term counts by how far it leaves its own normal range, and none can veto another, as one factor of a product can.

    Args:
        terms: names of all terms, of those that make the map, and of those that score the image as a whole.
        share: share of a map whose mean is its peak.
    """

    map_mean: Tensor
    map_std: Tensor
    peak_mean: Tensor
    peak_std: Tensor

    def __init__(self, terms: Terms, share: float = 0.01) -> None:
        super().__init__()
        self.share, n = share, len(terms.names)
        self.local = [i for i, name in enumerate(terms.names) if name in terms.local]
        self.whole = [i for i, name in enumerate(terms.names) if name in terms.whole]
        self.register_buffer("map_mean", torch.zeros(n, 1, 1))
        self.register_buffer("map_std", torch.ones(n, 1, 1))
        self.register_buffer("peak_mean", torch.zeros(n + len(self.whole)))
        self.register_buffer("peak_std", torch.ones(n + len(self.whole)))

    def fit(self, terms: Iterable[Float[Tensor, "b n h w"]]) -> None:
        """Measure each term on normal images, as it would be on new ones."""
        moments, peaks = [], []
        for maps in terms:
            moments.append(torch.stack([maps.mean((2, 3)), (maps**2).mean((2, 3))]))  # 2 b n
            peaks.append(self._peaks(maps))
        mean, square = torch.cat(moments, dim=1).mean(1)
        self.map_mean = mean[:, None, None]
        self.map_std = (square - mean**2).clamp(min=1e-12).sqrt()[:, None, None]
        peak = torch.cat(peaks)
        self.peak_mean, self.peak_std = peak.mean(0), peak.std(0, correction=0).clamp(min=1e-6)

    def forward(self, terms: Float[Tensor, "b n h w"]) -> tuple[Float[Tensor, "b h w"], Float[Tensor, " b"]]:
        """The sum of the standardised local maps, and of the standardised image scores."""
        maps = (terms - self.map_mean) / self.map_std
        scores = (self._peaks(terms) - self.peak_mean) / self.peak_std
        return maps[:, self.local].sum(1), scores.sum(1)

    def _peaks(self, terms: Float[Tensor, "b n h w"]) -> Float[Tensor, "b k"]:
        return torch.cat([top_mean(terms, self.share), terms[:, self.whole].mean((2, 3))], dim=1)
