"""Counts of float32 values in bins that widen only when they must: what exact curves over 10^8 pixels are read from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32

BINS = 1 << 22
_INFINITY = 0x7F800000  # the bits of float32 infinity, the largest key


class Bins(NamedTuple):
    """The k bins in use, those of the highest values first.

    Attributes:
        counts: (k,) values counted.
        weights: (rows, k) weights added.
        mixed: (k,) whether a bin holds values that differ; where False, nothing was rounded.
    """

    counts: Int[np.ndarray, " k"]
    weights: Float[np.ndarray, "rows k"]
    mixed: Bool[np.ndarray, " k"]


class Histogram:
    """Counts and weights over the whole range of float32, without a range given beforehand.

    The bits of a float32 are read as an integer key of the same order. A bin spans 2^shift keys; the shift starts at 0
    and grows only when the keys seen no longer fit into `BINS` bins, by merging neighbours. So 2^22 neighbouring floats
    are kept apart (those from 1 to 1.5), values over 8 binary orders differ by a bin when they differ by 2^-19 of their
    size, and the order in which values come does not change the bins.
    """

    def __init__(self, rows: int) -> None:
        """Keep `rows` weights a bin beside its count."""
        self._lowest, self._highest = _INFINITY, -_INFINITY
        self._shift = 0
        self._base = 0  # which bin is stored first
        self._empty(rows)

    def count(self, values: Float32[np.ndarray, "*any"]) -> None:
        """Count values, at least one, none of them NaN."""
        keys = _keys(values)
        self._make_room(int(keys.min()), int(keys.max()))
        bins = self._bins(keys)
        np.add.at(self._count, bins, 1)
        np.minimum.at(self._low, bins, keys)
        np.maximum.at(self._high, bins, keys)

    def weigh(self, row: int, values: Float32[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> None:
        """Add weights to one row; the values must have been counted before."""
        np.add.at(self._weights[row], self._bins(_keys(values)), weights)

    def descending(self) -> Bins:
        """All bins that hold a value, highest first."""
        used = np.flatnonzero(self._count)[::-1]
        return Bins(self._count[used], self._weights[:, used], self._low[used] < self._high[used])

    def _empty(self, rows: int) -> None:
        self._count = np.zeros(BINS, np.int64)
        self._weights = np.zeros((rows, BINS))
        self._low = np.full(BINS, _INFINITY, np.int32)  # the extreme keys of a bin: equal where it holds one value
        self._high = np.full(BINS, -_INFINITY, np.int32)

    def _bins(self, keys: Int32[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return ((keys >> self._shift) - self._base).astype(np.intp)

    def _make_room(self, lowest: int, highest: int) -> None:
        """Widen or move the window of stored bins so that all keys seen so far fit."""
        self._lowest, self._highest = min(lowest, self._lowest), max(highest, self._highest)
        shift = self._shift
        if self._base <= self._lowest >> shift and self._highest >> shift < self._base + BINS:
            return
        while (self._highest >> shift) - (self._lowest >> shift) >= BINS:
            shift += 1
        span = (self._highest >> shift) - (self._lowest >> shift) + 1
        self._move(shift, (self._lowest >> shift) - (BINS - span) // 2)  # slack on both sides

    def _move(self, shift: int, base: int) -> None:
        used = np.flatnonzero(self._count)
        count, weights, low, high = self._count[used], self._weights[:, used], self._low[used], self._high[used]
        self._shift, self._base = shift, base
        self._empty(len(weights))
        bins = self._bins(low)
        np.add.at(self._count, bins, count)
        for row, moved in zip(self._weights, weights, strict=True):
            np.add.at(row, bins, moved)
        np.minimum.at(self._low, bins, low)
        np.maximum.at(self._high, bins, high)


def _keys(values: np.ndarray) -> Int32[np.ndarray, " n"]:
    """Integers in the order of the values: bits of a positive float rise with it, those of a negative one fall."""
    bits = np.ascontiguousarray(values, np.float32).ravel().view(np.int32)
    if bits.min(initial=0) >= 0:
        return bits
    return np.where(bits < 0, np.int32(np.iinfo(np.int32).min) - bits, bits)
