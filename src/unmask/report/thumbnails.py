"""Pictures small enough to lie inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from unmask.imaging.components import dilated, eroded
from unmask.imaging.images import CONTOUR, decode

THUMBNAIL = 256  # pixels of the longer side: sharp at the size of a card, legible when enlarged


def thumbnail(photo: UInt8[np.ndarray, "h w 3"], side: int = THUMBNAIL) -> Float[np.ndarray, "3 th tw"]:
    """Shrink a photograph so that its longer side has at most so many pixels."""
    image = Image.fromarray(photo)
    image.thumbnail((side, side))
    return decode(np.asarray(image))


def shrunk(mask: Bool[np.ndarray, "h w"], th: int, tw: int) -> Bool[np.ndarray, "th tw"]:
    """A thumbnail pixel is anomalous if any pixel under it is, so that the smallest defect keeps its outline."""
    shrunk = Image.fromarray(mask.astype(np.float32)).resize((tw, th), Image.Resampling.BOX)
    return np.asarray(shrunk) > 0


def outlined(picture: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the mask's contour 2 pixels wide, with a dark edge that keeps it visible on bright images."""
    picture[dilated(mask) & ~mask] = 0
    picture[mask & ~eroded(mask, 2)] = CONTOUR
    return picture


def data_uri(picture: UInt8[np.ndarray, "h w 3"], quality: int = 72) -> str:
    """A WebP as an address that holds the picture itself."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
