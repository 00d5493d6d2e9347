"""A test that may be looked at after each image: has the distribution of a number changed?

Conformal change detection (Vovk, Petej, Nouretdinov, Ahlberg, Carlsson and Gammerman, "Retrain or not retrain:
conformal test martingales for change-point detection", COPA 2021, arXiv 2102.10439). A new value has a rank among the
values of the normal images and all values before it. While images are exchangeable, these ranks are independent and
uniform, however few normal images there are (Vovk, Nouretdinov and Gammerman, ICML 2003): that is why values that came
before are ranked along. Bets on the rank multiply a capital that is a martingale, and the Shiryaev-Roberts statistic

    R_n = (1 + R_(n-1)) e_n,    e_n = what the bet pays at image n, 1 on average

has R_n - n as a martingale. A warning at R_n >= A therefore comes falsely no more often than once in A images, and in
the first n images with a probability of at most n / A. The mean of several such statistics is one again, however they
depend on each other, so many numbers and bets are watched together.

The bets are power bets: with u the rank as a share, the density k u^(k-1) on low values, its mirror image on high ones,
and the mean of both on values at either end. A rank covers 1 / n of that density; it pays the mean over what it covers,
so that nothing is drawn at random but the order of equal values.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

MOST_RANKED = 10_000
"""Values that a new one is ranked among; those that come later are not added. Until then the test is exact; after it,
the normal distribution is known to half a percent."""
POWERS = (0.25, 0.6)  # of the bets: the first for large changes, the second for small ones


class Direction(StrEnum):
    """Where the values have gone."""

    LOWER = "lower"
    HIGHER = "higher"
    APART = "apart"


class ChangeTest:
    """The evidence that one number has changed.

    Args:
        usual: its values on normal images, in any order.
        directions: that count as a change.
        seed: of the order of equal values.

    Attributes:
        evidence: the mean of the statistics of all bets; wrongly at A or above no more often than once in A values.
    """

    def __init__(self, usual: Sequence[float], directions: Sequence[Direction], seed: int) -> None:
        self.evidence = 0.0
        self._ranked = sorted(usual)
        self._bets = [(direction, power) for direction in directions for power in POWERS]
        self._statistics = [0.0] * len(self._bets)
        self._random = np.random.default_rng(seed)

    def update(self, value: float) -> None:
        """Take in the next value."""
        low, high, n = bisect_left(self._ranked, value), bisect_right(self._ranked, value), len(self._ranked) + 1
        rank = low if low == high else int(self._random.integers(low, high + 1))
        for at, (direction, power) in enumerate(self._bets):
            self._statistics[at] = (1 + self._statistics[at]) * paid(rank, n, direction, power)
        self.evidence = sum(self._statistics) / len(self._statistics)
        if len(self._ranked) < MOST_RANKED:
            insort(self._ranked, value)


def paid(rank: int, n: int, direction: Direction, power: float) -> float:
    """What a bet pays at a rank (0 = the lowest of n): n times the probability that it gave to this rank."""
    low: float = n * (((rank + 1) / n) ** power - (rank / n) ** power)
    if direction is Direction.LOWER:
        return low
    high: float = n * (((n - rank) / n) ** power - ((n - rank - 1) / n) ** power)
    return high if direction is Direction.HIGHER else (low + high) / 2
