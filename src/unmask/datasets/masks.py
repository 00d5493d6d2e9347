"""Ground truth: the only module that opens a mask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer
from PIL import Image

from unmask.errors import DatasetError
from unmask.imaging.decoding import FORMATS
from unmask.types import Sample


def read_mask(sample: Sample, h: int, w: int) -> Bool[np.ndarray, "h w"]:
    """Read the union of a sample's masks at h x w pixels (nearest neighbour where the files have another size).

    A pixel that is not zero is defective; in a JPEG, whose zeros are blurred, one above 127. No masks, no defect.

    Raises:
        DatasetError: a mask cannot be read.
    """
    union = np.zeros((h, w), dtype=bool)
    for mask in read_masks(sample):
        union |= np.asarray(Image.fromarray(mask).resize((w, h), Image.Resampling.NEAREST))
    return union


def read_masks(sample: Sample) -> list[Bool[np.ndarray, "_ _"]]:
    """Read a sample's masks one by one, each (h, w) at its own size; several in MVTec LOCO AD, else one or none.

    Raises:
        DatasetError: a mask cannot be read.
    """
    return [_defective(path) for path in sample.masks]


def is_empty(mask: Path) -> bool:
    """Say whether a mask marks no pixel as defective, which in some data sets is how an image is labelled good.

    Raises:
        DatasetError: the mask cannot be read.
    """
    return not _defective(mask).any()


def saturations(samples: Sequence[Sample], config: Path) -> tuple[Sample, ...]:
    """Give each mask the area in pixels at which its overlap counts as full (sPRO, Bergmann 2022).

    The value of a mask's pixels names its defect in `config`, whose threshold is a share of the mask's area or a number
    of pixels; it never exceeds that area.

    Raises:
        DatasetError: the config or a mask cannot be read, or a mask's value is not in the config.
    """
    try:
        rules = {int(rule["pixel_value"]): rule for rule in json.loads(config.read_text(encoding="utf-8"))}
        areas = {
            value: (float(rule["saturation_threshold"]), bool(rule["relative_saturation"]))
            for value, rule in rules.items()
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            f"{config}: not MVTec LOCO's list of defects ({error!r}); restore the original file"
        ) from error

    def saturation(path: Path) -> float:
        values = _values(path)
        value, area = int(values.max()), int(np.count_nonzero(values))
        if value not in areas:
            raise DatasetError(f"{path}: pixel value {value} is not in {config.name}; restore the original files")
        threshold, relative = areas[value]
        return float(min(int(threshold * area) if relative else threshold, area))

    return tuple(replace(sample, saturation=tuple(saturation(path) for path in sample.masks)) for sample in samples)


def _defective(path: Path) -> Bool[np.ndarray, "h w"]:
    """Read which pixels a mask file marks; the zeros of a JPEG are blurred, so that its threshold is in the middle."""
    return _values(path) > (127 if path.suffix.lower() in (".jpg", ".jpeg") else 0)


def _values(path: Path) -> Integer[np.ndarray, "h w"]:
    """Read the numbers a mask file holds: palette indices as they are, the largest colour, no alpha."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            values = np.asarray(image).astype(np.int64)
            alpha = image.mode in ("LA", "RGBA")
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"{path}: the mask cannot be read ({error}); replace the file") from error
    if values.ndim == 3:
        values = (values[..., :-1] if alpha else values).max(axis=2)
    return values
