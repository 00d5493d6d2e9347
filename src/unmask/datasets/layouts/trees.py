"""What the layouts share: walking folders, and the tree of training folder, test folder and ground truth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.labels import meaning
from unmask.datasets.masks import is_empty
from unmask.imaging.images import list_images
from unmask.types import Sample


def is_good(kind: str) -> bool:
    """Say whether a folder's name means good images."""
    return meaning(kind) == "good"


def folders(root: Path) -> list[Path]:
    """List the folders directly in a folder, sorted, without hidden ones; none when it is no folder."""
    if not root.is_dir():
        return []
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))


def images_in(folder: Path) -> tuple[Path, ...]:
    """List the images directly in a folder; none when it is no folder."""
    return tuple(list_images(folder)) if folder.is_dir() else ()


def images_under(folder: Path) -> tuple[Path, ...]:
    """List the images in a folder and in the folders inside it; none when it is no folder."""
    return tuple(list_images(folder, recursive=True)) if folder.is_dir() else ()


def kinds(root: Path, inside: str = "") -> list[tuple[str, Path]]:
    """List (kind, image) for every image of <root>/<kind>/, or of <root>/<kind>/<inside>/."""
    return [(folder.name, path) for folder in folders(root) for path in images_in(folder / inside)]


def train_and_test(layout: str, train: Path, test: Path, masks: Path) -> Inventory | None:
    """Take the tree <train>/, <test>/<kind>/ and <masks>/<kind>/<stem>_mask.png, or <stem> with any suffix.

    Good images in validation/good beside the training folder are held out. None when the training folder is missing.
    """
    if not train.is_dir():
        return None
    mask_files = images_under(masks)
    by_name = {(path.parent.name, path.stem): path for path in mask_files}
    samples = []
    for kind, image in kinds(test):
        mask = by_name.get((kind, f"{image.stem}_mask"), by_name.get((kind, image.stem)))
        samples.append(Sample(image, not is_good(kind), kind, (mask,) if mask else ()))
    held_out = images_in(train.parent.parent / "validation" / "good")
    return Inventory(layout, train, images_in(train), tuple(samples), held_out, mask_files)


def by_mask(pairs: Iterable[tuple[Path, Path | None]]) -> tuple[list[Path], list[Sample]]:
    """Divide images into good ones (no mask, or a mask that is zero everywhere) and defective ones with their masks.

    Raises:
        DatasetError: a mask cannot be read.
    """
    good, defective = [], []
    for image, mask in pairs:
        if mask is None or is_empty(mask):
            good.append(image)
        else:
            defective.append(Sample(image, True, "defect", (mask,)))
    return good, defective


def good_samples(paths: Iterable[Path]) -> tuple[Sample, ...]:
    """Make good test images of paths."""
    return tuple(Sample(path, False, "good") for path in paths)


def defective_in_training(count: int) -> tuple[str, ...]:
    """Warn that defective images of a training part are left out; no warning when there are none."""
    if not count:
        return ()
    return (f"{count} defective images of the training part are not used: only good images are learned from",)
