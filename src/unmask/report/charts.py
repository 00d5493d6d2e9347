"""Numbers to the coordinates of small charts; a template draws them as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

BARS = 40


class Chart(NamedTuple):
    """A curve to draw, such as recall over false-alarm rate.

    Attributes:
        title: what it is, with its area if that matters.
        x_name: what goes to the right, from 0 to `x_max`.
        y_name: what goes up, from 0 to 1.
        x: (k,) rising.
        y: (k,) in [0, 1].
        x_max: where the drawing ends on the right.
    """

    title: str
    x_name: str
    y_name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    x_max: float = 1.0

    def points(self) -> str:
        """The curve in a unit square of 1000 x 1000, y down, as an SVG list of points, cut at `x_max`."""
        x, y = np.asarray(self.x, float), np.asarray(self.y, float)
        inside = x <= self.x_max
        drawn = [*zip(x[inside], y[inside], strict=True), (self.x_max, np.interp(self.x_max, x, y))]
        return " ".join(f"{1000 * across / self.x_max:.4g},{1000 - 1000 * up:.4g}" for across, up in drawn)


class Bar(NamedTuple):
    """One rectangle of a histogram, in shares of the drawing's width and height, y down, and what to say of it."""

    x: float
    y: float
    width: float
    height: float
    series: int
    text: str


class Bars(NamedTuple):
    """A stacked histogram: rectangles, names of the series, (share of width, label) of ticks, threshold, top count."""

    bars: list[Bar]
    names: list[str]
    ticks: list[tuple[float, str]]
    threshold: float
    top: int


def stacked_bars(scores: Float[np.ndarray, " n"], names: Sequence[str], threshold: float) -> Bars:
    """A histogram of scores, one colour a name, with a bar's edge on the threshold.

    Args:
        scores: (n,) at least one, finite.
        names: (n,) the series that each score belongs to; drawn from the bottom in order of the median score.
        threshold: a score that the chart must show.
    """
    low, high = min(float(scores.min()), threshold), max(float(scores.max()), threshold)
    width = (high - low) / BARS or max(abs(high), 1.0) * 1e-3
    below, above = (max(1, math.ceil(span / width - 1e-9)) for span in (threshold - low, high - threshold))
    start, n_bars = threshold - below * width, below + above
    place = ((scores - start) / width).astype(int)
    place = np.where(scores > threshold, place.clip(below, n_bars - 1), place.clip(0, below - 1))
    labels = np.asarray(names)
    series = sorted(set(names), key=lambda name: (float(np.median(scores[labels == name])), name))
    counts = np.stack([np.bincount(place[labels == name], minlength=n_bars) for name in series])
    top = int(counts.sum(axis=0).max())
    bars = _stack(counts / top, counts, series)
    ticks = [((tick - start) / (n_bars * width), f"{tick:.6g}") for tick in nice_ticks(start, start + n_bars * width)]
    return Bars(bars, series, ticks, (threshold - start) / (n_bars * width), top)


def _stack(shares: np.ndarray, counts: np.ndarray, series: Sequence[str]) -> list[Bar]:
    n_bars, tops = shares.shape[1], np.cumsum(shares, axis=0)
    return [
        Bar(bar / n_bars, 1 - tops[row, bar], 1 / n_bars, shares[row, bar], row, f"{series[row]}: {counts[row, bar]}")
        for row, bar in zip(*np.nonzero(counts), strict=True)
    ]


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers in [low, high], a step of 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{tick * step:.12g}") for tick in range(first, last + 1)]
