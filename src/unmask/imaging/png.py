"""PNG files: their chunks, with their checksums, and the 16-bit values that Pillow would cut to 8.

Only the chunks that make the picture reach Pillow, so that a damaged text or a very long one fails no image.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import PngImagePlugin

from unmask.imaging.formats import File

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
ANIMATION = (b"acTL", b"fcTL", b"fdAT")
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, for each colour type
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, steps
LARGEST_PROFILE = 10_000_000  # bytes
# Pillow keeps only the first byte of each value of 16-bit colour: taken for the other byte order, the same file yields
# the second byte. Grey with alpha has four bytes a pixel and is read as if it were 8-bit RGBA.
DEEP = {"RGB;16B": ("RGB;16B", "RGB;16L"), "RGBA;16B": ("RGBA;16B", "RGBA;16L"), "LA;16B": ("RGBA",)}


class Png(NamedTuple):
    """What the chunks of a PNG file say.

    Attributes:
        content: the file without what is not needed for its picture.
        width: in pixels.
        height: in pixels.
        bits: of each value.
        pixel: bits of each pixel.
        is_palette: whether its values are numbers of colours in a palette.
        is_interlaced: whether its data are several pictures of rising size.
        pages: frames of an animation; 1 of a picture.
        exif: its EXIF block; empty where there is none.
        profile: its ICC profile; empty where there is none.
        transparent: the colour that counts as transparent, as the file holds it; None = none, or a palette's.
        damage: what is lost of it; empty where it is whole.
    """

    content: bytes
    width: int
    height: int
    bits: int
    pixel: int
    is_palette: bool
    is_interlaced: bool
    pages: int
    exif: bytes
    profile: bytes
    transparent: tuple[int, ...] | None
    damage: str


def png_of(content: bytes) -> Png:
    """Read the chunks of a PNG file.

    Raises:
        ValueError: its header is damaged.
    """
    kept: list[Any] = [SIGNATURE]
    found: dict[bytes, bytes] = {}
    damage = ""
    for name, chunk, is_right in _chunks(content):
        if name in PICTURE or name in ANIMATION:
            kept.append(chunk)
            if not is_right and name != b"IEND":
                damage = "a checksum of this PNG is wrong, so a part of the picture may not be as it was"
        if (is_right and name != b"IDAT") or name == b"iCCP":  # a damaged profile is told of by what reads it
            found.setdefault(name, bytes(chunk[8:-4]))
    if b"IHDR" not in found or len(found[b"IHDR"]) != 13:
        raise ValueError("its header is damaged")
    width, height, bits, colour, *_, interlace = struct.unpack(">IIBBBBB", found[b"IHDR"])
    pages = struct.unpack(">I", found[b"acTL"][:4])[0] if len(found.get(b"acTL", b"")) >= 4 else 1
    if pages == 1:
        kept = [part for part in kept if bytes(part[4:8]) not in ANIMATION]
    transparent = found.get(b"tRNS", b"") if colour in (0, 2) else b""
    key = struct.unpack(f">{len(transparent) // 2}H", transparent[: len(transparent) // 2 * 2]) or None
    kind = (bits, bits * SAMPLES.get(colour, 1), colour == 3, interlace == 1)
    return Png(b"".join(kept), width, height, *kind, pages, found.get(b"eXIf", b""), _profile(found), key, damage)


def png_size(file: File) -> tuple[int, int, bytes]:
    """Width and height in pixels, and the EXIF block, of a PNG file whose data are skipped.

    Raises:
        ValueError: its header is damaged.
    """
    file.seek(len(SIGNATURE))
    header, exif = b"", b""
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"IHDR", b"eXIf"):
            content = file.read(length)
            header, exif = (content, exif) if name == b"IHDR" else (header, content)
            length = 0
        file.seek(length + 4, io.SEEK_CUR)
    if len(header) != 13:
        raise ValueError("its header is damaged")
    return (*struct.unpack(">II", header[:8]), exif)


def opened_png(png: Png, page: int = 1) -> PngImagePlugin.PngImageFile:
    """The image without its pixels, at one of its frames."""
    image = PngImagePlugin.PngImageFile(io.BytesIO(png.content))
    if page > 1:
        image.seek(page - 1)
    return image


def deep_png(png: Png, rawmode: str) -> np.ndarray:
    """Decode a 16-bit PNG of several channels to uint16 (h, w, 3) or (h, w, 4).

    Args:
        png: the file.
        rawmode: how Pillow calls the values; a key of `DEEP`.
    """
    halves = []
    for reading in DEEP[rawmode]:
        image: Any = opened_png(png)
        codec, extents, offset, _ = image.tile[0]
        image.tile = [(codec, extents, offset, reading)]
        halves.append(np.asarray(image).astype(np.uint16))
    if rawmode == "LA;16B":
        grey, alpha = (halves[0][..., i] << 8 | halves[0][..., i + 1] for i in (0, 2))
        return np.stack([grey, grey, grey, alpha], axis=-1)
    return halves[0] << 8 | halves[1]


def with_key(values: np.ndarray, transparent: tuple[int, ...]) -> np.ndarray:
    """(h, w, 4) of values whose transparent colour got an alpha of 0, and all others one of white.

    Args:
        values: (h, w) or (h, w, 3).
        transparent: the colour, on the scale of the values.
    """
    if values.ndim == 2:
        values = np.stack([values] * 3, axis=-1)
    is_seen = (values != np.array(transparent)).any(axis=-1, keepdims=True)
    return np.concatenate([values, is_seen * values.dtype.type(np.iinfo(values.dtype).max)], axis=-1)


def is_short(png: Png) -> bool:
    """Whether the data of a PNG file end before its picture does, of which Pillow leaves the rest black."""
    file = b"".join(bytes(chunk[8:-4]) for name, chunk, _ in _chunks(png.content) if name == b"IDAT")
    return len(zlib.decompressobj().decompress(file)) < sum(h * (1 + -(-w * png.pixel // 8)) for w, h in _passes(png))


def _passes(png: Png) -> list[tuple[int, int]]:
    """Width and height of the pictures that follow each other in a file: of an interlaced one, seven."""
    if not png.is_interlaced:
        return [(png.width, png.height)]
    sizes = [(-(-(png.width - x) // dx), -(-(png.height - y) // dy)) for x, y, dx, dy in ADAM7]
    return [(w, h) for w, h in sizes if w > 0 and h > 0]


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """The name of each chunk, all its bytes, and whether its checksum is right (or beyond the end of the file)."""
    view, at = memoryview(content), len(SIGNATURE)
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        chunk = view[at : at + 12 + length]
        is_whole = len(chunk) == 12 + length
        yield name, chunk, not is_whole or zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        at += 12 + length
        if name == b"IEND":
            return


def _profile(found: dict[bytes, bytes]) -> bytes:
    """The ICC profile, without its name; one that cannot be decompressed is passed on for a note."""
    packed = found.get(b"iCCP", b"").partition(b"\0")[2]
    if not packed:
        return b""
    try:
        return zlib.decompressobj().decompress(packed[1:], LARGEST_PROFILE)
    except zlib.error:
        return packed
