"""DAGM 2007: ten classes of textures; give the folder of one class."""

from __future__ import annotations

from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.layouts.trees import by_mask, defective_in_training, good_samples, images_in


def dagm(root: Path) -> Inventory | None:
    """DAGM 2007; images without a mask are good, and the defective ones of its training part are not used.

        Train/0001.PNG, Train/Label/0001_label.PNG
        Test/0001.PNG, Test/Label/0001_label.PNG

    https://conferences.mpi-inf.mpg.de/dagm/2007/prizes.html

    Raises:
        DatasetError: a mask cannot be read.
    """
    if not (root / "Train" / "Label").is_dir():
        return None
    normals, unused = by_mask(_pairs(root / "Train"))
    good, defective = by_mask(_pairs(root / "Test"))
    return Inventory(
        layout="DAGM",
        root=root / "Train",
        normals=tuple(normals),
        test=(*good_samples(good), *defective),
        masks=images_in(root / "Test" / "Label"),
        warnings=defective_in_training(len(unused)),
    )


def _pairs(folder: Path) -> list[tuple[Path, Path | None]]:
    """Pair each image of a part with its mask, where it has one."""
    masks = {path.stem: path for path in images_in(folder / "Label")}
    return [(path, masks.get(f"{path.stem}_label")) for path in images_in(folder)]
