"""The same test images, mildly disturbed as a line disturbs them: does the verdict hold?

Nothing is fitted or calibrated again. An image of h x w pixels is blurred by a gaussian of 0.4 % of its shorter side,
made 15 % brighter, stored as a JPEG of quality 75, turned by 3 degrees, or shifted by 3 % to the right and down. What
comes into view at the edges is the image mirrored.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from unmask.evaluation import metrics
from unmask.imaging import images
from unmask.types import AnomalyResult, Sample

MOST = 60  # test images of a row that are disturbed, half of them good
SIGMA, GAIN, QUALITY, DEGREES, SHIFT = 0.004, 1.15, 75, 3.0, 0.03

Picture = UInt8[np.ndarray, "h w 3"]


class Disturbed(NamedTuple):
    """An image file, and what is done to it."""

    path: Path
    kind: str

    def picture(self) -> Picture:
        """Decode and disturb.

        Raises:
            ImageError: the file cannot be read.
        """
        return DISTURBANCES[self.kind](images.to_uint8(images.decode(self.path)))


def chosen(samples: Sequence[Sample], most: int = MOST) -> list[Sample]:
    """Evenly spread test images, as many good ones as defects where there are enough."""
    good, bad = ([one for one in samples if one.anomalous == label] for label in (False, True))
    few = min(len(good), len(bad), most // 2)
    return [*_spread(good, max(few, most - len(bad))), *_spread(bad, max(few, most - len(good)))]


def figures(samples: Sequence[Sample], results: Mapping[str, Sequence[AnomalyResult]]) -> dict[str, dict[str, float]]:
    """What came of each disturbance.

    Args:
        samples: that were chosen.
        results: kind of disturbance ("none" among them) -> a result a sample.

    Returns:
        Kind -> image AUROC, and false-alarm rate and recall at the threshold that the inspector already had.
    """
    return {kind: _measured(samples, some) for kind, some in results.items()}


def _measured(samples: Sequence[Sample], results: Iterable[AnomalyResult]) -> dict[str, float]:
    labels = np.array([sample.anomalous for sample in samples])
    found = list(results)
    scores = np.array([result.score for result in found])
    at_ours = metrics.at_threshold(scores, labels, found[0].threshold)
    values = {
        "image_auroc": metrics.auroc(scores, labels),
        "false_alarm_rate": at_ours.false_alarm_rate,
        "recall": at_ours.recall,
    }
    return {name: value for name, value in values.items() if value is not None}


def _spread(samples: Sequence[Sample], n: int) -> list[Sample]:
    n = min(n, len(samples))
    return [samples[i * len(samples) // n] for i in range(n)]


# --- the disturbances -------------------------------------------------------------------------------------------------


def _blurred(picture: Picture) -> Picture:
    sigma = SIGMA * min(picture.shape[:2])
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)))


def _brighter(picture: Picture) -> Picture:
    return np.minimum(np.round(picture * GAIN), 255).astype(np.uint8)


def _compressed(picture: Picture) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file).convert("RGB"))


def _turned(picture: Picture) -> Picture:
    h, w = picture.shape[:2]
    edge = min(int(0.1 * max(h, w)) + 1, min(h, w) - 1)  # 3 degrees move a corner by 5 % of the longer side
    wide = np.pad(picture, ((edge, edge), (edge, edge), (0, 0)), "reflect")
    turned = Image.fromarray(wide).rotate(DEGREES, Image.Resampling.BILINEAR)
    return np.asarray(turned)[edge : edge + h, edge : edge + w]


def _shifted(picture: Picture) -> Picture:
    h, w = picture.shape[:2]
    down, right = round(SHIFT * h), round(SHIFT * w)
    return np.pad(picture, ((down, 0), (right, 0), (0, 0)), "reflect")[:h, :w]


def _same(picture: Picture) -> Picture:
    return picture


DISTURBANCES: dict[str, Callable[[Picture], Picture]] = {
    "none": _same,
    "blur": _blurred,
    "brightness": _brighter,
    "jpeg": _compressed,
    "rotation": _turned,
    "shift": _shifted,
}
"""Kind -> what is done."""
