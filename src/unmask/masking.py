"""Seeded random masks over a grid of cells."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor


def random_hidden(b: int, n: int, share: float, generator: torch.Generator) -> Bool[Tensor, "b n"]:
    """Hide exactly round(share * n) of n cells in each of b images (MAE's random masking).

    Args:
        b: images.
        n: cells of an image.
        share: of the cells to hide, in [0, 1].
        generator: where the randomness comes from.

    Returns:
        (b, n), True = hidden.
    """
    ranks = torch.rand(b, n, generator=generator).argsort(dim=1).argsort(dim=1)
    return ranks < round(share * n)
