"""Plain measures of a photograph: light, colour, focus, noise, compression, place and texture.

They tell a stream of pictures that has changed, and a picture of something else, without a network: in one or two
milliseconds an image, with NumPy and Pillow. Each of `Measures` has a meaning by itself, so that a change of it can be
said in words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.imaging.images import resize
from unmask.imaging.properties import is_grey

SIDE = 256  # pixels of the longer side at which an image is measured; smaller ones stay as they are
NATIVE = 512  # pixels of the side of the middle part in which noise and blocks are measured, at full resolution
BLOCK = 8  # pixels of the side of a block, as in JPEG
TINY = 1e-4  # added to what is divided by, a fortieth of a grey level
QUIET = 0.6  # share of the image, the one with the least detail, in which noise is measured
PLACES = 128  # values of a profile
MOST_SHIFT = 0.125  # of the sides, that is looked for
TEXTURE, LEVELS = 128, 5  # pixels of the side at which texture is measured, and how often it is halved
FAINT_DETAIL = 2e-3  # half a grey level, added to detail before its logarithm is taken
CONSTANT = 2 / 255  # range of values in a row that is of one colour


class Measures(NamedTuple):
    """Of one image; lengths are shares of its sides, so that they hold at any size.

    Attributes:
        brightness: mean grey, in [0, 1].
        contrast: standard deviation of grey.
        sharpness: detail of 1 pixel as a share of that of 4 pixels.
        noise: what a pixel differs from its neighbours where there is least detail, a share of the range.
        blocks: steps between blocks of 8 pixels as a share of those inside; 1 = none are seen.
        red: mean red as a share of green.
        blue: mean blue as a share of green.
        light_x: how much brighter the right half is than the left, as a share of the mean.
        light_y: how much brighter the lower half is than the upper.
        extent: how far from its middle the detail lies, root mean square.
        direction: how much of the detail runs along one diagonal rather than the other, in [-1, 1]; 0 = neither.
    """

    brightness: float
    contrast: float
    sharpness: float
    noise: float
    blocks: float
    red: float
    blue: float
    light_x: float
    light_y: float
    extent: float
    direction: float


class View(NamedTuple):
    """What is measured of one image.

    Attributes:
        measures: one number each.
        across: (127,) how mean grey changes from left to right; the part shows in it, and light from a side does not.
        down: (127,) the same from the top to the bottom.
        texture: (18,) mean grey, red and blue as in `measures`, and the logarithm of the detail at five sizes: along
            the rows, along the columns, and both.
        constant: share of the rows that are of one colour, counted from the bottom.
    """

    measures: Measures
    across: Float[np.ndarray, " 127"]
    down: Float[np.ndarray, " 127"]
    texture: Float[np.ndarray, " 18"]
    constant: float

    def brightened(self, factor: float) -> View:
        """Of the same image with all values multiplied by a factor above 0."""
        old = self.measures
        measures = old._replace(
            brightness=old.brightness * factor, contrast=old.contrast * factor, noise=old.noise * factor
        )
        return View(measures, self.across * factor, self.down * factor, brightened(self.texture, factor), self.constant)


def view_of(image: Float[np.ndarray, "3 _h _w"], box: tuple[int, int, int, int] | None = None) -> View:
    """Measure an image of any size.

    Args:
        image: RGB in [0, 1].
        box: (x0, y0, x1, y1) of the part that is measured, its end excluded; None = all of it.
    """
    x0, y0, x1, y1 = box or (0, 0, *image.shape[:0:-1])
    channels = (image[:1] if is_grey(image) else image)[:, y0:y1, x0:x1]
    small = _reduced(channels, SIDE)
    grey = _mean(small)
    native = grey if small is channels else _middle(channels)
    means = [float(one.mean()) for one in small] * (3 // len(small))
    steps, columns, rows = _steps(grey, 1), grey.mean(axis=0), grey.mean(axis=1)
    extent, direction = _detail(grey[::2, ::2] if min(grey.shape) > SIDE // 2 else grey)
    measures = Measures(
        brightness=sum(means) / 3,
        contrast=float(grey.std()),
        sharpness=(_mean_of(steps) + TINY) / (_mean_of(_steps(grey, 4)) + TINY),
        noise=_noise(native),
        blocks=_blocks(steps if native is grey else _steps(native, 1), (y0, x0)),
        red=(means[0] + TINY) / (means[1] + TINY),
        blue=(means[2] + TINY) / (means[1] + TINY),
        light_x=_halves(columns),
        light_y=_halves(rows),
        extent=extent,
        direction=direction,
    )
    colour = [measures.brightness, measures.red, measures.blue]
    return View(measures, _profile(columns), _profile(rows), np.array([*colour, *_texture(grey)]), _constant(channels))


def brightened(texture: Float[np.ndarray, "*n 18"], factor: float) -> Float[np.ndarray, "*n 18"]:
    """Textures of the same images with all values multiplied by a factor above 0."""
    found = texture.copy()
    found[..., 0] *= factor
    found[..., 3:] = np.log((np.exp(found[..., 3:]) - FAINT_DETAIL).clip(0) * factor + FAINT_DETAIL)
    return found


def shift_of(profile: Float[np.ndarray, " 127"], usual: Float[np.ndarray, " 127"]) -> float:
    """How far to the right, or down, a picture has moved, as a share of its side: where the profiles match best.

    Args:
        profile: `View.across` or `View.down` of the picture.
        usual: of the pictures that it is compared with.
    """
    most = int(MOST_SHIFT * PLACES)
    match = np.correlate(np.pad(profile, most), usual, "valid")
    best = int(np.argmax(match))
    shift = float(best - most)
    if 0 < best < len(match) - 1:  # the top of the parabola through three values
        before, top, after = match[best - 1 : best + 2].tolist()
        bend = before - 2 * top + after
        shift += 0.5 * (before - after) / bend if bend < 0 else 0.0
    return shift / PLACES


def _reduced(image: Float[np.ndarray, "c _h _w"], side: int) -> Float[np.ndarray, "c h w"]:
    """An image with no side longer than `side` pixels."""
    longest = max(image.shape[1:])
    if longest <= side:
        return image
    step = max(1, longest // (4 * side))  # pixels that are skipped cost nothing
    some = image[:, ::step, ::step]
    h, w = (max(1, round(n * side / longest)) for n in image.shape[1:])
    return resize(some, h, w)


def _mean(channels: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "h w"]:
    """The mean of one or three channels."""
    if len(channels) == 1:
        only: np.ndarray = channels[0]
        return only
    total: np.ndarray = channels[0] + channels[1]
    total += channels[2]
    total *= np.float32(1 / 3)
    return total


def _middle(channels: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "mh mw"]:
    """The middle of an image in grey at full resolution, cut where blocks of 8 x 8 begin."""
    top, left = (max(0, (n - NATIVE) // 2) // BLOCK * BLOCK for n in channels.shape[1:])
    return _mean(channels[:, top : top + NATIVE, left : left + NATIVE])


def _steps(grey: Float[np.ndarray, "h w"], reach: int) -> list[Float[np.ndarray, " _n"]]:
    """Mean difference of pixels that lie `reach` apart: of each row with a later one, and of each column."""
    down, across = np.abs(grey[reach:] - grey[:-reach]), np.abs(grey[:, reach:] - grey[:, :-reach])
    return [one.mean(axis=axis) if one.size else np.zeros(1, np.float32) for one, axis in ((down, 1), (across, 0))]


def _mean_of(steps: list[Float[np.ndarray, " _n"]]) -> float:
    return sum(float(one.mean()) for one in steps) / 2


def _halves(profile: Float[np.ndarray, " n"]) -> float:
    """How much brighter the second half of a profile is, as a share of the mean."""
    n = len(profile) // 2
    difference = float(profile[-n:].mean() - profile[:n].mean()) if n else 0.0
    return difference / (float(profile.mean()) + TINY)


def _profile(means: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 127"]:
    """How the means of columns or rows change from one of 128 places to the next."""
    at = (np.arange(PLACES) + 0.5) / PLACES * len(means) - 0.5
    return np.diff(np.interp(at, np.arange(len(means)), means))


def _noise(grey: Float[np.ndarray, "h w"]) -> float:
    """Mean of the diagonal detail of 2 x 2 pixels (Haar), but for the largest: those are edges."""
    h, w = grey.shape[0] // 2 * 2, grey.shape[1] // 2 * 2
    if not h or not w:
        return 0.0
    a, b = grey[0:h:2, 0:w:2], grey[0:h:2, 1:w:2]
    c, d = grey[1:h:2, 0:w:2], grey[1:h:2, 1:w:2]
    detail = np.abs(a - b - c + d).ravel()
    kept = max(1, int(QUIET * len(detail)))
    return float(np.partition(detail, kept - 1)[:kept].mean())


def _blocks(steps: list[Float[np.ndarray, " _n"]], corner: tuple[int, int]) -> float:
    """Steps at the edges of blocks as a share of the others, both ways."""
    edges, others = 0.0, 0.0
    for one, first in zip(steps, corner, strict=True):
        at_edge = (first + np.arange(1, len(one) + 1)) % BLOCK == 0
        if at_edge.any() and not at_edge.all():
            edges += float(one[at_edge].mean())
            others += float(one[~at_edge].mean())
    return (edges + TINY) / (others + TINY)


def _detail(grey: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """How far the detail is spread, and which way it runs: `Measures.extent` and `direction`."""
    if min(grey.shape) < 3:
        return 0.0, 0.0
    across = grey[1:-1, 2:] - grey[1:-1, :-2]
    down = grey[2:, 1:-1] - grey[:-2, 1:-1]
    squares = across * across + down * down
    strength = np.sqrt(squares) + np.float32(TINY)
    spread = _variance(strength.mean(axis=0)) + _variance(strength.mean(axis=1))
    return spread**0.5, 2 * float((across * down).sum()) / (float(squares.sum()) + TINY)


def _variance(weights: Float[np.ndarray, " n"]) -> float:
    """Variance of the places of weights along a side from 0 to 1."""
    shares = weights.astype(float) / float(weights.sum(dtype=float))
    places = (np.arange(len(shares)) + 0.5) / len(shares)
    return float(shares @ (places - float(shares @ places)) ** 2)


def _texture(grey: Float[np.ndarray, "h w"]) -> list[float]:
    """The logarithm of the detail (Haar) at five sizes: along the rows, along the columns, and both."""
    plane = resize(grey[None], TEXTURE, TEXTURE)[0]
    found = []
    for _ in range(LEVELS):
        rows, columns = (plane[::2] + plane[1::2]) / 2, (plane[:, ::2] + plane[:, 1::2]) / 2
        half = (rows[:, ::2] + rows[:, 1::2]) / 2
        whole, low = _power(plane), _power(half)
        along, across = _power(rows) - low, _power(columns) - low
        found += [along, across, whole - low - along - across]
        plane = half
    return [float(np.log(max(0.0, power) ** 0.5 + FAINT_DETAIL)) for power in found]


def _power(plane: Float[np.ndarray, "h w"]) -> float:
    return float(np.square(plane, dtype=np.float64).mean())


def _constant(channels: Float[np.ndarray, "c h w"]) -> float:
    """Share of the rows, counted from the bottom, that have one colour, the same in all of them."""
    h, w = channels.shape[1:]
    some = channels[:, :: max(1, h // SIDE), :: max(1, w // SIDE)][:, ::-1]
    same = (np.abs(some - some[:, :1, :1]) <= CONSTANT).all(axis=(0, 2))
    return float(np.argmin(same) if not same.all() else len(same)) / len(same)
