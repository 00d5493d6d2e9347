"""The good images on their way to a detector: each checked once, squares made on demand."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unmask.datasets.inventory import abbreviated
from unmask.errors import ImageError
from unmask.imaging.fingerprints import content_hash, signature
from unmask.imaging.images import planes
from unmask.imaging.intensity import IntensityRange, learned_range
from unmask.imaging.noise import CONSTANT_SHARE, COPIES, with_noise
from unmask.imaging.pixels import Pixels
from unmask.imaging.properties import summary as summary_of
from unmask.imaging.tiling import judged_part, split, square_at
from unmask.inspection.looks import Look, look_of
from unmask.inspection.scoring import Reading, name_of, numbered
from unmask.training.trainer import Training

CACHED = 200_000_000
"""Bytes of squares that the check keeps, so that a fit of a few hundred images decodes each only once."""


class Checked(NamedTuple):
    """What is known of n good images once each has been decoded.

    Attributes:
        hashes: of their contents.
        sizes: (h, w) of each in pixels.
        signatures: of each, by which near-duplicates are found.
        intensity: which values become 0 and 1; None = the whole range of the kind of number.
        squares: of the first of them, where an image is one square; empty for those that are decoded again.
        looks: what else each looks like.
    """

    hashes: list[str]
    sizes: list[tuple[int, int]]
    signatures: list[Float[np.ndarray, "40 40"]]
    intensity: IntensityRange | None
    squares: dict[int, Float[np.ndarray, "3 s s"]]
    looks: list[Look]

    @property
    def is_noise_free(self) -> bool:
        """Whether the images hold areas without noise, so that one grey level of it would look like a defect."""
        return float(np.median([look.constant for look in self.looks])) >= CONSTANT_SHARE

    def properties(self) -> dict[str, Any]:
        """How the images were made, as plain values for a model file."""
        return summary_of([look.properties for look in self.looks], self.sizes, [look.is_grey for look in self.looks])


def check_images(sources: Sequence[Any], reading: Reading, training: Training) -> Checked:
    """Decode every image once, for a header says nothing of what follows it, and training may take hours.

    Args:
        sources: good images.
        reading: whose region of interest must lie in each; an intensity range that it lacks is learned.
        training: whose `progress` is called after each image.

    Raises:
        ImageError: some cannot be used; all of them are named.
    """
    tiling, intensity = reading.tiling, reading.intensity
    room = CACHED if training.max_memory is None and tiling.tile is None else 0
    found = Checked([], [], [], intensity, {}, [])
    bad, largest, start = [], {}, time.monotonic()
    for number in range(len(sources)):
        try:
            pixels = _pixels(sources, number, reading)
            image = planes(pixels, intensity)
            h, w = image.shape[1:]
            tiling.region(h, w, pixels.name)
        except ImageError as error:
            bad.append(str(error))
            continue
        if is_deep := pixels.is_camera_range and intensity is None:
            largest[number] = int(pixels.colours.max())
        found.hashes.append(content_hash(pixels.values))
        found.sizes.append((h, w))
        found.signatures.append(signature(image))
        found.looks.append(look_of(image, sources[number]))
        if not is_deep and (len(found.squares) + 1) * 12 * tiling.size**2 <= room:
            found.squares[number] = next(split(image, tiling))
        training.progress("check", number + 1, len(sources), _left(start, number + 1, len(sources)))
    if bad:
        raise ImageError(f"{len(bad)} of {len(sources)} images cannot be used: {abbreviated(bad, 3)}")
    learned = intensity or learned_range(largest.values())
    return _brightened(found, learned, largest) if learned is not None and not learned.given else found


class TrainingImages:
    """n squares of good images, as a detector takes them; where these hold no noise, as many with some follow.

    Args:
        sources: of all images.
        numbers: of the images to give.
        reading: how a source becomes squares.
        checked: what is known of all images.
    """

    def __init__(self, sources: Sequence[Any], numbers: Sequence[int], reading: Reading, checked: Checked) -> None:
        self.sources, self.reading, self.squares = sources, reading, checked.squares
        self.places = [
            (number, is_noisy, corner)
            for is_noisy in ((False, True) if checked.is_noise_free else (False,))
            for number in numbers
            for corner in reading.tiling.corners(*checked.sizes[number])
        ]
        self._last: tuple[tuple[int, bool], Float[np.ndarray, "3 h w"]] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        number, is_noisy, corner = self.places[index]
        if number in self.squares and not is_noisy:
            return torch.from_numpy(self.squares[number])
        return torch.from_numpy(square_at(self._part(number, is_noisy), self.reading.tiling, corner))

    def _part(self, number: int, is_noisy: bool) -> Float[np.ndarray, "3 h w"]:
        """What is judged of an image; its tiles are mostly asked for in turn, so the last one is remembered."""
        last = self._last
        if last is None or last[0] != (number, is_noisy):
            image = self.reading.posed(self.reading.decode(self.sources[number])).image
            image = with_noise(image, number % COPIES, number) if is_noisy else image
            part = judged_part(image, self.reading.tiling, name_of(self.sources[number]))
            last = self._last = (number, is_noisy), part
        return last[1]


def _pixels(sources: Sequence[Any], number: int, reading: Reading) -> Pixels:
    """An image's pixels; messages name images that have no path by their number.

    Raises:
        ImageError: it cannot be read, or a part of it is lost: what is garbled would be learned as good.
    """
    pixels = reading.pixels(sources[number])._replace(name=numbered(sources[number], number))
    if pixels.damage:
        raise ImageError(f"{pixels.name}: {pixels.damage}; replace or remove the file")
    return pixels


def _brightened(found: Checked, learned: IntensityRange, deep: Iterable[int]) -> Checked:
    """What is known of images, by the intensity range that was learned from the deep ones among them."""
    factor = np.iinfo(np.uint16).max / learned.high
    signatures, looks = list(found.signatures), list(found.looks)
    for number in deep:
        signatures[number] = (signatures[number].astype(np.float32) * factor).astype(np.float16)
        look = looks[number]
        looks[number] = look._replace(dark=look.dark * factor, bright=look.bright * factor)
    return found._replace(intensity=learned, signatures=signatures, looks=looks)


def _left(start: float, done: int, total: int) -> float:
    return (time.monotonic() - start) / done * (total - done)
