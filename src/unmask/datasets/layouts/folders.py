"""Folders that name good images themselves: OCT2017, good/ beside bad/, and a plain folder of good images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.labels import meaning
from unmask.datasets.layouts.trees import folders, images_in, is_good, kinds, train_and_test
from unmask.types import Sample


def oct2017(root: Path) -> Inventory | None:
    """OCT2017 (Kermany 2018), without masks; the diseased images of train/ and all of val/ are not used.

    train/NORMAL/NORMAL-1001666-1.jpeg
    test/NORMAL/..., test/CNV/..., test/DME/..., test/DRUSEN/...
    """
    inventory = train_and_test("OCT2017", root / "train" / "NORMAL", root / "test", root / "ground_truth")
    if inventory is None or not (root / "val").is_dir():
        return inventory
    return replace(inventory, warnings=("val/ is not used",))


def good_and_bad(root: Path) -> Inventory | None:
    """Good images beside bad ones, without masks; a share of the good images becomes the test set's.

    good/001.png                              or ok, normal
    bad/001.png, bad/<kind>/001.png           or ng, ko, defect, anomaly, ...
    """
    good = next((folder for folder in folders(root) if is_good(folder.name)), None)
    if good is None:
        return None
    bad = []
    for folder in folders(root):
        if meaning(folder.name) == "anomalous":
            bad += [(folder.name, path) for path in images_in(folder)] + kinds(folder)
    if not bad:
        return Inventory("a folder of good images", good, images_in(good))
    test = tuple(Sample(path, True, kind) for kind, path in bad)
    return Inventory("good and bad", good, images_in(good), test, draws_test_normals=True)


def flat(root: Path) -> Inventory | None:
    """Images directly in a folder: all are good, and there is no test set."""
    images = images_in(root)
    return Inventory("a folder of good images", root, images) if images else None
