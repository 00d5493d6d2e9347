"""What can be wrong with a data set's files, found from their headers and reported all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from unmask.datasets.ground_truth import check_masks
from unmask.datasets.inventory import Inventory, abbreviated
from unmask.errors import DatasetError, ImageError
from unmask.imaging.images import size_of


def check(inventory: Inventory) -> Inventory:
    """Open every header once, and compare the masks with their images; what is to be told joins the warnings.

    Raises:
        DatasetError: files cannot be read; masks lack an image, or images a mask that others have; aspects differ; a
            good image has a mask that marks a defect.
    """
    images = (*inventory.normals, *inventory.held_out, *(sample.path for sample in inventory.test))
    masks = {mask for sample in inventory.test for mask in sample.masks} | set(inventory.masks)
    sizes = sizes_of((*images, *sorted(mask for mask in masks if isinstance(mask, Path))))
    return replace(inventory, warnings=(*inventory.warnings, *check_masks(inventory, sizes)))


def sizes_of(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Read the (width, height) in pixels of image files from their headers.

    Raises:
        DatasetError: files cannot be read; all of them are named at once.
    """
    sizes, bad = {}, []
    for path in paths:
        try:
            sizes[path] = size_of(path)
        except ImageError as error:
            bad.append(str(error))
    if bad:
        raise DatasetError(f"{len(bad)} files cannot be used: {abbreviated(bad)}; replace or remove them")
    return sizes
