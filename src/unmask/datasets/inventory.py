"""The files of a recognised data set, each with its role, before they are checked and divided."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unmask.types import Mask, Sample


@dataclass(frozen=True)
class Inventory:
    """Every file of a recognised data set, with its role.

    Attributes:
        layout: the layout's name, such as "MVTec AD".
        root: the training folder; the names of training images are relative to it.
        normals: the good images.
        test: the labelled images, each with its masks.
        held_out: good images that the authors of the data set hold out themselves.
        masks: every mask, so that a mask without an image is noticed.
        groups: the group of an image (a patient, a lot, a burst), where the data set names one.
        draws_test_normals: the data set has no good test images of its own, so some of `normals` become its test set's.
        warnings: what a user should know, one line each.
        unused: files that are part of the data set and nothing is done with, each with the reason.
    """

    layout: str
    root: Path
    normals: tuple[Path, ...]
    test: tuple[Sample, ...] = ()
    held_out: tuple[Path, ...] = ()
    masks: tuple[Mask, ...] = ()
    groups: Mapping[Path, str] = field(default_factory=dict)
    draws_test_normals: bool = False
    warnings: tuple[str, ...] = ()
    unused: Mapping[Path, str] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        """Name an image by its path relative to the training folder, the same on every system.

        Slashes are forward ones, and accents one character (NFC): some systems write them as two.
        """
        return unicodedata.normalize("NFC", Path(os.path.relpath(path, self.root)).as_posix())


def abbreviated(items: Iterable[object], limit: int = 10) -> str:
    """Join items with commas on one line and count those beyond `limit`."""
    texts = [str(item) for item in items]
    rest = f" ... and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + rest
