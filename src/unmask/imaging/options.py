"""What a user says about how images are read; a model file keeps it, so that new images are read alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.errors import SettingError
from unmask.imaging.intensity import IntensityRange

MAX_PIXELS = 100_000_000
ALL = "all"


@dataclass(frozen=True)
class ImageOptions:
    """How images are read.

    Attributes:
        intensity: which values become 0 and 1; None = the full scale of an image's kind of number.
        bands: numbers of the bands that become grey (one) or red, green and blue (three), counted from 1; None = those
            that the file calls its colours.
        page: number of the picture to take from a file that holds several, counted from 1; "all" = each of them is an
            image; None = such a file is refused.
        max_pixels: a larger image is refused from its header, before its pixels are decoded.

    Raises:
        SettingError: a value is out of range.
    """

    intensity: IntensityRange | None = None
    bands: tuple[int, ...] | None = None
    page: int | str | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            shown = ",".join(map(str, self.bands))
            raise SettingError(f"bands={shown} cannot be read; give one or three numbers counted from 1, such as 3,2,1")
        if self.page not in (None, ALL) and not (isinstance(self.page, int) and self.page >= 1):
            raise SettingError(f"page={self.page!r} is unknown; give a number counted from 1, or all")
        if self.max_pixels < 1:
            raise SettingError(f"max_pixels={self.max_pixels} is out of range; give a number of pixels such as 200e6")

    @classmethod
    def of(
        cls,
        intensity_range: tuple[float, float] | None = None,
        bands: str | int | Sequence[int] | None = None,
        page: str | int | None = None,
        max_pixels: float | None = None,
    ) -> ImageOptions:
        """Options as a user writes them: bands as "3,2,1" or numbers, a page as a number or "all".

        Raises:
            SettingError: a value is out of range, or is none.
        """
        return cls(
            None if intensity_range is None else IntensityRange(*intensity_range),
            None if bands is None else _bands(bands),
            int(page) if isinstance(page, str) and page.isdigit() else page,
            MAX_PIXELS if max_pixels is None else _count(max_pixels),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the intensity range."""
        return {"bands": self.bands and list(self.bands), "page": self.page, "max_pixels": self.max_pixels}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], intensity: IntensityRange | None = None) -> ImageOptions:
        """The inverse of `to_dict`; what is absent has its default."""
        known = {name: values[name] for name in ("page", "max_pixels") if name in values}
        bands = values.get("bands")
        return cls(intensity, None if bands is None else tuple(bands), **known)


DEFAULTS = ImageOptions()
MOST_PIXELS = 10**12
"""The largest limit that can be given; no file holds more."""


def _bands(bands: str | int | Sequence[int]) -> tuple[int, ...]:
    try:
        numbers = bands.split(",") if isinstance(bands, str) else [bands] if isinstance(bands, int) else bands
        return tuple(int(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise SettingError(f"bands={bands!r} cannot be read; give numbers counted from 1, such as 3,2,1") from error


def _count(max_pixels: float) -> int:
    if not 1 <= max_pixels <= MOST_PIXELS:
        raise SettingError(f"max_pixels={max_pixels:g} is out of range; give a number of pixels such as 200e6")
    return int(max_pixels)
