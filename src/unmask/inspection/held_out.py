"""Held-out images, scored as new ones will be: where the good images hold no noise, with and without some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.imaging.noise import COPIES, with_noise
from unmask.imaging.options import ImageOptions
from unmask.inspection.scoring import Predict, Reading, Scored, score_or_raise


class HeldOut(NamedTuple):
    """The score and the map of a held-out image.

    Attributes:
        score: the highest of the image and of its copies with noise.
        map: (h, w) the highest at each pixel.
    """

    score: float
    map: Float[np.ndarray, "h w"]


def score_held_out(predict: Predict, reading: Reading, images: Sequence[Any], *, noise: bool) -> Iterator[HeldOut]:
    """Score held-out images in their order.

    Args:
        predict: scores squares.
        reading: how an image becomes squares.
        images: held out.
        noise: also score copies with noise, so that a threshold holds for new images with noise and without.

    Raises:
        ImageError: an image has no score.
    """
    if not noise:
        yield from (HeldOut(one.score, one.map) for one in score_or_raise(predict, reading, images))
        return
    plain = replace(reading, options=ImageOptions(max_pixels=reading.options.max_pixels))
    for number, source in enumerate(images):
        image = reading.decode(source)
        copies = (image, *(with_noise(image, kind, number) for kind in range(COPIES)))
        arrays = [copy.transpose(1, 2, 0) for copy in copies]
        yield _highest(score_or_raise(predict, plain, arrays))


def _highest(scored: Iterable[Scored]) -> HeldOut:
    found = list(scored)
    return HeldOut(max(one.score for one in found), np.maximum.reduce([one.map for one in found]))
