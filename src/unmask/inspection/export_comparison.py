"""An exported model beside its original: scores, maps and verdicts of good images and of disturbed copies of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.imaging.disturbances import blurred, lit
from unmask.imaging.images import Source
from unmask.imaging.options import DEFAULTS
from unmask.inspection import self_test
from unmask.inspection.calibration import Calibration
from unmask.inspection.inspector import Inspector
from unmask.inspection.scoring import Reading, score_or_raise
from unmask.types import ArrayPrediction

SLACK, MAP_SLACK = 1e-3, 5e-3
"""How far scores and maps of an fp32 export may be from the model's: a share of the threshold or of themselves. A patch
that was learned lies at distance 0 from the bank, and the root of a square near 0 magnifies its rounding in a map."""
CARRIED = 30  # images, each as it is and in `_variants`
COMPARED = 100  # images, each as it is and with `DISTURBED`
SIGMA, GAIN = 0.003, 1.05  # of copies that are blurred and brighter


class Exported(NamedTuple):
    """What came of an export.

    Attributes:
        path: of the file.
        difference: the largest between its scores and the model's, as a share of the threshold or of themselves.
        map_difference: likewise of the maps.
        calibrated_on: good images that its thresholds come from; 0 = they are the model's.
        verdicts: that were compared: of those images, and of disturbed copies of them.
        differing: verdicts that differ.
    """

    path: Path
    difference: float
    map_difference: float
    calibrated_on: int
    verdicts: int
    differing: int


def compared(
    original: Inspector, twin: Inspector, good: Sequence[Source], target: Path, calibrated_on: int
) -> Exported:
    """Compare the scores and maps of the built-in picture, and those and the verdicts of good images and copies.

    Args:
        original: the model.
        twin: what its export became.
        good: images.
        target: the path that the export will have.
        calibrated_on: how many good images set the twin's thresholds.
    """
    square = self_test.picture(original.tiling.size)
    a, b = original.backend.predict(square), twin.backend.predict(square)
    scores, maps = _differences(original, a, b)
    verdicts = differing = 0
    plain = replace(original.reading, options=DEFAULTS)
    for variant in _variants(original.reading, good[:COMPARED]):
        one, other = _scored(original, plain, variant), _scored(twin, plain, variant)
        more = _differences(original, one, other)
        scores, maps = max(scores, more[0]), max(maps, more[1])
        verdicts += 1
        differing += _differ(_margin(original, one), _margin(twin, other))
    return Exported(target, scores, maps, calibrated_on, verdicts, differing)


def carried(original: Inspector, twin: Inspector, good: Sequence[Source]) -> Calibration:
    """The original's thresholds on the scale of the twin's scores and maps, where no image may set new ones.

    Fewer bits move scores a little, and nearly in a line: that of least squares through what both say of good images
    and of disturbed copies of them.

    Args:
        original: the model.
        twin: what its export became.
        good: images, learned or not.
    """
    plain, of = replace(original.reading, options=DEFAULTS), original.calibration
    pairs = np.array(
        [
            [_facts(_scored(one, plain, variant)) for one in (original, twin)]
            for variant in _variants(original.reading, good[:CARRIED])
        ]
    )  # n 2 3
    lines = [np.polyfit(pairs[:, 0, fact], pairs[:, 1, fact], 1) for fact in range(3)]
    on_score, on_peak, on_median = (partial(np.polyval, line) for line in lines)
    return replace(
        of,
        threshold=float(on_score(of.threshold)),
        pixel_threshold=float(on_peak(of.pixel_threshold)),
        map_low=float(on_median(of.map_low)),
        scores=tuple(float(f"{score:.6g}") for score in sorted(map(on_score, of.scores))),
    )


def _facts(prediction: ArrayPrediction) -> tuple[float, float, float]:
    anomaly = prediction.maps[0]
    return float(prediction.scores[0]), float(anomaly.max()), float(np.median(anomaly))


def _margin(inspector: Inspector, prediction: ArrayPrediction) -> float:
    """How far a score lies above the threshold, as a share of it."""
    threshold = inspector.calibration.threshold
    return (float(prediction.scores[0]) - threshold) / max(abs(threshold), 1e-6)


def _differ(a: float, b: float) -> bool:
    """Whether two verdicts differ by more than rounding: one held-out score is the threshold itself."""
    return (a > 0) != (b > 0) and max(abs(a), abs(b)) > SLACK


def _scored(inspector: Inspector, reading: Reading, image: np.ndarray) -> ArrayPrediction:
    (one,) = score_or_raise(inspector.backend.predict, reading, [image])
    return ArrayPrediction(one.map[None], np.array([one.score]))


def _differences(original: Inspector, a: ArrayPrediction, b: ArrayPrediction) -> tuple[float, float]:
    calibration = original.calibration
    return (
        _difference(a.scores, b.scores, calibration.threshold),
        _difference(a.maps, b.maps, calibration.pixel_threshold),
    )


def _difference(a: np.ndarray, b: np.ndarray, usual: float) -> float:
    return float((np.abs(a - b) / np.maximum(np.abs(a), abs(usual))).max())


# --- disturbed copies spread the scores, so that verdicts near the threshold are compared too -------------------------


def _variants(reading: Reading, good: Sequence[Source]) -> Iterator[Float[np.ndarray, "h w 3"]]:
    for number, source in enumerate(good):
        image = reading.decode(source)
        yield image.transpose(1, 2, 0)
        for disturb in DISTURBED:
            yield disturb(image, np.random.default_rng(number)).transpose(1, 2, 0)


def _moved_patch(image: np.ndarray, random: np.random.Generator, opacity: float = 0.4) -> np.ndarray:
    """A patch of an eighth of the sides, laid thinly over another place: a faint defect."""
    h, w = image.shape[1:]
    ph, pw = max(1, h // 8), max(1, w // 8)
    (y, x), (to_y, to_x) = ((random.integers(0, h - ph + 1), random.integers(0, w - pw + 1)) for _ in range(2))
    changed = image.copy()
    room = changed[:, to_y : to_y + ph, to_x : to_x + pw]
    room += np.float32(opacity) * (image[:, y : y + ph, x : x + pw] - room)
    return changed


DISTURBED: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _moved_patch,
    lambda image, _: blurred(image, SIGMA),
    lambda image, _: lit(image, GAIN),
)
