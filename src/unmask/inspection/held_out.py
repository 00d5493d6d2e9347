"""Good images that a detector has not seen, scored as new ones will be: as they are, and disturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.imaging.options import ImageOptions
from unmask.inspection.copies import AS_IT_IS, Copies, Variant, group_of
from unmask.inspection.scoring import BATCH, Predict, Reading, Scored, score_or_raise


class HeldOut(NamedTuple):
    """What a detector that has not seen an image says of it, or of a copy.

    Attributes:
        kind: what was done to the image: "as it is", or a kind of disturbance.
        score: of the image.
        peak: the largest value of its map.
        median: the median of its map.
    """

    kind: str
    score: float
    peak: float
    median: float

    @classmethod
    def of(cls, kind: str, score: float, anomaly_map: Float[np.ndarray, "h w"]) -> HeldOut:
        """The facts of a score and a map."""
        return cls(group_of(kind), float(score), float(anomaly_map.max()), float(np.median(anomaly_map)))


class Unseen(NamedTuple):
    """What is known of good images that a detector has not seen.

    Attributes:
        scored: for each image, one `HeldOut` of each of its kinds.
        predict: a detector that has not seen `images`: it scores squares.
        images: some of the images, or all.
    """

    scored: list[list[HeldOut]]
    predict: Predict
    images: Sequence[Any]


def score_held_out(
    predict: Predict, reading: Reading, images: Sequence[Any], copies: Copies
) -> Iterator[list[HeldOut]]:
    """Score held-out images in their order, each as it is and in its copies.

    Args:
        predict: scores squares.
        reading: how an image becomes squares.
        images: held out.
        copies: which copies are scored too.

    Yields:
        For each image, one of each kind: where several copies are of one kind, that with the higher score.

    Raises:
        ImageError: an image has no score.
    """
    if all(len(copies.calibrated(number)) == 1 for number in range(len(images))):
        yield from ([HeldOut.of(AS_IT_IS, one.score, one.map)] for one in score_or_raise(predict, reading, images))
        return
    for number, source in enumerate(images):
        image = reading.decode(source)
        kinds = copies.calibrated(number)
        variants = [copies.variant(image, reading.tiling, kind, number) for kind in kinds]
        yield highest(
            HeldOut.of(k, one.score, one.map) for k, one in zip(kinds, _scored(predict, reading, variants), strict=True)
        )


def highest(found: Iterator[HeldOut]) -> list[HeldOut]:
    """One of each kind: the highest score, and the highest peak."""
    best: dict[str, HeldOut] = {}
    for one in found:
        other = best.get(one.kind, one)
        best[one.kind] = other._replace(score=max(one.score, other.score), peak=max(one.peak, other.peak))
    return list(best.values())


def _scored(predict: Predict, reading: Reading, variants: Sequence[Variant]) -> Iterator[Scored]:
    """Score variants of an image, those of one size together."""
    options = ImageOptions(max_pixels=reading.options.max_pixels)
    start = 0
    for end in range(1, len(variants) + 1):
        if end < len(variants) and variants[end].tiling == variants[start].tiling:
            continue
        arrays = [variant.image.transpose(1, 2, 0) for variant in variants[start:end]]
        yield from score_or_raise(
            predict, replace(reading, tiling=variants[start].tiling, options=options), arrays, BATCH
        )
        start = end
