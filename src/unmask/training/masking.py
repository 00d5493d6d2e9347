"""Seeded random masks over a grid of cells."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from unmask.errors import SettingError

MASKS = 3
"""Of SSM and RIAD: each hides a third."""


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


def disjoint_masks(size: int, cell: int, n: int, generator: torch.Generator) -> Bool[Tensor, "n s s"]:
    """Deal the cells of a grid into n masks that together hide each pixel exactly once (RIAD, SSM).

    The shares differ by one cell at most. Where `size` is no multiple of `cell`, the last row and column are cut off.

    Args:
        size: pixels along a side of the image.
        cell: pixels along a side of a cell.
        n: masks, 2 or more.
        generator: where the randomness comes from.

    Returns:
        (n, size, size), True = visible.

    Raises:
        SettingError: fewer than two masks, a side below 1, or fewer cells than masks.
    """
    if n < 2:
        raise SettingError(f"disjoint masks come in twos or more, got n = {n}; SSM takes 3")
    if size < 1 or cell < 1:
        raise SettingError(f"sides count from 1 pixel, got {size} for the image and {cell} for a cell")
    side = -(-size // cell)
    if side**2 < n:
        raise SettingError(f"{n} masks need a cell each, got {side**2} of {cell} in {size} pixels; give smaller cells")
    owner = torch.randperm(side**2, generator=generator).view(side, side) % n
    owner = owner.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:size, :size]
    return owner != torch.arange(n)[:, None, None]


def check_cells(cells: tuple[int, ...], size: int, n: int) -> None:
    """Raise SettingError unless every side of a cell leaves each of n masks something to hide of `size` pixels."""
    wrong = [cell for cell in cells if cell < 1 or (-(-size // cell)) ** 2 < n]
    if wrong or not cells:
        came = f"a cell of {wrong[0]} pixels leaves a mask empty" if cells else "without cells nothing is hidden"
        raise SettingError(f"cells={cells}: {came}; give sides of 1 to {size // 2} pixels")
