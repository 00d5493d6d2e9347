"""KolektorSDD and KolektorSDD2: every image has a mask beside it, and a mask that is zero everywhere means good."""

from __future__ import annotations

from pathlib import Path

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.layouts.trees import by_mask, defective_in_training, folders, good_samples, images_in


def kolektor_sdd(root: Path) -> Inventory | None:
    """KolektorSDD (arXiv 1903.08536); it has no split, so a share of the good images becomes the test set's.

        kos01/Part0.jpg
        kos01/Part0_label.bmp

    Raises:
        DatasetError: a mask cannot be read.
    """
    parts = [path for folder in folders(root) if folder.name.startswith("kos") for path in images_in(folder)]
    pairs, lonely = _pairs(parts, "_label")
    if not pairs:
        return None
    good, defective = by_mask(pairs)
    masks = tuple(mask for sample in defective for mask in sample.masks)
    return Inventory(
        "KolektorSDD", root, tuple(good), tuple(defective), masks=masks, draws_test_normals=True, warnings=lonely
    )


def kolektor_sdd2(root: Path) -> Inventory | None:
    """KolektorSDD2 (arXiv 2104.06064); the defective images of its training part are not used.

        train/10000.png, train/10000_GT.png
        test/20000.png, test/20000_GT.png

    Raises:
        DatasetError: a mask cannot be read.
    """
    train, lonely = _pairs(images_in(root / "train"), "_GT")
    if not train:
        return None
    normals, unused = by_mask(train)
    test, lonely_test = _pairs(images_in(root / "test"), "_GT")
    good, defective = by_mask(test)
    return Inventory(
        layout="KolektorSDD2",
        root=root / "train",
        normals=tuple(normals),
        test=(*good_samples(good), *defective),
        masks=tuple(mask for sample in defective for mask in sample.masks),
        warnings=(*defective_in_training(len(unused)), *lonely, *lonely_test),
    )


def _pairs(paths: list[Path] | tuple[Path, ...], ending: str) -> tuple[list[tuple[Path, Path]], tuple[str, ...]]:
    """Pair each image with its mask, <stem><ending>; warn of images that have none."""
    masks = {(path.parent, path.stem.removesuffix(ending)): path for path in paths if path.stem.endswith(ending)}
    images = [path for path in paths if not path.stem.endswith(ending)]
    pairs = [(path, masks[path.parent, path.stem]) for path in images if (path.parent, path.stem) in masks]
    lonely = [path.name for path in images if (path.parent, path.stem) not in masks]
    warning = f"{len(lonely)} images have no mask file and are not used: {abbreviated(lonely)}"
    return pairs, (warning,) if lonely else ()
