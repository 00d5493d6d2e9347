"""The distance from each feature vector to the nearest one of a bank of normal vectors (PatchCore's idea, 2106.08265)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_rows(n: int, size: int, generator: torch.Generator) -> Int[Tensor, " m"]:
    """Choose min(n, size) of n rows, in ascending order."""
    return torch.randperm(n, generator=generator)[:size].sort().values


def nearest(
    queries: Float[Tensor, "q c"],
    bank: Float[Tensor, "m c"],
    forbidden: tuple[int, int] = (0, 0),
) -> Float[Tensor, " q"]:
    """Euclidean distance to the nearest bank vector.

    Args:
        queries: feature vectors.
        bank: of normal vectors.
        forbidden: (first, end) rows of the bank that do not count, for a query whose own image is in the bank.
    """
    half_squares = 0.5 * (bank * bank).sum(1)
    half_squares[forbidden[0] : forbidden[1]] = torch.inf
    least = (half_squares - queries @ bank.T).amin(1)
    return (2 * least + (queries * queries).sum(1)).clamp(min=0).sqrt()
