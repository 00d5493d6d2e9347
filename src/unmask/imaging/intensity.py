"""Which values of a camera count as black and as white: many write 10 or 12 bits into files of 16."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from unmask.errors import ImageError, SettingError

CAMERA_BITS = (8, 10, 12, 14)
LARGEST = 1e30  # of a range, so that float32 holds its square


@dataclass(frozen=True)
class IntensityRange:
    """The values that become 0 and 1.

    Attributes:
        low: the value that becomes 0.
        high: the value that becomes 1.
        given: True = a user named the range: it holds for every image, and values outside are clipped to it. False =
            it was learned from good images: it holds for 16-bit images, and values above it are an error, for they
            show that it was learned from too dark ones.

    Raises:
        SettingError: the range is empty or not finite.
    """

    low: float
    high: float
    given: bool = True

    def __post_init__(self) -> None:
        if not -LARGEST < self.low < self.high < LARGEST:
            raise SettingError(
                f"an intensity range of {self.low:g},{self.high:g} is empty or too large; give LOW,HIGH: 0,4095"
            )

    def scaled(self, pixels: np.ndarray, name: str) -> Float32[np.ndarray, "..."]:
        """Pixel values on the scale from 0 (`low`) to 1 (`high`).

        Args:
            pixels: as a file holds them.
            name: of the image, for messages.

        Raises:
            ImageError: a value lies above a learned range.
        """
        if not self.given and pixels.size and pixels.max() > self.high:
            raise ImageError(
                f"{name}: holds the value {pixels.max():g}, the good images had {self.high:g} at the most; "
                f"fit again with an intensity range that holds it, such as 0,{np.iinfo(np.uint16).max}"
            )
        span = np.float32(self.high - self.low)
        scaled: np.ndarray = np.clip((pixels.astype(np.float32) - np.float32(self.low)) / span, 0.0, 1.0)
        return scaled

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, text: str) -> IntensityRange:
        """The range that a user writes as "LOW,HIGH".

        Raises:
            SettingError: the text is something else.
        """
        try:
            low, high = (float(part) for part in text.split(","))
        except ValueError as error:
            raise SettingError(
                f"an intensity range of {text!r} cannot be read; give LOW,HIGH such as 0,4095"
            ) from error
        return cls(low, high)


def learned_range(largest: Iterable[float]) -> IntensityRange | None:
    """The range of the fewest camera bits that hold all good images.

    Args:
        largest: the largest value of each 16-bit image; images of other kinds do not count.

    Returns:
        0 to 255, 1023, 4095 or 16383; None where all 16 bits are used, all is black, or there are no such images.
    """
    top = max(largest, default=0.0)
    bits = next((bits for bits in CAMERA_BITS if top < 2**bits), None)
    return None if bits is None or top <= 0 else IntensityRange(0.0, 2.0**bits - 1, given=False)
