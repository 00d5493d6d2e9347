"""A folder or a manifest to a Split: what to learn from, what to calibrate on, what to be judged on.

layouts/       the folder trees that are recognised, one small function each
manifests.py   the same from a CSV file
inventory.py   the files of a recognised data set, each with its role
checks.py      what can be wrong with the files, found from their headers
copies.py      equal files, which count once
division.py    which good images are held out, and groups that stay together
masks.py       ground truth: the only place that opens it
summary.py     what a data set holds, counted
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from unmask.datasets.checks import check
from unmask.datasets.copies import count_once
from unmask.datasets.division import draw, group_warnings, grouped, names_of, with_test_normals
from unmask.datasets.inventory import Inventory
from unmask.datasets.layouts import recognise
from unmask.datasets.masks import read_mask, read_masks
from unmask.datasets.summary import summary
from unmask.errors import DatasetError, SettingError
from unmask.types import Split

__all__ = ["fingerprint", "load", "read_mask", "read_masks", "summary"]


def load(path: str | Path, *, held_out_share: float = 0.2, seed: int = 0, groups: str | None = None) -> Split:
    """Read a data set: its good images, divided into those to learn from and those held out, and its labelled test set.

    The layout is recognised from the files: MVTec AD, MVTec AD 2, MVTec 3D-AD, MVTec LOCO AD, MPDD, BTAD, VisA,
    Real-IAD, KolektorSDD, KolektorSDD2, DAGM, OCT2017, a folder good/ with or without a folder bad/ beside it, a plain
    folder of good images, or a CSV file with the columns path, label and split (and, if there are any, mask and group).
    Only headers are read, except where a data set labels its images by empty masks; nothing is written.

    Thresholds come from held-out images, which no detector learns from. An image is held out when the hash of
    "{seed}/{name}", its path relative to the training folder, falls below the share, so that adding images moves no
    other one and every machine agrees. At least one image is held out and at least one is not, if there are two or
    more. Where the authors hold good images out themselves (validation/good), those are taken and all training images
    are learned from. Where a data set brings no good test images, a share of the good images that no seed changes
    becomes the test set's.

    Good images with equal contents count once: the first by name stays, and a warning names the others. Photographs
    of one thing (a patient, a lot, a burst, neighbouring video frames) are alike too, and a threshold means little when
    some are learned from and others held out: `groups` keeps them on one side.

    Args:
        path: a data set's folder, or a CSV manifest, or a JSON file of Real-IAD.
        held_out_share: the share of the good training images to hold out, in (0, 1).
        seed: another seed holds out other images; the test set never depends on it.
        groups: a regular expression, searched in each good image's path relative to the training folder (with forward
            slashes). Its first capture group, or the whole match if it captures nothing, names the image's group, and
            the hash of that name decides for all of the group. An image without a match is a group of its own. Given
            for a manifest, it takes the place of the column group.

    Returns:
        The split: `normals` and `held_out` are paths of good images, `test` are labelled images; `layout` names what
        was recognised, and `warnings` are what a user should know, one line each.

    Raises:
        DatasetError: nothing is there or recognised, no image is good, files cannot be read, or masks do not fit.
        SettingError: the share is not in (0, 1), or `groups` is no regular expression or matches no image.
    """
    if not 0 < held_out_share < 1:
        raise SettingError(f"held_out_share is {held_out_share}, wanted a share between 0 and 1, such as 0.2")
    root = Path(path)
    inventory = recognise(root)
    check(inventory)
    return _divided(root, with_test_normals(grouped(count_once(inventory), groups)), held_out_share, seed)


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
    )


def fingerprint(split: Split) -> str:
    """Hash the relative names, roles, kinds and sizes in bytes of all files to 12 hex digits.

    What is held out does not enter, so that benchmark rows of several seeds carry the same fingerprint.

    Raises:
        DatasetError: a file has gone since the split was loaded.
    """
    rows = [("train", path) for path in (*split.normals, *split.held_out)]
    for sample in split.test:
        label = "bad" if sample.anomalous else "good"
        rows += [(f"test {label} {sample.kind}", sample.path), *(("mask", mask) for mask in sample.masks)]
    base = os.path.commonpath([path.parent for _, path in rows])
    try:
        lines = sorted(f"{role}|{Path(os.path.relpath(p, base)).as_posix()}|{p.stat().st_size}" for role, p in rows)
    except OSError as error:
        raise DatasetError(f"{error.filename}: {error.strerror}; load the data set again") from error
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=6).hexdigest()
