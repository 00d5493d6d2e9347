"""Thresholds from good images and their disturbed copies: the promise holds on average over the kinds.

Each of n images stands for one draw of an ordinary day: with `UNDISTURBED` of its weight as it is, with the rest
spread evenly over its copies, which are of other kinds from image to image. The threshold is the weighted quantile at
the level k / n of all scores, k the rank that n scores call for (`calibration`). Without copies that is the k-th
smallest score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from unmask.errors import CalibrationError
from unmask.inspection.calibration import Calibration
from unmask.inspection.copies import AS_IT_IS
from unmask.inspection.guarantee import rank_for
from unmask.inspection.held_out import HeldOut

UNDISTURBED = 0.85
"""Of an image's weight, the share of the image as it is, where there are disturbed copies."""


def pooled(
    images: Sequence[Sequence[HeldOut]],
    rate: float,
    protocol: Literal["split", "cross"],
    confidence: float | None = None,
) -> Calibration:
    """Calibrate on images and their copies.

    Args:
        images: for each image that a detector has not seen, what it says of it and of its copies, one of each kind.
        rate: the share of good images that may be called anomalous, in (0, 1).
        protocol: how they come to be unseen; see `Calibration`.
        confidence: with which the threshold in itself keeps the rate, of "split"; None = it is kept on average.

    Raises:
        SettingError: the rate is out of range.
        CalibrationError: there are too few images for it, or a score or map holds NaN or infinity.
    """
    level = rank_for(len(images), rate, confidence) / len(images)
    found = np.array([(one.score, one.peak, one.median) for image in images for one in image])
    if not np.isfinite(found).all():
        raise CalibrationError("held-out scores or maps hold NaN or infinity; mend the detector that made them")
    weights = np.array([weight for image in images for weight in _weights(image)])
    scores, peaks, _ = found.T
    own = [one for image in images for one in image if one.kind == AS_IT_IS]
    return Calibration(
        threshold=quantile(scores, weights, level),
        pixel_threshold=quantile(peaks, weights, level),
        false_alarm_rate=rate,
        n_held_out=len(images),
        map_low=float(np.median([one.median for one in own])),
        scores=tuple(float(f"{score:.6g}") for score in sorted(one.score for one in own)),
        protocol=protocol,
        confidence=confidence,
    )


def without_copies(
    scored: Iterable[tuple[float, Float[np.ndarray, "_ _"]]], rate: float, confidence: float | None = None
) -> Calibration:
    """Calibrate on held-out images as they are: the k-th smallest score and peak are the thresholds.

    Args:
        scored: the score and the map (h, w) of each image in any order, read one at a time; sizes may differ.
        rate: as of `pooled`.
        confidence: as of `pooled`.

    Raises:
        SettingError: the rate or the confidence is out of range.
        CalibrationError: as of `pooled`.
    """
    return pooled([[HeldOut.of(AS_IT_IS, score, one)] for score, one in scored], rate, "split", confidence)


def expected_alarms(images: Sequence[Sequence[HeldOut]], threshold: float) -> dict[str, tuple[float, int]]:
    """For each kind the share of unseen good images that score above the threshold, and how many there are.

    Args:
        images: as of `pooled`.
        threshold: scores above it are anomalous.
    """
    by_kind: dict[str, list[bool]] = {}
    for image in images:
        for one in image:
            by_kind.setdefault(one.kind, []).append(one.score > threshold)
    return {kind: (sum(above) / len(above), len(above)) for kind, above in by_kind.items()}


def alarms_in_words(expected: Mapping[str, Sequence[float]]) -> str:
    """What each kind costs, the dearest first behind "as it is": "as it is 3.0 % of 92, blur 6.0 % of 45"."""
    ranked = sorted(expected.items(), key=lambda item: (item[0] != AS_IT_IS, -item[1][0]))
    return ", ".join(f"{kind} {100 * rate:.1f} % of {n:.0f}" for kind, (rate, n) in ranked)


def quantile(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], level: float) -> float:
    """The smallest value up to which at least a share of the weights lies.

    Args:
        values: of any order.
        weights: above 0; equal values are taken together.
        level: the share, in (0, 1].
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    enough = np.flatnonzero(reached >= level * reached[-1] * (1 - 1e-9))
    return float(values[order][enough[0]])


def _weights(image: Sequence[HeldOut]) -> list[float]:
    if len(image) == 1:
        return [1.0]
    return [UNDISTURBED if one.kind == AS_IT_IS else (1 - UNDISTURBED) / (len(image) - 1) for one in image]
