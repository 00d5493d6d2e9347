"""What one image file, Pillow image or array gave, before its values become RGB in [0, 1]."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WHITE_OF_16_BIT = (2**15 - 1, 2**16 - 1)  # signed and unsigned; a camera often uses fewer bits of them


class Pixels(NamedTuple):
    """The values of one image as its source holds them.

    Attributes:
        values: (h, w), (h, w, 1), (h, w, 3) or, with alpha, (h, w, 4), upright.
        name: of the image in messages.
        white: the value of full scale; None = unknown, as of signed and 32-bit integers.
        notes: what to know about the image before it is trusted, one line each.
        damage: what is lost of the image; empty where it is whole.
        is_grey: whether its source holds one colour, which the values may repeat three times.
    """

    values: np.ndarray
    name: str
    white: float | None
    notes: tuple[str, ...] = ()
    damage: str = ""
    is_grey: bool = False

    @property
    def is_camera_range(self) -> bool:
        """Whether a camera may use fewer bits than these values have, so that white is learned from good images."""
        return self.values.dtype == np.uint16 and self.white in WHITE_OF_16_BIT

    @property
    def colours(self) -> np.ndarray:
        """The values without alpha."""
        return self.values[..., :3] if self.values.ndim == 3 else self.values

    @property
    def remarks(self) -> tuple[str, ...]:
        """Damage and notes together."""
        return (self.damage, *self.notes) if self.damage else self.notes


def full_scale(dtype: np.dtype) -> float | None:
    """The value of white in a kind of number; None = it has none that everybody agrees on."""
    if dtype.kind == "f":
        return 1.0
    return float(np.iinfo(dtype).max) if dtype in (np.uint8, np.uint16) else None


def plain(values: np.ndarray, name: str, white: float | None = None, notes: tuple[str, ...] = ()) -> Pixels:
    """Values of a file or array in numbers of this machine, with the full scale of their kind unless it is given.

    Numbers of the other byte order are turned round, bool becomes 0 and 1, int16 without negative values becomes
    uint16, and an alpha that is 0 everywhere is left out: it is unused, and the colours are what people see.

    Args:
        values: of the image.
        name: of it.
        white: the value of full scale, where it is known.
        notes: on the image.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == bool:
        values, white = values.astype(np.uint8), 1.0
    if values.dtype == np.int16 and values.size and values.min() >= 0:
        values, white = values.astype(np.uint16), white or float(WHITE_OF_16_BIT[0])
    if values.ndim == 3 and values.shape[2] == 4 and not values[..., 3].any():
        values = values[..., :3]
    return Pixels(values, name, full_scale(values.dtype) if white is None else white, notes)
