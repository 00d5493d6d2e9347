"""JPEG 2000 files of more than 8 bits, of which Pillow keeps only grey at depth."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from unmask.errors import ImageError
from unmask.imaging.codecs import imagecodecs

PROFILE = re.compile(rb"(.{4})colr[\x02\x03]..", re.DOTALL)  # the box colr, of a method that holds a profile
MOST_BANDS = 4
FARTHEST = 10_000  # bytes within which the boxes before the data begin
SIZE = re.compile(
    rb"\xff\x51.{36}(..)(.)", re.DOTALL
)  # the marker segment SIZ: number of components, bits of the first


def deep_jpeg2000(image: Image.Image, content: bytes, name: str) -> tuple[np.ndarray, float] | None:
    """Values and white of a file of more than 8 bits; None of others, and of what has no header.

    Args:
        image: the same file, opened by Pillow.
        content: of the file.
        name: of it, for messages.

    Raises:
        ImageError: it holds colours, and the package imagecodecs is not installed; or its values are signed.
    """
    found = SIZE.search(content)
    if found is None:
        return None
    signed, bits = found[2][0] >> 7, (found[2][0] & 127) + 1
    if signed:
        raise ImageError(f"{name}: holds signed values, which are not read in JPEG 2000; save it as PNG or TIFF")
    if bits <= 8:
        return None
    if bits > 16:
        raise ImageError(f"{name}: {bits}-bit JPEG 2000 is not read; save it as TIFF")
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), float((2**bits - 1) << (16 - bits))
    values: np.ndarray = imagecodecs(f"{bits}-bit JPEG 2000 of several channels", name).jpeg2k_decode(content)
    if values.ndim == 3 and values.shape[2] == 2:  # grey with alpha
        values = values[..., [0, 0, 0, 1]]
    return values, 2.0**bits - 1


def check_bands(start: bytes, name: str) -> None:
    """Raise ImageError for a file, of which the start is given, that holds more bands than Pillow reads."""
    found = SIZE.search(start)
    count = int.from_bytes(found[1], "big") if found else 0
    if count > MOST_BANDS:
        raise ImageError(f"{name}: holds {count} bands, which is not read in JPEG 2000; save it as TIFF")


def profile_in(content: bytes) -> bytes:
    """The ICC profile of a file, from its box of colours; empty where there is none."""
    found = PROFILE.search(content, 0, FARTHEST)
    if found is None:
        return b""
    length = int.from_bytes(found[1], "big")
    return content[found.end() : found.start() + length]
