"""Curves over thresholds, and the areas under them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from unmask.errors import UnmaskError


class Curve(NamedTuple):
    """A rising curve from (0, 0), such as recall (y) over false-alarm rate (x), both in [0, 1]."""

    x: Float[np.ndarray, " k"]
    y: Float[np.ndarray, " k"]

    def thinned(self, n: int = 1000) -> Curve:
        """At most n of its points, evenly spread along its length, ends kept; for plots."""
        if len(self.x) <= n:
            return self
        walked = np.append(0.0, np.cumsum(np.diff(self.x) + np.diff(self.y)))
        kept = np.unique(np.searchsorted(walked, np.linspace(0, walked[-1], n - 1)))
        kept = np.unique(np.append(kept, len(self.x) - 1))
        return Curve(self.x[kept], self.y[kept])


def summed(counts: np.ndarray) -> np.ndarray:
    """Running sums that begin with 0."""
    return np.append(0.0, np.cumsum(counts))


def area(x: np.ndarray, y: np.ndarray, limit: float = 1.0) -> float:
    """Trapezoid rule over a rising curve up to x = limit, interpolated there, / limit."""
    width = np.diff(x)
    kept = np.diff(np.minimum(x, limit))
    end = y[:-1] + np.diff(y) * np.divide(kept, width, out=np.zeros_like(width), where=width > 0)
    return float(np.sum(kept * (y[:-1] + end)) / 2 / limit)


def mean_precision(false: np.ndarray, true: np.ndarray) -> float:
    """Average precision from running sums of false and true alarms."""
    return float(np.sum(np.diff(true) * true[1:] / (true[1:] + false[1:])) / true[-1])


def refuse_nan(values: Shaped[np.ndarray, "*any"]) -> None:
    """Raise UnmaskError where a score or map holds NaN."""
    if np.isnan(values).any():
        raise UnmaskError("a score or map holds NaN, which has no place in an order; mend the detector that made it")
