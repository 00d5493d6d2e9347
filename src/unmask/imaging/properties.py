"""How images were made (format, compression, size, colour, bits), and how new ones differ from the good ones in that.

A file's header tells most of it; nothing is decoded here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from unmask.imaging.formats import HEAD, kind_of
from unmask.imaging.pillow import opened

LOSSLESS = 100  # as a quality
JPEG_TABLE_SUM = 3688  # of the luminance table of the JPEG standard, which is that of quality 50
LOSSY_FORMATS = ("JPEG", "WEBP", "MPO", "AVIF", "JPEG2000")  # MPO: a Pillow image of a burst
QUALITY_MARGIN = 15  # by which the quality of JPEG may lie outside of that of the good images
ASPECT_MARGIN, SIDE_MARGIN = 1.1, 1.3  # factors by which shape and size may
MANY = 16  # pixels between those that are compared to tell grey from colour


class Properties(NamedTuple):
    """How an image was made; None = not known.

    Attributes:
        format: of the file, such as "PNG"; None of arrays.
        quality: 100 = lossless; of JPEG an estimate from 1 to 99 by its quantisation tables; None of arrays, and of
            other lossy formats.
        bits: of a value: 8 or 16; None of others.
        is_grey: whether the file has no colour channels; None where it has some, for these can be equal.
    """

    format: str | None = None
    quality: int | None = None
    bits: int | None = None
    is_grey: bool | None = None

    @property
    def is_lossy(self) -> bool:
        """Whether a format that loses detail was used."""
        return self.format in LOSSY_FORMATS and self.quality != LOSSLESS


def properties_of(source: Any) -> Properties:
    """Read how an image was made from its header.

    Args:
        source: a path, the bytes of a file, a Pillow image or an array, as `images.decode` takes them. Of anything
            else, and of files that cannot be read, nothing is known.
    """
    if isinstance(source, np.ndarray):
        return Properties(bits=_bits(source.dtype), is_grey=source.ndim == 2 or None)
    if isinstance(source, Image.Image):
        return _of_picture(source, None)
    if not isinstance(source, str | Path | bytes):
        return Properties()
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            start = file.read(HEAD)
            file.seek(0)
            kind = kind_of(start)
            return _of_picture(opened(kind, file), start) if kind and kind.plugin else Properties()
    except Exception:  # whatever a parser raises on foreign bytes: decoding has told of it, or will
        return Properties()


def is_grey(image: Float[np.ndarray, "3 _h _w"]) -> bool:
    """Whether all three channels of an image are equal, by some of its pixels."""
    step = max(1, min(image.shape[1:]) // MANY)
    some = image[:, ::step, ::step]
    return bool((some[:1] == some[1:]).all())


def quality_of(tables: Any) -> int:
    """Estimate the quality, 1 to 99, that a JPEG was saved with by the way in which libjpeg scales its tables.

    Args:
        tables: Pillow's `quantization`: the number of a table and its 64 values.
    """
    percent: float = 100 * sum(tables[min(tables)]) / JPEG_TABLE_SUM
    quality = 100 - percent / 2 if percent <= 100 else 5000 / percent
    return min(99, max(1, round(quality)))


def _of_picture(image: Image.Image, start: bytes | None) -> Properties:
    """Of an opened file, or of an image that Pillow holds, which keeps what file it came from."""
    mode, tables = image.mode, getattr(image, "quantization", None)
    deep = mode.startswith("I") or "16" in _raw_mode(image)
    bits = None if mode == "F" else 16 if deep else 8
    grey = True if mode in ("1", "L", "LA", "I", "F") or mode.startswith("I;16") else None
    return Properties(image.format, _quality(image, tables, start), bits, grey)


def _quality(image: Image.Image, tables: Any, start: bytes | None) -> int | None:
    if image.format is None:
        return None
    if tables:
        return quality_of(tables)
    if image.format == "WEBP":  # "VP8X" may hold either, mostly lossy
        return LOSSLESS if start is not None and start[12:16] == b"VP8L" else None
    return None if image.format in LOSSY_FORMATS else LOSSLESS


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _bits(kind: np.dtype[Any]) -> int | None:
    return 8 * kind.itemsize if kind.kind == "u" and kind.itemsize <= 2 else None


# --- good images as a whole, and what sets a new one apart ------------------------------------------------------------


def summary(
    properties: Sequence[Properties], sizes: Sequence[tuple[int, int]], are_grey: Sequence[bool]
) -> dict[str, Any]:
    """What good images have in common, as plain values for a model file; None = not known, or mixed.

    Args:
        properties: of each image.
        sizes: (h, w) of each in pixels.
        are_grey: whether the three channels of each are equal.
    """
    qualities = [one.quality for one in properties if one.quality is not None]
    return {
        "formats": sorted({one.format for one in properties if one.format is not None}),
        "is_lossy": _common(one.is_lossy if one.format else None for one in properties),
        "quality": None if len(qualities) < len(properties) else [min(qualities), max(qualities)],
        "bits": sorted({one.bits for one in properties if one.bits is not None}),
        "is_grey": _common(are_grey),
        "width": [min(w for _, w in sizes), max(w for _, w in sizes)],
        "height": [min(h for h, _ in sizes), max(h for h, _ in sizes)],
        "aspect": [round(float(edge([w / h for h, w in sizes])), 4) for edge in (min, max)],
    }


def differences(
    good: dict[str, Any], one: Properties, size: tuple[int, int], channels_equal: bool | None
) -> tuple[str, ...]:
    """What sets an image apart from the good ones, one line each.

    Args:
        good: of the good images, from `summary`.
        one: of the image.
        size: its (h, w) in pixels.
        channels_equal: whether its three channels are equal; None = not known.
    """
    lines = (_compression(good, one), _depth(good, one), _colour(good, one, channels_equal), _size(good, size))
    return tuple(line for line in lines if line)


def _common(values: Iterable[bool | None]) -> bool | None:
    """The one value that all have."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _compression(good: dict[str, Any], one: Properties) -> str | None:
    if one.format is None or good["is_lossy"] is None:
        return None
    what = f"{one.format} of quality about {round(one.quality, -1)}" if one.quality and one.is_lossy else one.format
    were = " and ".join(good["formats"])
    if one.is_lossy and not good["is_lossy"]:
        return f"{what}, the good images were {were}: compression can look like a defect"
    if one.quality is None or good["quality"] is None:
        return None
    low, high = good["quality"]
    were = f"{were} of quality about {round(low, -1)}" if good["is_lossy"] else were
    if one.quality < low - QUALITY_MARGIN:
        return f"{what}, the good images were {were}: compression can look like a defect"
    if one.quality > high + QUALITY_MARGIN:
        return f"{what}, the good images were {were}: detail that compression took from them can look like a defect"
    return None


def _depth(good: dict[str, Any], one: Properties) -> str | None:
    if one.bits is None or not good["bits"] or one.bits in good["bits"]:
        return None
    return f"{one.bits} bit, the good images had {' and '.join(map(str, good['bits']))} bit"


def _colour(good: dict[str, Any], one: Properties, channels_equal: bool | None) -> str | None:
    grey = one.is_grey or channels_equal
    if grey is None or good["is_grey"] is None or grey == good["is_grey"]:
        return None
    return "grey, the good images were in colour" if grey else "in colour, the good images were grey"


def _size(good: dict[str, Any], size: tuple[int, int]) -> str | None:
    h, w = size
    low, high = good["aspect"]
    smallest, largest = (max(good["width"][k], good["height"][k]) for k in (0, 1))
    is_shaped = low / ASPECT_MARGIN <= w / h <= high * ASPECT_MARGIN
    if is_shaped and smallest / SIDE_MARGIN <= max(h, w) <= largest * SIDE_MARGIN:
        return None
    were = " x ".join(str(a) if a == b else f"{a} to {b}" for a, b in (good["width"], good["height"]))
    return f"{w} x {h} pixels, the good images had {were}: another {'scale' if is_shaped else 'shape'} looks different"
