"""Good images as marks are planted on them: what one square of the network shows, and where the part is in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unmask.imaging.images import resize
from unmask.imaging.planted import Place, part_of, planted, with_room
from unmask.imaging.tiling import Tiling, judged_part, square_at, tile_at
from unmask.inspection.scoring import Reading

FINER = 3  # a picture that marks are planted on has at most so many times the pixels a side that the network sees
LONGEST = 4  # times as many along the longer side


@dataclass(frozen=True)
class View:
    """What the network sees of a good image as one square: of tiled images, one tile.

    Attributes:
        picture: (3, h, w) what the square shows, reduced where it is much larger than the square.
        on: (h, w) where the middle of a mark may lie.
        tiling: makes the square.
        scale: pixels of `picture` for a pixel of the photograph.
        photograph: the photograph's shorter side in pixels.
    """

    picture: Float[np.ndarray, "3 h w"]
    on: Bool[np.ndarray, "h w"]
    tiling: Tiling
    scale: float
    photograph: int

    @property
    def side(self) -> float:
        """Shorter side of what the square shows, in pixels of the photograph."""
        return float(min(self.on.shape)) / self.scale

    def square(self) -> Float[np.ndarray, "3 s s"]:
        """The good image as the network sees it."""
        return square_at(self.picture, self.tiling, (0, 0))

    def marked(
        self, place: Place, size: float, contrast: float | None
    ) -> tuple[Float[np.ndarray, "3 s s"], Bool[np.ndarray, "s s"]]:
        """The square with a mark on it, and which of its pixels the mark covers.

        Args:
            place: of the mark, in pixels of `picture`.
            size: share of the shorter side of what the square shows.
            contrast: see `planted`; None for pieces.
        """
        copy, cover = planted(self.picture, place, size * min(self.on.shape), contrast or 1.0)
        at = square_at(np.broadcast_to(cover, copy.shape), self.tiling, (0, 0))[0]
        return square_at(copy, self.tiling, (0, 0)), at > 0.5 * at.max()


def view_of(reading: Reading, source: Any, random: np.random.Generator) -> View:
    """Look at a good image; of tiles, at one that shows the part, drawn at random.

    Raises:
        ImageError: it cannot be read.
    """
    image, tiling = reading.decode(source), reading.tiling
    part = judged_part(image, tiling)
    on = part_of(part)
    if tiling.mask is not None:
        x0, y0, x1, y1 = tiling.region(*image.shape[1:])
        on = tiling.inside(*image.shape[1:])[y0:y1, x0:x1]
    if tiling.tile is not None:
        part, on = _tile(part, on, tiling, random)
    elif tiling.resize == "crop":
        side = min(on.shape)
        y, x = ((n - side) // 2 for n in on.shape)
        part, on = part[:, y : y + side, x : x + side], on[y : y + side, x : x + side]
    small = _reduced(part, tiling.size)
    h, w = small.shape[1:]
    rows, columns = (np.arange(n) * m // n for n, m in zip((h, w), on.shape, strict=True))
    way = replace(tiling, box=None, mask=None) if tiling.tile is None else Tiling(tiling.size)
    scale = min(h, w) / min(on.shape)
    return View(small, with_room(on[rows[:, None], columns]), way, scale, min(image.shape[1:]))


def _tile(
    part: Float[np.ndarray, "3 h w"], on: Bool[np.ndarray, "h w"], tiling: Tiling, random: np.random.Generator
) -> tuple[Float[np.ndarray, "3 t t"], Bool[np.ndarray, "t t"]]:
    """A tile, the likelier the more of the part it shows."""
    side = tiling.tile or 0
    corners = [(y, x) for y in tiling.starts(on.shape[0]) for x in tiling.starts(on.shape[1])]
    shown = np.array([np.count_nonzero(on[y : y + side, x : x + side]) for y, x in corners], float)
    y, x = corners[int(random.choice(len(corners), p=shown / shown.sum()))]
    seen = np.zeros((side, side), bool)
    some = on[y : y + side, x : x + side]
    seen[: some.shape[0], : some.shape[1]] = some
    return tile_at(part, y, x, side), seen


def _reduced(part: Float[np.ndarray, "3 _h _w"], size: int) -> Float[np.ndarray, "3 h w"]:
    h, w = part.shape[1:]
    scale = min(1.0, FINER * size / min(h, w), LONGEST * FINER * size / max(h, w))
    return resize(part, max(1, round(scale * h)), max(1, round(scale * w)))
