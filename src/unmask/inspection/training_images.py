"""The good images on their way to a detector: each checked once, squares made on demand."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
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
from unmask.imaging.noise import CONSTANT_SHARE
from unmask.imaging.pixels import Pixels
from unmask.imaging.properties import summary as summary_of
from unmask.imaging.tiling import judged_part, split, square_at
from unmask.inspection.copies import AS_IT_IS, Copies
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

    @property
    def is_grey(self) -> bool:
        """Whether each image is grey."""
        return all(look.is_grey for look in self.looks)

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


class Place(NamedTuple):
    """Where a square comes from.

    Attributes:
        number: of the image.
        kind: "as it is", or of its copy; see `Copies`.
        corner: of the tile in the image, as `Tiling.corners` has it; (0, 0) of a whole image.
    """

    number: int
    kind: str
    corner: tuple[int, int]


class TrainingImages:
    """The squares of good images and of their copies, as a detector takes them, an image after the other.

    Args:
        sources: of all images.
        numbers: of the images to give.
        reading: how a source becomes squares.
        checked: what is known of all images.
        copies: which copies of each image there are.
        calibrated: whether copies that are only calibrated on are among them; see `learned_rows`.

    Attributes:
        places: where each square comes from.
        sizes: (h, w) of each of all images in pixels.
        groups: which squares come from one image and its copies.
    """

    def __init__(
        self,
        sources: Sequence[Any],
        numbers: Sequence[int],
        reading: Reading,
        checked: Checked,
        copies: Copies,
        *,
        calibrated: bool = False,
    ) -> None:
        self.sources, self.reading, self.copies = sources, reading, copies
        self.squares, self.sizes = checked.squares, checked.sizes
        self.places = [
            Place(number, kind, corner)
            for number in numbers
            for kind in (copies.calibrated(number) if calibrated else copies.learned(number))
            for corner in reading.tiling.corners(*checked.sizes[number])
        ]
        self.groups = torch.tensor([place.number for place in self.places]).unique_consecutive(return_inverse=True)[1]
        self._image: tuple[int, Float[np.ndarray, "3 h w"]] | None = None
        self._part: tuple[tuple[int, str], Float[np.ndarray, "3 h w"]] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        number, kind, corner = self.places[index]
        if number in self.squares and kind == AS_IT_IS:
            return torch.from_numpy(self.squares[number])
        return torch.from_numpy(square_at(self._judged(number, kind), self.reading.tiling, corner))

    def learned_rows(self, numbers: Collection[int]) -> list[int]:
        """The squares of some images that are learned from."""
        learned = {number: self.copies.learned(number) for number in numbers}
        return [row for row, place in enumerate(self.places) if place.kind in learned.get(place.number, ())]

    def _judged(self, number: int, kind: str) -> Float[np.ndarray, "3 h w"]:
        """What is judged of an image or copy; its tiles are mostly asked for in turn, so the last one is kept."""
        last = self._part
        if last is None or last[0] != (number, kind):
            variant = self.copies.variant(self._decoded(number), self.reading.tiling, kind, number)
            part = judged_part(variant.image, variant.tiling, name_of(self.sources[number]))
            last = self._part = (number, kind), part
        return last[1]

    def _decoded(self, number: int) -> Float[np.ndarray, "3 h w"]:
        """An image, decoded once for all of its copies."""
        last = self._image
        if last is None or last[0] != number:
            last = self._image = number, self.reading.posed(self.reading.decode(self.sources[number])).image
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
