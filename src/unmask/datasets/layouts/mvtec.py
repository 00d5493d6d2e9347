"""The data sets of MVTec, and MPDD and BTAD, which have the same tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.labels import plain
from unmask.datasets.layouts.folder_names import is_good
from unmask.datasets.layouts.trees import Masks, Tree, several, train_and_test, truth_of
from unmask.datasets.masks import saturations
from unmask.types import Sample

MPDD_OBJECTS = ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes")


def mvtec(tree: Tree) -> Inventory | None:
    """MVTec AD, and MPDD when the folder bears the name of one of its objects.

        train/good/000.png
        validation/good/000.png                   held out, if it is there
        test/good/000.png, test/<kind>/000.png
        ground_truth/<kind>/000_mask.png

    https://www.mvtec.com/company/research/datasets/mvtec-ad
    """
    return train_and_test("MPDD" if tree.root.resolve().name in MPDD_OBJECTS else "MVTec AD", tree, None)


def mvtec_ad_2(tree: Tree) -> Inventory | None:
    """MVTec AD 2 (arXiv 2503.21622), recognised by test_public; the private test images have no public labels.

    train/good/000_regular.png
    validation/good/000_regular.png           held out
    test_public/good/000_regular.png, test_public/bad/000_regular.png
    test_public/ground_truth/bad/000_regular_mask.png
    test_private/, test_private_mixed/        not judged
    """
    test = tree.matching("test public")
    if not test:
        return None
    inventory = train_and_test("MVTec AD 2", tree, "good", test, tree.matching("test public", "ground truth"))
    private = [folder for folder in tree.folders(tree.root) if plain(folder.name).startswith("test private")]
    if inventory is None or not private:
        return inventory
    names = " and ".join(folder.name for folder in private)
    unused = {path: "private test image" for folder in private for path in tree.images_under(folder)}
    return replace(inventory, warnings=(f"{names} have no public labels and are not judged",), unused=unused)


def mvtec_3d(tree: Tree) -> Inventory | None:
    """MVTec 3D-AD, recognised by train/good/rgb; the depth images in xyz/ are not used.

        train/good/rgb/000.png
        validation/good/rgb/000.png               held out
        test/<kind>/rgb/000.png
        test/<kind>/gt/000.png                    empty masks of good images are not used

    https://www.mvtec.com/company/research/datasets/mvtec-3d-ad
    """
    train = tree.matching("train", "good", "rgb")
    if not train:
        return None
    test: list[Sample] = []
    masks: list[Path] = []
    unused: dict[Path, str] = {}
    for folder in tree.matching("test"):
        for kind in tree.folders(folder):
            truth = {path.stem: path for path in tree.images_in(kind / "gt")}
            if is_good(kind.name):
                unused |= dict.fromkeys(truth.values(), "mask of a good image")
                truth = {}
            masks += truth.values()
            for image in tree.images_in(kind / "rgb"):
                mask = truth.get(image.stem)
                test.append(Sample(image, not is_good(kind.name), kind.name.strip(), (mask,) if mask else ()))
    unused |= {file: "depth image" for file in tree.listing.files if file.parent.name == "xyz"}
    held_out = tree.good_images(tree.matching("validation", "good", "rgb"))
    normals = tree.good_images(train)
    return Inventory("MVTec 3D-AD", train[0], normals, tuple(test), held_out, tuple(masks), unused=unused)


def mvtec_loco(tree: Tree) -> Inventory | None:
    """MVTec LOCO AD, recognised by its ground truth: a folder for each image, with a mask for each defect.

        train/good/000.png
        validation/good/000.png                   held out
        test/good/000.png, test/<kind>/000.png
        ground_truth/<kind>/000/000.png, 001.png, ...
        defects_config.json                       the saturation area of each kind of defect

    https://www.mvtec.com/company/research/datasets/mvtec-loco
    """
    found = tree.kinds(tree.matching("test"))
    masks = Masks(tree, truth_of(tree, found), found)
    samples = [Sample(image, not is_good(kind), kind, masks.inside(folder, image)) for kind, folder, image in found]
    trains = tree.matching("train", is_good)
    if not trains or not any(sample.masks for sample in samples):
        return None
    config = tree.root / "defects_config.json"
    return Inventory(
        layout="MVTec LOCO AD",
        root=trains[0],
        normals=tree.good_images(trains),
        test=saturations(samples, config) if config.is_file() else tuple(samples),
        held_out=tree.good_images(tree.matching("validation", is_good)),
        masks=masks.files,
        warnings=(
            *several(trains),
            *(() if config.is_file() else ("defects_config.json is missing: saturation areas are unknown",)),
        ),
    )


def btad(tree: Tree) -> Inventory | None:
    """BTAD (arXiv 2104.10036).

    train/ok/0000.bmp
    test/ok/0000.bmp, test/ko/0000.bmp
    ground_truth/ko/0000.png                  or .bmp
    """
    return train_and_test("BTAD", tree, "ok")
