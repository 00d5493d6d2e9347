"""Folders that name good images themselves: OCT2017, good/ beside bad/, and a plain folder of good images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.labels import plain
from unmask.datasets.layouts.folder_names import PARTS, is_bad, is_good, like_defects, undecided
from unmask.datasets.layouts.trees import Tree, several, train_and_test
from unmask.datasets.masks import is_empty
from unmask.datasets.wording import listed, placed, shortened
from unmask.errors import DatasetError
from unmask.imaging.mask_folders import GROUND_TRUTH, MASK_WORDS, is_mask_folder
from unmask.types import Sample


def oct2017(tree: Tree) -> Inventory | None:
    """OCT2017 (Kermany 2018), without masks; the diseased images of train/ and all of val/ are not used.

    train/NORMAL/NORMAL-1001666-1.jpeg
    test/NORMAL/..., test/CNV/..., test/DME/..., test/DRUSEN/...
    """
    inventory = train_and_test("OCT2017", tree, "normal")
    val = tree.matching("val")
    if inventory is None or not val:
        return inventory
    unused = dict.fromkeys(tree.images_under(val[0]), "validation image")
    return replace(inventory, warnings=("val/ is not used",), unused=unused)


def good_and_bad(tree: Tree) -> Inventory | None:
    """Good images beside bad ones, without masks; a share of the good images becomes the test set's.

    good/001.png                              or ok, normal
    bad/001.png, bad/<kind>/001.png           or ng, ko, defect, anomaly, ...
    """
    good = tree.matching(is_good)
    if not good:
        return None
    normals = tree.good_images(good)
    warnings = several(good)
    bad = [folder for folder in tree.folders(tree.root) if is_bad(folder.name)]
    warnings += _unsorted(tree, [*good, *bad])
    test = [Sample(path, True, folder.name.strip()) for folder in bad for path in tree.images_in(folder)]
    test += [Sample(path, True, kind) for kind, _, path in tree.kinds(bad)]
    if not test:
        return Inventory("a folder of good images", good[0], normals, warnings=warnings)
    return Inventory("good and bad", good[0], normals, tuple(test), draws_test_normals=True, warnings=warnings)


def flat(tree: Tree) -> Inventory | None:
    """Images in a folder and in folders inside it: all are good, and there is no test set.

    Folders inside it count only where none of them is a part of a data set, such as train/ or test/.

    Raises:
        DatasetError: the folder holds masks, or folders of which one may be good and the other defective.
    """
    below = [folder for folder in tree.listing.folders if folder != tree.root]
    if any(plain(folder.name) in PARTS for folder in below):
        images = tree.images_in(tree.root)
    else:
        images = tree.good_images([tree.root])
    if not images:
        return None
    if plain(tree.root.resolve().name) in GROUND_TRUTH | MASK_WORDS:
        raise DatasetError(
            f"{placed(tree.root)} is named like a folder of masks; give the data set's folder, or rename it"
        )
    _check_names(tree, images)
    for masks in _mask_folders(tree, tree.root):
        _check_masks(tree, masks, len(images))
    inside = sorted({path.relative_to(tree.root).parts[0] for path in images if path.parent != tree.root})
    warnings = (f"images in {abbreviated(inside, 5)} are learned from as good ones as well",) if inside else ()
    return Inventory("a folder of good images", tree.root, images, warnings=warnings)


def _unsorted(tree: Tree, known: list[Path]) -> tuple[str, ...]:
    """Tell of folders beside good/ and bad/ whose names mean neither, and that are not told of as defects or masks."""
    others = [
        folder.name
        for folder in tree.folders(tree.root)
        if folder not in known and not like_defects(folder.name) and not is_mask_folder(folder.name)
        if tree.images_under(folder)
    ]
    if not others:
        return ()
    return (
        f"not used, for the names mean neither good nor bad: {listed(others)}; put these images into good/ or bad/",
    )


def _check_names(tree: Tree, images: tuple[Path, ...]) -> None:
    """Refuse folders beside each other of which one may be good and the other defective."""
    places = {folder for image in images for folder in (image.parent, *image.parent.parents)}
    for folder in (folder for folder in tree.listing.folders if folder in places):
        pair = undecided([inside.name for inside in tree.folders(folder) if tree.images_under(inside)])
        if pair:
            first, second = map(shortened, pair)
            raise DatasetError(
                f"{placed(folder)}: which of {first} and {second} are good? name them good/ and bad/, or put the "
                "images to learn from into good/"
            )


def _mask_folders(tree: Tree, folder: Path) -> Iterator[Path]:
    """List the folders of masks below a folder that hold images, without those inside them."""
    for inside in tree.folders(folder):
        if not is_mask_folder(inside.name):
            yield from _mask_folders(tree, inside)
        elif tree.images_under(inside):
            yield inside


def _check_masks(tree: Tree, folder: Path, images: int) -> None:
    """Refuse masks that mark something, for then some of the images are defective; empty ones change nothing."""
    masks = tree.images_under(folder)
    try:
        marking = sum(not is_empty(mask) for mask in masks)
    except DatasetError:  # colours of classes, say
        marking = len(masks)
        marked = "may mark defects"
    else:
        marked = f"marks defects in {marking} of {images} images"
    if marking:
        name = shortened(folder.relative_to(tree.root).as_posix(), 60)
        raise DatasetError(
            f"{placed(tree.root)}: {name}/ {marked}; sort the images into good/ and bad/, and move {name}/ away"
        )
