"""Folders that name good images themselves: OCT2017, good/ beside bad/, and a plain folder of good images."""

from __future__ import annotations

from dataclasses import replace

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.labels import plain
from unmask.datasets.layouts.trees import PARTS, Tree, is_bad, is_good, several, train_and_test
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
    test = [Sample(path, True, folder.name.strip()) for folder in bad for path in tree.images_in(folder)]
    test += [Sample(path, True, kind) for kind, _, path in tree.kinds(bad)]
    if not test:
        return Inventory("a folder of good images", good[0], normals, warnings=warnings)
    return Inventory("good and bad", good[0], normals, tuple(test), draws_test_normals=True, warnings=warnings)


def flat(tree: Tree) -> Inventory | None:
    """Images in a folder and in folders inside it: all are good, and there is no test set.

    Folders inside it count only where none of them is a part of a data set, such as train/ or test/.
    """
    below = [folder for folder in tree.listing.folders if folder != tree.root]
    if any(plain(folder.name) in PARTS for folder in below):
        images = tree.images_in(tree.root)
    else:
        images = tree.good_images([tree.root])
    if not images:
        return None
    inside = sorted({path.relative_to(tree.root).parts[0] for path in images if path.parent != tree.root})
    warnings = (f"images in {abbreviated(inside, 5)} are learned from as good ones as well",) if inside else ()
    return Inventory("a folder of good images", tree.root, images, warnings=warnings)
