"""The pose of a part in a photograph, and the way from the photograph's pose to the usual one and back.

In the usual pose, what lies outside of the photograph is not seen. It is filled from a picture of a good part, so that
a detector finds nothing there. NumPy and Pillow only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from unmask.imaging.images import resize_map
from unmask.imaging.properties import is_grey

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): what is at (x, y) comes from (a x + b y + c, d x + e y + f); pixels have their centres at .5."""

BAND = 0.015  # of the shorter side: over which a photograph fades into what fills it
CELLS = 32  # along a side of the grid on which a picture is fitted to a photograph
SPREAD = 1.5  # cells, how near the border they count when pictures are compared
LEAST_GAIN, MOST_GAIN = 0.5, 2.0  # of a picture's brightness
NOT_FOUND = "the part was not found, so the image was judged as it lies"
OUT_OF_VIEW = "a piece of the part lies outside of the photograph, and is not judged"
LEAST_SEEN = 0.95


@dataclass(frozen=True)
class Pose:
    """How a part lies, compared with the usual pose.

    Attributes:
        right: how far to the right, as a share of the image's width.
        down: how far down, as a share of its height.
        degrees: turned counter-clockwise by, in [-180, 180].
        similarity: how well the part agrees with good ones there, at most about 1.
        seen: share of the part that lies in the photograph, in [0, 1].
    """

    right: float = 0.0
    down: float = 0.0
    degrees: float = 0.0
    similarity: float = 1.0
    seen: float = 1.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before a verdict in this pose is trusted, one line each."""
        return (OUT_OF_VIEW,) if self.seen < LEAST_SEEN else ()

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        names = ("right", "down", "degrees", "similarity", "seen")
        return {name: round(float(getattr(self, name)), 4) for name in names}

    def whole(self, h: int, w: int) -> tuple[int, int]:
        """How far down and to the right, in whole pixels of an image of h x w."""
        return round(self.down * h), round(self.right * w)

    def to_photograph(self, h: int, w: int) -> Affine:
        """Where in a photograph of h x w a pixel of the usual pose lies."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        down, right = (self.down * h, self.right * w) if self.degrees else self.whole(h, w)
        x0, y0 = w / 2 + right, h / 2 + down
        return cos, sin, x0 - cos * w / 2 - sin * h / 2, -sin, cos, y0 + sin * w / 2 - cos * h / 2

    def to_usual(self, h: int, w: int) -> Affine:
        """Where in the usual pose a pixel of a photograph of h x w lies."""
        a, b, c, d, e, f = self.to_photograph(h, w)
        return a, d, -a * c - d * f, b, e, -b * c - e * f  # the inverse of a turn is its transpose


def brought(
    image: Float[np.ndarray, "3 h w"],
    pose: Pose,
    view: Float[np.ndarray, "h w"] | None = None,
    pictures: Sequence[Float[np.ndarray, "3 _h _w"]] = (),
) -> Float[np.ndarray, "3 h w"]:
    """A photograph with its part in the usual pose.

    A part that was only shifted is moved by whole pixels, so that no pixel changes its value. What the photograph does
    not show, or lies outside of the view, is filled from the picture that continues it best.

    Args:
        image: RGB float32 in [0, 1].
        pose: of the part in it.
        view: 1 in the pixels of the usual pose that are judged, 0 elsewhere; None = all are.
        pictures: of good parts in the usual pose, all of one size; without any, nothing is filled.
    """
    h, w = image.shape[1:]
    grey = is_grey(image)
    planes = image[:1] if grey else image
    there = planes
    if pose.degrees:
        there = _turned(planes, pose.to_photograph(h, w))
    elif any(pose.whole(h, w)):
        there = _shifted(planes, *pose.whole(h, w))
    weight = _weight(pose, h, w)
    weight = weight if view is None else np.minimum(weight, view)
    if pictures and weight.min() < 1:
        fill = _continued(there, weight, [one.mean(0, keepdims=True) if grey else one for one in pictures])
        there = there * weight + fill * (1 - weight)
    if there is planes:
        return image
    there = np.clip(there, 0, 1)
    return np.repeat(there, 3, axis=0) if grey else there


def _continued(
    there: Float[np.ndarray, "c h w"],
    weight: Float[np.ndarray, "h w"],
    pictures: Sequence[Float[np.ndarray, "c _h _w"]],
) -> Float[np.ndarray, "c h w"]:
    """The picture that differs least from the photograph along the border of what is seen, brought to its light."""
    share = _cells(weight[None])[0]
    shown, spread = _cells(there * weight), _smooth(CELLS)
    border = share * (spread @ (1 - share) @ spread.T)
    inside = share > 0.99
    best, least, gain = pictures[0], math.inf, 1.0
    for picture in pictures:
        cells = _cells(picture)
        ratios = np.maximum(shown[:, inside], 0.01) / np.maximum(cells[:, inside], 0.01)
        own = float(np.clip(np.median(ratios), LEAST_GAIN, MOST_GAIN)) if inside.any() else 1.0
        rest = float((border * np.abs(shown - cells * np.float32(own) * share)).sum())
        if rest < least:
            best, least, gain = picture, rest, own
    if best.shape[1:] != weight.shape:
        best = np.stack([resize_map(plane, *weight.shape) for plane in best])
    filled: np.ndarray = best * np.float32(gain)
    return filled


