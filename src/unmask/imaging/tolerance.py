"""What a user tolerates: which disturbances, how much of each, and which of them a copy of a good image gets.

"mild" is what a line does on an ordinary day, "strong" what it does on a bad one, "none" learns the photographs as they
are. A list such as "blur,shift=6%" names kinds; those without an amount get the mild one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from unmask.errors import SettingError
from unmask.imaging.disturbances import QUALITY_MOST, TAUGHT, drawn
from unmask.imaging.tiling import Tiling

MILD = {
    "blur": 0.005,
    "jpeg": 65.0,
    "noise": 0.015,
    "motion": 0.015,
    "light": 0.2,
    "color": 0.06,
    "shift": 0.04,
    "turn": 4.0,
    "zoom": 0.03,
}
STRONG = {
    "blur": 0.01,
    "jpeg": 40.0,
    "noise": 0.03,
    "motion": 0.03,
    "light": 0.4,
    "color": 0.12,
    "shift": 0.08,
    "turn": 8.0,
    "zoom": 0.06,
}
LEVELS: Mapping[str, Mapping[str, float]] = MappingProxyType({"none": {}, "mild": MILD, "strong": STRONG})
LIMITS = {
    "blur": (0.0, 0.1),
    "jpeg": (5.0, float(QUALITY_MOST)),
    "noise": (0.0, 0.3),
    "motion": (0.0, 0.3),
    "light": (0.0, 0.9),
    "color": (0.0, 0.9),
    "shift": (0.0, 0.25),
    "turn": (0.0, 180.0),
    "zoom": (0.0, 0.5),
}
"""Kind -> the amounts between which one can be asked for; see `disturbances.TAUGHT` for what they are."""
PLAIN = ("jpeg", "turn")
"""The kinds whose amounts are no shares: quality, and degrees."""
WORKING_SIDES = 2
"""Sides of a detector's square that the shorter side of a copy has at least: copies of a large photograph are drawn
from a reduced one, in which nothing is lost that the detector would see."""


@dataclass(frozen=True)
class Tolerance:
    """The kinds of disturbance that are tolerated, and the most of each.

    Attributes:
        amounts: kind -> amount, in the order of `disturbances.TAUGHT`.

    Raises:
        SettingError: an unknown kind, or an amount out of range.
    """

    amounts: Mapping[str, float]

    def __post_init__(self) -> None:
        for kind, amount in self.amounts.items():
            if kind not in TAUGHT:
                raise SettingError(
                    f"tolerate: {kind[:40]!r} is no kind; give {', '.join(LEVELS)}, or of {_all_kinds()}"
                )
            low, high = LIMITS[kind]
            if not low < amount <= high:
                least, most = (written(kind, one) for one in (low, high))
                raise SettingError(
                    f"tolerate: {kind}={written(kind, amount)} is out of range; give more than {least}, up to {most}"
                )

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """What "mild", "none", "strong" or a list such as "blur,jpeg=75,shift=6%" means.

        Raises:
            SettingError: it is none of these.
        """
        if text.strip() in LEVELS:
            return cls(LEVELS[text.strip()])
        given = dict(_kind_and_amount(part) for part in text.split(","))
        if len(given) < len(text.split(",")):
            raise SettingError(f"tolerate={text[:60]} names a kind twice; give each once")
        return cls({kind: given[kind] for kind in (*TAUGHT, *given) if kind in given})

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are tolerated."""
        return tuple(self.amounts)

    def of_grey(self) -> Tolerance:
        """The same without colour, which a grey camera cannot change."""
        return Tolerance({kind: amount for kind, amount in self.amounts.items() if kind != "color"})

    def kinds_of(self, number: int, count: int) -> tuple[str, ...]:
        """The kinds that the copies of one image of many get, in turn, so that all kinds are equally frequent."""
        count = min(count, len(self.kinds))
        return tuple(self.kinds[(number * count + i) % len(self.kinds)] for i in range(count))

    def copy(self, image: Float[np.ndarray, "3 h w"], kind: str, seed: Sequence[int]) -> Float[np.ndarray, "3 h w"]:
        """A copy of an image, disturbed by at most the amount of a kind.

        Args:
            image: RGB float32 in [0, 1].
            kind: one of `kinds`.
            seed: numbers; equal ones draw equal copies.
        """
        return drawn(image, kind, self.amounts[kind], np.random.default_rng([*seed, list(TAUGHT).index(kind)]))

    def __str__(self) -> str:
        for level, amounts in LEVELS.items():
            if dict(self.amounts) == dict(amounts):
                return level
        return ",".join(f"{kind}={written(kind, amount)}" for kind, amount in self.amounts.items())


def written(kind: str, amount: float) -> str:
    """An amount as a user writes it: "6%", or "75" of what is no share."""
    return f"{amount:g}" if kind in PLAIN else f"{100 * amount:g}%"


def working_size(h: int, w: int, tiling: Tiling) -> tuple[int, int, Tiling]:
    """The size at which copies of a photograph of h x w pixels are drawn, and the way from there to the same squares.

    Args:
        h: height of the photograph.
        w: width.
        tiling: of images of that size.
    """
    x0, y0, x1, y1 = tiling.region(h, w)
    factor = 1 if tiling.tile is not None else min(y1 - y0, x1 - x0) // (WORKING_SIDES * tiling.size)
    return (
        (h, w, tiling) if factor < 2 else (h // factor, w // factor, tiling.reduced(factor, h // factor, w // factor))
    )


def working_copy(image: Float[np.ndarray, "3 h w"], tiling: Tiling) -> tuple[Float[np.ndarray, "3 _h _w"], Tiling]:
    """A photograph at its working size, and the way from there to the same squares; see `working_size`."""
    h, w, own = working_size(image.shape[1], image.shape[2], tiling)
    factor = image.shape[1] // h
    if factor < 2:
        return image, tiling
    blocks = image[:, : h * factor, : w * factor].reshape(3, h, factor, w, factor)
    return blocks.mean(axis=(2, 4), dtype=np.float32), own


def _kind_and_amount(part: str) -> tuple[str, float]:
    kind, is_given, text = (one.strip() for one in part.partition("="))
    if kind not in TAUGHT:
        raise SettingError(f"tolerate: {kind[:40]!r} is no kind; give {', '.join(LEVELS)}, or of {_all_kinds()}")
    if not is_given:
        return kind, MILD[kind]
    try:
        amount = float(text.removesuffix("%"))
    except ValueError:
        example = f"{kind}={written(kind, MILD[kind])}"
        raise SettingError(f"tolerate: {part.strip()[:40]!r} has no amount; give one such as {example}") from None
    return kind, amount / 100 if text.endswith("%") else amount


def _all_kinds() -> str:
    return ", ".join(TAUGHT)
