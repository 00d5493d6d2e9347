"""Everything that can be wrong with a data set's files, found from their headers and reported all at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

from unmask.datasets.found import Found, listing
from unmask.errors import DatasetError, ImageError
from unmask.imaging.images import size_of


def check(found: Found) -> tuple[str, ...]:
    """Open every header once and compare names, sizes and contents.

    Returns:
        Warnings, one line each.

    Raises:
        DatasetError: files cannot be read; masks lack an image, or images a mask that others have; sizes differ.
    """
    images = (*found.normals, *found.held_out, *(sample.path for sample in found.test))
    masks = {mask for sample in found.test for mask in sample.masks}
    sizes = _sizes((*images, *sorted(masks | set(found.masks))))
    _check_masks(found, masks, sizes)
    twins = _twins((*found.normals, *found.held_out), [sample.path for sample in found.test])
    if not twins:
        return ()
    return (f"{len(twins)} test images are also training images, which flatters every figure: {listing(twins)}",)


def _sizes(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    sizes, bad = {}, []
    for path in paths:
        try:
            sizes[path] = size_of(path)
        except ImageError as error:
            bad.append(str(error))
    if bad:
        raise DatasetError(f"{len(bad)} files cannot be used: {listing(bad)}; replace or remove them")
    return sizes


def _check_masks(found: Found, used: set[Path], sizes: dict[Path, tuple[int, int]]) -> None:
    orphans = [path for path in found.masks if path not in used]
    if orphans:
        raise DatasetError(f"{len(orphans)} masks have no test image: {listing(orphans)}; remove or rename them")
    bare = [sample.path for sample in found.test if sample.anomalous and not sample.masks]
    if used and bare:
        raise DatasetError(f"{len(bare)} defective images have no mask while others have: {listing(bare)}; add theirs")
    unequal = [
        f"{mask} {sizes[mask][0]} x {sizes[mask][1]} for an image {sizes[sample.path][0]} x {sizes[sample.path][1]}"
        for sample in found.test
        for mask in sample.masks
        if sizes[mask] != sizes[sample.path]
    ]
    if unequal:
        raise DatasetError(f"{len(unequal)} masks differ in size from their images: {listing(unequal)}; resize them")


def _twins(train: Iterable[Path], test: Iterable[Path]) -> list[Path]:
    """List the test files whose content a training file has too, asking dearer questions of ever fewer files."""
    suspects, test = list(train), list(test)
    questions: tuple[Callable[[Path], Hashable], ...] = (_length, _hash_of_start, _hash)
    for question in questions:
        known, asked = {path: question(path) for path in suspects}, {path: question(path) for path in test}
        common = set(known.values()) & set(asked.values())
        suspects = [path for path, answer in known.items() if answer in common]
        test = [path for path, answer in asked.items() if answer in common]
    return test


def _length(path: Path) -> int:
    return path.stat().st_size


def _hash_of_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(65_536)).digest()


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).digest()
