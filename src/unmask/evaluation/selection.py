"""Which test images are measured: all can be read, and none of them is a picture that the model was fitted on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from unmask.datasets import read_masks
from unmask.datasets.inventory import abbreviated
from unmask.errors import DatasetError, ImageError
from unmask.evaluation.progress import Progress, silent, tracked
from unmask.imaging.fingerprints import content_hash
from unmask.imaging.images import pixels_of, planes
from unmask.inspection.scoring import Reading
from unmask.types import Split


class Selection(NamedTuple):
    """The test images that are measured.

    Attributes:
        split: the data set; its test set holds these images and no others.
        numbers: the places that they have in the whole test set.
        n_left_out: how many were left out; None = the pictures that the model was fitted on are not known.
        n_included: how many are pictures that the model was fitted on, and are measured all the same.
    """

    split: Split
    numbers: tuple[int, ...]
    n_left_out: int | None
    n_included: int = 0


def select(
    split: Split,
    fitted: Collection[str] | None,
    reading: Reading | None = None,
    *,
    include_seen: bool = False,
    progress: Progress = silent,
) -> Selection:
    """Choose the test images to measure, after decoding each: a damaged one is found before anything is measured.

    Args:
        split: with a labelled test set.
        fitted: hashes of the pictures that the model was fitted or calibrated on; None = they are not known.
        reading: how the images will be read, to check that they can be; None = that is not known yet.
        include_seen: also measure test images that are such pictures.
        progress: called after each image, with the stage "check".

    Raises:
        DatasetError: there are no labelled test images, some of them or of their masks cannot be read, or all are
            pictures that the model was fitted on.
    """
    if not split.test:
        raise DatasetError(f"{split.name} ({split.layout}) has no labelled test images; give a data set that has some")
    hashes = content_hashes([sample.path for sample in split.test], "test images", reading, progress)
    for sample in split.test:
        read_masks(sample)
    if fitted is None:
        return Selection(split, tuple(range(len(split.test))), None)
    known = frozenset(fitted)
    fresh = tuple(number for number, one in enumerate(hashes) if one not in known)
    n_known = len(hashes) - len(fresh)
    if include_seen:
        return Selection(split, tuple(range(len(hashes))), 0, n_known)
    if not fresh:
        raise DatasetError(
            f"all {n_known} test images of {split.name} are pictures that the model was fitted or calibrated on, so "
            "nothing is left to measure; give other test images"
        )
    return Selection(replace(split, test=tuple(split.test[number] for number in fresh)), fresh, n_known)


def content_hashes(
    paths: Sequence[Path], what: str, reading: Reading | None = None, progress: Progress = silent
) -> list[str]:
    """Hash the pixels of image files, after checking that they can be used.

    Args:
        paths: of the files.
        what: they are, for messages.
        reading: how they will be read; None = that is not known.
        progress: called after each image, with the stage "check".

    Raises:
        DatasetError: some cannot be read; they are named.
    """
    hashes, bad = [], []
    for path in tracked(paths, len(paths), "check", progress):
        try:
            pixels = pixels_of(path) if reading is None else reading.pixels(path)
            _, h, w = planes(pixels, None if reading is None else reading.intensity).shape
            if reading is not None:
                reading.tiling.region(h, w, pixels.name)
            hashes.append(content_hash(pixels.values))
        except ImageError as error:
            bad.append(str(error))
    if bad:
        raise DatasetError(
            f"{len(bad)} of {len(paths)} {what} cannot be read: {abbreviated(bad)}; replace or remove them"
        )
    return hashes
