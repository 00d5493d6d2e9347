"""Marks that a program plants on good images: what a detector finds of them says how much it would see.

A mark has a kind, a place and a size; at one place, a larger mark covers a smaller one. How dark or bright it is, its
contrast, is the share of the way from what is there to black or to white, so that texture shows through and nothing is
clipped. Edges are soft, and a mark smaller than a pixel changes that pixel by its area. NumPy and Pillow only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from unmask.imaging.images import resize

Picture = Float[np.ndarray, "3 h w"]
Cover = Float[np.ndarray, "h w"]

DARK, BRIGHT, SCRATCH, MISSING, MOVED = "dark spots", "bright spots", "scratches", "missing pieces", "moved pieces"
KINDS = (DARK, BRIGHT, SCRATCH, MISSING, MOVED)
WITH_CONTRAST = (DARK, BRIGHT, SCRATCH)
"""The kinds whose contrast can be chosen; pieces differ from their surroundings by as much as the picture does."""

SLENDERNESS = 16  # a scratch is so many times as long as wide
FINEST = 40  # points along a side of a pixel by which the smallest marks are drawn
SOFT = 0.25  # of a mark's width, that its edge takes
MARGIN = 0.08  # of the shorter side, that places keep from the edges of the picture
FAR = 0.15  # of the shorter side, that a moved piece comes from
TRIED = 8  # places for a piece; the one where it changes the picture most is taken
GRID = 64  # cells along a side on which the part is told from the background
NEAR = 0.12  # how far a colour may lie from that of the borders and still be the background's
SMOOTH = 0.03  # how far neighbouring cells of a background differ at most


class Place(NamedTuple):
    """Where a mark lies, whatever its size.

    Attributes:
        kind: one of `KINDS`.
        x, y: its centre in pixels.
        turn: of a scratch: its direction in radians.
        bend: of a scratch: how it curves: a point x pixels along it lies bend * x * x pixels beside a straight line, so
            that a longer scratch goes on where a shorter one ends.
        is_dark: of a scratch.
        source: of a moved piece: (x, y) in pixels from its place to where it comes from.
    """

    kind: str
    x: float
    y: float
    turn: float = 0.0
    bend: float = 0.0
    is_dark: bool = True
    source: tuple[int, int] = (0, 0)


def placed(kind: str, picture: Picture, on: Bool[np.ndarray, "h w"], random: np.random.Generator) -> Place:
    """Choose a place at random; for a piece, one of a few where it is seen most.

    Args:
        kind: one of `KINDS`.
        picture: RGB float32 in [0, 1].
        on: where the centre may lie; at least one pixel, see `part_of`.
        random: decides.
    """
    candidates = [_drawn(kind, picture, on, random) for _ in range(1 if kind in WITH_CONTRAST else TRIED)]
    if len(candidates) == 1:
        return candidates[0]
    size = FAR / 2 * min(picture.shape[1:])
    changes = [float(np.abs(planted(picture, place, size)[0] - picture).sum()) for place in candidates]
    return candidates[int(np.argmax(changes))]


def planted(picture: Picture, place: Place, size: float, contrast: float = 1.0) -> tuple[Picture, Cover]:
    """A copy of a picture with a mark.

    Args:
        picture: RGB float32 in [0, 1].
        place: of the mark, on this picture.
        size: in pixels: the diameter of a spot or piece, the length of a scratch.
        contrast: share of the way to black or white, in [0, 1]; without effect on pieces.

    Returns:
        The copy, and which share of each pixel the mark covers.
    """
    h, w = picture.shape[1:]
    reach = math.ceil(size) + 2  # wide enough to see what surrounds a piece
    x0, y0 = max(0, int(place.x) - reach), max(0, int(place.y) - reach)
    x1, y1 = min(w, int(place.x) + reach + 1), min(h, int(place.y) + reach + 1)
    window = picture[:, y0:y1, x0:x1]
    inside = _covered(place._replace(x=place.x - x0, y=place.y - y0), size, y1 - y0, x1 - x0)
    if place.kind == MISSING:
        other, strength = _filled(window, inside), 1.0
    elif place.kind == MOVED:
        rows = np.clip(np.arange(y0, y1) + place.source[1], 0, h - 1)
        columns = np.clip(np.arange(x0, x1) + place.source[0], 0, w - 1)
        other, strength = picture[:, rows[:, None], columns], 1.0
    else:
        other = np.full_like(window, 0.0 if _is_dark(place) else 1.0)
        strength = contrast
    copy, cover = picture.copy(), np.zeros((h, w), np.float32)
    copy[:, y0:y1, x0:x1] += np.float32(strength) * inside * (other - window)
    cover[y0:y1, x0:x1] = inside
    return copy, cover


def part_of(picture: Picture) -> Bool[np.ndarray, "h w"]:
    """Which pixels show the part: all, unless the borders are of one smooth colour, which then is the background."""
    h, w = picture.shape[1:]
    side = min(GRID, h, w)
    small = resize(picture, side, side)
    edges = np.ones((side, side), bool)
    edges[2:-2, 2:-2] = False
    away = np.abs(small - np.median(small[:, edges], axis=1)[:, None, None]).max(axis=0)
    steps = np.maximum(
        np.abs(np.diff(small, axis=1, prepend=small[:, :1])), np.abs(np.diff(small, prepend=small[..., :1]))
    )
    background = (away <= NEAR) & (steps.max(axis=0) <= SMOOTH)
    is_plain = background[edges].mean() > 0.8 and 0.05 < (~background).mean() < 0.95
    part = ~background if is_plain else np.ones_like(background)
    y, x = (np.arange(n) * side // n for n in (h, w))
    found: np.ndarray = part[y[:, None], x]
    return found


def with_room(on: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Those of some pixels that lie far enough from the edges for a mark; where none does, all pixels that do."""
    h, w = on.shape
    margin = round(MARGIN * min(h, w))
    roomy = np.zeros_like(on)
    roomy[margin : h - margin, margin : w - margin] = True
    return on & roomy if (on & roomy).any() else roomy


