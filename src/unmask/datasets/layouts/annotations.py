"""What COCO and Datumaro share: annotated images to an inventory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from unmask.datasets.inventory import Inventory
from unmask.datasets.labels import meaning
from unmask.datasets.wording import listed, placed, shortened
from unmask.errors import DatasetError
from unmask.types import Outlines, Sample

UNUSED = "defective image outside of the test set"
SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".bmp", ".tif")  # where a file gives the name of an image without one


class Annotated(NamedTuple):
    """An image of an annotation file.

    Attributes:
        path: the image.
        subset: "train", "val" or "test"; empty where the file does not say.
        labels: the names of its annotations' categories; none mean that the image is good.
        outlines: of its defects; None where it has none.
        has_boxes: some of the outlines are boxes, for want of a shape.
        no_areas: the kinds of its shapes that mark no area, such as "polyline".
    """

    path: Path
    subset: str
    labels: tuple[str, ...]
    outlines: Outlines | None
    has_boxes: bool
    no_areas: tuple[str, ...] = ()

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
    used |= set(held_out)
    unused = [image.path for image in images if image.path not in used]
    return Inventory(
        layout,
        root,
        tuple(normals),
        tuple(test),
        held_out=tuple(held_out),
        draws_test_normals=not divided,
        warnings=(*_unused(len(unused)), *_told(images)),
        unused=dict.fromkeys(unused, UNUSED),
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

    A name's folder may be missing where all names have the same folder, so that no image is taken for another.

    Raises:
        DatasetError: some are in none of the places.
    """
    paths: list[Path] = []
    missing = []
    inside_of = [name.replace("\\", "/") for name in names]
    one_folder = len({inside.rpartition("/")[0] for inside in inside_of}) == 1
    for inside in inside_of:
        spellings = (inside, inside.rpartition("/")[2]) if one_folder else (inside,)
        parts = [part + suffix for part in spellings for suffix in SUFFIXES]
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
    bare = [f"{image.path.name} ({', '.join(sorted(set(image.no_areas)))})" for image in images if image.no_areas]
    lines = []
    if boxed:
        lines.append(
            f"{len(boxed)} images have boxes and no shapes, and all of a box counts as defective: {listed(boxed)}"
        )
    if bare:
        lines.append(f"{len(bare)} images have shapes without an area, which mark no pixel: {listed(bare)}")
    return tuple(lines)


def is_file(path: Path) -> bool:
    """Say whether a file is there; there is none of a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
