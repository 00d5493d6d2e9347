"""Connected regions of a mask, in NumPy alone: SciPy would be a third of what an inspecting machine has to install."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int


class Runs(NamedTuple):
    """The horizontal runs of a mask's pixels, in reading order.

    Attributes:
        rows: of each run.
        starts: its first column.
        ends: the column after its last.
        component: its connected region, counted from 0 in reading order of their first pixels.
    """

    rows: Int[np.ndarray, " r"]
    starts: Int[np.ndarray, " r"]
    ends: Int[np.ndarray, " r"]
    component: Int[np.ndarray, " r"]


def components(mask: Bool[np.ndarray, "h w"]) -> Runs:
    """Find the connected regions of a mask; pixels that touch at a corner are connected."""
    w = mask.shape[1]
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    wide = w + 2  # columns of a row in one long line, so that a row's end never touches the next row's start
    first, last = rows * wide + starts, rows * wide + ends
    # Runs of the row above that touch run i: those that end at its start or later, and start at its end or earlier.
    low = np.searchsorted(last, first - wide, side="left")
    high = np.searchsorted(first, last - wide, side="right")
    counts = np.maximum(high - low, 0)
    lower = np.repeat(np.arange(len(rows)), counts)
    offsets = np.arange(len(lower)) - np.repeat(np.cumsum(counts) - counts, counts)
    upper = np.repeat(low, counts) + offsets
    component = np.unique(_joined(len(rows), lower, upper), return_inverse=True)[1]
    return Runs(rows, starts, ends, component)


def _joined(n: int, a: Int[np.ndarray, " e"], b: Int[np.ndarray, " e"]) -> Int[np.ndarray, " n"]:
    """The smallest number that each of n is connected with, by edges a - b: hook the larger root, then jump."""
    root = np.arange(n)
    while True:
        of_a, of_b = root[a], root[b]
        if (of_a == of_b).all():
            return root
        np.minimum.at(root, np.maximum(of_a, of_b), np.minimum(of_a, of_b))
        while (root[root] != root).any():
            root = root[root]


def eroded(mask: Bool[np.ndarray, "h w"], times: int = 1) -> Bool[np.ndarray, "h w"]:
    """What is left when the outermost pixels are taken off, `times` over; beyond the mask's edge there is nothing."""
    for _ in range(times):
        padded = np.pad(mask, 1)
        mask = mask & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return mask


def dilated(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask and its neighbours above, below, left and right."""
    padded = np.pad(mask, 1)
    grown: np.ndarray = mask | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
    return grown
