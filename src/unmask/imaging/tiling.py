"""How an image of any size becomes squares for a detector (`split`), and how their maps become its own map (`merge`).

An image is reduced to its region of interest, if there is one. What is left is squashed into one square, fitted
into one with a margin, cropped to one, or cut into tiles that overlap, each of which becomes a square. Maps go the
same way back; where tiles overlap, their maps are blended, so that no seam shows. NumPy only, and nothing is kept.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from unmask.errors import ImageError, SettingError
from unmask.imaging.images import resize, resize_map
from unmask.imaging.region import resized_mask

RESIZES = ("squash", "fit", "crop")
LEAST_TILE, MOST_TILE = 32, 65_535
OVERLAP = 0.25  # of neighbouring tiles, unless another is given
BLANK = 0.5  # grey: what a detector sees outside a masked region, the same in every image
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tiling:
    """The way from an image to squares, kept in the model file.

    Attributes:
        size: side of the squares in pixels.
        resize: of what is not square: "squash" (aspect lost), "fit" (aspect kept, a margin added that repeats the
            edge) or "crop" (aspect kept, only the central square is judged).
        tile: side of the tiles in pixels of the image; None = one square for the whole image.
        overlap: of neighbouring tiles, at least this share of their side, in [0, 0.5].
        box: region of interest (x0, y0, x1, y1) in pixels of every image, end excluded.
        mask: region of interest as a picture, stretched over every image: a PNG file in base 64, white = judged.

    Raises:
        SettingError: a value is out of range, or two contradict each other.
    """

    size: int
    resize: str = "squash"
    tile: int | None = None
    overlap: float = OVERLAP
    box: Box | None = None
    mask: str | None = None

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise SettingError(f"resize={self.resize} is unknown; give {', '.join(RESIZES[:-1])} or {RESIZES[-1]}")
        if self.tile is not None and self.tile < LEAST_TILE:
            raise SettingError(f"a tile of {self.tile} pixels is too small to show anything; give {LEAST_TILE} or more")
        if self.tile is not None and self.tile > MOST_TILE:
            raise SettingError(f"a tile of {self.tile} pixels is larger than any image; give {MOST_TILE} or less")
        if self.tile is not None and self.resize != "squash":
            raise SettingError(f"resize={self.resize} has no effect on tiles, which are square; give one of them")
        if self.tile is None and self.overlap != OVERLAP:
            raise SettingError(f"overlap={self.overlap:g} has no effect without tiles; give tile, or leave it out")
        if not 0 <= self.overlap <= 0.5:
            raise SettingError(f"an overlap of {self.overlap:g} is not in [0, 0.5]; 0.25 suits most")
        if self.box and not (0 <= self.box[0] < self.box[2] and 0 <= self.box[1] < self.box[3]):
            raise SettingError(f"the region {','.join(map(str, self.box))} is empty; give x0,y0,x1,y1 in pixels")

    @property
    def is_whole(self) -> bool:
        """Whether one square shows the whole image, without a region of interest, a margin or a crop."""
        return self.tile is None and self.resize == "squash" and self.box is None and self.mask is None

    def region(self, h: int, w: int, name: str = "the image") -> Box:
        """What is judged of an image of h x w pixels, as a box.

        Args:
            h: height of the image.
            w: width of the image.
            name: of the image, for messages.

        Raises:
            ImageError: the region of interest does not lie in the image, or is smaller than one of its pixels.
        """
        if self.box is not None:
            if self.box[2] > w or self.box[3] > h:
                asked = ",".join(map(str, self.box))
                raise ImageError(f"{name}: is {w} x {h} pixels, the region {asked} reaches beyond; fit on such images")
            return self.box
        if self.mask is None:
            return 0, 0, w, h
        inside = self.inside(h, w)
        if not inside.any():
            raise ImageError(f"{name}: the region of interest covers none of its {w} x {h} pixels; paint a larger one")
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def inside(self, h: int, w: int) -> Bool[np.ndarray, "h w"]:
        """Which pixels of an image of h x w are in the mask; a pixel that the mask touches is."""
        assert self._mask is not None  # noqa: S101 - asked only where there is one
        return resized_mask(self._mask, h, w)

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along a side: evenly spread, the first at 0 and the last flush with the end."""
        assert self.tile is not None  # noqa: S101 - asked only where there are tiles
        step = self.tile * (1 - self.overlap)
        count = 1 + max(0, math.ceil((length - self.tile) / step))
        return [round(i * (length - self.tile) / max(1, count - 1)) for i in range(count)]

    def corners(self, h: int, w: int) -> list[tuple[int, int]]:
        """(y, x) of every tile in the region of interest of an image, relative to the region; one corner if whole."""
        if self.tile is None:
            return [(0, 0)]
        x0, y0, x1, y1 = self.region(h, w)
        return [(y, x) for y in self.starts(y1 - y0) for x in self.starts(x1 - x0)]

    def reduced(self, factor: int, h: int, w: int) -> Tiling:
        """The same for images whose sides were divided by a factor, to h x w pixels."""
        if self.box is None:
            return self
        x0, y0, x1, y1 = (round(at / factor) for at in self.box)
        return replace(self, box=(min(x0, w - 1), min(y0, h - 1), min(x1, w), min(y1, h)))

    @cached_property
    def _mask(self) -> Bool[np.ndarray, "mh mw"] | None:
        if self.mask is None:
            return None
        with Image.open(io.BytesIO(base64.b64decode(self.mask)), formats=("PNG",)) as picture:
            return np.asarray(picture.convert("L")) > 127

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "box": None if self.box is None else list(self.box)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tiling:
        """The inverse of `to_dict`."""
        box = values.get("box")
        return cls(**{**values, "box": None if box is None else tuple(box)})


