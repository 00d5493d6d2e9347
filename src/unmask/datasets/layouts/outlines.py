"""How annotation files write the outlines of defects in JSON: polygons, boxes, ellipses and runs of pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unmask.datasets.wording import shortened
from unmask.types import Outlines

MOST_PIXELS = 2**28
FAR = 1e6  # pixels: no corner lies farther out
CORNERS = 72  # of the polygon that stands for an ellipse


class Shape(NamedTuple):
    """What an annotation outlines.

    Attributes:
        polygons: the corners of each, as `Outlines` has them.
        runs: the lengths of runs of pixels, as `Outlines` has them.
        is_box: a box stands for the shape.
        is_given: there is a shape; one that is given may have no area.
    """

    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[tuple[int, ...], ...] = ()
    is_box: bool = False
    is_given: bool = True


def size_in(width: Any, height: Any) -> tuple[int, int] | None:
    """Check (width, height) in pixels; None where one of them is not given.

    Raises:
        ValueError: they are no size.
    """
    if width is None or height is None:
        return None
    if not all(isinstance(side, int | float) and side > 0 and side % 1 == 0 for side in (width, height)):
        raise ValueError("a width or height that is no number of pixels")
    if width * height > MOST_PIXELS:
        raise ValueError(f"a size of {shortened(str(width))} x {shortened(str(height))} pixels")
    return int(width), int(height)


def shape_in(segmentation: Any, box: Any, size: tuple[int, int]) -> Shape:
    """Read a segmentation (run lengths, one polygon or a list of them), or for want of it a box.

    Polygons of no corner, one or two have no area and are left out.

    Raises:
        ValueError: they are none, or not of an image of this size.
    """
    if isinstance(segmentation, dict):
        return Shape(runs=(runs_in(segmentation, size),))
    several = segmentation or []
    if not isinstance(several, list):
        raise ValueError("a segmentation of another form")
    if not any(isinstance(one, list) for one in several):
        several = [several]
    polygons = [_polygon(polygon) for polygon in several]
    drawn = tuple(polygon for polygon in polygons if len(polygon) >= 6)
    if not drawn and box:
        return Shape((box_in(box),), is_box=True)
    return Shape(drawn, is_given=any(polygons))


def joined(file: Path, size: tuple[int, int], shapes: Iterable[Shape]) -> tuple[Outlines | None, bool]:
    """Join the shapes of an image, None where there are none, and say whether a box had to stand for one."""
    given = [shape for shape in shapes if shape.is_given]
    polygons = tuple(polygon for shape in given for polygon in shape.polygons)
    runs = tuple(runs for shape in given for runs in shape.runs)
    return (Outlines(file, size, polygons, runs) if given else None), any(shape.is_box for shape in given)


def ellipse_in(numbers: Any) -> tuple[float, ...]:
    """Make a polygon of an ellipse that fills the rectangle x0, y0, x1, y1.

    Raises:
        ValueError: it is none.
    """
    corners = _numbers(numbers)
    if len(corners) != 4:
        raise ValueError("an ellipse that is not x0, y0, x1, y1")
    x0, y0, x1, y1 = corners
    angles = [2 * math.pi * number / CORNERS for number in range(CORNERS)]
    points = ((x0 + x1 + (x1 - x0) * math.cos(a), y0 + y1 + (y1 - y0) * math.sin(a)) for a in angles)
    return tuple(value / 2 for point in points for value in point)


def _polygon(numbers: Any) -> tuple[float, ...]:
    corners = _numbers(numbers)
    if len(corners) % 2:
        raise ValueError(f"a polygon of {len(corners)} coordinates")
    return corners


def box_in(numbers: Any) -> tuple[float, ...]:
    """Make a polygon of a box x, y, width, height.

    Raises:
        ValueError: it is none.
    """
    box = _numbers(numbers)
    if len(box) != 4 or min(box[2:]) < 0:
        raise ValueError("a box that is not x, y, width, height")
    x, y, width, height = box
    return (x, y, x + width, y, x + width, y + height, x, y + height)


def runs_in(region: Any, size: tuple[int, int]) -> tuple[int, ...]:
    """Read run lengths, {"size": [h, w], "counts": ...}, of which counts is a list, or a text in COCO's short form.

    Raises:
        ValueError: they are not the runs of an image of this size.
    """
    counts = region["counts"]
    runs = tuple(_short_runs(counts)) if isinstance(counts, str) else tuple(counts)
    if list(region["size"]) != [size[1], size[0]]:
        raise ValueError("runs of another size than their image")
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError("runs that do not fill their image")
    return runs


def _short_runs(text: str) -> Iterator[int]:
    """Read COCO's short form of run lengths.

    Each character holds five bits of a number from its lowest on, and a sixth bit says that more follow. The fifth bit
    of the last one is the sign. From the fourth number on, each is the difference to the one two places before it.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("runs that are not in COCO's short form")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            signed = value - (1 << shift) if bits & 16 else value
            runs.append(signed + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    yield from runs


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        raise ValueError("an outline that is no list of numbers")
    if not all(math.isfinite(value) and abs(value) <= FAR for value in values):
        raise ValueError("a corner that lies far outside of its image")
    return tuple(float(value) for value in values)
