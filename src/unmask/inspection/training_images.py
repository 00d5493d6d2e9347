"""The good images on their way to a detector: each checked once, squares made on demand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unmask.imaging.tiling import judged_part, square_at
from unmask.inspection.checking import Checked, check
from unmask.inspection.copies import AS_IT_IS, Copies
from unmask.inspection.scoring import Reading, name_of
from unmask.training.trainer import Training

CACHED = 200_000_000
"""Bytes of squares that the check keeps, so that a fit of a few hundred images decodes each only once."""


def check_images(sources: Sequence[Any], reading: Reading, training: Training) -> Checked:
    """Decode every image once, as `checking.check` does, with squares kept where memory is not limited.

    Raises:
        ImageError: some cannot be used; all of them are named.
    """
    return check(sources, reading, training.progress, CACHED if training.max_memory is None else 0)


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
            seen = self.reading.posed(variant.image).image  # as in use: disturbed first, then brought to its pose
            part = judged_part(seen, variant.tiling, name_of(self.sources[number]))
            last = self._part = (number, kind), part
        return last[1]

    def _decoded(self, number: int) -> Float[np.ndarray, "3 h w"]:
        """An image, decoded once for all of its copies."""
        last = self._image
        if last is None or last[0] != number:
            last = self._image = number, self.reading.decode(self.sources[number])
        return last[1]
