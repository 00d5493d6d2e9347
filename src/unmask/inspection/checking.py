"""Good images before anything is learned or calibrated: each decoded once; what is known of it, or why it is bad."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.datasets.inventory import abbreviated
from unmask.errors import ImageError
from unmask.imaging.fingerprints import content_hash, signature
from unmask.imaging.images import planes
from unmask.imaging.intensity import IntensityRange, learned_range
from unmask.imaging.noise import CONSTANT_SHARE
from unmask.imaging.pixels import Pixels
from unmask.imaging.properties import summary as summary_of
from unmask.imaging.tiling import split
from unmask.inspection.looks import Look, look_of
from unmask.inspection.scoring import Reading, numbered
from unmask.inspection.usual import copied_at

Progress = Callable[[str, int, int, float], None]
"""Told of a stage: its name, how many images are done, of how many, and the seconds that are left."""


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

    def of(self, numbers: Sequence[int]) -> Checked:
        """What is known of some of the images, without their squares."""
        return Checked(
            [self.hashes[number] for number in numbers],
            [self.sizes[number] for number in numbers],
            [self.signatures[number] for number in numbers],
            self.intensity,
            {},
            [self.looks[number] for number in numbers],
        )

    def properties(self) -> dict[str, Any]:
        """How the images were made, as plain values for a model file."""
        return summary_of([look.properties for look in self.looks], self.sizes, [look.is_grey for look in self.looks])


def check(sources: Sequence[Any], reading: Reading, progress: Progress, room: int = 0) -> Checked:
    """Decode every image once, for a header says nothing of what follows it, and what comes next may take hours.

    Args:
        sources: good images.
        reading: whose region of interest must lie in each; an intensity range that it lacks is learned.
        progress: called after each image, with the stage "check".
        room: bytes of squares that are kept, where an image is one square, so that each is decoded only once.

    Raises:
        ImageError: some cannot be used; all of them are named.
    """
    tiling, intensity = reading.tiling, reading.intensity
    room = 0 if tiling.tile else room
    found = Checked([], [], [], intensity, {}, [])
    bad, largest, start = [], {}, time.monotonic()
    for number in range(len(sources)):
        try:
            pixels = _pixels(sources, number, reading)
            image = planes(pixels, intensity)
            h, w = image.shape[1:]
            box = tiling.region(h, w, pixels.name)
        except ImageError as error:
            bad.append(str(error))
            continue
        if is_deep := pixels.is_camera_range and intensity is None:
            largest[number] = int(pixels.colours.max())
        found.hashes.append(content_hash(pixels.values))
        found.sizes.append((h, w))
        found.signatures.append(signature(image))
        found.looks.append(look_of(image, sources[number], box, copied_at(number, len(sources))))
        if not is_deep and (len(found.squares) + 1) * 12 * tiling.size**2 <= room:
            found.squares[number] = next(split(image, tiling))
        progress("check", number + 1, len(sources), _left(start, number + 1, len(sources)))
    if bad:
        raise ImageError(f"{len(bad)} of {len(sources)} images cannot be used: {abbreviated(bad, 3)}")
    learned = intensity or learned_range(largest.values())
    return _brightened(found, learned, largest) if learned is not None and not learned.given else found


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
        looks[number] = look.brightened(factor)
    return found._replace(intensity=learned, signatures=signatures, looks=looks)


def _left(start: float, done: int, total: int) -> float:
    return (time.monotonic() - start) / done * (total - done)
