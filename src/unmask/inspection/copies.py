"""Which copies of a good image are learned and calibrated on beside it: disturbed ones, and ones with a little noise.

A copy is named by its kind: a kind of `Tolerance`, or "grain 0" to "grain 4", one grey level of noise for images that
hold none (`imaging.noise`). "as it is" is the image itself. The number of an image decides which kinds its copies have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.imaging.noise import COPIES as GRAINS
from unmask.imaging.noise import with_noise
from unmask.imaging.tiling import Tiling
from unmask.imaging.tolerance import Tolerance, working_copy

AS_IT_IS = "as it is"
GRAIN = "grain "
LEAST_COPIES = 2
"""Disturbed copies of each image, at least: more cost time and teach little (docs/experiments/0007)."""
COPIES_OF_KIND = 45
"""Copies that each kind has at least, where there are few images, so that each is learned and its cost is known."""


class Variant(NamedTuple):
    """An image or a copy of it, and how it becomes squares.

    Attributes:
        image: RGB float32 in [0, 1]; a copy of a large photograph is smaller.
        tiling: of this image.
    """

    image: Float[np.ndarray, "3 h w"]
    tiling: Tiling


@dataclass(frozen=True)
class Copies:
    """What is learned and calibrated on beside each image.

    Attributes:
        tolerance: the kinds of disturbed copies; "none" has none.
        is_noise_free: whether the images hold no noise, so that copies with one grey level of it are wanted.
        n: how many images there are; of few, each has more disturbed copies.
    """

    tolerance: Tolerance
    is_noise_free: bool
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model file."""
        return {"tolerance": dict(self.tolerance.amounts), "noise_added": self.is_noise_free}

    @classmethod
    def of(cls, facts: Mapping[str, Any], n: int) -> Copies:
        """The copies of n images for a model, by what its file says; older versions had none but of noise."""
        return cls(Tolerance(facts.get("tolerance", {})), bool(facts.get("noise_added")), n)

    @property
    def count(self) -> int:
        """Disturbed copies of each image."""
        return max(LEAST_COPIES, math.ceil(COPIES_OF_KIND * len(self.tolerance.kinds) / max(1, self.n)))

    def learned(self, number: int) -> tuple[str, ...]:
        """The kinds, "as it is" first, in which an image is learned."""
        grain = (f"{GRAIN}{number % GRAINS}",) if self.is_noise_free else ()
        return (AS_IT_IS, *grain, *self.tolerance.kinds_of(number, self.count))

    def calibrated(self, number: int) -> tuple[str, ...]:
        """The kinds, "as it is" first, in which an image is calibrated on."""
        grain = tuple(f"{GRAIN}{kind}" for kind in range(GRAINS)) if self.is_noise_free else ()
        return (AS_IT_IS, *grain, *self.tolerance.kinds_of(number, self.count))

    def variant(self, image: Float[np.ndarray, "3 h w"], tiling: Tiling, kind: str, number: int) -> Variant:
        """An image in one of its kinds.

        Args:
            image: RGB float32 in [0, 1].
            tiling: of images of that size.
            kind: one of `learned` or `calibrated`.
            number: of the image, which seeds the copy.
        """
        if kind == AS_IT_IS:
            return Variant(image, tiling)
        if kind.startswith(GRAIN):
            return Variant(with_noise(image, int(kind.removeprefix(GRAIN)), number), tiling)
        reduced, own = working_copy(image, tiling)
        return Variant(self.tolerance.copy(reduced, kind, (number,)), own)


def group_of(kind: str) -> str:
    """The kind whose promise a copy stands for: grain belongs to the images as they are."""
    return AS_IT_IS if kind.startswith(GRAIN) else kind
