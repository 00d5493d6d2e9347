"""What good images look like, and warnings where that promises little: blank, dark, white, lossy, without noise."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.datasets.inventory import abbreviated
from unmask.imaging.measures import View, brightened, view_of
from unmask.imaging.noise import constant_share
from unmask.imaging.properties import Properties, is_grey, properties_of
from unmask.inspection.sources import file_of
from unmask.inspection.usual import disturbed_textures

TRIMMED = 0.0005  # share of the pixels, at either end, that do not count: hot pixels, a handful of them
MOST_PIXELS = 100_000  # that are looked at
GREY_LEVEL = 1 / 255
Box = tuple[int, int, int, int]
FAINT = 0.05  # an image with less contrast than this share of what is usual is blank: a lens cap, no light
DARK, BRIGHT = 1 / 8, 7 / 8  # of the range, below and above which good images waste most of it
LOW_QUALITY = 50  # of JPEG


class Look(NamedTuple):
    """What one image looks like.

    Attributes:
        dark: its darkest brightness in [0, 1], but for the darkest 0.05 % of its pixels.
        bright: its brightest, likewise.
        constant: share of it that holds no noise, see `noise.constant_share`.
        is_grey: whether its three channels are equal.
        properties: how it was made.
        view: what is measured of it.
        copies: textures of disturbed copies, where some were made.
    """

    dark: float
    bright: float
    constant: float
    is_grey: bool
    properties: Properties
    view: View
    copies: Float[np.ndarray, "_k 18"]

    def brightened(self, factor: float) -> Look:
        """Of the same image with all values multiplied by a factor above 0."""
        dark, bright = self.dark * factor, self.bright * factor
        return self._replace(
            dark=dark, bright=bright, view=self.view.brightened(factor), copies=brightened(self.copies, factor)
        )


def look_of(image: Float[np.ndarray, "3 h w"], source: Any, box: Box, copied: int | None = None) -> Look:
    """What an image looks like.

    Args:
        image: decoded, RGB float32 in [0, 1].
        source: what it was decoded from.
        box: the part that is judged.
        copied: seed of disturbed copies; None = none are made.
    """
    x0, y0, x1, y1 = box
    copies = np.empty((0, 18)) if copied is None else disturbed_textures(image[:, y0:y1, x0:x1], copied)
    step = max(1, round((image.shape[1] * image.shape[2] / MOST_PIXELS) ** 0.5))
    grey = is_grey(image)
    some = (image[0, ::step, ::step] if grey else image[:, ::step, ::step].mean(axis=0)).ravel()
    ends = int(TRIMMED * len(some)), len(some) - 1 - int(TRIMMED * len(some))
    dark, bright = np.partition(some, ends)[list(ends)].tolist()
    view = view_of(image, box)
    return Look(dark, bright, constant_share(image), grey, properties_of(file_of(source)), view, copies)


def blank(looks: Sequence[Look]) -> set[int]:
    """Numbers of the images that show nothing: constant but for a handful of pixels, or next to it among others.

    Args:
        looks: of all good images.
    """
    contrasts = np.array([look.bright - look.dark for look in looks])
    usual = float(np.median(contrasts)) if len(looks) else 0.0
    return set(np.flatnonzero(contrasts < max(GREY_LEVEL, FAINT * usual)).tolist())


def warn_of_looks(looks: Sequence[Look], *, no_noise: bool) -> None:
    """Warn in one line each where good images use little of their range, were saved with much loss, or hold no noise.

    Args:
        looks: of the good images that are not blank.
        no_noise: whether copies with noise are learned too.
    """
    brightest, darkest = max(look.bright for look in looks), min(look.dark for look in looks)
    if brightest < DARK:
        _warn(
            f"the good images are dark: they use {brightest:.1%} of the range; give more light, or an intensity range"
        )
    elif darkest > BRIGHT:
        _warn(f"the good images are nearly white: none is darker than {darkest:.1%} of the range; give less light")
    kinds = [_lossy(look.properties) for look in looks]
    if lossy := [kind for kind in kinds if kind]:
        _warn(
            f"{len(lossy)} of {len(looks)} good images were saved with much loss ({abbreviated(sorted(set(lossy)), 3)})"
            ": what that leaves is learned as normal, and faint defects are lost; save images as PNG"
        )
    if no_noise:
        _warn(
            "the good images hold areas without any noise, as drawings and cut-out backgrounds do; copies with one "
            "grey level of noise, and as JPEG, are learned and calibrated on too, so that these are no defects"
        )


def warn_of_blank(names: Sequence[str], total: int) -> None:
    """Warn in one line of images that show nothing and are left out.

    Args:
        names: of those images.
        total: how many good images there are.
    """
    _warn(
        f"{len(names)} of {total} good images show nothing (black, white or one value), mostly a fault of the camera; "
        f"they are left out: {abbreviated(names, 3)}"
    )


def _lossy(one: Properties) -> str | None:
    if one.format == "GIF":
        return "GIF with 256 colours at most"
    if one.format == "WEBP" and one.is_lossy:
        return "WebP"
    if one.format == "JPEG" and one.quality is not None and one.quality < LOW_QUALITY:
        return f"JPEG of quality about {max(1, round(one.quality, -1))}"
    return None


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=5)
