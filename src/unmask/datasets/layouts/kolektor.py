"""KolektorSDD and KolektorSDD2: every image has a mask beside it, and a mask that is zero everywhere means good."""

from __future__ import annotations

from pathlib import Path

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.layouts.trees import Tree, by_mask, defective_in_training, good_samples, not_learned_from

NO_MASK = "image without a mask"


def kolektor_sdd(tree: Tree) -> Inventory | None:
    """KolektorSDD (arXiv 1903.08536); it has no split, so a share of the good images becomes the test set's.

        kos01/Part0.jpg
        kos01/Part0_label.bmp

    Raises:
        DatasetError: a mask cannot be read.
    """
    root = tree.root
    parts = [path for folder in tree.folders(root) if folder.name.startswith("kos") for path in tree.images_in(folder)]
    pairs, lonely = _pairs(parts, "_label")
    if not pairs:
        return None
    good, defective = by_mask(pairs)
    masks = tuple(mask for sample in defective for mask in sample.masks)
    return Inventory(
        layout="KolektorSDD",
        root=root,
        normals=tuple(good),
        test=tuple(defective),
        masks=masks,
        draws_test_normals=True,
        warnings=_lonely(lonely),
        unused={**_empty_masks(pairs, good), **dict.fromkeys(lonely, NO_MASK)},
    )


def kolektor_sdd2(tree: Tree) -> Inventory | None:
    """KolektorSDD2 (arXiv 2104.06064); the defective images of its training part are not used.

        train/10000.png, train/10000_GT.png
        test/20000.png, test/20000_GT.png

    Raises:
        DatasetError: a mask cannot be read.
    """
    root = tree.root
    train, lonely = _pairs(tree.images_in(root / "train"), "_GT")
    if not train:
        return None
    normals, unused = by_mask(train)
    test, lonely_test = _pairs(tree.images_in(root / "test"), "_GT")
    good, defective = by_mask(test)
    return Inventory(
        layout="KolektorSDD2",
        root=root / "train",
        normals=tuple(normals),
        test=(*good_samples(good), *defective),
        masks=tuple(mask for sample in defective for mask in sample.masks),
        warnings=(*defective_in_training(len(unused)), *_lonely(lonely), *_lonely(lonely_test)),
        unused={
            **_empty_masks(train, normals),
            **_empty_masks(test, good),
            **dict.fromkeys((*lonely, *lonely_test), NO_MASK),
            **not_learned_from(unused),
        },
    )


def _pairs(paths: list[Path] | tuple[Path, ...], ending: str) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pair each image with its mask, <stem><ending>, and give the images that have none."""
    masks = {(path.parent, path.stem.removesuffix(ending)): path for path in paths if path.stem.endswith(ending)}
    images = [path for path in paths if not path.stem.endswith(ending)]
    pairs = [(path, masks[path.parent, path.stem]) for path in images if (path.parent, path.stem) in masks]
    return pairs, [path for path in images if (path.parent, path.stem) not in masks]


def _lonely(paths: list[Path]) -> tuple[str, ...]:
    names = abbreviated(path.name for path in paths)
    return (f"{len(paths)} images have no mask file and are not used: {names}",) if paths else ()


def _empty_masks(pairs: list[tuple[Path, Path]], good: list[Path]) -> dict[Path, str]:
    """Of good images: they have said that the images are good, and are not used any further."""
    known = set(good)
    return {mask: "mask of a good image" for image, mask in pairs if image in known}
