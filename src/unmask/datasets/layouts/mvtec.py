"""The data sets of MVTec, and MPDD and BTAD, which have the same tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.layouts.trees import folders, images_in, images_under, is_good, kinds, train_and_test
from unmask.datasets.masks import saturations
from unmask.types import Sample

MPDD_OBJECTS = ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes")


def mvtec(root: Path) -> Inventory | None:
    """MVTec AD, and MPDD when the folder bears the name of one of its objects.

        train/good/000.png
        validation/good/000.png                   held out, if it is there
        test/good/000.png, test/<kind>/000.png
        ground_truth/<kind>/000_mask.png

    https://www.mvtec.com/company/research/datasets/mvtec-ad
    """
    layout = "MPDD" if root.resolve().name in MPDD_OBJECTS else "MVTec AD"
    return train_and_test(layout, root / "train" / "good", root / "test", root / "ground_truth")


def mvtec_ad_2(root: Path) -> Inventory | None:
    """MVTec AD 2 (arXiv 2503.21622), recognised by test_public; the private test images have no public labels.

    train/good/000_regular.png
    validation/good/000_regular.png           held out
    test_public/good/000_regular.png, test_public/bad/000_regular.png
    test_public/ground_truth/bad/000_regular_mask.png
    test_private/, test_private_mixed/        not judged
    """
    test = root / "test_public"
    if not test.is_dir():
        return None
    inventory = train_and_test("MVTec AD 2", root / "train" / "good", test, test / "ground_truth")
    private = [folder.name for folder in folders(root) if folder.name.startswith("test_private")]
    if inventory is None or not private:
        return inventory
    return replace(inventory, warnings=(f"{' and '.join(private)} have no public labels and are not judged",))


def mvtec_3d(root: Path) -> Inventory | None:
    """MVTec 3D-AD, recognised by train/good/rgb; the depth images in xyz/ are not used.

        train/good/rgb/000.png
        validation/good/rgb/000.png               held out
        test/<kind>/rgb/000.png
        test/<kind>/gt/000.png                    empty masks of good images are not used

    https://www.mvtec.com/company/research/datasets/mvtec-3d-ad
    """
    train = root / "train" / "good" / "rgb"
    if not train.is_dir():
        return None
    masks = {(kind, path.stem): path for kind, path in kinds(root / "test", "gt") if not is_good(kind)}
    test = []
    for kind, image in kinds(root / "test", "rgb"):
        mask = masks.get((kind, image.stem))
        test.append(Sample(image, not is_good(kind), kind, (mask,) if mask else ()))
    held_out = images_in(root / "validation" / "good" / "rgb")
    return Inventory("MVTec 3D-AD", train, images_in(train), tuple(test), held_out, tuple(masks.values()))


def mvtec_loco(root: Path) -> Inventory | None:
    """MVTec LOCO AD, recognised by its ground truth: a folder for each image, with a mask for each defect.

        train/good/000.png
        validation/good/000.png                   held out
        test/good/000.png, test/<kind>/000.png
        ground_truth/<kind>/000/000.png, 001.png, ...
        defects_config.json                       the saturation area of each kind of defect

    https://www.mvtec.com/company/research/datasets/mvtec-loco
    """
    train, truth = root / "train" / "good", root / "ground_truth"
    if not train.is_dir() or not any(images_in(image) for kind in folders(truth) for image in folders(kind)):
        return None
    test = [
        Sample(image, not is_good(kind), kind, images_in(truth / kind / image.stem))
        for kind, image in kinds(root / "test")
    ]
    config = root / "defects_config.json"
    return Inventory(
        layout="MVTec LOCO AD",
        root=train,
        normals=images_in(train),
        test=saturations(test, config) if config.is_file() else tuple(test),
        held_out=images_in(root / "validation" / "good"),
        masks=images_under(truth),
        warnings=() if config.is_file() else ("defects_config.json is missing: saturation areas are unknown",),
    )


def btad(root: Path) -> Inventory | None:
    """BTAD (arXiv 2104.10036).

    train/ok/0000.bmp
    test/ok/0000.bmp, test/ko/0000.bmp
    ground_truth/ko/0000.png                  or .bmp
    """
    return train_and_test("BTAD", root / "train" / "ok", root / "test", root / "ground_truth")
