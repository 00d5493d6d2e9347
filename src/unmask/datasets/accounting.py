"""Every file of a data set's folder accounted for: used, or skipped with its reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.layouts.folder_names import like_defects
from unmask.datasets.layouts.trees import Tree
from unmask.datasets.wording import shortened
from unmask.imaging.mask_folders import is_mask_folder
from unmask.types import Skip, SkippedFile


def account(tree: Tree, inventory: Inventory) -> tuple[int, tuple[SkippedFile, ...]]:
    """Count the files that were seen, and give those that are not used, each with its reason.

    Where a table describes the data set, the files are those that it names.

    Args:
        tree: all files below the folder.
        inventory: what is used of them.
    """
    used = _used(inventory)
    files = set(tree.listing.files)
    elsewhere = {path for path in (*used, *inventory.unused) if path not in files}
    if files and elsewhere:
        used, elsewhere = _as_listed(files, used, elsewhere)
    places = {path.parent for path in used}
    skipped = [
        SkippedFile(path, inventory.unused.get(path) or _reason(tree, path, places))
        for path in (*tree.listing.files, *sorted(elsewhere))
        if path not in used
    ]
    skipped += tree.listing.skipped
    return len(used | files | elsewhere) + len(tree.listing.skipped), tuple(skipped)


def folder_warnings(skipped: Iterable[SkippedFile]) -> tuple[str, ...]:
    """Tell which folders were left out because of their names, those of defects and those of masks."""
    lines = []
    for reason, line in (
        (Skip.DEFECTS, "images in folders named like defects are not taken for good ones"),
        (
            Skip.MASK,
            "images in folders named like masks or labels are not used; masks belong into ground_truth/<kind>/",
        ),
    ):
        folders = Counter(one.path.parent.name for one in skipped if one.reason == reason)
        if folders:
            names = abbreviated((f"{shortened(name)} ({count})" for name, count in folders.most_common()), 5)
            lines.append(f"{line}: {names}")
    return tuple(lines)


def _used(inventory: Inventory) -> set[Path]:
    masks = {mask for sample in inventory.test for mask in sample.masks if isinstance(mask, Path)}
    return {*inventory.normals, *inventory.held_out, *(sample.path for sample in inventory.test), *masks}


def _as_listed(files: set[Path], used: set[Path], elsewhere: set[Path]) -> tuple[set[Path], set[Path]]:
    """Find files that a table names by another way to them, such as a whole path, under the names of the listing."""
    by_real = {os.path.realpath(path): path for path in files}
    same = {path: by_real.get(os.path.realpath(path), path) for path in elsewhere}
    return {same.get(path, path) for path in used}, {path for path in elsewhere if same[path] == path}


def _reason(tree: Tree, path: Path, used: set[Path]) -> str:
    """Why an image that no layout asked for is not used."""
    if not tree.recursive and not used.isdisjoint(path.parent.parents):
        return Skip.NESTED
    folders = path.parent.relative_to(tree.root).parts if path.is_relative_to(tree.root) else ()
    if any(map(is_mask_folder, folders)):
        return Skip.MASK
    return Skip.DEFECTS if any(map(like_defects, folders)) else Skip.UNUSED
