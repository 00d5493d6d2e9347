"""Cross-conformal calibration: every good image is learned from, and scored by a fit that has not seen it.

Cross-conformal prediction (Vovk 2015; Barber and others 2021): the images are dealt into folds, a detector is fitted
without each fold and scores it, and the thresholds come from the scores of all n images; the detector that is kept
learns from all of them. The false-alarm rate stays below twice the promised one, and near it in practice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.detectors import Detector
from unmask.detectors.base import Crossed
from unmask.features.groups import Fold
from unmask.imaging.tiling import merge
from unmask.imaging.tolerance import working_size
from unmask.inspection.held_out import HeldOut, Unseen, highest
from unmask.inspection.torch_backend import TorchBackend
from unmask.inspection.training_images import TrainingImages
from unmask.training.trainer import Training
from unmask.types import Prediction

FOLDS = 5
ONE_BY_ONE = 15  # images; of fewer, each is a fold of its own, for a fifth of them is a lot to do without
BATCH = 8


class ImageFold(NamedTuple):
    """Images by what one fit does with them.

    Attributes:
        left_out: numbers of those that it does not learn from.
        scored: of those, one a scene.
    """

    left_out: list[int]
    scored: list[int]


def folds_of(units: Sequence[tuple[str, Sequence[int], Sequence[int]]], seed: int) -> list[ImageFold]:
    """Deal images into folds.

    Args:
        units: that stay together: for each a name that decides, the numbers of all its images, and of one a scene.
        seed: another one deals otherwise.
    """
    order = sorted(units, key=lambda unit: hashlib.blake2b(f"{seed}/{unit[0]}".encode(), digest_size=8).digest())
    n = len(units) if len(units) < ONE_BY_ONE else FOLDS
    dealt = [order[fold::n] for fold in range(n)]
    return [
        ImageFold([number for unit in fold for number in unit[1]], [number for unit in fold for number in unit[2]])
        for fold in dealt
    ]


def fit_and_score(detector: Detector, images: TrainingImages, folds: Sequence[ImageFold], training: Training) -> Unseen:
    """Fit a detector to all images, and score each of them by a fit that has not seen it.

    Args:
        detector: that is fitted to all of them.
        images: with all copies that are calibrated on.
        folds: of the images.
        training: how to run.

    Returns:
        What is said of each image that is scored, and the images of the first fold with the fit that lacks them.
    """
    everything = {place.number for place in images.places}
    rows_of = _rows_by_number(images)
    rows = [
        Fold(
            torch.tensor(images.learned_rows(everything - set(fold.left_out))),
            torch.tensor([row for number in fold.scored for row in rows_of[number]]),
        )
        for fold in folds
    ]
    crossed = detector.fit_crossed(images, torch.tensor(images.learned_rows(everything)), rows, training)
    total, start = sum(len(fold.scored) for fold in folds), time.monotonic()
    found: list[list[HeldOut]] = []
    for one in _scored(crossed, images):
        found.append(one)
        left = (time.monotonic() - start) / len(found) * (total - len(found))
        training.progress("calibrate", len(found), total, left)
    first = TorchBackend(crossed.twins[0][0]).predict
    return Unseen(found, first, [images.sources[number] for number in folds[0].scored])


def _scored(crossed: Crossed, images: TrainingImages) -> Iterator[list[HeldOut]]:
    """For each image that is scored, one of each of its kinds."""
    for twin, rows in crossed.twins:
        predictions = _each(twin.score_rows(crossed.images, part) for part in rows.split(BATCH))
        pairs = zip(rows.tolist(), predictions, strict=True)
        for number, some in groupby(pairs, key=lambda pair: images.places[pair[0]].number):
            yield highest(_held_out(images, number, some))


def _rows_by_number(images: TrainingImages) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, place in enumerate(images.places):
        found.setdefault(place.number, []).append(row)
    return found


def _each(predictions: Iterator[Prediction]) -> Iterator[tuple[Tensor, float]]:
    """The map and the score of each square."""
    for some in predictions:
        yield from zip(some.maps.cpu(), some.scores.tolist(), strict=True)


def _held_out(
    images: TrainingImages, number: int, squares: Iterator[tuple[int, tuple[Tensor, float]]]
) -> Iterator[HeldOut]:
    """What a fit says of an image and each of its copies, from what it says of their squares."""
    h, w, tiling = working_size(*images.sizes[number], images.reading.tiling)
    for kind, some in groupby(squares, key=lambda pair: images.places[pair[0]].kind):
        maps, scores = zip(*(found for _, found in some), strict=True)
        yield HeldOut.of(kind, max(scores), merge((one.numpy() for one in maps), tiling, h, w))
