"""Bytes of image files as no library writes them: packed TIFF, PNG of any chunks, ICC profiles."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image


def noise(*shape, dtype=np.uint8, seed=0, below=None):
    top = np.iinfo(dtype).max + 1 if below is None else below
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def tiff_of_pages(*pages, **options):
    """A TIFF of several pages, each an array with the options of its own."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        for array, of_page in pages:
            writer.write(array, **of_page)
    return file.getvalue()


def packed(values, bits, fill_order=1):
    """Rows of values of so many bits without gaps, each row from a new byte on."""
    order = "little" if fill_order == 2 else "big"
    shifts = np.arange(bits)[::-1]
    rows = values.reshape(len(values), -1).astype(np.int64)
    return b"".join(
        np.packbits((row[:, None] >> shifts & 1).astype(np.uint8), bitorder=order).tobytes() for row in rows
    )


def raw_tiff(data, width, height, bits, samples=1, photometric=1, *, order="<", compression=1, planar=1, more=()):
    """A TIFF of one page around given data; `more` are further tags of one short each."""
    strips = samples if planar == 2 else 1
    tags = {256: [width], 257: [height], 258: [bits] * samples, 259: [compression], 262: [photometric]}
    tags |= {273: [0] * strips, 277: [samples], 278: [height], 279: [len(data) // strips] * strips, 284: [planar]}
    tags |= {tag: [value] for tag, value in more}
    start = 8 + 2 + 12 * len(tags) + 4
    start += sum(4 * len(values) for values in tags.values() if len(values) > 1)
    tags[273] = [start + number * (len(data) // strips) for number in range(strips)]
    entries, beside, at = b"", b"", 8 + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            value, beside = struct.pack(f"{order}I", at + len(beside)), beside + value
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + value
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + beside + data


def chunk(name, content, *, wrong=False):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content) ^ wrong)


def png(width, height, bits, colour, rows, *more, interlaced=False):
    """A PNG of rows that carry their filter bytes; `more` are chunks before the data."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    parts = (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_of(array, bits=8, *more, colour=None):
    """A PNG of an array (h, w) or (h, w, c) of values below 2 ** bits."""
    samples = array.shape[2] if array.ndim == 3 else 1
    rows = b"".join(b"\0" + packed(row[None], bits) for row in array)
    return png(
        array.shape[1],
        array.shape[0],
        bits,
        {1: 0, 2: 4, 3: 2, 4: 6}[samples] if colour is None else colour,
        rows,
        *more,
    )


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def interlaced_png(array, passes=7):
    """A PNG (h, w, c) of 8 or 16 bits in seven passes, or in the first few of them."""
    bits = 8 * array.dtype.itemsize
    parts = [array[y::dy, x::dx] for x, y, dx, dy in ADAM7[:passes]]
    rows = b"".join(b"\0" + packed(row[None], bits) for part in parts for row in part if row.size)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[array.shape[2]]
    return png(array.shape[1], array.shape[0], bits, colour, rows, interlaced=True)


SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
GAMMA_2_2 = b"curv\0\0\0\0\0\0\0\1\x02\x33"


def fixed(*values):
    return b"".join(struct.pack(">i", round(65536 * value)) for value in values)


SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SRGB_TABLE = b"curv\0\0\0\0" + struct.pack(
    ">I256H",
    256,
    *(round(65535 * (((v / 255 + 0.055) / 1.055) ** 2.4 if v > 10 else v / 255 / 12.92)) for v in range(256)),
)


def profile(columns, curve, space=b"RGB "):
    """An ICC profile of a matrix and three equal curves, or of grey."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249), b"cprt": b"text\0\0\0\0x\0"}
    tags[b"desc"] = b"desc\0\0\0\0\0\0\0\2x\0" + bytes(78)
    if columns is None:
        tags[b"kTRC"] = curve
    else:
        for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
            tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*column), name + b"TRC": curve}
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I", start + len(body)) + bytes(4) + b"\x02\x40\0\0mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    return (head + bytes(28) + fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + table + body
