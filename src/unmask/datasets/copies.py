"""Equal files: a photograph that is there twice counts once, and one that is also a test image is warned about."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import Path

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.datasets.wording import listed
from unmask.types import Skip


def count_once(inventory: Inventory) -> Inventory:
    """Leave out good images whose content another good image has too; the first by name stays.

    A copy that was held out while its twin was learned from would score as an image that was learned from, and the
    threshold would come out too low. Test images stay as they are; those that are also training images are warned
    about, and so are equal images of which some are labelled good and others defective.
    """
    good = dict.fromkeys((*inventory.normals, *inventory.held_out))
    test = dict.fromkeys(sample.path for sample in inventory.test)
    first_of: dict[Path, Path] = {}
    leaked = set(test) & set(good)
    defective = {sample.path for sample in inventory.test if sample.anomalous}
    contradicting = []
    for equal in equal_files(good | test):
        if 0 < len(defective & set(equal)) < len(equal):
            contradicting.append(sorted(equal))
        if alike := sorted(path for path in equal if path in good):
            first_of |= dict.fromkeys(alike[1:], alike[0])
            leaked |= set(equal) & set(test)
    return replace(
        inventory,
        normals=tuple(path for path in dict.fromkeys(inventory.normals) if path not in first_of),
        held_out=tuple(path for path in dict.fromkeys(inventory.held_out) if path not in first_of),
        warnings=(
            *inventory.warnings,
            *_copied(inventory, first_of, len(good)),
            *_leaked([path for path in test if path in leaked]),
            *_contradicting(contradicting),
        ),
        unused={**inventory.unused, **dict.fromkeys(first_of, Skip.COPY)},
    )


def equal_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Find the groups of two and more files that are equal byte for byte.

    Lengths are compared first, then a hash of the first 64 KB, then one of the whole; each only within the groups that
    are still undecided.
    """
    groups = [list(paths)]
    keys: tuple[Callable[[Path], Hashable], ...] = (_length, _hash_of_start, _hash)
    for key in keys:
        groups = [part for group in groups for part in _divided(group, key) if len(part) > 1]
    return groups


def _divided(paths: Iterable[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    parts: dict[Hashable, list[Path]] = defaultdict(list)
    for path in paths:
        parts[key(path)].append(path)
    return list(parts.values())


def _copied(inventory: Inventory, first_of: dict[Path, Path], count: int) -> tuple[str, ...]:
    if not first_of:
        return ()
    names = [f"{inventory.name(copy)} (as {inventory.name(first)})" for copy, first in sorted(first_of.items())]
    return (f"{len(first_of)} of {count} good images are copies of others and do not count: {abbreviated(names)}",)


def _leaked(paths: list[Path]) -> tuple[str, ...]:
    if not paths:
        return ()
    return (f"{len(paths)} test images are also training images; no figure counts them: {abbreviated(paths)}",)


def _contradicting(groups: list[list[Path]]) -> tuple[str, ...]:
    if not groups:
        return ()
    pairs = [" and ".join(f"{path.parent.name}/{path.name}" for path in equal[:2]) for equal in groups]
    return (f"{len(groups)} photographs are labelled good under one name and defective under another: {listed(pairs)}",)


def _length(path: Path) -> int:
    return path.stat().st_size


def _hash_of_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(65_536)).digest()


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).digest()
