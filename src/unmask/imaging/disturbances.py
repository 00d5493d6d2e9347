"""What an ordinary day does to a photograph: focus, light, noise, compression, and a part that does not lie still.

One module states the kinds, how much of each is meant by a word such as "mild", and how a copy is drawn from a seed.
A fit learns and calibrates on copies of the kinds that a user tolerates (`inspection.tolerance`); a benchmark disturbs
test images by fixed amounts, also by kinds that no fit ever draws. Lengths are shares of the image, so that a
photograph of any size is disturbed alike; what comes into view at the edges is the image mirrored. NumPy and Pillow
only.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image

from unmask.imaging.images import resize, to_uint8
from unmask.imaging.properties import is_grey

Picture = Float[np.ndarray, "3 h w"]

QUALITY_MOST = 95  # of JPEG; a copy is drawn between the amount and this
LEVELS = np.float32(255)  # of 8 bits
MANY = 64  # rows and columns of an image that are looked at


def drawn(image: Picture, kind: str, amount: float, random: np.random.Generator) -> Picture:
    """A copy of an image with a disturbance drawn at random, up to an amount.

    An image of 8 bits gives a copy of 8 bits, as a camera would: on a white background, a network answers to the steps
    of one level in a gradient.

    Args:
        image: RGB float32 in [0, 1].
        kind: one of `TAUGHT`.
        amount: the most, see `TAUGHT`.
        random: decides how much, and where to.
    """
    copy: Picture = np.clip(TAUGHT[kind](image, amount, random), 0, 1, dtype=np.float32)
    return np.rint(copy * LEVELS) / LEVELS if _is_of_8_bits(image) else copy


def blurred(image: Picture, sigma: float) -> Picture:
    """Out of focus: a Gaussian whose standard deviation is a share of the shorter side."""
    pixels = sigma * min(image.shape[1:])
    reach = max(1, math.ceil(3 * pixels))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(pixels, 1e-6)) ** 2)
    weights /= weights.sum()
    return _convolved(_convolved(image, weights[None, :]), weights[:, None])


def smeared(image: Picture, length: float, degrees: float) -> Picture:
    """Moved during exposure, along a line whose length is a share of the shorter side."""
    pixels = length * min(image.shape[1:])
    reach = math.ceil(pixels / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for step in np.linspace(-pixels / 2, pixels / 2, 4 * reach + 1):
        y = reach + step * math.sin(math.radians(degrees))
        x = reach + step * math.cos(math.radians(degrees))
        top, left = math.floor(y), math.floor(x)
        for dy, wy in ((0, 1 - (y - top)), (1, y - top)):
            for dx, wx in ((0, 1 - (x - left)), (1, x - left)):
                if wy * wx > 1e-9:
                    kernel[top + dy, left + dx] += wy * wx
    return _convolved(image, kernel / kernel.sum())


def compressed(image: Picture, quality: float) -> Picture:
    """Stored as a JPEG file of a quality from 1 to 95; an image too large for JPEG stays as it is."""
    if max(image.shape) > 65_500:
        return image
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, "JPEG", quality=round(quality))
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / np.float32(255)


def noisy(image: Picture, sigma: float, random: np.random.Generator) -> Picture:
    """Noise of the sensor, its standard deviation a share of the range; alike in all channels of a grey image."""
    channels = 1 if is_grey(image) else 3
    noise = random.standard_normal((channels, *image.shape[1:]), dtype=np.float32)
    copy: Picture = np.clip(image + np.float32(sigma) * noise, 0, 1)
    return copy


def lit(image: Picture, gain: float) -> Picture:
    """Brighter or darker by a factor; what goes beyond white is white."""
    return np.clip(image * np.float32(gain), 0, 1)


def lit_from_a_side(image: Picture, change: float, degrees: float) -> Picture:
    """Brighter by a share at one side, and darker by it at the other."""
    h, w = image.shape[1:]
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    along = np.float32(math.sin(math.radians(degrees))) * y + np.float32(math.cos(math.radians(degrees))) * x
    copy: Picture = np.clip(image * (1 + np.float32(change) * along / np.abs(along).max()), 0, 1)
    return copy


def tinted(image: Picture, gains: Float[np.ndarray, " 3"]) -> Picture:
    """Another white balance: a factor for each channel."""
    return np.clip(image * gains.astype(np.float32)[:, None, None], 0, 1)


def moved(image: Picture, right: float = 0.0, down: float = 0.0, degrees: float = 0.0, zoom: float = 1.0) -> Picture:
    """The camera displaced, turned or nearer: the content moves by shares of the sides, counter-clockwise, larger.

    Args:
        image: RGB float32 in [0, 1].
        right: share of the width.
        down: share of the height.
        degrees: counter-clockwise, about the centre.
        zoom: a factor.
    """
    h, w = image.shape[1:]
    cos, sin = math.cos(math.radians(degrees)) / zoom, math.sin(math.radians(degrees)) / zoom
    x0, y0 = w / 2 + right * w, h / 2 + down * h  # where the centre goes
    corners = [(cos * (x - x0) - sin * (y - y0), sin * (x - x0) + cos * (y - y0)) for x in (0, w) for y in (0, h)]
    beyond = max(max(abs(x) - w / 2, abs(y) - h / 2) for x, y in corners)
    edge = max(1, math.ceil(beyond) + 2)
    wide = np.pad(image, ((0, 0), (edge, edge), (edge, edge)), "symmetric")
    origin = w / 2 + edge - cos * x0 + sin * y0, h / 2 + edge - sin * x0 - cos * y0
    back = (cos, -sin, origin[0], sin, cos, origin[1])  # from a pixel of the copy to one of the image
    channels = [
        Image.fromarray(channel).transform((w, h), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
        for channel in (wide[:1] if is_grey(image) else wide)
    ]
    copy = np.stack([np.asarray(channel, np.float32) for channel in channels])
    return np.clip(np.broadcast_to(copy, image.shape), 0, 1)


# --- kinds that no fit draws ------------------------------------------------------------------------------------------


def curved(image: Picture, gamma: float) -> Picture:
    """Another tone curve: each value to a power."""
    return image ** np.float32(gamma)


def vignetted(image: Picture, loss: float) -> Picture:
    """Darker towards the corners, by a share there."""
    h, w = image.shape[1:]
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    return image * (1 - np.float32(loss) * (x * x + y * y) / 2)


def fringed(image: Picture, share: float) -> Picture:
    """Chromatic shift: red and blue moved apart by a share of the width, in all."""
    red, blue = moved(image, right=share / 2), moved(image, right=-share / 2)
    return np.stack([red[0], image[1], blue[2]])


def resampled(image: Picture, factor: float) -> Picture:
    """From a camera of lower resolution: reduced by a factor along each side, and enlarged again."""
    h, w = image.shape[1:]
    return resize(resize(image, max(1, round(h / factor)), max(1, round(w / factor))), h, w)


def salted(image: Picture, share: float, random: np.random.Generator) -> Picture:
    """A share of the pixels black or white."""
    at = random.random(image.shape[1:])
    return np.where(at < share / 2, np.float32(0), np.where(at > 1 - share / 2, np.float32(1), image))


# --- drawing ----------------------------------------------------------------------------------------------------------


def _is_of_8_bits(image: Picture) -> bool:
    """Whether the values of an image are those of 8 bits, by some of its pixels."""
    step = max(1, min(image.shape[1:]) // MANY)
    levels = image[:, ::step, ::step] * LEVELS
    return bool((np.abs(levels - np.rint(levels)) < 1e-3).all())


def _blur(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    return blurred(image, random.uniform(0.25, 1) * amount)


def _jpeg(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    return compressed(image, random.uniform(min(amount, QUALITY_MOST), QUALITY_MOST))


def _noise(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    return noisy(image, random.uniform(0.25, 1) * amount, random)


def _motion(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    return smeared(image, random.uniform(0.5, 1) * amount, random.uniform(0, 180))


def _light(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    """Half of the copies brighter or darker as a whole, the others from a side."""
    if random.random() < 0.5:
        return lit(image, 1 + _signed(amount, random))
    return lit_from_a_side(image, random.uniform(0.25, 1) * amount, random.uniform(0, 360))


def _color(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    return tinted(image, 1 + random.uniform(-amount, amount, 3))


def _shift(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    return moved(image, right=random.uniform(-amount, amount), down=random.uniform(-amount, amount))


def _turn(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    return moved(image, degrees=_signed(amount, random))


def _zoom(image: Picture, amount: float, random: np.random.Generator) -> Picture:
    return moved(image, zoom=1 + _signed(amount, random))


def _signed(amount: float, random: np.random.Generator) -> float:
    return float(random.choice([-1, 1]) * random.uniform(0.25, 1) * amount)


TAUGHT: dict[str, Callable[[Picture, float, np.random.Generator], Picture]] = {
    "blur": _blur,
    "jpeg": _jpeg,
    "noise": _noise,
    "motion": _motion,
    "light": _light,
    "color": _color,
    "shift": _shift,
    "turn": _turn,
    "zoom": _zoom,
}
"""Kind -> how a copy is drawn. The amount is the most: of blur the standard deviation and of motion the length, as
shares of the shorter side; of jpeg the lowest quality; of noise the standard deviation, of light and color the change,
as shares of the range; of shift a share of the sides; of turn degrees; of zoom a share."""

MOVES = ("shift", "turn", "zoom")
"""The kinds that move what is in the picture; the others change its pixels where they are."""


def _convolved(image: Picture, kernel: Float[np.ndarray, "kh kw"]) -> Picture:
    """Each pixel the mean of its neighbours with the weights of a kernel of odd sides."""
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    grey = is_grey(image)
    wide = np.pad(image[:1] if grey else image, ((0, 0), (up, up), (left, left)), "symmetric")
    h, w = image.shape[1:]
    total = np.zeros((len(wide), h, w), np.float32)
    for y, x in zip(*np.nonzero(kernel), strict=True):
        total += np.float32(kernel[y, x]) * wide[:, y : y + h, x : x + w]
    return np.broadcast_to(total, image.shape)
