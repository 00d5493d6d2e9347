"""What tells two states of a data set's files apart: their names and sizes, and their contents."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from unmask.errors import DatasetError
from unmask.types import Split


def fingerprint(split: Split) -> str:
    """Hash the relative names, roles, kinds and sizes in bytes of all files to 12 hex digits.

    What is held out does not enter, so that benchmark rows of several seeds carry the same fingerprint.

    Raises:
        DatasetError: a file has gone since the split was loaded.
    """
    return _hash(split, lambda path: str(path.stat().st_size))


def contents(split: Split) -> str:
    """Do what `fingerprint` does with the contents of all files in place of their sizes; each is read once.

    What decides beside the seed which images are held out enters too: groups, and the choice of the authors.

    Raises:
        DatasetError: a file has gone since the split was loaded, or cannot be read.
    """
    return _hash(split, _content, split.rule)


def _hash(split: Split, state: Callable[[Path], str], rule: tuple[str, ...] = ()) -> str:
    rows = [("train", path) for path in (*split.normals, *split.held_out)]
    for sample in split.test:
        label = "bad" if sample.anomalous else "good"
        rows.append((f"test {label} {sample.kind}", sample.path))
        rows += [("mask", mask if isinstance(mask, Path) else mask.file) for mask in sample.masks]
    base = os.path.commonpath([path.parent for _, path in rows])
    try:
        lines = sorted(f"{role}|{_name(path, base)}|{state(path)}" for role, path in rows)
    except OSError as error:
        raise DatasetError(f"{error.filename}: {error.strerror}; load the data set again") from error
    text = "\n".join([*lines, *rule]).encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=6).hexdigest()


def _name(path: Path, base: str) -> str:
    return unicodedata.normalize("NFC", Path(os.path.relpath(path, base)).as_posix())


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()
