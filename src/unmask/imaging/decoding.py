"""Image files to arrays of their own kind (8 bit, 16 bit, float), upright; what Pillow and tifffile each cannot do."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from unmask.errors import ImageError
from unmask.imaging.formats import HEAD, kind_of

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")  # Pillow knows 40 more; each is one more parser open to foreign bytes
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 0x0112  # the tag of EXIF and TIFF
GREY_WHITE_IS_ZERO, GREY, RGB = 0, 1, 2  # the photometric interpretations of TIFF that are read at depth
STRAIGHT_ALPHA = 2
# Pillow keeps only the first byte of each value of 16-bit colour: taken for the other byte order, the same file yields
# the second byte. Grey with alpha has four bytes a pixel and is read as if it were 8-bit RGBA.
PNG_16_BIT = {"RGB;16B": ("RGB;16B", "RGB;16L"), "RGBA;16B": ("RGBA;16B", "RGBA;16L"), "LA;16B": ("RGBA",)}


def file_pixels(source: str | Path | bytes, max_pixels: int) -> tuple[np.ndarray, str]:
    """Decode a file to (h, w), (h, w, 3) or (h, w, 4) of uint8, uint16, int32 or float32, and give its name for errors.

    Raises:
        ImageError: the file is missing, damaged, foreign, or has more than `max_pixels` (read from its header).
    """
    with _opened(source) as (file, name):
        if _is_tiff(file):
            return _tiff_pixels(file, name, max_pixels), name
        image = _header(file)
        _check_size(image.width, image.height, name, max_pixels)
        rawmode = image.tile[0][3] if image.format == "PNG" and image.tile else None
        pixels = _deep_png(file, rawmode) if rawmode in PNG_16_BIT else _loaded(image)
        return _upright(pixels, _orientation(image)), name


def is_image(path: str | Path) -> bool:
    """Say by its first bytes whether a file is an image of a known kind; its name plays no part.

    Raises:
        OSError: it cannot be opened.
    """
    with Path(path).open("rb") as file:
        return kind_of(file.read(HEAD)) is not None


def file_size(path: str | Path) -> tuple[int, int]:
    """Read (width, height) as decoded, from the header only.

    Raises:
        ImageError: the file is missing or no image.
    """
    with _opened(path) as (file, _):
        if _is_tiff(file):
            with _tiff_page(file) as page:
                width, height, turned = int(page.imagewidth), int(page.imagelength), _tiff_orientation(page) >= 5
        else:
            image = _header(file)
            width, height, turned = image.width, image.height, _orientation(image) >= 5
    return (height, width) if turned else (width, height)


def pillow_pixels(image: Image.Image, max_pixels: int) -> np.ndarray:
    """Do what `file_pixels` does, for an open Pillow image."""
    name = "the Pillow image"
    with _failing_as(name):
        _check_size(image.width, image.height, name, max_pixels)
        return _upright(_loaded(image), _orientation(image))


@contextmanager
def _opened(source: str | Path | bytes) -> Iterator[tuple[io.BufferedReader | io.BytesIO, str]]:
    name = f"the image of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    with _failing_as(name), io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        yield file, name


@contextmanager
def _failing_as(name: str) -> Iterator[None]:
    """Turn whatever a parser raises on damaged bytes (it may be anything) into an ImageError of one line."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image of a known kind; give {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: more pixels than Pillow opens; crop the image or cut it into tiles") from error
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise ImageError(f"{name}: cannot be read ({reason or type(error).__name__}); check the file") from error


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} pixels, the limit is {max_pixels}; crop it or raise max_pixels")


def _header(file: io.BufferedReader | io.BytesIO) -> ImageFile:
    """Open a file without decoding its pixels; our own limit stands in for Pillow's warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image: ImageFile = Image.open(file, formats=FORMATS)
        return image


def _loaded(image: Image.Image) -> np.ndarray:
    """Decode what Pillow can keep at depth as it is, everything else to 8-bit RGB or RGBA."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # "I" came before Pillow 11
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image)
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _deep_png(file: io.BufferedReader | io.BytesIO, rawmode: str) -> np.ndarray:
    """Decode a 16-bit PNG of several channels to uint16 (h, w, 3) or (h, w, 4)."""
    halves = []
    for reading in PNG_16_BIT[rawmode]:
        file.seek(0)
        image: Any = _header(file)
        codec, extents, offset, _ = image.tile[0]
        image.tile = [(codec, extents, offset, reading)]
        halves.append(np.asarray(image).astype(np.uint16))
    if rawmode == "LA;16B":
        grey, alpha = (halves[0][..., i] << 8 | halves[0][..., i + 1] for i in (0, 2))
        return np.stack([grey, grey, grey, alpha], axis=-1)
    return halves[0] << 8 | halves[1]


def _orientation(image: Image.Image) -> int:
    # Without the condition Pillow would decode a whole PNG in search of a tag at its end.
    return int(image.getexif().get(ORIENTATION, 1)) if "exif" in image.info else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (h, w, ...) pixels as the EXIF orientation 1..8 asks."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flip_y, flip_x = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def _is_tiff(file: io.BufferedReader | io.BytesIO) -> bool:
    start = file.read(4)
    file.seek(0)
    return start in TIFF_STARTS


@contextmanager
def _tiff_page(file: io.BufferedReader | io.BytesIO) -> Iterator[Any]:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        yield tiff.pages[0]


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag is not None else 1


def _tiff_pixels(file: io.BufferedReader | io.BytesIO, name: str, max_pixels: int) -> np.ndarray:
    """Decode TIFF: 8 bit and less by Pillow, which knows its colour spaces and codecs; deeper by tifffile."""
    with _tiff_page(file) as page:
        _check_size(int(page.imagewidth), int(page.imagelength), name, max_pixels)
        if page.bitspersample in (1, 8):
            file.seek(0)
            return _loaded(_header(file))  # Pillow turns TIFF upright by itself
        if page.photometric not in (GREY_WHITE_IS_ZERO, GREY, RGB) or page.axes not in ("YX", "YXS", "SYX"):
            kind = f"{page.bitspersample}-bit TIFF, photometric {int(page.photometric)}, axes {page.axes}"
            raise ImageError(f"{name}: {kind} is not read; save it as grey or RGB")
        pixels = _deep_tiff(page, file, name)
        if page.photometric == GREY_WHITE_IS_ZERO:
            pixels = (1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max) - pixels
        return pixels


def _deep_tiff(page: Any, file: io.BufferedReader | io.BytesIO, name: str) -> np.ndarray:
    """Decode 16-bit or float TIFF, upright; by Pillow where tifffile lacks the codec."""
    try:
        pixels: np.ndarray = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        file.seek(0)
        image = _header(file)
        if image.mode in ("RGB", "RGBA"):
            raise ImageError(f"{name}: {error}, Pillow would cut it to 8 bit; save it without compression") from error
        return _loaded(image)
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    colours = 3 if page.photometric == RGB else 1
    if pixels.ndim == 3:
        alpha = pixels[..., colours : colours + 1]
        pixels = pixels[..., :colours].repeat(3 // colours, axis=-1)
        if page.extrasamples and page.extrasamples[0] == STRAIGHT_ALPHA:
            pixels = np.concatenate([pixels, alpha], axis=-1)
    return _upright(pixels, _tiff_orientation(page))
