"""A region of interest, as a user names it: a box in pixels, or a picture whose bright pixels are judged."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from unmask.errors import SettingError
from unmask.imaging.images import decode

LARGEST_MASK = 1024  # pixels of the longer side of a mask that a model file keeps


def region_of(region: str | Sequence[int]) -> dict[str, Any]:
    """What a user names as region of interest: x0,y0,x1,y1, or a picture whose bright pixels are judged.

    Returns:
        `box` or `mask` for a Tiling.

    Raises:
        SettingError: it is neither, or the picture is black.
    """
    text = region if isinstance(region, str) else ",".join(map(str, region))
    numbers = text.split(",")
    if len(numbers) == 4 and all(number.strip().isdigit() for number in numbers):
        return {"box": tuple(int(number) for number in numbers)}
    if not Path(text).is_file():
        raise SettingError(f"the region {text!r} is neither x0,y0,x1,y1 nor a picture; give one of them")
    inside = decode(text).max(0) > 0.5
    if not inside.any():
        raise SettingError(
            f"{text}: no pixel is brighter than half, so nothing would be judged; paint the region white"
        )
    scale = min(1.0, LARGEST_MASK / max(inside.shape))
    h, w = (max(1, round(scale * side)) for side in inside.shape)
    file = io.BytesIO()
    Image.fromarray(resized_mask(inside, h, w)).save(file, "PNG", optimize=True)
    return {"mask": base64.b64encode(file.getvalue()).decode()}


def resized_mask(mask: Bool[np.ndarray, "mh mw"], h: int, w: int) -> Bool[np.ndarray, "h w"]:
    """A mask at another size: enlarged by repetition; reduced so that what it touches is in it, or it could vanish."""
    picture = Image.fromarray(mask.astype(np.float32))
    smaller = h < mask.shape[0] or w < mask.shape[1]
    found = np.asarray(picture.resize((w, h), Image.Resampling.BOX if smaller else Image.Resampling.NEAREST))
    inside: np.ndarray = found > 0
    return inside
