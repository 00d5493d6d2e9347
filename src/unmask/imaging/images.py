"""Bytes to arrays and back: decoding, resizing, and the pictures that a report shows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from unmask.errors import ImageError
from unmask.imaging.components import eroded
from unmask.imaging.decoding import file_pixels, file_size, pillow_pixels
from unmask.imaging.intensity import IntensityRange

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
MAX_PIXELS = 100_000_000
Source = str | Path | bytes | Image.Image | np.ndarray
"""Whatever holds one image."""

CONTOUR = (0, 230, 255)  # a blue-green that the heat colours do not hold


def decode(
    source: Source, *, max_pixels: int = MAX_PIXELS, intensity: IntensityRange | None = None
) -> Float[np.ndarray, "3 h w"]:
    """Decode one image; of an animation or a multi-page file, the first frame.

    16-bit values keep their precision. Transparency is laid onto black: what a fully transparent pixel holds is a
    colour nobody has seen, so merely dropping alpha would let invisible content into the score; an opaque image is
    left as it is. The EXIF orientation is applied to files and to Pillow images.

    Args:
        source: a file's path, its bytes (PNG, JPEG, BMP, WebP, TIFF), a Pillow image, or an array of (h, w), (h, w, 1),
            (h, w, 3) or (h, w, 4) that is uint8, uint16 or float in [0, 1]. (Pillow holds 16-bit colour in 8
            bits: give the file instead.)
        max_pixels: a larger image is refused from its header, before its pixels are decoded.
        intensity: which values become 0 and 1; None = the whole range of the kind of number, and 0 to 1 of floats.

    Returns:
        (3, h, w) float32 RGB in [0, 1].

    Raises:
        ImageError: the image is damaged, foreign, too large, or of a kind whose range is unknown.
    """
    pixels, name = pixels_of(source, max_pixels)
    return planes(pixels, name, intensity)


def pixels_of(source: Source, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, str]:
    """An image's pixel values as its source holds them, (h, w) or (h, w, c), and its name for messages.

    Raises:
        ImageError: the image is damaged, foreign or too large.
    """
    if isinstance(source, np.ndarray):
        if source.ndim >= 2 and source.shape[0] * source.shape[1] > max_pixels:
            raise ImageError(f"the array has shape {source.shape}, the limit is {max_pixels} pixels; crop it")
        return source, "the array"
    if isinstance(source, Image.Image):
        return pillow_pixels(source, max_pixels), "the Pillow image"
    return file_pixels(source, max_pixels)


def planes(pixels: np.ndarray, name: str, intensity: IntensityRange | None = None) -> Float[np.ndarray, "3 h w"]:
    """Pixel values, as `pixels_of` gives them, as RGB float32 in [0, 1].

    Raises:
        ImageError: their range is unknown, or their shape is not that of an image.
    """
    return _planes(_unit(pixels, name, intensity), name)


def size_of(path: str | Path) -> tuple[int, int]:
    """Read (width, height) in pixels, as decoded (after the EXIF orientation), from the file's header only.

    Raises:
        ImageError: the file is missing or no image.
    """
    return file_size(path)


def resize(image: Float[np.ndarray, "3 _h _w"], h: int, w: int) -> Float[np.ndarray, "3 h w"]:
    """Resize with an antialiased bilinear filter, in float32 throughout.

    Args:
        image: float32 in [0, 1].
        h: height in pixels.
        w: width. An image of this size already is returned as it is.

    Returns:
        (3, h, w) float32 in [0, 1].
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


def _unit(pixels: np.ndarray, name: str, intensity: IntensityRange | None) -> Float[np.ndarray, "..."]:
    """Bring pixel values to float32 in [0, 1], or say why their range is unknown."""
    if pixels.dtype.kind == "f" and pixels.size and not np.isfinite(pixels).all():
        raise ImageError(f"{name}: holds NaN or infinite values; fill or crop them")
    if intensity is not None and (pixels.dtype == np.uint16 if not intensity.given else pixels.dtype.kind in "iuf"):
        return _scaled(pixels, name, intensity)
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    if pixels.dtype.kind != "f":
        raise ImageError(f"{name}: {pixels.dtype} has no known range; give an intensity range, or 8 or 16 bit unsigned")
    if pixels.size and (pixels.min() < 0 or pixels.max() > 1):
        span = f"[{pixels.min():.4g}, {pixels.max():.4g}]"
        raise ImageError(f"{name}: float values in {span}, wanted [0, 1]; give an intensity range that holds them all")
    return pixels.astype(np.float32)


def _scaled(pixels: np.ndarray, name: str, intensity: IntensityRange) -> Float[np.ndarray, "..."]:
    """Colours by the intensity range; alpha by the range of its kind, for no camera wrote it."""
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        return intensity.scaled(pixels, name)
    alpha = _unit(pixels[..., 3:], name, None)
    return np.concatenate([intensity.scaled(pixels[..., :3], name), alpha], axis=-1)


def _planes(pixels: Float[np.ndarray, "..."], name: str) -> Float[np.ndarray, "3 h w"]:
    """Lay (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) onto black and put the channels first."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise ImageError(f"{name}: has shape {pixels.shape}, wanted (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)")
    if pixels.shape[2] == 4:
        pixels = pixels[..., :3] * pixels[..., 3:]
    found = np.empty((3, *pixels.shape[:2]), np.float32)
    found[:] = pixels.transpose(2, 0, 1)
    return found
