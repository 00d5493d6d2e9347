"""Held-out normal scores to thresholds with a stated guarantee, and a map's anomalous regions above its threshold.

The rule is split conformal prediction (Vovk, Gammerman and Shafer 2005; Laxhammar and Falkman 2010): with n held-out
normal scores and a wanted false-alarm rate a, the threshold is the ceil((n + 1)(1 - a))-th smallest of them. A new
normal image that is exchangeable with them then scores above it with probability at most a, on average over held-out
sets.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from unmask.errors import CalibrationError, SettingError
from unmask.imaging.components import Runs, components
from unmask.types import Region

DEFAULT_RATE = 0.05
_EXTREMES = (np.minimum, np.minimum, np.maximum, np.maximum)  # of a box: x0, y0, x1, y1


@dataclass(frozen=True)
class Calibration:
    """What held-out normal images say about scores and maps.

    Attributes:
        threshold: image scores above it are anomalous.
        pixel_threshold: map values above it are anomalous; a normal image has any such value at most as often as the
            false-alarm rate says.
        false_alarm_rate: the rate that was asked for and is kept on average, in (0, 1).
        n_held_out: how many images stand behind it.
        map_low: what a normal pixel looks like: the median over held-out images of the median of their maps.
    """

    threshold: float
    pixel_threshold: float
    false_alarm_rate: float
    n_held_out: int
    map_low: float
    scores: tuple[float, ...] = ()
    protocol: Literal["split", "cross"] = "split"

    @classmethod
    def from_normals(
        cls, scored: Iterable[tuple[float, Float[np.ndarray, "_ _"]]], false_alarm_rate: float
    ) -> Calibration:
        """Calibrate on held-out normal images that the detector has never seen.

        Args:
            scored: the score and the map (h, w) of each of n images in any order, read one at a time; sizes may differ.
            false_alarm_rate: the share of normal images that may be called anomalous, in (0, 1).

        Raises:
            SettingError: the rate is not in (0, 1).
            CalibrationError: n < 1 / rate - 1, or a score or map holds NaN or infinity.
        """
        facts = np.array([(score, one.max(), np.median(one)) for score, one in scored], dtype=float).reshape(-1, 3)
        rank = _rank(len(facts), false_alarm_rate)
        if not np.isfinite(facts).all():
            raise CalibrationError("held-out scores or maps hold NaN or infinity; mend the detector that made them")
        scores, peaks, medians = facts.T
        return cls(
            threshold=float(np.sort(scores)[rank - 1]),
            pixel_threshold=float(np.sort(peaks)[rank - 1]),
            false_alarm_rate=false_alarm_rate,
            n_held_out=len(facts),
            map_low=float(np.median(medians)),
        )

    @property
    def map_high(self) -> float:
        """The top of the heat map's scale: as far above the pixel threshold as `map_low` is below it."""
        return 2 * self.pixel_threshold - self.map_low

    def scaled(self, anomaly_map: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """A map on the one scale of all images: 0 a usual normal pixel, 0.5 the pixel threshold, clipped to [0, 1].

        The scale comes from held-out normals, never from the image itself, so that colours compare between images.
        """
        span = max(self.map_high - self.map_low, float(np.finfo(np.float32).tiny))
        return np.clip((anomaly_map - self.map_low) / span, 0.0, 1.0).astype(np.float32)

    def to_dict(self) -> dict[str, float | int]:
        """Plain values for JSON."""
        return {**asdict(self), "scores": list(self.scores)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            CalibrationError: a name is missing or foreign.
        """
        wanted = {one.name for one in fields(cls)}
        if not wanted - {"scores", "protocol"} <= set(values) <= wanted:
            raise CalibrationError(f"a calibration holds {sorted(wanted)}, got {sorted(values)}; calibrate again")
        return cls(**{**values, "scores": tuple(values.get("scores", ()))})


def images_needed(false_alarm_rate: float) -> int:
    """The fewest held-out normal images for which a false-alarm rate can be promised: 19 for 0.05, 99 for 0.01.

    Raises:
        SettingError: the rate is not in (0, 1).
    """
    return math.ceil(1 / _exact(false_alarm_rate)) - 1


def best_rate(n: int) -> float:
    """The least false-alarm rate that n >= 1 held-out images can promise, rounded up to 3 decimals (more from 99)."""
    scale: int = 10 ** max(3, len(str(n + 1)) + 1)
    return math.ceil(Fraction(scale, n + 1)) / scale


def rate_for(n: int, wanted: float | None) -> float:
    """The rate to promise with n held-out images, checked before any training.

    Args:
        n: how many there are.
        wanted: in (0, 1); None = 0.05, or with a warning the best that n can promise.

    Raises:
        CalibrationError: n is too small for what was wanted, or 0.
    """
    rate = DEFAULT_RATE if wanted is None else wanted
    needed = images_needed(rate)
    if n >= needed:
        return rate
    message = f"a false-alarm rate of {rate:g} needs at least {needed} held-out normal images, got {n}"
    if wanted is not None or n == 0:
        least = "" if n == 0 else f" or ask for a rate of {best_rate(n):g} or more"
        raise CalibrationError(f"{message}; give more images{least}")
    warnings.warn(f"{message}; the best that can be promised is {best_rate(n):g}, and that is used", stacklevel=3)
    return best_rate(n)


def regions(
    anomaly_map: Float[np.ndarray, "h w"], pixel_threshold: float
) -> tuple[Bool[np.ndarray, "h w"], tuple[Region, ...]]:
    """Where a map is above its threshold.

    Args:
        anomaly_map: (h, w) float32.
        pixel_threshold: map values above it are anomalous.

    Returns:
        The mask (h, w) and its connected regions (8-neighbours), the highest peak first; of equal values in a region
        the first in reading order is its peak.
    """
    mask = anomaly_map > pixel_threshold
    runs = components(mask)
    if not len(runs.rows):
        return mask, ()
    n, order = int(runs.component.max()) + 1, np.argsort(runs.component, kind="stable")
    rows, starts, ends, component = (part[order] for part in runs)
    begins = np.flatnonzero(np.diff(component, prepend=-1))  # where each region's runs begin
    boxes = [
        reduce.reduceat(part, begins) for reduce, part in zip(_EXTREMES, (starts, rows, ends, rows + 1), strict=True)
    ]
    inside, label = _pixels(mask, runs)
    values = anomaly_map.ravel()[inside]
    peaks = np.full(n, -np.inf, values.dtype)
    np.maximum.at(peaks, label, values)
    highest = np.flatnonzero(values == peaks[label])[::-1]
    peak_at = np.empty(n, np.intp)
    peak_at[label[highest]] = inside[highest]  # reversed above: the first in reading order is written last
    areas, width = np.bincount(label, minlength=n), mask.shape[1]
    y, x = np.divmod(peak_at, width)
    ranked = np.argsort(-peaks, kind="stable")
    facts = (part[ranked].tolist() for part in (*boxes, areas, peaks, x, y))
    found = [
        Region((x0, y0, x1, y1), area=area, peak=peak, peak_at=(px, py))
        for x0, y0, x1, y1, area, peak, px, py in zip(*facts, strict=True)
    ]
    return mask, tuple(found)


def _pixels(mask: Bool[np.ndarray, "h w"], runs: Runs) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Number and region of every pixel of the mask, in reading order."""
    return np.flatnonzero(mask), np.repeat(runs.component, runs.ends - runs.starts)


def _rank(n: int, false_alarm_rate: float) -> int:
    """ceil((n + 1)(1 - a)) in exact arithmetic: 20 * (1 - 0.05) must not become 20."""
    needed = images_needed(false_alarm_rate)
    if n == 0:
        raise CalibrationError(f"a threshold needs held-out normal images, got none; give at least {needed}")
    if n < needed:
        raise CalibrationError(
            f"a false-alarm rate of {false_alarm_rate:g} needs at least {needed} held-out normal images, got {n}; "
            f"give more images or ask for a rate of {best_rate(n):g} or more"
        )
    return math.ceil((n + 1) * (1 - _exact(false_alarm_rate)))


def _exact(false_alarm_rate: float) -> Fraction:
    """The rate as it is written in decimal: 0.05 is 1/20, not the nearest binary fraction."""
    if not 0 < false_alarm_rate < 1:
        raise SettingError(
            f"a false-alarm rate of {false_alarm_rate:g} is not between 0 and 1; ask for one such as 0.01"
        )
    return Fraction(str(float(false_alarm_rate)))
