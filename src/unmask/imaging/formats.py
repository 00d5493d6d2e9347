"""Which kind of image a file is, told from its first bytes; its name plays no part."""

from __future__ import annotations

import io
import re
from typing import NamedTuple

File = io.BufferedReader | io.BytesIO
HEAD = 32  # bytes that are enough to know a kind


class Kind(NamedTuple):
    """A kind of image file.

    Attributes:
        name: in messages.
        start: what its first bytes match.
        plugin: module and class of Pillow that read it; None = another file of this room does.
    """

    name: str
    start: re.Pattern[bytes]
    plugin: tuple[str, str] | None = None


def _kind(name: str, start: bytes, module: str | None = None, opener: str | None = None) -> Kind:
    plugin = None if module is None or opener is None else (f"PIL.{module}", opener)
    return Kind(name, re.compile(start, re.DOTALL), plugin)


# Pillow knows 30 more kinds; each is one more parser open to foreign bytes, and some call other programs.
KINDS = (
    _kind("JPEG-LS", rb"\xff\xd8\xff(\xf7|\xe8\0\x20SPIFF\0.{14}\x06)"),
    _kind("PNG", rb"\x89PNG\r\n\x1a\n", "PngImagePlugin", "PngImageFile"),
    _kind("JPEG", rb"\xff\xd8\xff", "JpegImagePlugin", "JpegImageFile"),
    _kind("TIFF", rb"II[*+]\0|MM\0[*+]", "TiffImagePlugin", "TiffImageFile"),
    _kind("BMP", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BmpImagePlugin", "BmpImageFile"),
    _kind("WebP", rb"RIFF.{4}WEBP", "WebPImagePlugin", "WebPImageFile"),
    _kind("GIF", rb"GIF8[79]a", "GifImagePlugin", "GifImageFile"),
    _kind("JPEG 2000", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    _kind("AVIF", rb"\0\0.{2}ftyp(avi[fs]|m[is]f1.{4}(.{4})*avi[fs])", "AvifImagePlugin", "AvifImageFile"),
    _kind("HEIC", rb"\0\0.{2}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)"),
    _kind("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    _kind("PNM", rb"P[1-6][ \t\r\n#]", "PpmImagePlugin", "PpmImageFile"),
    _kind("PAM", rb"P7[ \t\r\n]"),
    _kind("colour PFM", rb"PF[ \t\r\n]"),
    _kind("PFM", rb"Pf[ \t\r\n]", "PpmImagePlugin", "PpmImageFile"),
    _kind("PCX", rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]", "PcxImagePlugin", "PcxImageFile"),
    _kind(  # the only kind without a mark of its own: a colour map or none, an image type, a depth, 8 bits of alpha
        "TGA",
        rb".(\x01[\x01\x09]\0\0.{2}[\x0f\x10\x18\x20].{8}\x08|\0[\x02\x03\x0a\x0b]\0{5}.{8}[\x08\x10\x18\x20]|"
        rb"\0[\x03\x0b]\0{5}.{8}\x01)"
        rb"[\x00-\x08\x10\x20-\x28]",
        "TgaImagePlugin",
        "TgaImageFile",
    ),
)


def kind_of(start: bytes) -> Kind | None:
    """The kind of image whose file begins like this; None = it is no image of a known kind."""
    return next((kind for kind in KINDS if kind.start.match(start)), None)
