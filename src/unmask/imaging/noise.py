"""Images without noise, and copies of them with some: what a camera, or lossy compression, would have added.

A network answers to a single grey level of noise where it has only seen exactly constant areas: drawn parts, a
background that software has cut out, screenshots. Photographs hold noise of their own and need no copies.
"""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float
from PIL import Image

from unmask.imaging.images import to_uint8

BLOCK = 8  # pixels of the side of a block, as in JPEG
MOST_BLOCKS = 2048  # of an image that are looked at
CONSTANT_SHARE = 0.02
"""Of the blocks of good images, from which they count as free of noise: photographs have 0.002 or less."""
SHOULDER = 3 / 255  # how far from black or white the pixels lie that a camera has nearly clipped
CLIPPED = 0.02  # share of such pixels, of those that are black or white, from which a camera has clipped these
COPIES = 5
"""Kinds of noise that a copy can have, see `with_noise`."""
SPARSE = 0.03  # share of the pixels that sparse noise changes
QUALITY, JPEG_LARGEST = 95, 65_500  # of the JPEG copies, and the longest side that a JPEG can have


def constant_share(image: Float[np.ndarray, "3 h w"]) -> float:
    """The share of blocks of 8 x 8 pixels in which each channel has exactly one value.

    Black or white that a camera has clipped does not count, for it hides the noise of new images too. There, many
    pixels are nearly black or white; around a background that was cut out or drawn, few are.

    Args:
        image: RGB float32 in [0, 1]; of one smaller than a block, the share is 0.
    """
    blocks = _some_blocks(image)
    if not blocks.size:
        return 0.0
    first = blocks[:, :, :1, :, :1]
    constant = (blocks == first).all(axis=(0, 2, 4))
    for extreme in (0.0, 1.0):
        is_extreme = constant & (first[:, :, 0, :, 0] == extreme).all(axis=0)
        if is_extreme.any() and _is_clipped(blocks, extreme):
            constant &= ~is_extreme
    return float(constant.mean())


def with_noise(image: Float[np.ndarray, "3 h w"], kind: int, seed: int) -> Float[np.ndarray, "3 h w"]:
    """A copy of an image with noise of about one grey level of 255.

    Args:
        image: RGB float32 in [0, 1].
        kind: 0 = alike in all channels, 1 = its own in each channel, 2 = one grey level in few pixels, 3 = what JPEG of
            quality 95 leaves, 4 = as 1, and then JPEG.
        seed: of the noise; of kinds 0, 1 and 4 also of its standard deviation, 0.3 to 1.25 grey levels.
    """
    if kind == 3:
        return _compressed(image)
    random = np.random.default_rng([seed, kind])
    shape = image.shape if kind in (1, 4) else (1, *image.shape[1:])
    if kind == 2:
        levels = (random.random(shape) < SPARSE) * random.choice([-1, 1], shape)
    else:
        levels = random.uniform(0.3, 1.25) * random.standard_normal(shape, dtype=np.float32)
    noisy: np.ndarray = np.rint(255 * np.clip(image + levels.astype(np.float32) / 255, 0, 1)) / np.float32(255)
    return _compressed(noisy) if kind == 4 else noisy


def _some_blocks(image: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "3 down 8 across 8"]:
    """Blocks of an image, evenly spread."""
    down, across = image.shape[1] // BLOCK, image.shape[2] // BLOCK
    whole = image[:, : down * BLOCK, : across * BLOCK].reshape(3, down, BLOCK, across, BLOCK)
    step = max(1, round((down * across / MOST_BLOCKS) ** 0.5))
    return whole[:, ::step, :, ::step]


def _is_clipped(blocks: Float[np.ndarray, "3 down 8 across 8"], extreme: float) -> bool:
    """Whether a camera has made pixels black or white: then many others are nearly so."""
    away = np.abs(blocks - np.float32(extreme)).max(axis=0)
    return bool(np.count_nonzero((away > 0) & (away <= SHOULDER)) > CLIPPED * np.count_nonzero(away == 0))


def _compressed(image: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "3 h w"]:
    if max(image.shape) > JPEG_LARGEST:
        return image
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, "JPEG", quality=QUALITY)
    with Image.open(file) as picture:
        return np.asarray(picture, np.float32).transpose(2, 0, 1) / np.float32(255)
