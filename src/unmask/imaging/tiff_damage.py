"""What is lost of a TIFF file, told from its strips and tiles: decoders go on where some are missing."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from typing import Any

from unmask.imaging.formats import File
from unmask.imaging.jpeg import is_garbled

UNCOMPRESSED, JPEG = 1, 7
MISSING = "strips or tiles of this TIFF are missing"
GARBLED = "data of a JPEG in this TIFF is lost, so a part of the picture is garbled"
CUT = "a further page of this TIFF cannot be read, so at least one of its pictures is lost"


def damage_of(file: File, tiff: Any, page: Any) -> str:
    """What is lost of a page, or of the pages behind it; empty where both are whole, or where the decoder fails.

    Args:
        file: at any place.
        tiff: the same file, opened by tifffile.
        page: of it.

    Raises:
        ValueError: compressed data of the page are missing, or the file ends before they do.
    """
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not all(offset and count for offset, count in places) or _are_few(places, page):
        if int(page.compression) != UNCOMPRESSED:
            raise ValueError(MISSING)
        return f"{MISSING}, so a part of the picture is not there"
    if int(page.compression) != UNCOMPRESSED and max(map(sum, places)) > file.seek(0, os.SEEK_END):
        raise ValueError("the file is truncated")
    if int(page.compression) == JPEG and any(is_garbled(content) for content in _jpegs(file, page, places)):
        return GARBLED
    return CUT if _is_cut(tiff) else ""


def _are_few(places: list[tuple[int, int]], page: Any) -> bool:
    """Whether there are fewer strips or tiles than the picture has; uncompressed strips may be longer instead."""
    are_longer = int(page.compression) == UNCOMPRESSED and not page.is_tiled
    is_whole = are_longer and sum(count for _, count in places) >= page.nbytes
    return len(places) < math.prod(page.chunked) and not is_whole


def _jpegs(file: File, page: Any, places: list[tuple[int, int]]) -> Iterator[bytes]:
    """The strips or tiles of a page as JPEG files, each with the tables that the page holds for all."""
    tables = page.jpegtables
    for offset, count in places:
        file.seek(offset)
        content = file.read(count)
        yield tables[:-2] + content[2:] if tables else content


def _is_cut(tiff: Any) -> bool:
    """Whether the last page that can be read names another one that cannot."""
    file, layout, offsets = tiff.filehandle, tiff.tiff, [page.offset for page in tiff.pages]
    file.seek(offsets[-1])
    (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    file.seek(offsets[-1] + layout.tagnosize + tags * layout.tagsize)
    following = file.read(layout.offsetsize)
    if len(following) < layout.offsetsize:
        return False  # the page is the last thing in the file, and some writers leave out that none follows
    return struct.unpack(layout.offsetformat, following)[0] not in (0, *offsets)