def _drawn(kind: str, picture: Picture, on: Bool[np.ndarray, "h w"], random: np.random.Generator) -> Place:
    h, w = on.shape
    y, x = divmod(int(random.choice(np.flatnonzero(on))), w)
    turn, bend = random.uniform(0, math.pi), random.uniform(-1, 1) / min(h, w)
    is_dark, angle = bool(random.random() < 0.5), random.uniform(0, 2 * math.pi)
    far = FAR * min(h, w)
    source = round(far * math.cos(angle)), round(far * math.sin(angle))
    if not (0 <= x + source[0] < w and 0 <= y + source[1] < h):
        source = -source[0], -source[1]
    return Place(kind, x + 0.5, y + 0.5, turn, bend, is_dark, source)


def _is_dark(place: Place) -> bool:
    return place.is_dark if place.kind == SCRATCH else place.kind == DARK


def _covered(place: Place, size: float, h: int, w: int) -> Cover:
    """Which share of each pixel a mark covers, by points that lie closer than its details."""
    width = size / SLENDERNESS if place.kind == SCRATCH else size
    points = min(FINEST, math.ceil(3 / (SOFT * width)) if width < 12 else 1)
    y = (np.arange(h * points, dtype=np.float32) + 0.5)[:, None] / points - place.y
    x = (np.arange(w * points, dtype=np.float32) + 0.5) / points - place.x
    shape: Callable[[Place, np.ndarray, np.ndarray, float], np.ndarray] = _line if place.kind == SCRATCH else _disc
    fine = shape(place, x, y, size)
    cover: np.ndarray = fine.reshape(h, points, w, points).mean((1, 3), dtype=np.float32)
    return cover


def _disc(place: Place, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    inside: np.ndarray = np.clip((size / 2 - np.hypot(x, y)) / (SOFT * size) + 0.5, 0, 1)
    return inside


def _line(place: Place, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """A line that is slightly bent, and as soft at its ends as at its sides."""
    width = size / SLENDERNESS
    along = x * math.cos(place.turn) + y * math.sin(place.turn)
    beside = y * math.cos(place.turn) - x * math.sin(place.turn)
    beside = beside - place.bend * along * along
    soft = SOFT * width
    across = np.clip((width / 2 - np.abs(beside)) / soft + 0.5, 0, 1)
    ends: np.ndarray = across * np.clip((size / 2 - np.abs(along)) / soft + 0.5, 0, 1)
    return ends


def _filled(window: Picture, inside: Cover) -> Picture:
    """What surrounds a hole, grown smoothly into it: the mean of its neighbours everywhere (a harmonic function)."""
    h, w = inside.shape
    side = min(16, h, w)
    outside = (inside == 0).astype(np.float32)
    stack = np.concatenate([window * outside, outside[None]])
    cells = np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BOX)) for one in stack])
    known = cells[3] > 0.5
    if not known.any():
        return window
    start = cells[:3] / np.maximum(cells[3], 1e-3)
    grown = np.where(known, start, start[:, known].mean(axis=1)[:, None, None])
    for _ in range(4 * side):
        wide = np.pad(grown, ((0, 0), (1, 1), (1, 1)), "edge")
        mean = (wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]) / 4
        grown = np.where(known, start, mean)
    return np.stack([np.asarray(Image.fromarray(one).resize((w, h), Image.Resampling.BICUBIC)) for one in grown])
