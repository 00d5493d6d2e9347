"""JPEG files: what their headers say, their pixels, and whether any of their data is lost.

libjpeg goes on where data is lost and fills the rest of the picture with what it makes of it. It warns of that, and
Pillow drops the warnings; simplejpeg, the same libjpeg-turbo, raises them.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin

from unmask.errors import ImageError
from unmask.imaging.codecs import imagecodecs
from unmask.imaging.formats import File

SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers that begin a frame header
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
SCAN, END, EXIF, PROFILE, JPEG_LS = 0xDA, 0xD9, 0xE1, 0xE2, 0xF7
MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # others than escaped values and restart markers
USUAL_HEADER = 1 << 16  # bytes that mostly hold all that comes before the data
PADDING = 16  # bytes of 0 or 255 before the end marker that some cameras leave there; lost data leaves others
LOSS = re.compile("Corrupt JPEG data|Inconsistent progression|Invalid SOS")
GARBLED = "data of this JPEG is lost, so a part of the picture is garbled"
EXTRA = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")


class Header(NamedTuple):
    """What a JPEG file says before its data.

    Attributes:
        width: in pixels.
        height: in pixels.
        bits: of each value.
        components: 1 of grey, 3 of colour, 4 of CMYK.
        frame: its frame marker, which names the kind of compression.
        exif: its EXIF block; empty where there is none.
        profile: its ICC profile; empty where there is none.
    """

    width: int
    height: int
    bits: int
    components: int
    frame: int
    exif: bytes
    profile: bytes


def header_of(content: bytes) -> Header:
    """Read the header of a JPEG file.

    Raises:
        ValueError: it has none.
    """
    exif, frame, sizes, parts = b"", 0, b"", {}
    for marker, body in _segments(content):
        if marker == EXIF and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == PROFILE and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            parts[body[12]] = body[14:]
        elif marker in SIZES and len(body) >= 6:
            frame, sizes = marker, body[:6]
        elif marker == JPEG_LS:
            raise ValueError("JPEG-LS is not read")
        elif marker == SCAN:
            break
    if not sizes:
        raise ValueError("its header is damaged")
    bits, height, width, components = struct.unpack(">BHHB", sizes)
    return Header(width, height, bits, components, frame, exif, b"".join(parts[number] for number in sorted(parts)))


def header_in(file: File) -> Header:
    """Read the header of a JPEG file, and of the file little more.

    Raises:
        ValueError: it has none.
    """
    start = file.read(USUAL_HEADER)
    is_whole = any(marker == SCAN for marker, _ in _segments(start))
    return header_of(start if is_whole else start + file.read())


def jpeg_values(content: bytes, header: Header, name: str) -> tuple[np.ndarray | Image.Image, str]:
    """Decode a JPEG file.

    Args:
        content: of the file.
        header: of it.
        name: of it, for messages.

    Returns:
        (h, w, 3) of uint8 or uint16, or a CMYK image of Pillow; and what is lost of it, if anything is.

    Raises:
        ImageError: its kind is not read.
        OSError: it is truncated.
    """
    import simplejpeg

    if header.bits != 8:
        return _deep(content, header, name), ""
    is_cmyk, damage = header.components == 4, ""
    try:
        values: np.ndarray = simplejpeg.decode_jpeg(content, "CMYK" if is_cmyk else "RGB", strict=True)
        if not is_cmyk:
            return values, _missing_scans(content, header) or (GARBLED if _is_complete_too_early(content) else "")
    except ValueError as error:
        damage = _damage(str(error), content)
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))
    image.load()
    return (image if is_cmyk else np.asarray(image.convert("RGB"))), damage or _missing_scans(content, header)


def is_garbled(content: bytes) -> bool:
    """Whether data of a JPEG inside another file is lost; of those that simplejpeg does not read nothing is known."""
    import simplejpeg

    try:
        header = header_of(content)
        if header.bits == 8:
            whole = content + bytes((0xFF, END))  # which some writers leave out there
            simplejpeg.decode_jpeg(whole, "CMYK" if header.components == 4 else "GRAY", strict=True)
    except ValueError as error:
        return bool(_damage(str(error), content))
    return False


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The markers of a file in their order, up to its end, each with what belongs to it; compressed data is skipped."""
    for marker, _, body in _markers(content):
        if marker != END:
            yield marker, body


def _markers(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The markers of a file in their order, up to its end: each with where it begins and what belongs to it."""
    at = 2
    while found := MARKER.search(content, at):
        marker, at = found[1][0], found.end()
        if marker == END:
            yield marker, found.start(), b""
            return
        if marker in (0x01, 0xD8):
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        yield marker, found.start(), content[at + 2 : at + length]
        at += length


def _deep(content: bytes, header: Header, name: str) -> np.ndarray:
    """JPEG of more than 8 bits, which neither Pillow nor simplejpeg reads."""
    kind = f"{header.bits}-bit JPEG"
    if header.components not in (1, 3):
        raise ImageError(f"{name}: {kind} of {header.components} components is not read; save it as PNG or TIFF")
    values: np.ndarray = imagecodecs(kind, name).jpeg_decode(content)
    return values


def _damage(warning: str, content: bytes) -> str:
    """What a warning of libjpeg means for the picture: nothing where bytes are left over that no picture needs.

    Where the file just ends, Pillow knows whether that was too early; errors are its to raise, too.
    """
    extra = EXTRA.search(warning)
    if extra is not None:
        count, before = int(extra[1]), int(extra[2], 16)
        if before > SCAN or before in SIZES or (before == END and _is_padding(content, count)):
            return ""
    return GARBLED if LOSS.match(warning) else ""


def _is_padding(content: bytes, count: int) -> bool:
    """Whether the bytes before the end marker hold nothing."""
    end = _end_of(content)
    return count <= PADDING and not content[end - count : end].strip(b"\0\xff")


def _is_complete_too_early(content: bytes) -> bool:
    """Whether the picture needs none of the last two bytes of its data: then some were overwritten before.

    Each value has its own length in bits, so what follows overwritten data is read as other values, more or fewer of
    them than there were. Where they are fewer, libjpeg warns; where they are more, the end of the data is not read.
    """
    import simplejpeg

    end = _end_of(content)
    data = content[:end]
    data = data[: max(len(data.rstrip(b"\0\xff")), end - PADDING) - 2]
    try:
        simplejpeg.decode_jpeg(
            data + content[end : end + 2], "GRAY", min_height=1, min_width=1, min_factor=8, strict=True
        )
    except ValueError:
        return False
    return True


def _end_of(content: bytes) -> int:
    """Where the end marker of the first picture in a file begins; the length of the file where it has none."""
    return next((start for marker, start, _ in _markers(content) if marker == END), len(content))


def _missing_scans(content: bytes, header: Header) -> str:
    """A progressive JPEG whose last scans are gone shows a blurred picture, and nobody warns."""
    if header.frame not in PROGRESSIVE:
        return ""
    left: dict[int, set[int]] = {}
    for marker, body in _segments(content):
        if marker in SIZES:
            left = {number: set(range(64)) for number in body[6 : 6 + 3 * header.components : 3]}
        elif marker == SCAN and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            if bits & 15 == 0:  # down to the last bit
                for number in body[1 : 1 + 2 * body[0] : 2]:
                    left.get(number, set()).difference_update(range(first, last + 1))
    return "the last scans of this progressive JPEG are lost, so the picture is blurred" if any(left.values()) else ""
