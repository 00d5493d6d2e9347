"""What a layout finds in a folder, and how images are set apart by the hash of their names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.types import Sample


@dataclass(frozen=True)
class Found:
    """A recognised data set before its files are checked and images are held out.

    Attributes:
        layout: the layout's name.
        root: the folder that training images are named from when their names are hashed.
        normals: the good images to learn from.
        test: the labelled images with the masks that belong to them.
        held_out: normal images that the authors set apart themselves.
        masks: every mask file there is, so that one without an image is noticed.
        warnings: one line each.
    """

    layout: str
    root: Path
    normals: tuple[Path, ...]
    test: tuple[Sample, ...] = ()
    held_out: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()


def set_apart(paths: Sequence[Path], root: Path, share: float, salt: str) -> set[Path]:
    """Choose the paths whose hash of "{salt}/{name from root}", as a fraction of its range, is below the share.

    Of two paths or more at least one is chosen (the smallest hash) and one is not (the largest); of one, none.
    """
    if len(paths) < 2:
        return set()

    def fraction(path: Path) -> float:
        name = Path(os.path.relpath(path, root)).as_posix()
        digest = hashlib.blake2b(f"{salt}/{name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    ranked = sorted((fraction(path), path) for path in paths)
    below = sum(at < share for at, _ in ranked)
    return {path for _, path in ranked[: min(max(below, 1), len(ranked) - 1)]}


def folders(root: Path) -> list[Path]:
    """List the folders directly in a folder, sorted, without hidden ones; none when it is no folder."""
    if not root.is_dir():
        return []
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))


def listing(items: Iterable[object], limit: int = 10) -> str:
    """Join items with commas on one line, abbreviated after `limit`."""
    texts = [str(item) for item in items]
    rest = f" ... and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + rest
