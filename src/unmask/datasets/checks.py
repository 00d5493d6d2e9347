"""What can be wrong with a data set's files, found from their headers and reported all at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.errors import DatasetError, ImageError
from unmask.imaging.images import size_of


def check(inventory: Inventory) -> None:
    """Open every header once, and compare the masks with their images.

    Raises:
        DatasetError: files cannot be read; masks lack an image, or images a mask that others have; sizes differ.
    """
    images = (*inventory.normals, *inventory.held_out, *(sample.path for sample in inventory.test))
    masks = {mask for sample in inventory.test for mask in sample.masks}
    sizes = sizes_of((*images, *sorted(masks | set(inventory.masks))))
    _check_masks(inventory, masks, sizes)


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


def _check_masks(inventory: Inventory, used: set[Path], sizes: dict[Path, tuple[int, int]]) -> None:
    orphans = [path for path in inventory.masks if path not in used]
    if orphans:
        raise DatasetError(f"{len(orphans)} masks have no test image: {abbreviated(orphans)}; remove or rename them")
    bare = [sample.path for sample in inventory.test if sample.anomalous and not sample.masks]
    if used and bare:
        raise DatasetError(
            f"{len(bare)} defective images have no mask while others have: {abbreviated(bare)}; add theirs"
        )
    unequal = [
        f"{mask} {sizes[mask][0]} x {sizes[mask][1]} for an image {sizes[sample.path][0]} x {sizes[sample.path][1]}"
        for sample in inventory.test
        for mask in sample.masks
        if sizes[mask] != sizes[sample.path]
    ]
    if unequal:
        raise DatasetError(
            f"{len(unequal)} masks differ in size from their images: {abbreviated(unequal)}; resize them"
        )
