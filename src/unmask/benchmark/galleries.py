"""What two methods get most wrong, side by side: the worst miss of each kind of defect, and the worst false alarms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unmask.benchmark.methods import method_of
from unmask.benchmark.results import Row, by_method, prints_of, same_files
from unmask.benchmark.running import PREDICTIONS_FOLDER, predictions_name
from unmask.datasets import load
from unmask.errors import SettingError, UnmaskError
from unmask.imaging.images import decode, heat, overlay, to_uint8
from unmask.report.thumbnails import data_uri, thumbnail
from unmask.types import Sample, Split

KINDS, ALARMS = 8, 3  # of a data set, at most


class Verdict(NamedTuple):
    """The verdict of a method on an image: its score and threshold as text, whether it flags it, and its heat map."""

    method: str
    score: str
    flagged: bool
    heat: str


class Case(NamedTuple):
    """An image that one of two methods gets wrong, as a data URI, and the verdicts of both."""

    name: str
    kind: str
    photo: str
    verdicts: list[Verdict]


class Gallery(NamedTuple):
    """The worst cases of a data set, of one seed."""

    dataset: str
    seed: int
    misses: list[Case]
    alarms: list[Case]


class Predictions(NamedTuple):
    """The predictions of a row.

    Attributes:
        method: whose they are.
        threshold: of the row.
        scores: (n,) of the images that were tested.
        maps: (n, side, side) small maps, 0 to 255.
        tested: (n,) places of these images in the whole test set.
    """

    method: str
    threshold: float
    scores: np.ndarray
    maps: np.ndarray
    tested: np.ndarray


def two_of(rows: Sequence[Row], wanted: str | None, best_first: Sequence[str]) -> list[str]:
    """The two methods to show.

    Raises:
        SettingError: `wanted` does not name two methods that were measured.
    """
    if wanted is None:
        return list(best_first[:2])
    names = {method_of(row): row["detector"] for row in rows}
    found: list[str] = []
    for one in wanted.split(","):
        matches = {full for full, short in names.items() if one.strip() in (full, short)}
        if len(matches) != 1:
            raise SettingError(f"--side-by-side {wanted}: give two of the measured methods: {', '.join(names)}")
        found += matches
    if len(set(found)) != 2:
        raise SettingError(f"--side-by-side {wanted}: give two methods that differ")
    return found


def galleries(folder: Path, rows: Sequence[Row], methods: Sequence[str]) -> Iterator[Gallery]:
    """A gallery for each data set, of the first seed that all the methods have; data sets that are gone are left out.

    Args:
        folder: of the results.
        rows: of all methods.
        methods: one or two.
    """
    measured = {name: {(row["dataset"], row["seed"]): row for row in some} for name, some in by_method(rows).items()}
    shared = set.intersection(*(set(measured.get(name, {})) for name in methods))
    for dataset in sorted({name for name, _ in shared}):
        seed = min(seed for name, seed in shared if name == dataset)
        mine = [measured[name][dataset, seed] for name in methods]
        split = _split(mine[0])
        predictions = [one for row in mine if (one := _predictions(folder, row)) is not None]
        if split is not None and len(predictions) == len(mine):
            yield _gallery(split, seed, predictions)


def _split(row: Row) -> Split | None:
    """The data set of a row; None where it is gone or has changed."""
    try:
        split = load(row["folder"], seed=row["seed"], recursive=row.get("recursive", True))
        return split if same_files(row, prints_of(split)) else None
    except UnmaskError:
        return None


def _predictions(folder: Path, row: Mapping[str, Any]) -> Predictions | None:
    """The predictions of a row; None where the file is gone or of an older version."""
    try:
        with np.load(folder / PREDICTIONS_FOLDER / predictions_name(row), allow_pickle=False) as stored:
            arrays = (stored[name] for name in ("scores", "maps", "tested"))
            return Predictions(method_of(row), row["threshold"], *arrays)
    except (OSError, ValueError, KeyError):
        return None


def _gallery(split: Split, seed: int, predictions: Sequence[Predictions]) -> Gallery:
    tests = [split.test[place] for place in predictions[0].tested]  # the same for all methods
    kinds = list(dict.fromkeys(sample.kind for sample in tests if sample.anomalous))[:KINDS]
    misses = [
        i
        for kind in kinds
        for one in predictions
        for i in _worst(one, [sample.anomalous and sample.kind == kind for sample in tests], 1, -1)
    ]
    alarms = [i for one in predictions for i in _worst(one, [not sample.anomalous for sample in tests], ALARMS, 1)]
    return Gallery(
        split.name,
        seed,
        [_case(tests[i], i, predictions) for i in dict.fromkeys(misses)],
        [_case(tests[i], i, predictions) for i in dict.fromkeys(alarms)],
    )


def _worst(predictions: Predictions, among: Sequence[bool], n: int, sign: int) -> list[int]:
    """Of some images those that are furthest on the wrong side of the threshold: above it (+1), or not above (-1)."""
    margin = sign * (predictions.scores - predictions.threshold)
    wrong = np.array(among) & (margin > 0 if sign > 0 else margin >= 0)
    ranked = np.argsort(-np.where(wrong, margin, -np.inf), kind="stable")
    return [int(i) for i in ranked[: min(n, int(wrong.sum()))]]


def _case(sample: Sample, index: int, predictions: Sequence[Predictions]) -> Case:
    photo = thumbnail(to_uint8(decode(sample.path)))
    verdicts = [_verdict(photo, one, index) for one in predictions]
    return Case(f"{sample.path.parent.name}/{sample.path.name}", sample.kind, data_uri(to_uint8(photo)), verdicts)


def _verdict(photo: np.ndarray, predictions: Predictions, index: int) -> Verdict:
    h, w = photo.shape[1:]
    plane = Image.fromarray(predictions.maps[index]).resize((w, h), Image.Resampling.BILINEAR)
    colours = heat(np.asarray(plane, np.float32) / 255)
    picture = overlay(photo, colours, np.zeros((h, w), bool), strength=0.65)
    score, threshold = float(predictions.scores[index]), predictions.threshold
    text = f"score {score:.4g}, threshold {threshold:.4g}"
    return Verdict(predictions.method, text, score > threshold, data_uri(picture))