def split(
    image: Float[np.ndarray, "3 h w"], tiling: Tiling, name: str = "the image"
) -> Iterator[Float[np.ndarray, "3 s s"]]:
    """Cut an image into squares of `tiling.size` pixels, one at a time, in the order of `Tiling.corners`.

    Args:
        image: RGB in [0, 1].
        tiling: how.
        name: of the image, for messages.

    Raises:
        ImageError: the region of interest does not lie in the image.
    """
    h, w = image.shape[1:]
    part = judged_part(image, tiling, name)
    return (square_at(part, tiling, corner) for corner in tiling.corners(h, w))


def judged_part(
    image: Float[np.ndarray, "3 h w"], tiling: Tiling, name: str = "the image"
) -> Float[np.ndarray, "3 _h _w"]:
    """The region of interest of an image, grey where a mask leaves it out; see `split`."""
    h, w = image.shape[1:]
    x0, y0, x1, y1 = tiling.region(h, w, name)
    part = image[:, y0:y1, x0:x1]
    if tiling.mask is None:
        return part
    return np.where(tiling.inside(h, w)[y0:y1, x0:x1], part, np.float32(BLANK))


def square_at(
    part: Float[np.ndarray, "3 _h _w"], tiling: Tiling, corner: tuple[int, int]
) -> Float[np.ndarray, "3 s s"]:
    """One square of what `judged_part` gives, at one of `Tiling.corners`."""
    if tiling.tile is None:
        return _into_square(part, tiling.size, tiling.resize)
    return resize(tile_at(part, *corner, tiling.tile), tiling.size, tiling.size)


def merge(maps: Iterable[Float[np.ndarray, "s s"]], tiling: Tiling, h: int, w: int) -> Float[np.ndarray, "h w"]:
    """Join the maps of an image's squares into its own map; where nothing was judged it has its least value.

    Args:
        maps: of the squares in the order of `split`, read one at a time.
        tiling: as the image was split.
        h: height of the image.
        w: width of the image.
    """
    x0, y0, x1, y1 = tiling.region(h, w)
    if tiling.tile is None:
        (only,) = maps
        found = _out_of_square(only, y1 - y0, x1 - x0, tiling.resize)
    else:
        found = _blended(maps, tiling, y1 - y0, x1 - x0)
    if tiling.mask is not None:
        inside = tiling.inside(h, w)[y0:y1, x0:x1]
        found = np.where(inside, found, found[inside].min())
    if (x1 - x0, y1 - y0) == (w, h):
        return found
    whole = np.full((h, w), found.min(), np.float32)
    whole[y0:y1, x0:x1] = found
    return whole


