"""TIFF files: up to 8 bits by Pillow, which knows their colour spaces and codecs, deeper and multi-band by tifffile."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from unmask.errors import ImageError
from unmask.imaging.codecs import needed
from unmask.imaging.colour import UNUSED, deep_in_srgb, in_srgb, is_srgb
from unmask.imaging.formats import KINDS, File
from unmask.imaging.options import ImageOptions
from unmask.imaging.pillow import ORIENTATION, checked_orientation, loaded, opened, upright
from unmask.imaging.pixels import Pixels, plain
from unmask.imaging.tiff_pages import Picture

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
CODED = {PALETTE: "numbers of a palette", SEPARATED: "inks (CMYK)", YCBCR: "YCbCr", CIELAB: "Lab"}
JPEG = 7  # whose YCbCr becomes RGB as it is decoded
UNSPECIFIED, ON_BLACK, STRAIGHT = 0, 1, 2  # what an extra sample is; alpha, if it is not unspecified
UNSIGNED = 1
PROFILE = 34675
MOST_BANDS = 16  # of an image that has as many pixels as are allowed
JPEG_2000 = (33003, 33004, 33005, 34712)
WITH_CODECS = {  # compressions that tifffile reads with the package imagecodecs
    1: "no",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32946: "Deflate",
    34887: "LERC",
    50000: "Zstandard",
    50001: "WebP",
    **dict.fromkeys(JPEG_2000, "JPEG 2000"),
}
OF_PILLOW = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34676, 34677, 34925, 50000)  # read by Pillow
TIFF = next(kind for kind in KINDS if kind.name == "TIFF")


def tiff_pixels(file: File, picture: Picture, name: str, options: ImageOptions) -> Pixels:
    """Decode a page of a TIFF file, upright.

    Args:
        file: at any place.
        picture: the page.
        name: of the image, for messages.
        options: whose bands are taken.

    Raises:
        ImageError: its kind is not read.
    """
    page = picture.page
    colours = _check(page, name, options)
    notes: tuple[str, ...] = ()
    if colours == 0 or _is_for_pillow(page, picture, options):
        found = _by_pillow(file, page)
        if found is not None:
            return plain(found[0], name, notes=found[1])
        if colours == 0 and int(page.photometric) != YCBCR:
            raise _unread(page, name)
    values, is_upright = _values(file, picture, name)
    if options.bands is not None:
        values = np.atleast_3d(values)[..., [band - 1 for band in options.bands]]
    else:
        values = _coloured(values, page, colours or 3)
    if int(page.photometric) == WHITE_IS_ZERO and options.bands is None:
        values = _inverted(values, page, name)
    profile = page.tags.valueof(PROFILE)
    if isinstance(profile, bytes) and values.ndim == 3 and values.shape[2] >= 3:
        values, notes = _in_srgb(values, profile, _white(page), options)
    return plain(upright(values, 1 if is_upright else orientation_of_page(page)), name, _white(page), notes)


def orientation_of_page(page: Any) -> int:
    """The orientation 1..8 of a page."""
    return checked_orientation(page.tags.valueof(ORIENTATION, 1))


def _check(page: Any, name: str, options: ImageOptions) -> int:
    """The number of samples that are colours; 0 of colour spaces that only Pillow knows.

    Raises:
        ImageError: the samples are no picture, unless bands are chosen among them.
    """
    samples, photometric = int(page.samplesperpixel), int(page.photometric if page.photometric is not None else -1)
    if page.axes not in ("YX", "YXS", "SYX") or int(page.imagedepth) > 1:
        raise ImageError(f"{name}: is a volume with the axes {page.axes}, which is not read; save its slices as images")
    if samples * int(page.imagewidth) * int(page.imagelength) > MOST_BANDS * options.max_pixels:
        raise ImageError(f"{name}: {samples} bands of its size do not fit into memory; save those that are wanted")
    if not isinstance(page.bitspersample, int):
        raise ImageError(f"{name}: its samples have different numbers of bits, which is not read; save it as 8 bit")
    if page.bitspersample not in (*range(1, 17), 24, 32, 64):
        raise _unread(page, name)
    if options.bands is not None:
        if photometric in CODED and not (photometric == YCBCR and int(page.compression) == JPEG):
            raise ImageError(f"{name}: its samples are {CODED[photometric]}, not bands; read it without --bands")
        check_bands(samples, name, options)
        return samples
    if photometric in CODED and page.bitspersample <= 8:
        if page.axes == "SYX" and page.extrasamples:
            raise _unread(page, name)
        return 0
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise _unread(page, name)
    colours = 3 if photometric == RGB else 1
    is_alpha = samples == colours + 1 and _extra(page) in (ON_BLACK, STRAIGHT)
    is_colour = photometric == RGB and samples in (3, 4)
    if not (samples == colours or is_alpha or is_colour):
        check_bands(samples, name, options)
    return colours


def check_bands(samples: int, name: str, options: ImageOptions) -> None:
    """Raise ImageError where an image has several bands and none are chosen, or fewer than the chosen ones."""
    if options.bands is None:
        offer = "3,2,1" if samples > 2 else "1"
        raise ImageError(
            f"{name}: holds {samples} bands and no word which are its colours; name one or three, counted from 1: "
            f"--bands {offer}"
        )
    if max(options.bands) > samples:
        shown = ",".join(map(str, options.bands))
        raise ImageError(f"{name}: holds {samples} bands, wanted are the bands {shown}; give an image that has them")


def _unread(page: Any, name: str) -> ImageError:
    codes = (page.bitspersample, page.photometric, page.compression)
    bits, photometric, compression = (int(code) if isinstance(code, int) else "unknown" for code in codes)
    kind = f"{bits}-bit TIFF of photometric {photometric}, compression {compression}"
    return ImageError(f"{name}: {kind} is not read; save it as grey or RGB without compression")


def _is_for_pillow(page: Any, picture: Picture, options: ImageOptions) -> bool:
    """Whether Pillow reads a page right: unsigned, 8 bits at most, no planes or bands, no colours laid on black.

    It fails on planes of which one more than the colours is no alpha.
    """
    if page.axes == "SYX" and _extra(page) == UNSPECIFIED:
        return False
    is_small = page.bitspersample == 8 or (page.bitspersample in (1, 2, 4) and int(page.samplesperpixel) == 1)
    is_small = is_small and int(page.sampleformat) == UNSIGNED
    return is_small and picture.plane == 0 and options.bands is None and _extra(page) != ON_BLACK


def _by_pillow(file: File, page: Any) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Values and notes of a page; None where Pillow lacks the codec, or refuses the size. It turns TIFF upright."""
    limit = Image.MAX_IMAGE_PIXELS
    if int(page.compression) not in OF_PILLOW or (limit and page.imagewidth * page.imagelength > limit):
        return None
    return loaded(opened(TIFF, _beginning_with(page, file)))


