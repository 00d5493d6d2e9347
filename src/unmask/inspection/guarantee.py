"""What n held-out scores can promise: the rank of a threshold, on average or with a confidence, and what one fit keeps.

With n scores of exchangeable good images and the k-th smallest of them as threshold, a new good image scores above it
with a probability of at most (n + 1 - k) / (n + 1) on average over such sets (Vovk, Gammerman and Shafer 2005). The
rate of one set in itself is at most a draw from Beta(n + 1 - k, k) (Vovk 2012: training-conditional validity), and so
it stays below r with the probability that a binomial of n trials and rate r exceeds n - k.
"""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.errors import CalibrationError, SettingError

DEFAULT_RATE = 0.05
LEAST_CONFIDENCE, MOST_CONFIDENCE = 0.5, 0.9999
SHARE = 0.9
"""Of fits, which the interval that is told of a single one holds."""
_ROUNDING = 1e-9  # by which sums of floats may miss an equality


class Wanted(NamedTuple):
    """A promise as it was asked for.

    Attributes:
        rate: share of good images that may be flagged, in (0, 1); None = `DEFAULT_RATE`, or the best that is possible.
        confidence: with which one fit keeps the rate, in [0.5, 0.9999]; None = it is kept on average over fits.
    """

    rate: float | None = None
    confidence: float | None = None

    def check(self) -> None:
        """Raise SettingError where the rate or the confidence is out of range."""
        images_needed(DEFAULT_RATE if self.rate is None else self.rate, self.confidence)

    def of(self, n: int, default: float = DEFAULT_RATE) -> float:
        """The rate to promise with n held-out images; see `rate_for`."""
        return rate_for(n, self.rate, self.confidence, default)


def rank_for(n: int, rate: float, confidence: float | None = None) -> int:
    """Which of n held-out scores, counted from the smallest = 1, is the threshold: the least that keeps the promise.

    Args:
        n: how many scores there are.
        rate: share of good images that may be flagged, in (0, 1).
        confidence: with which one fit keeps the rate, in [0.5, 0.9999]; None = it is kept on average over fits.

    Raises:
        SettingError: the rate or the confidence is out of range.
        CalibrationError: n is too small for them.
    """
    needed = images_needed(rate, confidence)
    if n == 0:
        raise CalibrationError(f"a threshold needs held-out normal images, got none; give at least {needed}")
    if n < needed:
        raise CalibrationError(f"{_too_few(n, rate, confidence)}; {_remedy(n, confidence)}")
    on_average = math.ceil((n + 1) * (1 - exact(rate)))  # 20 * (1 - 0.05) must not become 20
    return on_average if confidence is None else max(on_average, n - _most_above(n, rate, confidence))


def images_needed(rate: float, confidence: float | None = None) -> int:
    """The fewest held-out normal images for which a rate can be promised: 19 for 0.05, and 59 with 95 % confidence.

    Raises:
        SettingError: the rate or the confidence is out of range.
    """
    on_average = math.ceil(1 / exact(rate)) - 1
    if confidence is None:
        return on_average
    check_confidence(confidence)
    return max(on_average, math.ceil(math.log1p(-confidence) / math.log1p(-rate) - _ROUNDING))


def best_rate(n: int, confidence: float | None = None) -> float:
    """The least rate that n >= 1 held-out images can promise, rounded up to 3 decimals (more from 99)."""
    scale: int = 10 ** max(3, len(str(n + 1)) + 1)
    best = math.ceil(Fraction(scale, n + 1))
    if confidence is not None:
        check_confidence(confidence)
        least = -math.expm1(math.log1p(-confidence) / n)
        scale *= 10 if least * scale > scale - 1 else 1
        best = max(best, math.ceil(least * scale - _ROUNDING))
    return best / scale


def rate_for(n: int, wanted: float | None, confidence: float | None = None, default: float = DEFAULT_RATE) -> float:
    """The rate to promise with n held-out images, checked before any training.

    Args:
        n: how many there are.
        wanted: in (0, 1); None = the default, or with a warning the best that n can promise.
        confidence: with which one fit keeps it, in [0.5, 0.9999]; None = it is kept on average over fits.
        default: in (0, 1).

    Raises:
        SettingError: the rate or the confidence is out of range.
        CalibrationError: n is too small for what was wanted, or 0.
    """
    rate = default if wanted is None else wanted
    if n >= images_needed(rate, confidence):
        return rate
    message = _too_few(n, rate, confidence)
    if wanted is not None or n == 0:
        raise CalibrationError(f"{message}; {_remedy(n, confidence)}")
    best = best_rate(n, confidence)
    warnings.warn(f"{message}; the best that can be promised is {best:g}, and that is used", stacklevel=4)
    return best


def rate_interval(n: int, rank: int, share: float = SHARE) -> tuple[float, float]:
    """Between which rates a share of fits lies, and as many below as above: quantiles of Beta(n + 1 - rank, rank).

    Args:
        n: how many held-out scores there are.
        rank: of the threshold among them, in [1, n].
        share: of the fits, in (0, 1).
    """
    return _quantile(n, rank, (1 - share) / 2), _quantile(n, rank, (1 + share) / 2)


def confidence_of(n: int, rank: int, rate: float) -> float:
    """The probability that one fit keeps a rate: that of Beta(n + 1 - rank, rank) to be at most `rate`."""
    return max(0.0, 1 - float(_binomial(n, rate, n - rank).sum()))


def exact(rate: float) -> Fraction:
    """A rate as it is written in decimal: 0.05 is 1/20, not the nearest binary fraction.

    Raises:
        SettingError: it is not in (0, 1).
    """
    if not 0 < rate < 1:
        raise SettingError(f"a false-alarm rate of {rate:g} is not between 0 and 1; ask for one such as 0.01")
    return Fraction(str(float(rate)))


def check_confidence(confidence: float) -> None:
    """Raise SettingError where a confidence is out of range."""
    if not LEAST_CONFIDENCE <= confidence <= MOST_CONFIDENCE:
        raise SettingError(
            f"a confidence of {confidence:g} is not between {LEAST_CONFIDENCE:g} and {MOST_CONFIDENCE:g}; "
            "ask for one such as 0.95"
        )


def _too_few(n: int, rate: float, confidence: float | None) -> str:
    sure = "" if confidence is None else f" with {100 * confidence:g} % confidence"
    needed = images_needed(rate, confidence)
    return f"a false-alarm rate of {rate:g}{sure} needs at least {needed} held-out normal images, got {n}"


def _remedy(n: int, confidence: float | None) -> str:
    return "give more images" + ("" if n == 0 else f" or ask for a rate of {best_rate(n, confidence):g} or more")


def _most_above(n: int, rate: float, confidence: float) -> int:
    """How many of n scores may lie above a threshold that keeps the rate with this confidence; n allows for none."""
    below = np.cumsum(_binomial(n, rate, n))
    return int(np.searchsorted(below, (1 - confidence) * (1 + _ROUNDING), side="right")) - 1


def _binomial(n: int, rate: float, most: int) -> Float[np.ndarray, " k"]:
    """The probabilities of 0, 1, ..., `most` <= n successes in n trials: k = `most` + 1."""
    i = np.arange(most + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((n - i[:-1]) / i[1:]))])  # the logarithm of n over i
    chances: np.ndarray = np.exp(ways + i * math.log(rate) + (n - i) * math.log1p(-rate))
    return chances


def _quantile(n: int, rank: int, share: float) -> float:
    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if confidence_of(n, rank, middle) < share else (low, middle)
    return middle
