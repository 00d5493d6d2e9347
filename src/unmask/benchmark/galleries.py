"""What two methods get most wrong, side by side: of each kind of defect the worst miss, and the worst false alarms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unmask.benchmark.methods import method_of
from unmask.benchmark.results import Row, by_method
from unmask.benchmark.running import SEEN_FOLDER, seen_name
from unmask.datasets import fingerprint, load
from unmask.errors import SettingError, UnmaskError
from unmask.imaging.images import decode, heat, overlay, to_uint8
from unmask.report.thumbnails import data_uri, thumbnail
from unmask.types import Sample, Split

KINDS, ALARMS = 8, 3  # at the most, of a data set


class Shown(NamedTuple):
    """What a method says of an image: its score over its threshold as text, whether it flags it, and its heat map."""

    method: str
    score: str
    flagged: bool
    heat: str


class Case(NamedTuple):
    """An image that one of two methods gets wrong: data URIs, and what both say."""

    name: str
    kind: str
    photo: str
    said: list[Shown]


class Gallery(NamedTuple):
    """The worst of a data set, of one seed."""

    dataset: str
    seed: int
    misses: list[Case]
    alarms: list[Case]


class Seen(NamedTuple):
    """What is kept of a row: its threshold, and of each test image its score and small map, 0 to 255."""

    method: str
    threshold: float
    scores: np.ndarray
    maps: np.ndarray


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
    """A gallery a data set, of the first seed that all the methods have; data sets that are gone are left out.

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
        split = _still_there(mine[0])
        seen = [one for row in mine if (one := _seen(folder, row)) is not None]
        if split is not None and len(seen) == len(mine):
            yield _gallery(split, seed, seen)


def _still_there(row: Row) -> Split | None:
    try:
        split = load(row["folder"], seed=row["seed"])
        return split if fingerprint(split) == row["fingerprint"] else None
    except UnmaskError:
        return None


def _seen(folder: Path, row: Mapping[str, Any]) -> Seen | None:
    try:
        with np.load(folder / SEEN_FOLDER / seen_name(row), allow_pickle=False) as kept:
            return Seen(method_of(row), row["threshold"], kept["scores"], kept["maps"])
    except (OSError, ValueError, KeyError):
        return None


def _gallery(split: Split, seed: int, seen: Sequence[Seen]) -> Gallery:
    tests = list(split.test)
    kinds = list(dict.fromkeys(sample.kind for sample in tests if sample.anomalous))[:KINDS]
    misses = [
        i for kind in kinds for one in seen for i in _worst(one, [s.anomalous and s.kind == kind for s in tests], 1, -1)
    ]
    alarms = [i for one in seen for i in _worst(one, [not s.anomalous for s in tests], ALARMS, 1)]
    return Gallery(
        split.name,
        seed,
        [_case(tests[i], i, seen) for i in dict.fromkeys(misses)],
        [_case(tests[i], i, seen) for i in dict.fromkeys(alarms)],
    )


def _worst(seen: Seen, among: Sequence[bool], n: int, sign: int) -> list[int]:
    """Of some images those that are furthest on the wrong side of the threshold: above it (+1), or not above (-1)."""
    margin = sign * (seen.scores - seen.threshold)
    wrong = np.array(among) & (margin > 0 if sign > 0 else margin >= 0)
    ranked = np.argsort(-np.where(wrong, margin, -np.inf), kind="stable")
    return [int(i) for i in ranked[: min(n, int(wrong.sum()))]]


def _case(sample: Sample, index: int, seen: Sequence[Seen]) -> Case:
    photo = thumbnail(to_uint8(decode(sample.path)))
    said = [_said(photo, one, index) for one in seen]
    return Case(f"{sample.path.parent.name}/{sample.path.name}", sample.kind, data_uri(to_uint8(photo)), said)


def _said(photo: np.ndarray, seen: Seen, index: int) -> Shown:
    h, w = photo.shape[1:]
    plane = Image.fromarray(seen.maps[index]).resize((w, h), Image.Resampling.BILINEAR)
    colours = heat(np.asarray(plane, np.float32) / 255)
    picture = overlay(photo, colours, np.zeros((h, w), bool), strength=0.65)
    score = float(seen.scores[index])
    return Shown(seen.method, f"{score:.4g} of {seen.threshold:.4g}", score > seen.threshold, data_uri(picture))
