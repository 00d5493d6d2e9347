"""A folder or a manifest to a Split: what to learn from, what to calibrate on, what to be judged on.

layouts/       the folder trees that are recognised, one small function each
manifests.py   the same from a table; tables.py reads its rows, json_files.py a JSON file
inventory.py   the files of a recognised data set, each with its role
checks.py      what can be wrong with the files, found from their headers
copies.py      equal files, which count once
accounting.py  every file used, or skipped with its reason
contents.py    what tells two states of a data set's files apart
division.py    which good images are held out, and groups that stay together
masks.py       ground truth: the only place that opens it
mask_files.py  mask files to arrays
marks.py       which pixels of a mask are defective
drawing.py     outlines of an annotation file to pixels
ground_truth.py  what can be wrong with masks
labels.py      which words mean good, and which a defect
summary.py     what a data set holds, counted
wording.py     paths and lists in messages
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from unmask.datasets.accounting import account, folder_warnings
from unmask.datasets.checks import check
from unmask.datasets.contents import contents, fingerprint
from unmask.datasets.copies import count_once
from unmask.datasets.division import draw, group_warnings, grouped, names_of, rule_of, with_test_normals
from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.layouts import recognise
from unmask.datasets.layouts.trees import Tree
from unmask.datasets.masks import read_mask, read_masks
from unmask.datasets.summary import summary
from unmask.errors import DatasetError, SettingError
from unmask.imaging.listing import check_can_be_read
from unmask.types import Skip, Split

__all__ = ["contents", "fingerprint", "load", "read_mask", "read_masks", "summary"]


def load(
    path: str | Path, *, held_out_share: float = 0.2, seed: int = 0, groups: str | None = None, recursive: bool = True
) -> Split:
    """Read a data set: its good images, divided into those to learn from and those held out, and its labelled test set.

    The layout is recognised from the files: MVTec AD, MVTec AD 2, MVTec 3D-AD, MVTec LOCO AD, MPDD, BTAD, VisA,
    Real-IAD, KolektorSDD, KolektorSDD2, DAGM, OCT2017, a folder good/ with or without a folder bad/ beside it, a plain
    folder of good images, or a CSV file with the columns path, label and split (and, if there are any, mask and group).
    Of photographs only headers are read, and bytes where lengths are equal; masks are decoded. Nothing is written.

    Thresholds come from held-out images, which no detector learns from. An image is held out when the hash of
    "{seed}/{name}", its path relative to the training folder, falls below the share, so that adding images moves no
    other one and every machine agrees. At least one of two and more is held out and one is not. Where the authors hold
    good images out themselves (validation/good), those are taken. Where a data set brings no good test images, a share
    of the good images that no seed changes becomes the test set's.

    Good images with equal contents count once: the first by name stays, and a warning names the others. Photographs
    of one thing (a patient, a lot, a burst, neighbouring video frames) are alike too, and a threshold means little when
    some are learned from and others held out: `groups` keeps them on one side.

    Args:
        path: a data set's folder, a CSV manifest, or a JSON file of Real-IAD, COCO or Datumaro.
        held_out_share: the share of the good training images to hold out, in (0, 1).
        seed: another seed holds out other images; the test set never depends on it.
        groups: a regular expression, searched in each good image's path relative to the training folder (with forward
            slashes). Its first capture group, or the whole match if it captures nothing, names the image's group, and
            the hash of that name decides for all of the group. An image without a match is a group of its own. Given
            for a manifest, it takes the place of the column group.
        recursive: whether images in folders inside the layout's own, such as good/day2/, are used.

    Returns:
        The split: `normals` and `held_out` are paths of good images, `test` are labelled images; `layout` names what
        was recognised, and `warnings` are what a user should know, one line each. Of the `seen` files of the folder,
        those that nothing is done with are `skipped`, each with its reason.

    Raises:
        DatasetError: nothing is there or recognised, no image is good, files cannot be read, or masks do not fit.
        SettingError: the share is not in (0, 1), or `groups` is no regular expression or matches no image.
    """
    if not 0 < held_out_share < 1:
        raise SettingError(f"held_out_share is {held_out_share}, wanted a share between 0 and 1, such as 0.2")
    root = Path(path)
    check_can_be_read(root)
    if not os.path.exists(root):  # noqa: PTH110 - of odd names `Path` raises
        raise DatasetError(f"{root}: no such folder or manifest; give the data set's folder")
    tree = Tree(root, recursive=recursive)
    inventory = recognise(tree)
    inventory = grouped(count_once(check(inventory)), groups)
    return _accounted(_divided(root, with_test_normals(inventory), held_out_share, seed), tree, inventory)


def _accounted(split: Split, tree: Tree, inventory: Inventory) -> Split:
    seen, skipped = account(tree, inventory)
    if unreadable := [one.path for one in skipped if one.reason == Skip.UNREADABLE]:
        raise DatasetError(
            f"{len(unreadable)} files or folders cannot be opened: {abbreviated(unreadable, 3)}; allow it or "
            "move them out of the data set"
        )
    return replace(split, warnings=(*split.warnings, *folder_warnings(skipped)), seen=seen, skipped=skipped)


def _divided(root: Path, inventory: Inventory, held_out_share: float, seed: int) -> Split:
    names = names_of(inventory)
    held_out = set(inventory.held_out) or draw(names, held_out_share, str(seed))
    warnings = (*inventory.warnings, *group_warnings(inventory))
    if not held_out:
        one = "one good image" if len(names) == 1 else "one group of good images"
        warnings += (f"there is only {one}: none is held out, so no threshold can be set; give more",)
    return Split(
        name=root.stem if root.is_file() else root.resolve().name,
        layout=inventory.layout,
        normals=tuple(sorted(set(inventory.normals) - held_out)),
        held_out=tuple(sorted(held_out)),
        test=inventory.test,
        has_masks=any(sample.masks for sample in inventory.test),
        warnings=warnings,
        is_drawn=not inventory.held_out and not inventory.groups,
        rule=rule_of(inventory),
    )
