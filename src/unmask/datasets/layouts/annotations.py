"""What COCO and Datumaro share: annotated images to an inventory, and how outlines are written in JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unmask.datasets.inventory import Inventory
from unmask.datasets.labels import meaning
from unmask.datasets.wording import listed, placed, shortened
from unmask.errors import DatasetError
from unmask.types import Outlines, Sample

MOST_PIXELS = 2**28
SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".bmp", ".tif")  # where a file gives the name of an image without one
FAR = 1e6  # pixels: no corner lies farther out
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""


class Annotated(NamedTuple):
    """An image of an annotation file.

    Attributes:
        path: the image.
        subset: "train", "val" or "test"; empty where the file does not say.
        labels: the names of its annotations' categories; none mean that the image is good.
        outlines: of its defects; None where it has none.
        has_boxes: some of the outlines are boxes, for want of a shape.
    """

    path: Path
    subset: str
    labels: tuple[str, ...]
    outlines: Outlines | None
    has_boxes: bool

    @property
    def defect(self) -> str | None:
        """The first category that is a defect, or None for a good image."""
        return next((label for label in self.labels if meaning(label) != "good"), None)


def inventory_of(layout: str, root: Path, images: Sequence[Annotated]) -> Inventory:
    """Give each annotated image its role.

    Good images of the subset train are learned from, and those of val held out. Without a subset test, val is the test
    set. With one subset only, all defective images are tested, and a share of the good ones.

    Raises:
        DatasetError: an image is annotated both as good and as defective, or listed twice, or none is good.
    """
    _check(images)
    subsets = {image.subset for image in images}
    divided = len(subsets) > 1 and "train" in subsets
    tested = "test" if "test" in subsets else "val"
    normals = [image.path for image in images if not image.defect and (not divided or image.subset in ("train", ""))]
    if not normals:  # no other layout may take these images for good ones
        raise DatasetError(
            f"{placed(root)}: {layout}, but no good images to learn from; list images without annotations for training"
        )
    test = [
        Sample(image.path, image.defect is not None, image.defect or "good", _masks(image))
        for image in images
        if (image.subset == tested if divided else image.defect is not None)
    ]
    used = {*normals, *(sample.path for sample in test)}
    held_out = [image.path for image in images if image.path not in used and not image.defect]
    return Inventory(
        layout,
        root,
        tuple(normals),
        tuple(test),
        held_out=tuple(held_out),
        draws_test_normals=not divided,
        warnings=(*_unused(len(images) - len(used) - len(held_out)), *_told(images)),
    )


def folders_in(root: Path) -> list[Path]:
    """List the folders directly in a folder, sorted, without hidden ones; none when it is none that can be read."""
    try:
        return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []


def subset_of(name: str) -> str:
    """Find train, val or test in the name of a folder or a file; empty where there is none."""
    words = re.split(r"[^a-z]+", name.lower())
    for subset, others in (("train", ("training",)), ("val", ("valid", "validation")), ("test", ("testing",))):
        if {subset, *others} & set(words):
            return subset
    return ""


def found(file: Path, names: Iterable[str], places: Sequence[Path]) -> list[Path]:
    """Find images by the names that an annotation file gives them, in the first place that has them.

    Raises:
        DatasetError: some are in none of the places.
    """
    paths: list[Path] = []
    missing = []
    for name in names:
        inside = name.replace("\\", "/")
        parts = [part + suffix for part in (inside, inside.rpartition("/")[2]) for suffix in SUFFIXES]
        candidates = (place / part for part in parts for place in places)
        path = next((path for path in candidates if is_file(path)), None)
        if path is None:
            missing.append(inside)
        else:
            paths.append(path)
    if missing:
        raise DatasetError(
            f"{placed(file)}: {len(missing)} of its images are not there: {listed(missing)}; put them into "
            f"{placed(places[0], 60)}"
        )
    return paths


def size_in(width: Any, height: Any) -> tuple[int, int]:
    """Check (width, height) in pixels.

    Raises:
        ValueError: they are no size.
    """
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise ValueError("a width or height that is no number of pixels")
    if width * height > MOST_PIXELS:
        raise ValueError(f"an image of {width} x {height} pixels")
    return width, height


def polygon_in(numbers: Any) -> tuple[float, ...]:
    """Check the corners of a polygon.

    Raises:
        ValueError: they are no list of x, y, x, y, ... of three corners and more.
    """
    corners = _numbers(numbers)
    if len(corners) < 6 or len(corners) % 2:
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


def _check(images: Sequence[Annotated]) -> None:
    for image in images:
        if image.defect is not None and (good := [label for label in image.labels if meaning(label) == "good"]):
            raise DatasetError(
                f"{placed(image.path)} is annotated as {shortened(good[0])} and as {shortened(image.defect)}; "
                "remove one of the two annotations"
            )
    seen: set[Path] = set()
    for image in images:
        if image.path in seen:
            raise DatasetError(f"{placed(image.path)} is listed twice in the annotations; remove one of the entries")
        seen.add(image.path)


def _masks(image: Annotated) -> tuple[Outlines, ...]:
    return (image.outlines,) if image.defect is not None and image.outlines is not None else ()


def _unused(count: int) -> tuple[str, ...]:
    return (f"{count} defective images outside of the test set are not used",) if count else ()


def _told(images: Sequence[Annotated]) -> tuple[str, ...]:
    boxed = [image.path.name for image in images if image.has_boxes and image.defect is not None]
    if not boxed:
        return ()
    return (f"{len(boxed)} images have boxes and no shapes, and all of a box counts as defective: {listed(boxed)}",)


def is_file(path: Path) -> bool:
    """Say whether a file is there; there is none of a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
