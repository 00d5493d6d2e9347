"""Held-out normal scores to thresholds with a stated guarantee, and a map's anomalous regions above its threshold.

The rule is conformal prediction (Vovk, Gammerman and Shafer 2005; Laxhammar and Falkman 2010): the threshold is one of
the scores of good images that a detector has not seen. `pooling` finds it, and `guarantee` says what it promises.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from unmask.errors import CalibrationError
from unmask.imaging.components import Runs, components
from unmask.inspection.guarantee import images_needed, rank_for, rate_interval
from unmask.types import Region

PROTOCOLS = ("cross", "split")
OPTIONAL = {"scores", "protocol", "confidence"}
"""Names that files of format 3 and before do not have."""
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
        scores: of the held-out images as they are, without copies: sorted, 6 significant digits; p-values of new images
            come from them. Empty in files of older versions.
        protocol: "split" = the images were held out, "cross" = each was scored by a fit that did not learn from it.
        confidence: with which this threshold in itself keeps the rate; None = the rate is kept on average.
    """

    threshold: float
    pixel_threshold: float
    false_alarm_rate: float
    n_held_out: int
    map_low: float
    scores: tuple[float, ...] = ()
    protocol: Literal["split", "cross"] = "split"
    confidence: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Between which false-alarm rates 9 of 10 thresholds lie that are set as this one was; None = it is not known.

        The law holds for images that were held out, none of which shows the scene of another.
        """
        n, rate, confidence = self.n_held_out, self.false_alarm_rate, self.confidence
        if self.protocol != "split" or n < images_needed(rate, confidence):
            return None
        return rate_interval(n, rank_for(n, rate, confidence))

    @property
    def promise(self) -> str:
        """What holds of the threshold, in a sentence for people."""
        rate, n = _percent(self.false_alarm_rate), self.n_held_out
        if self.protocol == "cross":
            return (
                f"Of good images, it flags about {rate} % on average ({n} good images set it, each scored by a fit "
                "that did not learn from it); that is measured, not proven."
            )
        sure = "on average" if self.confidence is None else f"with {_percent(self.confidence)} % confidence"
        kept = f"Of good images, it flags at most {rate} % {sure}"
        if self.interval is None:
            return f"{kept} ({n} held-out images set it)."
        low, high = map(_percent, self.interval)
        return f"{kept}; one threshold from {n} held-out images flags {low} to {high} % of them (9 times in 10)."

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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "scores": list(self.scores)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            CalibrationError: a name is missing or foreign, or the protocol is unknown.
        """
        known = {one.name for one in fields(cls)}
        if not known - OPTIONAL <= set(values) <= known:
            raise CalibrationError(f"a calibration holds {sorted(known)}, got {sorted(values)}; calibrate again")
        if values.get("protocol", "split") not in PROTOCOLS:
            raise CalibrationError(f"the calibration protocol {values['protocol']} is unknown; update unmask")
        return cls(**{**values, "scores": tuple(values.get("scores", ()))})


def _percent(rate: float) -> str:
    """A rate in % with two digits, or more where it is a round one: 0.05 is 5, 0.1106 is 11, 0.975 is 97.5."""
    percent = 100 * rate
    return f"{percent:.3g}" if abs(percent - round(percent, 1)) < 1e-6 * percent else f"{percent:.2g}"


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