def _beginning_with(page: Any, file: File) -> File:
    """The file with a page as its first, which is the one that Pillow reads; pages below others have no number."""
    file.seek(0)
    if page.offset == page.parent.pages[0].offset:
        return file
    content = bytearray(file.read())
    tiff = page.parent.tiff
    start = 8 if tiff.is_bigtiff else 4
    struct.pack_into(tiff.offsetformat, content, start, page.offset)
    return io.BytesIO(content)


def _values(file: File, picture: Picture, name: str) -> tuple[np.ndarray, bool]:
    """All samples of a page, (h, w) or (h, w, samples), as its file holds them; and whether they are upright."""
    page = picture.page
    if int(page.compression) in JPEG_2000 and page.bitspersample > 8 and page.parent.byteorder == ">":
        raise _unread(page, name)  # tifffile exchanges its bytes
    if int(page.compression) == 1 and page.bitspersample not in (8, 16, 32, 64) and not page.is_tiled:
        return _unpacked(file, page), False
    try:
        values: np.ndarray = _plane(file, picture) if picture.plane else page.asarray()
    except (ImportError, ValueError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        return _without_codecs(file, page, name), True
    return (np.moveaxis(values, 0, -1) if page.axes == "SYX" else values), False


def _without_codecs(file: File, page: Any, name: str) -> np.ndarray:
    """Grey of 16 bits, which Pillow keeps; other kinds need the package imagecodecs.

    Raises:
        ImageError: it is of another kind.
    """
    compression = int(page.compression)
    if page.bitspersample == 16 and page.axes == "YX" and int(page.sampleformat) == UNSIGNED:
        found = _by_pillow(file, page)
        if found is not None and found[0].dtype == np.uint16:
            return found[0]
    if compression not in WITH_CODECS:
        raise _unread(page, name)
    raise needed(f"{page.bitspersample}-bit TIFF with {WITH_CODECS[compression]} compression", name)


def _plane(file: File, picture: Picture) -> np.ndarray:
    """A plane that ImageJ wrote behind its only page."""
    page = picture.page
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    size = int(np.prod(page.shape)) * dtype.itemsize
    file.seek(int(page.dataoffsets[0]) + picture.plane * size)
    return np.frombuffer(file.read(size), dtype).reshape(page.shape)


def _unpacked(file: File, page: Any) -> np.ndarray:
    """Values of 2 to 15 bits that lie without gaps; each row begins with a new byte."""
    bits, samples = int(page.bitspersample), int(page.samplesperpixel)
    is_planar = page.axes == "SYX"
    per_row = int(page.imagewidth) * (1 if is_planar else samples)
    row_bytes = -(-per_row * bits // 8)
    weights = (1 << np.arange(bits)[::-1]).astype(np.uint16)
    rows = []
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        strip = np.frombuffer(file.read(count), np.uint8)
        for row in strip[: len(strip) // row_bytes * row_bytes].reshape(-1, row_bytes):
            bit = np.unpackbits(row, count=per_row * bits, bitorder="little" if page.fillorder == 2 else "big")
            rows.append(bit.reshape(per_row, bits) @ weights)
    values = np.stack(rows).astype(np.uint8 if bits <= 8 else np.uint16)
    shape = (samples, page.imagelength, page.imagewidth) if is_planar else (page.imagelength, page.imagewidth, samples)
    values = values.reshape(shape)
    return np.moveaxis(values, 0, -1) if is_planar else values[..., 0] if samples == 1 else values


def _coloured(values: np.ndarray, page: Any, colours: int) -> np.ndarray:
    """The colours of all samples, with alpha where it is straight; laid on black, colours hold it already."""
    if values.ndim == 2:
        return values
    alpha = values[..., colours : colours + 1]
    values = values[..., :colours]
    if _extra(page) != STRAIGHT or not alpha.any():
        return values
    return np.concatenate([values.repeat(3 // colours, axis=-1), alpha], axis=-1)


def _in_srgb(
    values: np.ndarray, profile: bytes, white: float | None, options: ImageOptions
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Colours of 16 bits and less in sRGB, and a note on others: on floats, and on bands, which are no colours."""
    if options.bands is not None or values.dtype not in (np.uint8, np.uint16):
        return values, (() if is_srgb(profile) else (UNUSED,))
    if values.dtype == np.uint8 and white is None:
        image, notes = in_srgb(Image.fromarray(values), profile)
        return np.asarray(image), notes
    return deep_in_srgb(values, profile, white or 65535)


def _inverted(values: np.ndarray, page: Any, name: str) -> np.ndarray:
    white = _white(page) or (1.0 if values.dtype.kind == "f" else None)
    if white is None and values.dtype.kind == "u":
        white = float(np.iinfo(values.dtype).max)
    if white is None:
        raise ImageError(f"{name}: holds signed values whose white is 0, which is not read; save it as black is zero")
    inverted: np.ndarray = values.dtype.type(white) - values
    return inverted


def _white(page: Any) -> float | None:
    """The full scale of values whose bits are not those of their kind of number."""
    bits = int(page.bitspersample)
    is_odd = int(page.sampleformat) == UNSIGNED and bits not in (8, 16) and bits < 16
    return 2.0**bits - 1 if is_odd else None


def _extra(page: Any) -> int | None:
    """What the first sample after the colours is."""
    extra = page.extrasamples
    return int(extra[0]) if extra else None
