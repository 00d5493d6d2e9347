"""PGM and PPM files at their own depth: a header in words, then values. Pillow cuts colour to 8 bits."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

NUMBER, LAST = rb"(?:\s|#[^\n]*\n)+(\d{1,9})", rb"(?:[ \t]*#[^\n]*)?\s"
HEADER = re.compile(rb"P([2356])" + NUMBER * 3 + LAST, re.DOTALL)
BITMAP = re.compile(rb"P4" + NUMBER * 2 + LAST, re.DOTALL)
GAP = re.compile(rb"\s*")
LONGEST_HEADER = 10_000  # bytes
NUMBERS = re.compile(rb"#[^\n]*")


class Pnm(NamedTuple):
    """The header of a PGM or PPM file.

    Attributes:
        kind: 2 and 3 hold values in words, 5 and 6 in bytes; 2 and 5 are grey.
        width: in pixels.
        height: in pixels.
        white: the value of full scale.
        start: where its values begin.
    """

    kind: int
    width: int
    height: int
    white: int
    start: int


def pnm_of(content: bytes) -> Pnm | None:
    """Read a header; None of a bitmap, which Pillow reads.

    Raises:
        ValueError: it is damaged.
    """
    if content[:2] in (b"P1", b"P4"):
        return None
    found = HEADER.match(content[:LONGEST_HEADER])
    if found is None or not 0 < int(found[4]) < 65536:
        raise ValueError("its header is damaged")
    return Pnm(int(found[1]), int(found[2]), int(found[3]), int(found[4]), found.end())


def starts_of(content: bytes) -> list[int]:
    """Where the pictures of a file begin: those in bytes may follow each other, one in words stands alone."""
    starts, end = [0], _end(content, 0)
    while end is not None and end < len(content):
        start = GAP.match(content, end).end()  # type: ignore[union-attr]
        end = _end(content, start)
        if end is not None:
            starts.append(start)
    return starts


def _end(content: bytes, start: int) -> int | None:
    """Where a picture in bytes ends; None = none begins there."""
    bitmap = BITMAP.match(content, start, start + LONGEST_HEADER)
    if bitmap is not None:
        return bitmap.end() + -(-int(bitmap[1]) // 8) * int(bitmap[2])
    found = HEADER.match(content, start, start + LONGEST_HEADER)
    if found is None or found[1] not in (b"5", b"6"):
        return None
    samples = (1 if found[1] == b"5" else 3) * int(found[2]) * int(found[3])
    return found.end() + samples * (1 if int(found[4]) < 256 else 2)


def pnm_values(content: bytes, pnm: Pnm) -> np.ndarray:
    """Decode to (h, w) or (h, w, 3) of uint8 or uint16.

    Raises:
        ValueError: values are missing, or lie above white.
    """
    shape = (pnm.height, pnm.width) if pnm.kind in (2, 5) else (pnm.height, pnm.width, 3)
    count = int(np.prod(shape))
    if pnm.kind in (5, 6):
        dtype = np.dtype(np.uint8 if pnm.white < 256 else ">u2")
        if len(content) - pnm.start < count * dtype.itemsize:
            raise ValueError("the file is truncated")
        values = np.frombuffer(content, dtype, count, pnm.start)
    else:
        words = NUMBERS.sub(b"", content[pnm.start :]).split(maxsplit=count)[:count]
        if len(words) < count:
            raise ValueError("the file is truncated")
        if not all(word.isdigit() for word in words):
            raise ValueError("a value is not a number")
        values = np.array([int(word) for word in words], np.int64)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= pnm.white:
        raise ValueError("a value lies above its white")
    return values.astype(np.uint8 if pnm.white < 256 else np.uint16).reshape(shape)
