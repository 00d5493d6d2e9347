"""The good images on their way to a detector: each checked once, copies left out, squares made on demand."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unmask.datasets.inventory import abbreviated
from unmask.errors import ImageError
from unmask.imaging.fingerprints import content_hash, near_duplicates, signature
from unmask.imaging.images import planes
from unmask.imaging.intensity import IntensityRange, learned_range
from unmask.imaging.pixels import Pixels
from unmask.imaging.tiling import judged_part, split, square_at
from unmask.inspection.scoring import Reading, name_of
from unmask.training.trainer import Training

CACHED = 200_000_000
"""Bytes of squares that the check keeps, so that a fit of a few hundred images decodes each only once."""


class Checked(NamedTuple):
    """What is known of good images once each has been decoded.

    Attributes:
        hashes: of their contents.
        sizes: (h, w) of each in pixels.
        signatures: of each, by which near-duplicates are found.
        intensity: which values become 0 and 1; None = the whole range of the kind of number.
        squares: of the first of them, where an image is one square; empty for those that are decoded again.
    """

    hashes: list[str]
    sizes: list[tuple[int, int]]
    signatures: list[Float[np.ndarray, "40 40"]]
    intensity: IntensityRange | None
    squares: dict[int, Float[np.ndarray, "3 s s"]]


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
    found = Checked([], [], [], intensity, {})
    bad, largest, varied, start = [], [], False, time.monotonic()
    for number in range(len(sources)):
        try:
            pixels = _pixels(sources, number, reading)
            image = planes(pixels, intensity)
            h, w = image.shape[1:]
            tiling.region(h, w, pixels.name)
        except ImageError as error:
            bad.append(str(error))
            continue
        varied = varied or bool(image.max() > image.min())
        is_deep = pixels.is_camera_range and intensity is None
        largest += [int(pixels.colours.max())] if is_deep else []
        found.hashes.append(content_hash(pixels.values))
        found.sizes.append((h, w))
        found.signatures.append(signature(image))
        if not is_deep and (len(found.squares) + 1) * 12 * tiling.size**2 <= room:
            found.squares[number] = next(split(image, tiling))
        training.progress("check", number + 1, len(sources), _left(start, number + 1, len(sources)))
    if bad:
        raise ImageError(f"{len(bad)} of {len(sources)} images cannot be used: {abbreviated(bad, 3)}")
    if not varied:
        raise ImageError("no good image shows anything: all pixels have one value; check them, or the intensity range")
    return found._replace(intensity=intensity or learned_range(largest))


def without_copies(
    hashes: Sequence[str], normals: Sequence[int], held_out: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The images of both parts, each content once: a copy is not one more image, and what was learned cannot calibrate.

    Args:
        hashes: of all images.
        normals: numbers of those to learn from.
        held_out: numbers of those to calibrate on.
    """
    first: dict[str, int] = {}
    for number in (*normals, *held_out):
        first.setdefault(hashes[number], number)
    kept = set(first.values())
    if dropped := len(normals) + len(held_out) - len(kept):
        warnings.warn(f"{dropped} good images are copies of others; each picture counts once", stacklevel=4)
    return [number for number in normals if number in kept], [number for number in held_out if number in kept]


def warn_of_near_duplicates(
    sources: Sequence[Any], checked: Checked, normals: Sequence[int], held_out: Sequence[int]
) -> None:
    """Warn in one line where a held-out image shows the same scene as one that is learned from: a burst, a video frame.

    Args:
        sources: of all images.
        checked: what is known of them.
        normals: numbers of the images to learn from.
        held_out: numbers of the images to calibrate on.
    """
    numbers = (*normals, *held_out)
    pairs = near_duplicates([checked.signatures[number] for number in numbers])
    across = [(numbers[a], numbers[b]) for a, b in pairs if a < len(normals) <= b]
    if not across:
        return
    one, other = (Path(name_of(sources[number])).name for number in across[0])
    warnings.warn(
        f"{len({b for _, b in across})} of {len(held_out)} held-out images show nearly the same as an image that is "
        f"learned from, such as {other} and {one}: the threshold may be too low; keep bursts together with --group",
        stacklevel=4,
    )


class TrainingImages:
    """n squares of good images, as a detector takes them.

    Args:
        sources: of all images.
        numbers: of the images to give.
        reading: how a source becomes squares.
        checked: what is known of all images.
    """

    def __init__(self, sources: Sequence[Any], numbers: Sequence[int], reading: Reading, checked: Checked) -> None:
        self.sources, self.reading, self.squares = sources, reading, checked.squares
        self.places = [
            (number, corner) for number in numbers for corner in reading.tiling.corners(*checked.sizes[number])
        ]
        self._last: tuple[int, Float[np.ndarray, "3 h w"]] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        number, corner = self.places[index]
        if number in self.squares:
            return torch.from_numpy(self.squares[number])
        return torch.from_numpy(square_at(self._part(number), self.reading.tiling, corner))

    def _part(self, number: int) -> Float[np.ndarray, "3 h w"]:
        """What is judged of an image; its tiles are mostly asked for in turn, so the last one is remembered."""
        last = self._last
        if last is None or last[0] != number:
            image = self.reading.decode(self.sources[number])
            last = self._last = number, judged_part(image, self.reading.tiling, name_of(self.sources[number]))
        return last[1]


def _pixels(sources: Sequence[Any], number: int, reading: Reading) -> Pixels:
    """An image's pixels; messages name images that have no path by their number.

    Raises:
        ImageError: it cannot be read, or a part of it is lost: what is garbled would be learned as good.
    """
    pixels = reading.pixels(sources[number])
    if pixels.name.startswith("the "):
        pixels = pixels._replace(name=f"image {number}")
    if pixels.damage:
        raise ImageError(f"{pixels.name}: {pixels.damage}; replace or remove the file")
    return pixels


def _left(start: float, done: int, total: int) -> float:
    return (time.monotonic() - start) / done * (total - done)
