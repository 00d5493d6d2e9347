"""How an image of any size becomes squares for a detector, and how their maps become its own map. NumPy only.

An image is reduced to its region of interest, if there is one. What is left is squashed into one square, fitted
into one with a margin, cropped to one, or cut into tiles that overlap, each of which becomes a square. Maps go the
same way back; where tiles overlap, their maps are blended, so that no seam shows.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from unmask.errors import ImageError, SettingError
from unmask.imaging.images import decode, resize, resize_map

WAYS = ("squash", "fit", "crop")
LARGEST_MASK = 1024  # pixels of the longer side of a mask that a model file keeps
LEAST_TILE = 32
BLANK = 0.5  # grey: what a detector sees outside a masked region, the same in every image
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Framing:
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
    overlap: float = 0.25
    box: Box | None = None
    mask: str | None = None

    def __post_init__(self) -> None:
        if self.resize not in WAYS:
            raise SettingError(f"resize={self.resize} is unknown; give {', '.join(WAYS[:-1])} or {WAYS[-1]}")
        if self.tile is not None and self.tile < LEAST_TILE:
            raise SettingError(f"a tile of {self.tile} pixels is too small to show anything; give {LEAST_TILE} or more")
        if self.tile is not None and self.resize != "squash":
            raise SettingError(
                f"tiles are square, so --resize {self.resize} means nothing with --tile; give one of them"
            )
        if not 0 <= self.overlap <= 0.5:
            raise SettingError(f"an overlap of {self.overlap:g} is not in [0, 0.5]; 0.25 suits most")
        if self.box and not (0 <= self.box[0] < self.box[2] and 0 <= self.box[1] < self.box[3]):
            raise SettingError(f"the region {','.join(map(str, self.box))} is empty; give x0,y0,x1,y1 in pixels")

    def frame(self, image: Float[np.ndarray, "3 h w"], name: str = "the image") -> Framed:
        """Lay the squares of one image out.

        Args:
            image: in [0, 1].
            name: for messages.

        Raises:
            ImageError: the region of interest does not lie in the image.
        """
        return Framed(self, image, name)

    def squares_of(self, h: int, w: int) -> int:
        """How many squares an image of h x w pixels becomes."""
        if self.tile is None:
            return 1
        x0, y0, x1, y1 = self.region(h, w)
        return len(self.starts(y1 - y0)) * len(self.starts(x1 - x0))

    def region(self, h: int, w: int, name: str = "the image") -> Box:
        """What is judged of an image of h x w pixels, as a box.

        Raises:
            ImageError: it does not lie in the image.
        """
        if self.box is not None:
            if self.box[2] > w or self.box[3] > h:
                asked = ",".join(map(str, self.box))
                raise ImageError(f"{name}: is {w} x {h} pixels, the region {asked} reaches beyond; fit on such images")
            return self.box
        if self.mask is None:
            return 0, 0, w, h
        inside = self.inside(h, w)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def inside(self, h: int, w: int) -> Bool[np.ndarray, "h w"]:
        """The mask at the size of an image."""
        assert self._mask is not None  # noqa: S101 - asked only where there is one
        return np.asarray(Image.fromarray(self._mask).resize((w, h), Image.Resampling.NEAREST)) > 127

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along a side: evenly spread, the first at 0 and the last flush with the end."""
        assert self.tile is not None  # noqa: S101
        step = self.tile * (1 - self.overlap)
        count = 1 + max(0, math.ceil((length - self.tile) / step))
        return [round(i * (length - self.tile) / max(1, count - 1)) for i in range(count)]

    @cached_property
    def _mask(self) -> UInt8[np.ndarray, "mh mw"] | None:
        if self.mask is None:
            return None
        with Image.open(io.BytesIO(base64.b64decode(self.mask)), formats=("PNG",)) as picture:
            return np.asarray(picture.convert("L"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        box = None if self.box is None else list(self.box)
        kept = {"size": self.size, "resize": self.resize, "tile": self.tile, "overlap": self.overlap}
        return {**kept, "box": box, "mask": self.mask}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Framing:
        """The inverse of `to_dict`."""
        box = values.get("box")
        return cls(**{**values, "box": None if box is None else tuple(box)})


class Framed:
    """One image on its way through a detector.

    Attributes:
        best: the square that scored highest so far, and the size (h, w) at which it looks natural.
        restored: the image as the detector would have it, (3, s, s); None where it has none or sees only a part.
    """

    def __init__(self, framing: Framing, image: Float[np.ndarray, "3 h w"], name: str) -> None:
        self.framing = framing
        self.h, self.w = image.shape[1:]
        self.box = framing.region(self.h, self.w, name)
        x0, y0, x1, y1 = self.box
        part = image[:, y0:y1, x0:x1]
        if framing.mask is not None:
            part = np.where(framing.inside(self.h, self.w)[y0:y1, x0:x1], part, np.float32(BLANK))
        self.inner = part.shape[1], part.shape[2]
        self.best: tuple[np.ndarray, tuple[int, int]] | None = None
        self.restored: np.ndarray | None = None
        self.score = -math.inf
        self._taken = 0
        if framing.tile is None:
            self._square: np.ndarray | None = _into_square(part, framing.size, framing.resize)
        else:
            self._square, self._part = None, part
            self._corners = [(y, x) for y in framing.starts(self.inner[0]) for x in framing.starts(self.inner[1])]
            self._sum = np.zeros(self.inner, np.float32)

    def squares(self) -> Iterator[Float[np.ndarray, "3 s s"]]:
        """The squares in order; `add` wants what a detector says of each in the same order."""
        return (self.square(i) for i in range(1 if self._square is not None else len(self._corners)))

    def square(self, number: int) -> Float[np.ndarray, "3 s s"]:
        """One of the squares."""
        if self._square is not None:
            return self._square
        return _into_square(self._tile(*self._corners[number]), self.framing.size, "squash")

    def add(
        self, square: np.ndarray, anomaly: Float[np.ndarray, "s s"], score: float, restored: np.ndarray | None
    ) -> None:
        """Take in what was said of the next square."""
        if score > self.score or self.best is None:
            whole = self.framing.tile is None and self.framing.resize == "squash"
            self.best = square, (self.inner if whole else square.shape[1:])
        self.score = max(self.score, score)
        if self.framing.tile is None:
            self._sum = _out_of_square(anomaly, *self.inner, self.framing.resize)
            alone = self.inner == (self.h, self.w) and self.framing.mask is None
            if restored is not None and alone and self.framing.resize == "squash":
                self.restored = restored
        else:
            self._blend(*self._corners[self._taken], anomaly)
        self._taken += 1

    def map(self) -> Float[np.ndarray, "h w"]:
        """The image's map, once all squares are added; where nothing was judged it has its least value.

        Ask for it once: the weights are divided out in place, for a second map of a large image is a lot of memory.
        """
        found = self._sum
        if self.framing.tile is not None:
            found /= self._weights(0)[:, None]
            found /= self._weights(1)
        x0, y0, x1, y1 = self.box
        if self.framing.mask is not None:
            inside = self.framing.inside(self.h, self.w)[y0:y1, x0:x1]
            found = np.where(inside, found, found[inside].min())
        if (x1 - x0, y1 - y0) == (self.w, self.h):
            return found
        whole = np.full((self.h, self.w), found.min(), np.float32)
        whole[y0:y1, x0:x1] = found
        return whole

    def _tile(self, y: int, x: int) -> Float[np.ndarray, "3 t t"]:
        side = self.framing.tile or 0
        tile = self._part[:, y : y + side, x : x + side]
        missing = [(0, 0), *((0, side - n) for n in tile.shape[1:])]
        return np.pad(tile, missing, mode="edge") if any(after for _, after in missing) else tile

    def _blend(self, y: int, x: int, anomaly: Float[np.ndarray, "s s"]) -> None:
        side = self.framing.tile or 0
        ramp = _ramp(side)
        weighted = resize_map(anomaly, side, side) * ramp[:, None] * ramp
        room = self._sum[y : y + side, x : x + side]
        room += weighted[: room.shape[0], : room.shape[1]]

    def _weights(self, axis: int) -> Float[np.ndarray, " n"]:
        """Sum of the ramps of all tiles along one axis; the weight of a pixel is the product of both."""
        side, length = self.framing.tile or 0, self.inner[axis]
        total = np.zeros(length, np.float32)
        for start in self.framing.starts(length):
            room = total[start : start + side]
            room += _ramp(side)[: len(room)]
        return total


def region_of(text: str) -> dict[str, Any]:
    """What a user names as region of interest: "x0,y0,x1,y1", or a picture whose bright pixels are judged.

    Returns:
        `box` or `mask` for a Framing.

    Raises:
        SettingError: it is neither, or the picture is black.
    """
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
    picture = Image.fromarray((255 * inside).astype(np.uint8))
    picture.thumbnail((LARGEST_MASK, LARGEST_MASK), Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.convert("1").save(file, "PNG", optimize=True)
    return {"mask": base64.b64encode(file.getvalue()).decode()}


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
