"""Ground truth: the only module that opens a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from unmask.datasets.drawing import drawn, scaled
from unmask.datasets.json_files import read_json
from unmask.datasets.marks import Marks, marks_of
from unmask.datasets.mask_files import mask_pixels, orientation_of
from unmask.datasets.wording import placed
from unmask.errors import DatasetError, ImageError
from unmask.imaging.images import size_of
from unmask.imaging.pillow import upright
from unmask.types import Mask, Outlines, Sample


def read_mask(sample: Sample, h: int, w: int) -> Bool[np.ndarray, "h w"]:
    """Read the union of a sample's masks at h x w pixels (nearest neighbour where they have another size).

    `unmask.datasets.marks` says which pixels of a file count as defective. No masks, no defect.

    Raises:
        DatasetError: a mask cannot be read, or does not fit its photograph.
    """
    union = np.zeros((h, w), dtype=bool)
    for mask in read_masks(sample):
        union |= scaled(mask, w, h)
    return union


def read_masks(sample: Sample) -> list[Bool[np.ndarray, "_ _"]]:
    """Read a sample's masks one by one, each (h, w) as its photograph; several in MVTec LOCO AD, else one or none.

    Raises:
        DatasetError: a mask cannot be read, or does not fit its photograph.
    """
    return [marks.defective for marks in read_marks(sample)]


def read_marks(sample: Sample) -> list[Marks]:
    """Do what `read_masks` does, and give a remark with each mask that had to be interpreted.

    Raises:
        DatasetError: a mask cannot be read, or does not fit its photograph.
    """
    if not sample.masks:
        return []
    try:
        size = size_of(sample.path)
    except ImageError:  # an image that cannot be read is its reader's to refuse
        size = None
    return [_fitted(mask, sample.path, size) for mask in sample.masks]


def is_empty(mask: Path) -> bool:
    """Say whether a mask marks no pixel as defective, which in some data sets is how an image is labelled good.

    Raises:
        DatasetError: the mask cannot be read.
    """
    return not _marks(mask).defective.any()


def is_turned_alike(mask: tuple[int, int], photograph: tuple[int, int], path: Path) -> bool:
    """Say whether a mask of (width, height) was drawn on its photograph as it lies in the file, not upright."""
    return not fits(mask, photograph) and fits(mask, photograph[::-1]) and orientation_of(path) >= 5


def fits(mask: tuple[int, int], photograph: tuple[int, int]) -> bool:
    """Say whether two sizes (width, height) have one aspect: scaled to each other, they differ by a pixel at most."""
    (w, h), (width, height) = mask, photograph
    return abs(w * height - h * width) <= max(w, h, width, height)


def saturations(samples: Sequence[Sample], config: Path) -> tuple[Sample, ...]:
    """Give each mask the area in pixels at which its overlap counts as full (sPRO, Bergmann 2022).

    The value of a mask's pixels names its defect in `config`, whose threshold is a share of the mask's area or a number
    of pixels; it never exceeds that area.

    Raises:
        DatasetError: the config or a mask cannot be read, or a mask's value is not in the config.
    """
    try:
        rules = {int(rule["pixel_value"]): rule for rule in read_json(config)}
        areas = {
            value: (float(rule["saturation_threshold"]), bool(rule["relative_saturation"]))
            for value, rule in rules.items()
        }
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise DatasetError(f"{placed(config)}: not MVTec LOCO's list of defects; restore the original file") from error

    def saturation(path: Path) -> float:
        pixels = mask_pixels(path)[0]
        values = pixels[..., :3].max(axis=2) if pixels.ndim == 3 else pixels
        value, area = int(values.max()), int(np.count_nonzero(values))
        if value not in areas:
            raise DatasetError(
                f"{placed(path)}: pixel value {value} is not in {config.name}; restore the original files"
            )
        threshold, relative = areas[value]
        return float(min(int(threshold * area) if relative else threshold, area))

    return tuple(
        replace(sample, saturation=tuple(saturation(mask) for mask in sample.masks if isinstance(mask, Path)))
        for sample in samples
    )


def _fitted(mask: Mask, photograph: Path, size: tuple[int, int] | None) -> Marks:
    """Read a mask and bring it to the size and the orientation of its photograph, whose upright size is given."""
    if not isinstance(mask, Path):
        return _drawn(mask, photograph, size or mask.size)
    marks = _marks(mask)
    h, w = marks.defective.shape
    if size is None or (w, h) == size:
        return marks
    if is_turned_alike((w, h), size, photograph):
        marks = marks._replace(defective=upright(marks.defective, orientation_of(photograph)))
        return marks._replace(defective=scaled(marks.defective, *size))
    if not fits((w, h), size):
        raise DatasetError(f"{placed(mask)}: {w} x {h} for an image {size[0]} x {size[1]}; resize it")
    return marks._replace(defective=scaled(marks.defective, *size))


def _marks(mask: Path) -> Marks:
    pixels, lossy = mask_pixels(mask)
    return marks_of(pixels, lossy=lossy)


def _drawn(mask: Outlines, photograph: Path, size: tuple[int, int]) -> Marks:
    """Draw outlines on the photograph, or on it as it lies in the file where that is what was annotated."""
    if is_turned_alike(mask.size, size, photograph):
        return Marks(upright(drawn(mask, *size[::-1]), orientation_of(photograph)))
    if not fits(mask.size, size):
        w, h = mask.size
        raise DatasetError(
            f"{placed(mask.file)}: {photograph.name} is annotated at {w} x {h} and has {size[0]} x {size[1]} pixels; "
            "export again"
        )
    return Marks(drawn(mask, *size))
