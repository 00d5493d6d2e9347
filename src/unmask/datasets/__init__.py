"""A folder or a manifest to a Split: what to learn from, what to calibrate on, what to be judged on.

layouts.py     the folder trees that are recognised, one small function each
manifests.py   the same from CSV files: our own manifest, and the split of VisA
checks.py      everything that can be wrong with the files, found from their headers
found.py       what they hand on, and which images are set apart
masks.py       ground truth: the only place that opens it
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from unmask.datasets.checks import check
from unmask.datasets.found import Found, folders, listing, set_apart
from unmask.datasets.layouts import LAYOUTS
from unmask.datasets.masks import read_mask, read_masks
from unmask.errors import DatasetError, SettingError
from unmask.types import Split

__all__ = ["fingerprint", "load", "read_mask", "read_masks"]

KNOWN = "MVTec AD, MVTec LOCO AD, MPDD, VisA, BTAD, OCT2017, good/ and bad/, a folder of good images, a CSV manifest"


def load(path: str | Path, *, held_out_share: float = 0.2, seed: int = 0) -> Split:
    """Recognise a data set, check its files from their headers, and set normal images apart.

    An image is held out when the hash of "{seed}/{name}", its name relative to the training folder, falls below the
    share: adding images moves no other across, and every machine agrees. (Only in sets so small that none or all would
    fall below it does the smallest hash go out or the largest stay.) Where the authors set normal images apart
    themselves (MVTec LOCO's validation/good), those are the held-out ones and the training images stay whole.

    Args:
        path: a data set's folder, or a CSV manifest.
        held_out_share: share of the training normals to hold out, in (0, 1).
        seed: another seed holds out other images; the test set never depends on it.

    Returns:
        The split; `layout` says what was recognised and `warnings` what a user should know.

    Raises:
        DatasetError: nothing is there or recognised, no image is good, files cannot be read, masks do not fit.
        SettingError: the share is not in (0, 1).
    """
    if not 0 < held_out_share < 1:
        raise SettingError(f"held_out_share is {held_out_share}, wanted a share between 0 and 1, such as 0.2")
    root = Path(path)
    found = _recognise(root)
    if not found.normals:
        raise DatasetError(f"{root}: {found.layout}, but no good images to learn from; put some into {found.root}")
    warnings = (*found.warnings, *check(found))
    held_out = set(found.held_out) or set_apart(found.normals, found.root, held_out_share, str(seed))
    if not held_out:
        warnings += ("only one good image: none is held out, so no threshold can be set; give more",)
    return Split(
        name=root.stem if root.is_file() else root.resolve().name,
        layout=found.layout,
        normals=tuple(sorted(set(found.normals) - held_out)),
        held_out=tuple(sorted(held_out)),
        test=found.test,
        has_masks=any(sample.masks for sample in found.test),
        warnings=warnings,
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


def _recognise(root: Path) -> Found:
    if not root.exists():
        raise DatasetError(f"{root}: no such folder or manifest; give the data set's folder")
    for layout in LAYOUTS:
        found = layout(root)
        if found is not None:
            return found
    inside = [child.name for child in folders(root) if (child / "train").is_dir()]
    if inside:
        raise DatasetError(f"{root} holds several data sets ({listing(inside)}); give one, such as {root / inside[0]}")
    raise DatasetError(f"{root}: no layout recognised (or the folder is empty); known are {KNOWN}")
