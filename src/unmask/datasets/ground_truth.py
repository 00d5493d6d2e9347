"""What can be wrong with ground truth: what contradicts itself is refused, and what was interpreted is told."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from unmask.datasets.inventory import Inventory
from unmask.datasets.mask_files import mask_pixels, orientation_of
from unmask.datasets.masks import fits, is_turned_alike, read_marks
from unmask.datasets.wording import listed
from unmask.errors import DatasetError
from unmask.types import Mask, Sample

Sizes = Mapping[Path, tuple[int, int]]
"""(width, height) in pixels of each image and of each mask file."""

FEW = 3  # as many masks may well be the same
MOST = 0.5  # of an image: a mask that marks more is told


class Contents(NamedTuple):
    """What a sample's masks say together.

    Attributes:
        name: of the mask.
        share: of the image that is marked, in [0, 1].
        digest: of the marked pixels.
        remarks: how the files were read, where that is not plain.
    """

    name: str
    share: float
    digest: bytes
    remarks: tuple[str, ...]


def check_masks(inventory: Inventory, sizes: Sizes) -> tuple[str, ...]:
    """Compare the masks with their images and with one another; each is opened once.

    Returns:
        What a user should know, one line each.

    Raises:
        DatasetError: masks lack an image, or images a mask that others have; masks cannot be read, or have another
            aspect than their image; a good image has a mask that marks a defect.
    """
    _check_pairs(inventory)
    masked = [sample for sample in inventory.test if sample.masks]
    notes = _check_sizes(masked, sizes)
    contents = [(sample, _contents(sample)) for sample in masked]
    contradictions = [found.name for sample, found in contents if not sample.anomalous and found.share > 0]
    if contradictions:
        raise DatasetError(
            f"{len(contradictions)} good images have masks that mark defects: {listed(contradictions)}; "
            "empty the masks or label the images as defective"
        )
    return (*notes, *_notes([found for sample, found in contents if sample.anomalous]))


def _check_pairs(inventory: Inventory) -> None:
    used = {mask for sample in inventory.test for mask in sample.masks}
    orphans = [_name(mask) for mask in inventory.masks if mask not in used]
    if orphans:
        raise DatasetError(f"{len(orphans)} masks have no test image: {listed(orphans)}; remove or rename them")
    bare = [_name(sample.path) for sample in inventory.test if sample.anomalous and not sample.masks]
    if bare and any(sample.anomalous for sample in inventory.test if sample.masks):
        raise DatasetError(f"{len(bare)} defective images have no mask while others have: {listed(bare)}; add theirs")


def _check_sizes(samples: list[Sample], sizes: Sizes) -> tuple[str, ...]:
    """Refuse masks of another aspect than their photograph's; tell of those that are scaled or turned."""
    unequal, told = [], defaultdict(list)
    for sample in samples:
        w, h = sizes[sample.path]
        for mask in sample.masks:
            size = sizes[mask] if isinstance(mask, Path) else mask.size
            name = _name(mask, sample.path)
            if is_turned_alike(size, (w, h), sample.path):
                told["were drawn on photographs that EXIF turns, and are turned alike"].append(name)
            elif not fits(size, (w, h)):
                if isinstance(mask, Path):
                    mask_pixels(mask)  # one that cannot be read, such as a stack of pages, is refused as that
                unequal.append(f"{name} {size[0]} x {size[1]} for an image {w} x {h}")
            elif size != (w, h):
                told["differ in size from their images and are scaled to them"].append(name)
            elif _may_lie_otherwise(mask, size, sample.path):
                told["are taken as upright: EXIF turns their photographs and not them"].append(name)
    if unequal:
        raise DatasetError(
            f"{len(unequal)} masks differ in aspect from their images: {listed(unequal)}; draw or resize them to fit"
        )
    return tuple(f"{len(names)} masks {what}: {listed(names)}" for what, names in told.items())


def _may_lie_otherwise(mask: Mask, size: tuple[int, int], photograph: Path) -> bool:
    """Say whether a mask of its photograph's size may be drawn on the photograph as it lies in the file."""
    turn = orientation_of(photograph)
    sizes_tell = turn >= 5 and size[0] != size[1]
    return turn > 1 and not sizes_tell and not (isinstance(mask, Path) and orientation_of(mask) == turn)


def _contents(sample: Sample) -> Contents:
    marks = read_marks(sample)
    union = marks[0].defective
    for one in marks[1:]:
        union = union | one.defective
    digest = hashlib.blake2b(repr(union.shape).encode() + union.tobytes(), digest_size=16).digest()
    remarks = tuple(dict.fromkeys(one.remark for one in marks if one.remark))
    return Contents(_name(sample.masks[0], sample.path), float(union.mean()), digest, remarks)


def _notes(masks: list[Contents]) -> Iterator[str]:
    """Tell of masks that are empty, mark most of an image, are all the same, or had to be interpreted."""
    total = len(masks)
    if empty := [mask.name for mask in masks if not mask.share]:
        yield f"{len(empty)} of {total} defective images have a mask that marks nothing: {listed(empty)}"
    if large := [f"{mask.name} ({100 * mask.share:.0f} %)" for mask in masks if mask.share > MOST]:
        unlike = ", unlike the others" if 2 * len(large) < total else ""
        lines = f"{len(large)} of {total} masks mark most of their image{unlike}: {listed(large)}"
        yield f"{lines}; if black is the defect there, invert them"
    if total > FEW and masks[0].share and len({mask.digest for mask in masks}) == 1:
        yield f"all {total} masks mark the same pixels, as if one had been copied: {listed([masks[0].name])}"
    for remark in dict.fromkeys(remark for mask in masks for remark in mask.remarks):
        names = [mask.name for mask in masks if remark in mask.remarks]
        yield f"{len(names)} of {total} masks {remark}: {listed(names)}"


def _name(mask: Mask, photograph: Path | None = None) -> str:
    """Name a mask by its folder and file, and outlines by what they outline."""
    path = mask if isinstance(mask, Path) else photograph or mask.file
    return f"{path.parent.name}/{path.name}"
