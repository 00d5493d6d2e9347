"""The same test images, mildly disturbed as a line disturbs them: does the verdict hold?

Nothing is fitted or calibrated again. Each kind has one fixed amount, and the kinds are of two groups that every table
keeps apart: copies of a *taught* kind are learned from and calibrated on by a fit with default options, in other
amounts; of an *untaught* kind no fit ever makes a copy. Only the second group shows what a method does with a change
that nobody thought of. What is done to an image is in `imaging.disturbances`.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from unmask.benchmark.results import Row, mean
from unmask.evaluation import metrics
from unmask.imaging import disturbances as by
from unmask.imaging import images
from unmask.imaging.properties import is_grey
from unmask.types import AnomalyResult, Sample

MOST = 40  # test images of a row that are disturbed, half of them good: 16 kinds of each take their time

SIGMA, GAIN, QUALITY, DEGREES, SHIFT = 0.004, 1.15, 75, 3.0, 0.03
NOISE, MOTION, MOTION_DEGREES, GRADIENT, GRADIENT_DEGREES = 0.01, 0.012, 30.0, 0.12, 30.0
DARKER, TINT, ZOOM = 0.85, (1.04, 1.0, 0.96), 1.02
GAMMA, VIGNETTING, CHROMATIC, REDUCTION, SALT = 1.3, 0.25, 0.008, 2.0, 0.001

Picture = Float[np.ndarray, "3 h w"]
Disturb = Callable[[Picture, np.random.Generator], Picture]


class Disturbed(NamedTuple):
    """An image file, and what is done to it."""

    path: Path
    kind: str

    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """Decode and disturb, in float32, and round to 8 bits; the same noise each time, and other noise by image.

        Raises:
            ImageError: the file cannot be read.
        """
        image = images.decode(self.path)
        if self.kind == NONE:
            return images.to_uint8(image)
        random = np.random.default_rng(zlib.crc32(self.path.name.encode()))
        return images.to_uint8({**TAUGHT, **UNTAUGHT}[self.kind](image, random))


def chosen(samples: Sequence[Sample], most: int = MOST) -> list[Sample]:
    """Evenly spread test images, as many good ones as defects where there are enough."""
    good, bad = ([one for one in samples if one.anomalous == label] for label in (False, True))
    few = min(len(good), len(bad), most // 2)
    return [*_spread(good, max(few, most - len(bad))), *_spread(bad, max(few, most - len(good)))]


def by_kind(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Kind -> those test images that can show it: a grey camera has no colour to change. Kinds that none shows lack.

    Raises:
        ImageError: a file cannot be read.
    """
    coloured = [sample for sample in samples if not is_grey(images.decode(sample.path))]
    found = {kind: coloured if kind in OF_COLOUR else list(samples) for kind in DISTURBANCES}
    return {kind: some for kind, some in found.items() if some}


def figures(samples: Sequence[Sample], results: Iterable[AnomalyResult]) -> dict[str, float]:
    """What came of one kind of disturbance.

    Args:
        samples: that were disturbed.
        results: one a sample, read one at a time.

    Returns:
        Image AUROC, and false-alarm rate and recall at the threshold that the inspector already had; what cannot be
        measured lacks.
    """
    labels = np.array([sample.anomalous for sample in samples])
    scores, thresholds = np.array([(result.score, result.threshold) for result in results]).T
    at_ours = metrics.at_threshold(scores, labels, float(thresholds[0]))
    values = {
        "image_auroc": metrics.auroc(scores, labels),
        "false_alarm_rate": at_ours.false_alarm_rate,
        "recall": at_ours.recall,
    }
    return {name: value for name, value in values.items() if value is not None}


def mean_under(rows: Sequence[Row], kinds: Sequence[str], figure: str) -> float | None:
    """The mean over kinds of disturbance of the means over data sets.

    Args:
        rows: of one method.
        kinds: such as all of a group.
        figure: a name that `figures` gives.

    Returns:
        None where a kind was not measured that every image can show: a mean of the others would not compare.
    """
    found = {kind: mean(_under(rows, kind), figure) for kind in kinds}
    known = [value for value in found.values() if value is not None]
    lacking = {kind for kind, value in found.items() if value is None}
    return statistics.mean(known) if known and lacking <= set(OF_COLOUR) else None


def _under(rows: Sequence[Row], kind: str) -> list[Row]:
    """The rows that were measured under a disturbance, with its figures in place of their own."""
    return [{**row, **row["robustness"][kind]} for row in rows if kind in row.get("robustness", {})]


def _spread(samples: Sequence[Sample], n: int) -> list[Sample]:
    n = min(n, len(samples))
    return [samples[i * len(samples) // n] for i in range(n)]


# --- the disturbances -------------------------------------------------------------------------------------------------


def _shifted(image: Picture) -> Picture:
    """By whole pixels, so that no value changes."""
    h, w = image.shape[1:]
    return by.moved(image, right=round(SHIFT * w) / w, down=round(SHIFT * h) / h)


NONE = "none"
TAUGHT: dict[str, Disturb] = {
    "blur": lambda image, _: by.blurred(image, SIGMA),
    "brightness": lambda image, _: by.lit(image, GAIN),
    "jpeg": lambda image, _: by.compressed(image, QUALITY),
    "rotation": lambda image, _: by.moved(image, degrees=DEGREES),
    "shift": lambda image, _: _shifted(image),
    "noise": lambda image, random: by.noisy(image, NOISE, random),
    "motion": lambda image, _: by.smeared(image, MOTION, MOTION_DEGREES),
    "gradient": lambda image, _: by.lit_from_a_side(image, GRADIENT, GRADIENT_DEGREES),
    "darker": lambda image, _: by.lit(image, DARKER),
    "color": lambda image, _: by.tinted(image, np.array(TINT)),
    "zoom": lambda image, _: by.moved(image, zoom=ZOOM),
}
UNTAUGHT: dict[str, Disturb] = {
    "gamma": lambda image, _: by.curved(image, GAMMA),
    "vignetting": lambda image, _: by.vignetted(image, VIGNETTING),
    "chromatic": lambda image, _: by.fringed(image, CHROMATIC),
    "resampled": lambda image, _: by.resampled(image, REDUCTION),
    "salt": lambda image, random: by.salted(image, SALT, random),
}
"""Kind -> what is done."""

DISTURBANCES = (NONE, *TAUGHT, *UNTAUGHT)
"""All kinds in the order of the tables."""

GROUPS = {"undisturbed": (NONE,), "taught": tuple(TAUGHT), "not taught": tuple(UNTAUGHT)}
"""Name of a group in the tables -> its kinds."""

OF_COLOUR = ("color", "chromatic")
"""The kinds that an image without colour cannot show."""
