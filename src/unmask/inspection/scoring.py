"""From images to scores and maps of their own size, whatever predicts; the same for calibration and for verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.errors import ImageError
from unmask.imaging.alignment import Alignment, Posed
from unmask.imaging.images import pixels_of, planes
from unmask.imaging.intensity import IntensityRange
from unmask.imaging.measures import View, view_of
from unmask.imaging.options import DEFAULTS, ImageOptions
from unmask.imaging.pixels import Pixels
from unmask.imaging.poses import Pose
from unmask.imaging.tiling import Tiling, merge, split
from unmask.inspection.sources import ImagePage, as_source, file_of
from unmask.types import ArrayPrediction

BATCH = 8
Predict = Callable[[Float[np.ndarray, "b 3 s s"]], ArrayPrediction]


@dataclass(frozen=True)
class Reading:
    """How a source becomes what a detector sees.

    Attributes:
        tiling: how an image becomes squares.
        options: the intensity range, bands and page to take of an image, and its largest size.
        alignment: what brings a part to its usual pose; None = images are judged as they lie.
    """

    tiling: Tiling
    options: ImageOptions = DEFAULTS
    alignment: Alignment | None = None

    @property
    def intensity(self) -> IntensityRange | None:
        """Which values become 0 and 1; None = the full scale of an image's kind of number."""
        return self.options.intensity

    def pixels(self, source: Any) -> Pixels:
        """An image's values as its source holds them.

        Raises:
            ImageError: it cannot be read.
        """
        if isinstance(source, ImagePage):
            pixels = pixels_of(source.file, replace(self.options, page=source.page))
            return pixels._replace(name=f"{pixels.name}, page {source.page}")
        return pixels_of(as_source(source), self.options)

    def decode(self, source: Any) -> Float[np.ndarray, "3 h w"]:
        """An image as RGB in [0, 1].

        Raises:
            ImageError: it cannot be read.
        """
        return planes(self.pixels(source), self.intensity)

    def posed(self, image: Float[np.ndarray, "3 h w"]) -> Posed:
        """A decoded image with its part in the usual pose, where images are aligned."""
        return Posed(image, None) if self.alignment is None else self.alignment.posed(image)

    def returned(self, anomaly: Float[np.ndarray, "h w"], pose: Pose | None) -> Float[np.ndarray, "h w"]:
        """A map of an aligned image, in the image's own pose."""
        return anomaly if self.alignment is None or pose is None else self.alignment.returned(anomaly, pose)

    def page_of(self, source: Any) -> int | None:
        """The number of the picture that is taken from a source; None where nobody chose one."""
        if isinstance(source, ImagePage):
            return source.page
        chosen = self.options.page
        return chosen if isinstance(chosen, int) and isinstance(source, str | Path | bytes) else None


class Scored(NamedTuple):
    """One image of h x w pixels with its score and map.

    Attributes:
        source: where it came from.
        score: the highest of its squares.
        map: (h, w) anomaly of each pixel, in the image's own pose.
        square: (3, s, s), the square that scored highest; of an aligned image.
        size: (h, w) in pixels at which that square has its natural shape.
        restored: (3, s, s) the image as the detector would have it; None where it has none or sees only a part.
        milliseconds: "decode" and "predict", means over the images that were scored together.
        notes: on what was read, one line each.
        view: what is measured of the image, where it was asked for.
        pose: of the part in the image, where images are aligned and it was found.
    """

    source: Any
    score: float
    map: Float[np.ndarray, "h w"]
    square: Float[np.ndarray, "3 s s"]
    size: tuple[int, int]
    restored: Float[np.ndarray, "3 s s"] | None
    milliseconds: dict[str, float]
    notes: tuple[str, ...] = ()
    view: View | None = None
    pose: Pose | None = None


class Failed(NamedTuple):
    """An image that has no score.

    Attributes:
        source: where it came from.
        error: why.
    """

    source: Any
    error: ImageError


def score_images(
    predict: Predict, reading: Reading, sources: Iterable[Any], batch: int = BATCH, *, viewed: bool = False
) -> Iterator[Scored | Failed]:
    """Score images in their order, `batch` squares at a time: of several images, or of one that is cut into tiles.

    Args:
        predict: scores squares.
        reading: how a source becomes squares.
        sources: of the images.
        batch: squares at a time.
        viewed: also measure what is judged of each image.
    """
    waiting = iter(sources)
    while some := list(islice(waiting, 1 if reading.tiling.tile else batch)):
        start = time.monotonic()
        decoded = [_decoded(reading, source, viewed) for source in some]
        spent = 1000 * (time.monotonic() - start) / len(some)
        yield from _scored(predict, reading, some, decoded, spent, batch)


