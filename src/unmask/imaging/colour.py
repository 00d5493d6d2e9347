"""Colours of other spaces (Display P3, Adobe RGB, CMYK of a press) to sRGB, by the ICC profile of an image.

Values of 8 bits go through LittleCMS. Pillow gives it no deeper ones, so those of 16 bits are converted here where the
profile is a matrix and three curves, which is what cameras and screens have. A profile that is sRGB under whatever name
changes no value.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageCms

NEAREST = 3  # grey levels by which profiles of sRGB differ from each other
UNUSED = "its colour profile cannot be applied, so its colours are taken for sRGB"
XYZ_TO_SRGB = np.array(  # from the white D50 of profiles (IEC 61966-2-1, adapted by Bradford)
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)
ROWS = 256  # converted at a time


def in_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """An RGB, RGBA or CMYK image of 8 bits in sRGB, and a note where its profile cannot be applied.

    Args:
        image: of 8 bits.
        profile: an ICC profile.
    """
    try:
        transform = _transform(profile, image.mode)
        if transform is None:
            return image, ()
        return transform.apply(image), ()
    except Exception:  # LittleCMS and Pillow raise several kinds on damaged bytes
        return image, (UNUSED,)


def is_srgb(profile: bytes) -> bool:
    """Whether a profile of RGB changes no value; False of a damaged one."""
    try:
        return _transform(profile, "RGB") is None
    except Exception:  # LittleCMS and Pillow raise several kinds on damaged bytes
        return False


def deep_in_srgb(values: np.ndarray, profile: bytes, white: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `in_srgb`, for values of 16 bits in (h, w, 3) or (h, w, 4).

    Args:
        values: unsigned.
        profile: an ICC profile.
        white: the value of full scale.
    """
    try:
        if _transform(profile, "RGB") is None:
            return values, ()
        matrix, curves = _matrix_and_curves(profile)
    except Exception:  # a damaged profile, or one of tables
        return values, (UNUSED,)
    levels = np.arange(int(white) + 1) / white
    tables = [np.asarray(curve(levels), np.float32) for curve in curves]
    encoded = np.rint(_encoded(levels) * white).astype(values.dtype)
    found = values.copy()
    for start in range(0, len(values), ROWS):
        rows = values[start : start + ROWS]
        linear = np.stack([tables[band][rows[..., band]] for band in range(3)], axis=-1)
        at = np.rint(np.clip(linear @ matrix.T, 0, 1) * white).astype(np.intp)
        found[start : start + ROWS, ..., :3] = encoded[at]
    return found, ()


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> Any:
    """LittleCMS on its way to sRGB; None where the profile is sRGB itself.

    Raises:
        ValueError: the profile is for other kinds of colour.
        ImageCms.PyCMSError: it is damaged.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = "CMYK" if mode == "CMYK" else "RGB"
    if source.profile.xcolor_space.strip() != space:
        raise ValueError(f"the profile is for {source.profile.xcolor_space.strip()}, not for {space}")
    target = ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    if space == "RGB":
        grid = np.stack(np.meshgrid(*[np.arange(0, 256, 17, dtype=np.uint8)] * 3), axis=-1).reshape(64, 64, 3)
        same = ImageCms.buildTransform(source, target, "RGB", "RGB", intent).apply(Image.fromarray(grid))
        if np.abs(np.asarray(same).astype(int) - grid).max() <= NEAREST:
            return None
    return ImageCms.buildTransform(source, target, mode, "RGB" if mode == "CMYK" else mode, intent)


def _matrix_and_curves(profile: bytes) -> tuple[Float[np.ndarray, "3 3"], list[Any]]:
    """From the linear colours of a profile to those of sRGB, and its curves from values in [0, 1] to linear ones.

    Raises:
        KeyError: the profile has tables instead.
    """
    count = struct.unpack_from(">I", profile, 128)[0]
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * number) for number in range(min(count, 100))]
    tags = {name: profile[start : start + size] for name, start, size in entries}
    columns = [np.frombuffer(tags[name][8:20], ">i4") / 65536 for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    return XYZ_TO_SRGB @ np.stack(columns, axis=1), [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]


def _curve(tag: bytes) -> Any:
    """A tone curve: a power, a table, or one of the parametric functions of the ICC specification."""
    if tag[:4] == b"curv":
        count = struct.unpack_from(">I", tag, 8)[0]
        table = np.frombuffer(tag[12 : 12 + 2 * count], ">u2")
        if count > 1:
            return lambda x: np.interp(x, np.linspace(0, 1, count), table / 65535)
        power = table[0] / 256 if count else 1.0
        return lambda x: x**power
    kind = struct.unpack_from(">H", tag, 8)[0]
    g, a, b, c, d, e, f = (*(np.frombuffer(tag[12:40], ">i4") / 65536), *[0.0] * 7)[:7]
    if kind == 0:
        return lambda x: x**g
    if kind in (1, 2):
        low = 0.0 if kind == 1 else c
        return lambda x: np.where(x >= -b / a, np.maximum(a * x + b, 0) ** g + low, low)
    above, below = (e, f) if kind == 4 else (0.0, 0.0)
    return lambda x: np.where(x >= d, np.maximum(a * x + b, 0) ** g + above, c * x + below)


def _encoded(linear: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The tone curve of sRGB."""
    encoded: np.ndarray = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded
