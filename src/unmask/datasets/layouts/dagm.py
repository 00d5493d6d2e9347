"""DAGM 2007: ten classes of textures; give the folder of one class."""

from __future__ import annotations

from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.layouts.trees import Tree, by_mask, defective_in_training, good_samples, not_learned_from


def dagm(tree: Tree) -> Inventory | None:
    """DAGM 2007; images without a mask are good, and the defective ones of its training part are not used.

        Train/0001.PNG, Train/Label/0001_label.PNG
        Test/0001.PNG, Test/Label/0001_label.PNG

    https://conferences.mpi-inf.mpg.de/dagm/2007/prizes.html

    Raises:
        DatasetError: a mask cannot be read.
    """
    train, test = tree.root / "Train", tree.root / "Test"
    if train / "Label" not in tree.folders(train):
        return None
    normals, unused = by_mask(_pairs(tree, train))
    good, defective = by_mask(_pairs(tree, test))
    return Inventory(
        layout="DAGM",
        root=train,
        normals=tuple(normals),
        test=(*good_samples(good), *defective),
        masks=tree.images_in(test / "Label"),
        warnings=defective_in_training(len(unused)),
        unused=not_learned_from(unused),
    )


def _pairs(tree: Tree, folder: Path) -> list[tuple[Path, Path | None]]:
    """Pair each image of a part with its mask, where it has one."""
    masks = {path.stem: path for path in tree.images_in(folder / "Label")}
    return [(path, masks.get(f"{path.stem}_label")) for path in tree.images_in(folder)]
