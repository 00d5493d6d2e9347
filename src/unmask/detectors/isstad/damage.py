"""Seeded damage of images, as in ISSTAD (arXiv 2303.17354): shapes filled with another version of the same image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torchvision.transforms.v2.functional as TF  # noqa: N812
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor

from unmask.errors import SettingError
from unmask.training.losses import gaussian_blur

Box = tuple[int, int, int, int]

GREY_LEVEL = 1 / 255
"""A smaller difference is invisible and does not count as damage: a grey image made grey is whole."""

SMALLEST_SHAPE = 10
"""Pixels along the smaller side of one of ISSTAD's shapes."""


def damage_image(
    image: Float[Tensor, "3 h w"], generator: torch.Generator, *, box: Box | None = None
) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "h w"]]:
    """Fill one to three shapes with another version of the image (ISSTAD's pixel-level augmentation).

    Args:
        image: RGB in [0, 1].
        generator: where the randomness comes from.
        box: (x0, y0, x1, y1), end excluded, that the shapes stay in, as `object_box` finds it; None = the whole image.

    Returns:
        The damaged copy, and the pixels that differ by more than one grey level of 255; all others are the image's.

    Raises:
        SettingError: the box is empty or reaches outside.
    """
    h, w = image.shape[1:]
    x0, y0, x1, y1 = box or (0, 0, w, h)
    if not (0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h):
        raise SettingError(f"a box of {box} does not lie in an image of {w} x {h} pixels")
    canvas = Image.new("1", (w, h))
    for _ in range(_integer(1, 3, generator)):
        _draw_shape(ImageDraw.Draw(canvas), (x0, y0, x1, y1), generator)
    return _replace(image, torch.from_numpy(np.array(canvas)), _other_version(image, generator))


def object_box(image: Float[Tensor, "3 h w"], padding: float = 0.1) -> Box:
    """Where the object is: the box around the largest component that Otsu's threshold cuts out.

    The object is whichever side of the threshold holds less of the image's border. The whole image is returned where
    there is no such object: the component touches all four borders, or covers under 5 % or over 90 % of the pixels.

    Args:
        image: RGB in [0, 1].
        padding: share of the box's width and height to add on each side; ISSTAD uses 0.1 and 0.2.

    Returns:
        (x0, y0, x1, y1) in pixels, end excluded.
    """
    grey = image.mean(0).numpy()
    h, w = grey.shape
    found = grey >= _otsu(grey)
    border = np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])
    components, count = ndimage.label(found if border.mean() <= 0.5 else ~found)
    if count == 0:
        return 0, 0, w, h
    largest = ndimage.binary_fill_holes(components == 1 + np.bincount(components.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(largest.astype(np.int8))[0]
    y0, y1, x0, x1 = rows.start, rows.stop, columns.start, columns.stop
    if (x0, y0, x1, y1) == (0, 0, w, h) or not 0.05 <= largest.mean() <= 0.9:
        return 0, 0, w, h
    dx, dy = round(padding * (x1 - x0)), round(padding * (y1 - y0))
    return max(0, x0 - dx), max(0, y0 - dy), min(w, x1 + dx), min(h, y1 + dy)


def _replace(image: Tensor, where: Tensor, version: Tensor) -> tuple[Tensor, Tensor]:
    """Take `version` at the pixels where it differs visibly."""
    mask = where & ((version - image).abs().amax(0) > GREY_LEVEL)
    return torch.where(mask, version, image), mask


def _otsu(grey: Float[np.ndarray, "h w"]) -> float:
    """The threshold between 256 grey levels that leaves the largest variance between both sides (Otsu 1979)."""
    counts, edges = np.histogram(grey, bins=256, range=(0.0, 1.0))
    below = counts.cumsum()[:-1] / grey.size
    moment = (counts * np.arange(256)).cumsum() / grey.size
    between = (moment[-1] * below - moment[:-1]) ** 2 / np.maximum(below * (1 - below), 1e-12)
    return float(edges[1 + between.argmax()])


def _draw_shape(draw: ImageDraw.ImageDraw, box: Box, generator: torch.Generator) -> None:
    """A rectangle, ellipse or polygon; its sides go up to half the box's (our choice: no upper end is published)."""
    size_x, size_y = _side(box[2] - box[0], generator), _side(box[3] - box[1], generator)
    x = _integer(box[0], box[2] - size_x, generator)
    y = _integer(box[1], box[3] - size_y, generator)
    ends = (x, y, x + size_x - 1, y + size_y - 1)  # PIL draws the end, too
    kind = _integer(0, 2, generator)
    if kind == 0:
        draw.rectangle(ends, fill=1)
    elif kind == 1:
        draw.ellipse(ends, fill=1)
    else:
        draw.polygon(_corners(ends, generator), fill=1)


def _side(room: int, generator: torch.Generator) -> int:
    return min(room, _integer(SMALLEST_SHAPE, max(SMALLEST_SHAPE, room // 2), generator))


def _corners(ends: Box, generator: torch.Generator) -> list[tuple[float, float]]:
    """Three to eight corners around the middle, in order, so that no two edges cross."""
    count = _integer(3, 8, generator)
    x, y = (ends[0] + ends[2]) / 2, (ends[1] + ends[3]) / 2
    corners = []
    for i in range(count):
        angle = 2 * math.pi * (i + _uniform(0, 0.8, generator)) / count
        reach = _uniform(0.5, 1, generator) / 2
        corners.append(
            (x + reach * (ends[2] - ends[0]) * math.cos(angle), y + reach * (ends[3] - ends[1]) * math.sin(angle))
        )
    return corners


def _other_version(image: Tensor, generator: torch.Generator) -> Tensor:
    """The image in other colours, blurred, both, mirrored or under noise."""
    changes: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (_strong_jitter, _grey, _blur)
    kind = _integer(0, len(changes) + 2, generator)
    if kind < len(changes):
        return changes[kind](image, generator)
    if kind == len(changes):
        first = _integer(0, len(changes) - 1, generator)
        second = (first + _integer(1, len(changes) - 1, generator)) % len(changes)
        return changes[second](changes[first](image, generator), generator)
    if kind == len(changes) + 1:
        return image.flip(((1,), (2,), (1, 2))[_integer(0, 2, generator)])
    return 0.5 * image + 0.5 * torch.rand(image.shape, generator=generator)


def _strong_jitter(image: Tensor, generator: torch.Generator) -> Tensor:
    return _jitter(image, (0.8, 0.8, 0.8, 0.4), generator)


def _grey(image: Tensor, generator: torch.Generator) -> Tensor:
    grey: Tensor = TF.rgb_to_grayscale(image, num_output_channels=3)
    return grey


def _blur(image: Tensor, generator: torch.Generator) -> Tensor:
    return gaussian_blur(image, _uniform(15, 20, generator))


def _jitter(image: Tensor, strength: tuple[float, float, float, float], generator: torch.Generator) -> Tensor:
    """Multiply brightness, contrast and saturation by 1 +- strength, turn the hue by +- strength, in random order."""
    changes = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    for i in torch.randperm(4, generator=generator).tolist():
        middle = 0.0 if changes[i] is TF.adjust_hue else 1.0
        image = changes[i](image, _uniform(middle - strength[i], middle + strength[i], generator))
    return image


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator).item())
