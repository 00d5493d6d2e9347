"""Which pages of a TIFF file are pictures: not thumbnails, levels of a pyramid, labels or masks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from unmask.errors import ImageError
from unmask.imaging.formats import File

REDUCED, MASK = 1, 4  # bits of the tag NewSubfileType
SENSOR, LINEAR_SENSOR = 32803, 34892  # photometric interpretations of camera raw files
PREVIEW = 2  # a page this many times smaller along both sides is a preview of the largest, or a label


SILENT = logging.NullHandler()


class Picture(NamedTuple):
    """A page that is a picture.

    Attributes:
        page: of tifffile.
        plane: number of the plane in it; 0 unless ImageJ wrote many planes under one page.
    """

    page: Any
    plane: int = 0


@contextmanager
def opened_tiff(file: File) -> Iterator[Any]:
    """A file as tifffile reads it, without the lines that it logs on damaged tags."""
    import tifffile

    logging.getLogger("tifffile").addHandler(SILENT)
    with tifffile.TiffFile(file) as tiff:
        yield tiff


def pictures_of(tiff: Any, name: str) -> list[Picture]:
    """The pictures of a file in their order: all pages of full resolution that are not far smaller than the largest.

    Args:
        tiff: from `opened_tiff`.
        name: of the file, for messages.

    Raises:
        ImageError: it is a camera's raw file, whose pages that can be shown are previews.
    """
    tops = [tiff.pages[number] for number in range(len(tiff.pages))]  # their number is known only without a circle
    pages = [page for top in tops for page in (top, *_pages_below(top))]
    if any(_photometric(page) in (SENSOR, LINEAR_SENSOR) for page in pages):
        raise ImageError(f"{name}: is a camera's raw file (such as DNG), which is not read; develop it to TIFF or PNG")
    shown = [page for page in pages if not int(page.subfiletype) & (REDUCED | MASK)] or pages
    largest = max(shown, key=_area)
    shown = [page for page in shown if not _is_preview(page, largest)]
    planes = _planes_of_imagej(tiff, shown)
    return [Picture(page) for page in shown] if planes < 2 else [Picture(shown[0], plane) for plane in range(planes)]


def _pages_below(page: Any) -> list[Any]:
    """The pages that a page holds in its tag SubIFDs: its full image in a raw file, smaller ones in a pyramid."""
    return list(page.pages) if getattr(page, "subifds", None) and page.pages is not None else []


def _photometric(page: Any) -> int:
    return int(page.photometric if page.photometric is not None else -1)


def _area(page: Any) -> int:
    return int(page.imagewidth) * int(page.imagelength)


def _is_preview(page: Any, largest: Any) -> bool:
    is_narrow = PREVIEW * int(page.imagewidth) <= int(largest.imagewidth)
    return is_narrow and PREVIEW * int(page.imagelength) <= int(largest.imagelength)


def _planes_of_imagej(tiff: Any, pages: list[Any]) -> int:
    """How many planes lie one after the other behind a file's only page, as ImageJ writes large stacks."""
    if not tiff.is_imagej or len(pages) != 1:
        return 1
    return int((tiff.imagej_metadata or {}).get("images", 1))