def tile_at(part: Float[np.ndarray, "3 h w"], y: int, x: int, side: int) -> Float[np.ndarray, "3 t t"]:
    """A tile of what `judged_part` gives; beyond its edges, these repeat."""
    tile = part[:, y : y + side, x : x + side]
    missing = [(0, 0), *((0, side - n) for n in tile.shape[1:])]
    return np.pad(tile, missing, mode="edge") if any(after for _, after in missing) else tile


def _blended(maps: Iterable[np.ndarray], tiling: Tiling, h: int, w: int) -> Float[np.ndarray, "h w"]:
    """The weighted mean of tiles' maps, in place: a second map of a large image would be a lot of memory."""
    side = tiling.tile or 0
    ramp = _ramp(side)
    corners = [(y, x) for y in tiling.starts(h) for x in tiling.starts(w)]
    total = np.zeros((h, w), np.float32)
    for (y, x), anomaly in zip(corners, maps, strict=True):
        weighted = resize_map(anomaly, side, side) * ramp[:, None] * ramp
        room = total[y : y + side, x : x + side]
        room += weighted[: room.shape[0], : room.shape[1]]
    total /= _weights(tiling, h)[:, None]
    total /= _weights(tiling, w)
    return total


def _weights(tiling: Tiling, length: int) -> Float[np.ndarray, " n"]:
    """Sum of the ramps of all tiles along one axis; the weight of a pixel is the product of both."""
    side = tiling.tile or 0
    total = np.zeros(length, np.float32)
    for start in tiling.starts(length):
        room = total[start : start + side]
        room += _ramp(side)[: len(room)]
    return total


def _into_square(image: Float[np.ndarray, "3 h w"], size: int, way: str) -> Float[np.ndarray, "3 size size"]:
    h, w = image.shape[1:]
    if way == "squash" or h == w:
        return resize(image, size, size)
    if way == "crop":
        side = min(h, w)
        y, x = (h - side) // 2, (w - side) // 2
        return resize(image[:, y : y + side, x : x + side], size, size)
    top, left, inner_h, inner_w = _fitted(h, w, size)
    inner = resize(image, inner_h, inner_w)
    margins = (top, size - inner_h - top), (left, size - inner_w - left)
    return np.pad(inner, ((0, 0), *margins), mode="edge")


def _out_of_square(anomaly: Float[np.ndarray, "s s"], h: int, w: int, way: str) -> Float[np.ndarray, "h w"]:
    if way == "squash" or h == w:
        return resize_map(anomaly, h, w)
    if way == "crop":
        side = min(h, w)
        y, x = (h - side) // 2, (w - side) // 2
        whole = np.full((h, w), anomaly.min(), np.float32)
        whole[y : y + side, x : x + side] = resize_map(anomaly, side, side)
        return whole
    top, left, inner_h, inner_w = _fitted(h, w, len(anomaly))
    return resize_map(anomaly[top : top + inner_h, left : left + inner_w], h, w)


def _fitted(h: int, w: int, size: int) -> Box:
    """Where an image of h x w lies in a square that it fits into: top, left, height, width."""
    scale = size / max(h, w)
    inner_h, inner_w = max(1, round(h * scale)), max(1, round(w * scale))
    return (size - inner_h) // 2, (size - inner_w) // 2, inner_h, inner_w


def _ramp(side: int) -> Float[np.ndarray, " side"]:
    """Weights of a tile's pixels along an axis: they fall to its edges, and never to 0."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.minimum(at, 1 - at) * 2