def score_or_raise(predict: Predict, reading: Reading, sources: Iterable[Any], batch: int = BATCH) -> Iterator[Scored]:
    """As `score_images`.

    Raises:
        ImageError: an image has no score.
    """
    for one in score_images(predict, reading, sources, batch):
        if isinstance(one, Failed):
            raise one.error
        yield one


def name_of(source: object) -> str:
    """What messages call an image."""
    if isinstance(source, ImagePage):
        return f"{name_of(source.file)}, page {source.page}"
    return str(source) if isinstance(source, str | Path) else "the image"


def numbered(source: object, number: int) -> str:
    """What messages call an image of many: its name, or its number where it has none."""
    file = file_of(source)
    return name_of(source) if isinstance(file, str | Path) else f"image {number}"


class _Decoded(NamedTuple):
    image: Float[np.ndarray, "3 h w"]
    pose: Pose | None
    notes: tuple[str, ...]
    view: View | None


def _decoded(reading: Reading, source: Any, viewed: bool) -> _Decoded | ImageError:
    try:
        pixels = reading.pixels(source)
        image = planes(pixels, reading.intensity)
        box = reading.tiling.region(image.shape[1], image.shape[2], name_of(source))
    except ImageError as error:
        return error
    posed = reading.posed(image)
    view = view_of(image, box) if viewed else None
    return _Decoded(posed.image, posed.pose, (*pixels.remarks, *posed.notes), view)


def _scored(
    predict: Predict,
    reading: Reading,
    sources: list[Any],
    decoded: list[_Decoded | ImageError],
    spent: float,
    batch: int,
) -> Iterator[Scored | Failed]:
    tiling = reading.tiling
    images = [one.image for one in decoded if isinstance(one, _Decoded)]
    start = time.monotonic()
    scored = iter(
        _tiled(predict, tiling, images[0], batch) if tiling.tile and images else _whole(predict, tiling, images)
    )
    times = {"decode": spent, "predict": 1000 * (time.monotonic() - start) / max(1, len(images))}
    for source, one in zip(sources, decoded, strict=True):
        if isinstance(one, ImageError):
            yield Failed(source, one)
            continue
        score, anomaly, square, restored = next(scored)
        if not (np.isfinite(score) and np.isfinite(anomaly).all()):
            yield Failed(
                source, ImageError(f"{name_of(source)}: the detector gave NaN or infinity, so there is no verdict")
            )
            continue
        size = square.shape[1:] if tiling.tile or tiling.resize != "squash" else _inner(tiling, one.image)
        found = reading.returned(anomaly, one.pose)
        yield Scored(source, score, found, square, size, restored, times, one.notes, one.view, one.pose)


_One = tuple[float, np.ndarray, np.ndarray, np.ndarray | None]


def _whole(predict: Predict, tiling: Tiling, images: list[np.ndarray]) -> list[_One]:
    """Images that are one square each: score, map, square and restored image."""
    if not images:
        return []
    squares = [next(split(image, tiling)) for image in images]
    prediction = predict(np.stack(squares))
    found: list[_One] = []
    for i, (image, square) in enumerate(zip(images, squares, strict=True)):
        restored = prediction.restored[i] if prediction.restored is not None and tiling.is_whole else None
        found.append(
            (float(prediction.scores[i]), merge([prediction.maps[i]], tiling, *image.shape[1:]), square, restored)
        )
    return found


def _tiled(predict: Predict, tiling: Tiling, image: np.ndarray, batch: int) -> list[_One]:
    """An image that is cut into tiles: no more than `batch` of them exist at a time, and the best of each batch."""
    tops: list[tuple[float, np.ndarray]] = []

    def maps() -> Iterator[np.ndarray]:
        squares = split(image, tiling)
        while some := list(islice(squares, batch)):
            prediction = predict(np.stack(some))
            top = int(np.argmax(prediction.scores))  # NaN counts as the largest
            tops.append((float(prediction.scores[top]), some[top]))
            yield from prediction.maps

    anomaly = merge(maps(), tiling, *image.shape[1:])
    score, square = tops[int(np.argmax([score for score, _ in tops]))]
    return [(score, anomaly, square, None)]


def _inner(tiling: Tiling, image: np.ndarray) -> tuple[int, int]:
    x0, y0, x1, y1 = tiling.region(image.shape[1], image.shape[2])
    return y1 - y0, x1 - x0
