"""Bytes to arrays and back: decoding, resizing, and the pictures that a report shows."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from unmask.errors import ImageError
from unmask.imaging.components import eroded
from unmask.imaging.decoding import check_size, file_pixels, file_size, pillow_pixels, with_bands
from unmask.imaging.intensity import IntensityRange
from unmask.imaging.options import DEFAULTS, ImageOptions
from unmask.imaging.pixels import Pixels, plain

# Dark to bright with lightness rising all the way, so that the map also reads in grey and to the colour-blind.
HEAT_ANCHORS = np.array(
    [
        (0, 0, 4),
        (40, 11, 84),
        (101, 21, 110),
        (159, 42, 99),
        (212, 72, 66),
        (245, 125, 21),
        (250, 193, 39),
        (252, 255, 164),
    ]
)
USUAL_WHITES = (255, 1023, 4095, 65535)
ROUNDING = 1e-4  # by which floats may leave [0, 1]
Source = str | Path | bytes | Image.Image | np.ndarray
"""Whatever holds one image."""

CONTOUR = (0, 230, 255)  # a blue-green that the heat colours do not hold


def decode(source: Source, options: ImageOptions = DEFAULTS) -> Float[np.ndarray, "3 h w"]:
    """Decode one image.

    16-bit values keep their precision. Transparency is laid onto black: what a fully transparent pixel holds is a
    colour nobody has seen, so merely dropping alpha would let invisible content into the score; an opaque image is
    left as it is, and an alpha that is 0 everywhere is unused. The EXIF orientation is applied to files and to Pillow
    images, and so is an ICC profile of 8-bit or 16-bit colours. docs/images.md tells which files are read, and how.

    Args:
        source: a file's path, its bytes, a Pillow image, or an array of (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), or
            with `options.bands` of any number of channels, that is bool, uint8, uint16, int16 from 0 on, or float in
            [0, 1]. (Pillow holds 16-bit colour in 8 bits: give the file instead.)
        options: the intensity range, bands and page to take, and the largest size.

    Returns:
        (3, h, w) float32 RGB in [0, 1].

    Raises:
        ImageError: the image is damaged, foreign, too large, of a kind whose range is unknown, or several images.
    """
    return planes(pixels_of(source, options), options.intensity)


def pixels_of(source: Source, options: ImageOptions = DEFAULTS) -> Pixels:
    """An image's values as its source holds them, upright, with its name for messages.

    Raises:
        ImageError: the image is damaged beyond reading, foreign, too large, or several images.
    """
    if isinstance(source, np.ndarray):
        return _array_pixels(source, options)
    if isinstance(source, Image.Image):
        return pillow_pixels(source, options)
    return file_pixels(source, options)


def planes(pixels: Pixels, intensity: IntensityRange | None = None) -> Float[np.ndarray, "3 h w"]:
    """Values, as `pixels_of` gives them, as RGB float32 in [0, 1].

    Raises:
        ImageError: their range is unknown, or their shape is not that of an image.
    """
    values = np.atleast_3d(pixels.values)
    if pixels.values.ndim not in (2, 3) or values.shape[2] not in (1, 3, 4):
        wanted = "(h, w), (h, w, 1), (h, w, 3) or (h, w, 4)"
        raise ImageError(f"{pixels.name}: has the shape {pixels.values.shape}, wanted {wanted}; choose its bands")
    if not values.size:
        raise ImageError(f"{pixels.name}: holds no pixels; check the file")
    if values.dtype.kind != "u" or pixels.white is None or values.shape[2] == 4 or _is_scaled(pixels, intensity):
        return _planes(_unit(pixels, intensity))
    found = np.empty((3, *values.shape[:2]), np.float32)  # in one step, for large images are many bytes
    bands = values.transpose(2, 0, 1)
    np.divide(bands, np.float32(pixels.white), out=found, dtype=np.float32, casting="unsafe")
    return found


def size_of(path: str | Path) -> tuple[int, int]:
    """Read (width, height) in pixels, as decoded (after the EXIF orientation), from the file's header only.

    Raises:
        ImageError: the file is missing or no image.
    """
    return file_size(path)


def resize(image: Float[np.ndarray, "c _h _w"], h: int, w: int) -> Float[np.ndarray, "c h w"]:
    """Resize with an antialiased bilinear filter, in float32 throughout.

    Args:
        image: float32 in [0, 1].
        h: height in pixels.
        w: width. An image of this size already is returned as it is.

    Returns:
        (c, h, w) float32 in [0, 1].
    """
    if image.shape[1:] == (h, w):
        return image
    # A box reduction to no less than 3x the size first: 2-3 times faster on large images and hard to tell apart.
    planes = [
        Image.fromarray(np.ascontiguousarray(plane)).resize((w, h), Image.Resampling.BILINEAR, reducing_gap=3.0)
        for plane in image
    ]
    resized: np.ndarray = np.clip(np.stack([np.asarray(plane) for plane in planes]), 0.0, 1.0)
    return resized


def resize_map(map: Float[np.ndarray, "gh gw"], h: int, w: int) -> Float[np.ndarray, "h w"]:  # noqa: A002
    """Resize an anomaly map bilinearly to h x w pixels, float32; pixel centres are aligned, not corners."""
    plane = Image.fromarray(np.ascontiguousarray(map, dtype=np.float32))
    return np.array(plane.resize((w, h), Image.Resampling.BILINEAR))


def to_uint8(image: Float[np.ndarray, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Round a (3, h, w) image in [0, 1] to (h, w, 3) bytes; values outside are clipped."""
    pixels: np.ndarray = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def encode_png(array: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode grey (h, w) or RGB (h, w, 3) bytes as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def heat(map01: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colour a map in [0, 1], from black (0) over red to pale yellow (1); values outside are clipped."""
    at = np.linspace(0.0, 1.0, len(HEAT_ANCHORS))
    channels = [np.interp(map01, at, HEAT_ANCHORS[:, channel]) for channel in range(3)]
    colours: np.ndarray = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colours


def overlay(
    image: Float[np.ndarray, "3 h w"],
    heat: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    *,
    strength: float = 0.45,
) -> UInt8[np.ndarray, "h w 3"]:
    """Blend heat colours over an image and draw the mask's inner contour (1 px, from 512 px on 2 px).

    Args:
        image: (3, h, w) in [0, 1].
        heat: (h, w, 3) colours from `heat`.
        mask: (h, w) the anomalous pixels.
        strength: the share of the heat colours in the blend, in [0, 1].

    Returns:
        (h, w, 3) RGB bytes.
    """
    blend = np.rint((1 - strength) * to_uint8(image) + strength * heat).astype(np.uint8)
    width = 1 if max(mask.shape) < 512 else 2
    blend[mask & ~eroded(mask, width)] = CONTOUR
    return blend


def _array_pixels(array: np.ndarray, options: ImageOptions) -> Pixels:
    """An array that has the shape of an image.

    Raises:
        ImageError: it has another one, or is too large.
    """
    name = "the array"
    if array.ndim not in (2, 3) or array.size == 0:
        wanted = "(h, w), (h, w, 1), (h, w, 3) or (h, w, 4)"
        raise ImageError(f"{name} has the shape {array.shape}, wanted {wanted}; give one image")
    check_size(array.shape[1], array.shape[0], name, options)
    found = plain(array, name)
    if options.bands is not None:
        return with_bands(found, options)
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        if array.shape[0] in (1, 3, 4):
            raise ImageError(f"{name} has the shape {array.shape}, its channels first; give array.transpose(1, 2, 0)")
        raise ImageError(
            f"{name} has the shape {array.shape}, {array.shape[2]} bands; wanted (h, w, 3), or bands such as (3, 2, 1) "
            f"(on the command line, --bands 3,2,1)"
        )
    return found


def _is_scaled(pixels: Pixels, intensity: IntensityRange | None) -> bool:
    """Whether an intensity range holds for an image: one that was learned, only where a camera may use fewer bits."""
    return intensity is not None and (intensity.given or pixels.is_camera_range)


def _unit(pixels: Pixels, intensity: IntensityRange | None) -> Float[np.ndarray, "..."]:
    """Bring values to float32 in [0, 1], or say why their range is unknown."""
    values, name = pixels.values, pixels.name
    kind = values.dtype.kind
    if kind not in "uif":
        raise ImageError(f"{name}: holds values of type {values.dtype}; give uint8, uint16, or float in [0, 1]")
    if kind == "f" and values.size and not np.isfinite(values).all():
        raise ImageError(f"{name}: holds NaN or infinite values; fill or crop them")
    if intensity is not None and _is_scaled(pixels, intensity):
        return _scaled(pixels, intensity)
    if kind == "f":
        return _unit_of_floats(values, name)
    if pixels.white is None:
        raise ImageError(f"{name}: {_unknown(values)}; give {_offer(float(values.min()), float(values.max()))}")
    return values.astype(np.float32) / np.float32(pixels.white)


def _unknown(values: np.ndarray) -> str:
    """Why the range of integers is unknown."""
    bits, span = 8 * values.dtype.itemsize, f"from {values.min()} to {values.max()}"
    if values.dtype.kind == "i":
        return f"holds signed {bits}-bit values {span}, whose full scale is unknown"
    return f"holds {bits}-bit values {span}, whose full scale is unknown"


def _offer(low: float, high: float) -> str:
    """The option that names black and white, with a range that holds the values of an image."""
    bottom, top = min(0, math.floor(low)), max(1, math.ceil(high))
    if bottom == 0 and top > 16:
        top = next((white for white in USUAL_WHITES if top <= white), top)
    sign = "=" if bottom < 0 else " "  # a value that begins with a minus is taken for an option otherwise
    return f"the values of black and white as an intensity range, such as --intensity-range{sign}{bottom:.9g},{top:.9g}"


def _unit_of_floats(values: np.ndarray, name: str) -> Float[np.ndarray, "..."]:
    """Floats in [0, 1], where what leaves it by rounding is clipped."""
    if not values.size:
        return values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ImageError(
            f"{name}: holds float values in [{low:.4g}, {high:.4g}], wanted [0, 1]; give {_offer(low, high)}"
        )
    unit: np.ndarray = values.astype(np.float32)
    return unit if low >= 0 and high <= 1 else np.clip(unit, 0, 1)


def _scaled(pixels: Pixels, intensity: IntensityRange) -> Float[np.ndarray, "..."]:
    """Colours by the intensity range; alpha by the range of its kind, for no camera wrote it."""
    values = pixels.values
    if values.ndim != 3 or values.shape[2] != 4:
        return intensity.scaled(values, pixels.name)
    alpha = _unit(pixels._replace(values=values[..., 3:]), None)
    return np.concatenate([intensity.scaled(values[..., :3], pixels.name), alpha], axis=-1)


def _planes(pixels: Float[np.ndarray, "..."]) -> Float[np.ndarray, "3 h w"]:
    """Lay (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) onto black and put the channels first."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] == 4:
        pixels = pixels[..., :3] * pixels[..., 3:]
    found = np.empty((3, *pixels.shape[:2]), np.float32)
    found[:] = pixels.transpose(2, 0, 1)
    return found