def _cells(planes: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "c n n"]:
    """Means of the planes over a coarse grid."""
    return np.stack(
        [
            np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((CELLS, CELLS), Image.Resampling.BOX))
            for plane in planes
        ]
    )


def _smooth(n: int) -> Float[np.ndarray, "n n"]:
    at = np.arange(n)
    weights = np.exp(-0.5 * ((at[:, None] - at) / SPREAD) ** 2)
    smooth: np.ndarray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return smooth


def returned(anomaly: Float[np.ndarray, "h w"], pose: Pose | None) -> Float[np.ndarray, "h w"]:
    """A map of the usual pose, in the photograph's own; where nothing was judged it has its least value."""
    if pose is None:
        return anomaly
    back: np.ndarray = _returned([anomaly], pose, float(anomaly.min()))[0]
    return back


def returned_picture(picture: Shaped[np.ndarray, "h w 3"], pose: Pose | None) -> Shaped[np.ndarray, "h w 3"]:
    """RGB bytes of the usual pose, in the photograph's own; black where nothing was judged."""
    if pose is None:
        return picture
    return np.stack(_returned(picture.transpose(2, 0, 1), pose, 0), axis=-1)


def _returned(planes: Iterable[np.ndarray], pose: Pose, fill: float) -> list[np.ndarray]:
    if not pose.degrees:
        moves = [(plane, *pose.whole(*plane.shape)) for plane in planes]
        return [_shifted(plane[None], -down, -right, fill)[0] for plane, down, right in moves]
    return [_transformed(plane, pose.to_usual(*plane.shape), Image.Resampling.BILINEAR, fill) for plane in planes]


def _shifted(planes: Shaped[np.ndarray, "c h w"], down: int, right: int, fill: float = 0) -> np.ndarray:
    """Each pixel from so far below and to the right of it."""
    h, w = planes.shape[1:]
    found = np.full_like(planes, fill)
    if abs(down) < h and abs(right) < w:
        to_y, from_y = slice(max(0, -down), h - max(0, down)), slice(max(0, down), h + min(0, down))
        to_x, from_x = slice(max(0, -right), w - max(0, right)), slice(max(0, right), w + min(0, right))
        found[:, to_y, to_x] = planes[:, from_y, from_x]
    return found


def _turned(planes: Float[np.ndarray, "c h w"], way: Affine) -> Float[np.ndarray, "c h w"]:
    edge = 4  # repeated around the photograph, so that its outermost pixels are interpolated too
    wide = np.pad(planes, ((0, 0), (edge, edge), (edge, edge)), "edge")
    a, b, c, d, e, f = way
    shape = planes.shape[1:]
    return np.stack(
        [_transformed(plane, (a, b, c + edge, d, e, f + edge), Image.Resampling.BICUBIC, 0, shape) for plane in wide]
    )


def _transformed(
    plane: np.ndarray, way: Affine, how: Image.Resampling, fill: float, shape: tuple[int, ...] = ()
) -> np.ndarray:
    h, w = shape or plane.shape
    picture = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.transform((w, h), Image.Transform.AFFINE, way, how, fillcolor=fill))


def _weight(pose: Pose, h: int, w: int) -> Float[np.ndarray, "_h _w"]:
    """Of the photograph in each pixel of the usual pose: 1 inside, 0 outside, falling near a border that came in."""
    a, b, c, d, e, f = pose.to_photograph(h, w)
    y, x = np.arange(h, dtype=np.float32)[:, None] + 0.5, np.arange(w, dtype=np.float32)[None] + 0.5
    px = a * x + (b * y if b else 0) + c
    py = (d * x if d else 0) + e * y + f
    corners = [[(a * i + b * j + c, d * i + e * j + f) for i in (0, w)] for j in (0, h)]
    xs, ys = ([corner[axis] for row in corners for corner in row] for axis in (0, 1))
    band = max(1.0, BAND * min(h, w))
    total = np.ones((1, 1), np.float32)
    for distance, beyond in ((px, -min(xs)), (w - px, max(xs) - w), (py, -min(ys)), (h - py, max(ys) - h)):
        if beyond > 0:
            total = total * np.clip(distance / np.float32(min(band, max(beyond, 1e-3))), 0, 1).astype(np.float32)
    return np.broadcast_to(total, (h, w))
