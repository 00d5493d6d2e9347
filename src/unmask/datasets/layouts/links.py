"""Links to folders inside a data set: a folder counts where its link lies when only the link's name says something."""

from __future__ import annotations

import os
from pathlib import Path

from unmask.datasets.labels import plain
from unmask.datasets.layouts.folder_names import PARTS, is_bad, is_good
from unmask.imaging.listing import Listing
from unmask.imaging.mask_folders import is_ground_truth
from unmask.types import Skip


def in_place_of_links(root: Path, listing: Listing) -> Listing:
    """Move folders to the places of links that lead to them: train/good -> ../all is read as train/good.

    A folder stays under its own name where a name on the way to it says what it is, and where the link's says nothing.

    Args:
        root: of the data set.
        listing: what `walk` found there, with such links among the skipped files.
    """
    for one in listing.skipped:
        if one.reason != Skip.TWICE or not one.path.is_symlink() or not _means_something(root, one.path):
            continue
        real = os.path.realpath(one.path)
        target = next((folder for folder in listing.folders if os.path.realpath(folder) == real), None)
        if target is not None and target != root and not _means_something(root, target):
            listing = _moved(listing, target, one.path)
    return listing


def _means_something(root: Path, folder: Path) -> bool:
    return any(
        is_good(name) or is_bad(name) or is_ground_truth(name) or plain(name) in PARTS
        for name in folder.relative_to(root).parts
    )


def _moved(listing: Listing, folder: Path, link: Path) -> Listing:
    def place(path: Path) -> Path:
        return link / path.relative_to(folder) if path.is_relative_to(folder) else path

    return Listing(
        tuple(sorted(map(place, listing.files))),
        tuple(one for one in listing.skipped if one.path != link),
        tuple(map(place, listing.folders)),
    )
