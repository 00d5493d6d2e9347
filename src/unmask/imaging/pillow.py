"""What Pillow decodes: one picture of a file, upright, in its own kind of number and in the colours of sRGB."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from unmask.imaging.colour import in_srgb
from unmask.imaging.formats import File, Kind

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
ORIENTATION = 0x0112  # the tag of EXIF and TIFF


def opened(kind: Kind, file: File) -> ImageFile:
    """Open a file with the one parser of its kind, without its pixels, and without Pillow's limit of size."""
    assert kind.plugin is not None  # noqa: S101 - the other kinds do not come here
    module, name = kind.plugin
    image: ImageFile = getattr(importlib.import_module(module), name)(file)
    return image


def loaded(image: Image.Image, profile: bytes | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode what Pillow can keep at depth as it is, everything else to 8-bit RGB or RGBA in sRGB.

    Args:
        image: an open file, or an image in memory.
        profile: of its colours; None = what Pillow found.

    Returns:
        Values, and notes on them.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # "I" came before Pillow 11
        return np.asarray(image).astype(np.uint16), ()
    if image.mode in ("I", "F"):
        return np.asarray(image), ()
    if profile is None:
        profile = image.info.get("icc_profile")
    is_grey = image.mode in GREY
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode not in ("CMYK", "RGB", "RGBA") or (image.mode == "RGB" and image.has_transparency_data):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    notes: tuple[str, ...] = ()
    if profile and not is_grey:
        image, notes = in_srgb(image, profile)
    return np.asarray(image.convert("RGB") if image.mode == "CMYK" else image), notes


def orientation_of(exif: bytes | None) -> int:
    """The orientation 1..8 in an EXIF block; 1 where it is missing or damaged."""
    if not exif:
        return 1
    found = Image.Exif()
    try:
        found.load(exif)
        return checked_orientation(found.get(ORIENTATION, 1))
    except Exception:  # the parser may raise anything on damaged bytes, and the picture is fine without it
        return 1


def checked_orientation(value: Any) -> int:
    """An orientation as a file names it; 1 where it is none of the eight."""
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (h, w, ...) pixels as the EXIF orientation 1..8 asks."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flip_y, flip_x = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
