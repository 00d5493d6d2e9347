"""The good images on their way to a detector: each checked once, squares made on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unmask.imaging.noise import COPIES, with_noise
from unmask.imaging.tiling import judged_part, square_at
from unmask.inspection.checking import Checked, check
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
            image = self.reading.decode(self.sources[number])
            image = with_noise(image, number % COPIES, number) if is_noisy else image
            part = judged_part(image, self.reading.tiling, name_of(self.sources[number]))
            last = self._last = (number, is_noisy), part
        return last[1]
