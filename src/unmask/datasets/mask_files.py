"""Mask files to arrays, with the values, colours and transparency that their authors gave them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageOps, UnidentifiedImageError

from unmask.datasets.wording import placed, shortened
from unmask.errors import DatasetError, UnmaskError
from unmask.imaging.images import pixels_of
from unmask.imaging.pillow import ORIENTATION, upright
from unmask.imaging.tiff import orientation_of_page

DEEP_COLOUR = {b"\x10\x02", b"\x10\x04", b"\x10\x06"}  # bits and kind in the header of a PNG that Pillow cuts to 8 bits
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000")  # as Pillow calls them
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUBFILE, SOFTWARE, SAMPLE_FORMAT, BITS = 254, 305, 339, 258  # tags of TIFF
UNSIGNED, REDUCED = 1, 1
LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF")


def mask_pixels(path: Path) -> tuple[Shaped[np.ndarray, "h w *c"], bool]:
    """Decode a mask, turned upright as its own EXIF orientation says, and say whether its compression is lossy.

    Returns:
        (h, w) numbers, (h, w, 3) RGB or (h, w, 4) RGBA. A palette gives its colours, or its indices where two of the
        indices that occur share a colour.

    Raises:
        DatasetError: the file cannot be read, or holds NaN.
    """
    with _failing_as(path):
        with path.open("rb") as file:
            head = file.read(4096)
        if head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:26] in DEEP_COLOUR:
            pixels: np.ndarray = pixels_of(path)[0]
            return pixels, False
        try:
            with Image.open(path, formats=FORMATS) as image:
                _choose_page(image)
                lossy = _is_lossy(image.format, head)
                pixels = _of_tiff(path) if _is_for_tifffile(image) else _of_image(image)
        except UnidentifiedImageError:
            if head[:4] not in TIFF_STARTS:
                raise
            pixels, lossy = _of_tiff(path), False
        if pixels.dtype.kind not in "uif":
            raise ValueError(f"numbers of the kind {pixels.dtype}")
        if pixels.size == 0 or (pixels.dtype.kind == "f" and not np.isfinite(pixels).all()):
            raise DatasetError(f"{placed(path)}: the mask holds NaN or infinite values; write 0 where nothing is wrong")
        return pixels, lossy


def orientation_of(path: Path) -> int:
    """Read the EXIF orientation, 1 to 8, of an image file from its header; 1 where there is none that can be read."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore")
            # Without the condition Pillow would decode a whole PNG in search of a tag at its end.
            has_tag = "exif" in image.info or image.format == "TIFF"
            found = int(image.getexif().get(ORIENTATION, 1)) if has_tag else 1
    except Exception:  # a parser may raise anything on a damaged block, without which the image is upright
        return 1
    return found if 1 <= found <= 8 else 1


@contextmanager
def _failing_as(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises on damaged bytes into a DatasetError of one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DatasetError:
        raise
    except Exception as error:
        known = isinstance(error, UnmaskError | UnidentifiedImageError)
        reason = getattr(error, "strerror", None) or ("no image of a known kind" if known else str(error))
        text = shortened(str(reason), 60) or type(error).__name__
        raise DatasetError(f"{placed(path)}: the mask cannot be read ({text}); replace the file") from error


def _choose_page(image: Image.Image) -> None:
    """Go to the one page that is no reduced copy.

    Raises:
        ValueError: there are several pages of equal standing.
    """
    count = int(getattr(image, "n_frames", 1))
    if count == 1:
        return
    full = []
    for number in range(count):
        image.seek(number)
        tags: Any = getattr(image, "tag_v2", {})
        if not int(tags.get(SUBFILE, 0)) & REDUCED:
            full.append(number)
    if len(full) > 1:
        raise ValueError(f"{len(full)} pages: save each mask as a file")
    image.seek(full[0] if full else 0)


def _is_for_tifffile(image: Image.Image) -> bool:
    """Say whether Pillow would misread a TIFF: it signs 32-bit numbers, and shows tifffile's True as black."""
    tags: Any = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return False
    unsigned = image.mode == "I" and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED and tags.get(BITS) == (32,)
    return bool(unsigned or (image.mode == "1" and str(tags.get(SOFTWARE, "")).startswith("tifffile")))


def _of_image(image: Image.Image) -> Shaped[np.ndarray, "h w *c"]:
    image.load()
    upright = image if _is_upright(image) else ImageOps.exif_transpose(image)
    if upright.mode == "1":
        return np.asarray(upright.convert("L"))
    if upright.mode == "P":
        return _of_palette(upright)
    if upright.mode in ("L", "I", "F") or upright.mode.startswith("I;16"):
        return np.asarray(upright)
    return np.asarray(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))


def _is_upright(image: Image.Image) -> bool:
    """Say that a decoded image is upright, which it is too where its EXIF block is damaged."""
    try:
        return image.getexif().get(ORIENTATION, 1) not in range(2, 9)
    except Exception:  # as above
        return True


def _of_palette(image: Image.Image) -> Shaped[np.ndarray, "h w *c"]:
    """Take the colours of a palette, unless they tell less than the indices do."""
    indices, colours = np.asarray(image), np.asarray(image.convert("RGB"))
    used = np.unique(indices)
    first = [np.argmax(indices.ravel() == index) for index in used]
    if used[0] == 0 and len(np.unique(colours.reshape(-1, 3)[first], axis=0)) < len(used):
        return indices
    return np.asarray(image.convert("RGBA")) if image.has_transparency_data else colours


def _of_tiff(path: Path) -> Shaped[np.ndarray, "h w *c"]:
    """Decode a TIFF of a kind that Pillow does not know, such as 16-bit colour or 64-bit floats."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        pages: list[Any] = [page for page in tiff.pages if not int(getattr(page, "subfiletype", 0)) & REDUCED]
        if len(pages) != 1:
            raise ValueError(f"{len(pages)} pages: save each mask as a file")
        pixels = np.squeeze(pages[0].asarray())
        orientation = orientation_of_page(pages[0])
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ValueError(f"shape {pixels.shape}")
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    return upright(pixels, orientation)


def _is_lossy(kind: str | None, head: bytes) -> bool:
    """Say whether a file's compression changes values; of WebP, its chunks tell."""
    return kind in LOSSY or (kind == "WEBP" and b"VP8L" not in head)
