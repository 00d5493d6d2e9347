"""The sensitivity card: which share of planted marks a fitted detector finds, by kind, contrast and size.

It is made when a model is fitted, without any defect, on good images that the detector did not learn from. At each
place the smallest size that is found is searched by bisection, for at one place a larger mark covers a smaller one: a
place costs three predictions instead of one for each size. It is an estimate: real defects are no discs and lines.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from unmask.imaging.fingerprints import content_hash
from unmask.imaging.planted import KINDS, MISSING, MOVED, SCRATCH, WITH_CONTRAST, Place, placed
from unmask.inspection.calibration import Calibration
from unmask.inspection.planting import View, view_of
from unmask.inspection.scoring import BATCH, Predict, Reading

FAINT, STRONG = 0.2, 0.5
"""Contrasts, about those of the fainter and of the stronger real defects on magnetic_tile and ksdd_crops."""

N_SIZES, STEP = 7, 1.7  # 7 sizes and "none of them" are told apart by 3 predictions
SMALLEST = {SCRATCH: 0.02, MISSING: 0.012, MOVED: 0.012}  # size of the smallest mark; of spots 0.01
MOST_PLACES, LEAST_PLACES = 10, 4  # of a row
PREDICTIONS = 3 * (len(KINDS) + len(WITH_CONTRAST))  # at most, of one place in each row
SECONDS = 20.0
MOST_HASHED = 200  # images that are decoded to choose among them by their contents; of more, every second or third

_T = TypeVar("_T")


@runtime_checkable
class Run(Protocol):
    """What is needed of the settings of a fit (`Training`)."""

    @property
    def seed(self) -> int:
        """Of all that is drawn."""

    @property
    def progress(self) -> Callable[[str, int, int, float], None]:
        """Takes the stage, steps done, all steps, and seconds left."""


def sizes_of(kind: str) -> list[float]:
    """The sizes that are tried, as shares of the shorter side of what the network sees as one square."""
    return [SMALLEST.get(kind, 0.01) * STEP**number for number in range(N_SIZES)]


@dataclass
class _Search:
    """The smallest size that is found at one place: its number lies in [low, high], and N_SIZES means none.

    Attributes:
        is_marked: whether the map marks the place, at the smallest size that was found so far.
    """

    view: View
    place: Place
    contrast: float | None
    low: int = 0
    high: int = N_SIZES
    is_marked: bool = False

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2

    def answer(self, is_found: bool, is_marked: bool) -> None:
        if is_found:
            self.high, self.is_marked = self.middle, is_marked
        else:
            self.low = self.middle + 1


class _Judge(NamedTuple):
    """A detector and its thresholds."""

    predict: Predict
    calibration: Calibration

    def good(self, views: Sequence[View]) -> list[int]:
        """The numbers of views that are not flagged as they are: others would be "found" at any size."""
        found = [self.predict(np.stack([view.square() for view in some])) for some in _batches(views)]
        scores = np.concatenate([np.asarray(one.scores) for one in found])
        return [number for number, score in enumerate(scores) if score <= self.calibration.threshold]

    def narrow(self, searches: Sequence[_Search]) -> None:
        """Halve the range of each search."""
        for some in _batches(searches):
            marks = [one.view.marked(one.place, sizes_of(one.place.kind)[one.middle], one.contrast) for one in some]
            found = self.predict(np.stack([square for square, _ in marks]))
            for one, (_, at), score, anomaly in zip(some, marks, found.scores, found.maps, strict=True):
                is_marked = bool((anomaly[at] > self.calibration.pixel_threshold).any())
                one.answer(bool(score > self.calibration.threshold), is_marked)


def card(  # noqa: D417 - arguments that belong together share a line
    predict: Predict,
    reading: Reading,
    images: Sequence[Any],
    calibration: Calibration,
    run: Run,
    seconds: float = SECONDS,
) -> dict[str, Any] | None:
    """Plant marks on good images, and count which are found at the threshold.

    The card depends on the seed and on what the images show, not on their order. A good image that is flagged as it is
    tells nothing and is left out. Of tiled images one tile each is looked at.

    Args:
        predict, reading: score squares, and make them from images.
        images: good ones that were not learned from, of which up to 10 are used.
        calibration: whose thresholds count.
        run: whose seed decides which images are used and where marks lie, and whose progress is called with the stage
            "sensitivity".
        seconds: about how long it may take: a slow detector is tried at fewer places, but at least 4 a row.

    Returns:
        Plain values for JSON, None if every image is flagged as it is:
        `n_images`; `n_places` of each row; `side`, the photographs' shorter side in pixels; `threshold`; and `rows`,
        each with `kind`, `contrast` (None: pieces have none), `sizes` in pixels of the photograph, `found` (the share
        at each size) and `marked` (share of the found whose place the map marks; None: none was found).

    Raises:
        ImageError: an image cannot be read.
    """
    chosen = _chosen(images, reading, run.seed)
    views = [view_of(reading, image, _random(run.seed, content)) for content, image in chosen]
    judge, before = _Judge(predict, calibration), (time.monotonic(), time.process_time())
    good = judge.good(views)
    # of time and of the processor's time the shorter: other work on the machine must not change a card
    pace = min(time.monotonic() - before[0], time.process_time() - before[1]) / len(views)
    if not good:
        return None
    n = max(LEAST_PLACES, min(MOST_PLACES, int(seconds / max(pace, 1e-9) / PREDICTIONS)))
    used = [(views[number], chosen[number][0]) for number in good[:n]]
    rows = _searched(judge, used, n, run)
    side = float(np.median([view.side for view, _ in used]))
    return {
        "n_images": len(used),
        "n_places": n,
        "side": round(float(np.median([view.photograph for view, _ in used]))),
        "threshold": calibration.threshold,
        "rows": [_row(*key, searches, side) for key, searches in rows.items()],
    }


def _chosen(images: Sequence[Any], reading: Reading, seed: int) -> list[tuple[str, Any]]:
    """Images and the hashes of their contents, by which the seed chooses."""
    some = images[:: math.ceil(len(images) / MOST_HASHED)]
    hashed = [(content_hash(reading.pixels(image).values), image) for image in some]
    return sorted(hashed, key=lambda one: _digest(seed, one[0]))[:MOST_PLACES]


def _searched(
    judge: _Judge, used: Sequence[tuple[View, str]], n: int, run: Run
) -> dict[tuple[str, float | None], list[_Search]]:
    """Search n places of each kind, first at the strong contrast: what is not found there is not found fainter."""
    strong: dict[tuple[str, float | None], list[_Search]] = {}
    for kind in KINDS:
        contrast = STRONG if kind in WITH_CONTRAST else None
        strong[kind, contrast] = [
            _Search(view, placed(kind, view.picture, view.on, _random(run.seed, content, kind, number)), contrast)
            for number in range(n)
            for view, content in [used[number % len(used)]]
        ]
    start, total, done = time.monotonic(), PREDICTIONS * n, 0

    def search(searches: Sequence[_Search]) -> None:
        nonlocal done
        while open_ones := [one for one in searches if one.low < one.high]:
            judge.narrow(open_ones)
            done += len(open_ones)
            run.progress("sensitivity", done, total, (time.monotonic() - start) / done * (total - done))

    search([one for some in strong.values() for one in some])
    faint: dict[tuple[str, float | None], list[_Search]] = {
        (kind, FAINT): [_Search(one.view, one.place, FAINT, low=one.high) for one in strong[kind, STRONG]]
        for kind in WITH_CONTRAST
    }
    search([one for some in faint.values() for one in some])
    run.progress("sensitivity", total, total, 0.0)
    both = {**strong, **faint}
    return {key: both[key] for kind in KINDS for key in both if key[0] == kind}


def _row(kind: str, contrast: float | None, searches: Sequence[_Search], side: float) -> dict[str, Any]:
    smallest = np.array([one.high for one in searches])
    is_found = smallest < N_SIZES
    return {
        "kind": kind,
        "contrast": contrast,
        "sizes": [float(f"{share * side:.3g}") for share in sizes_of(kind)],
        "found": [round(float((smallest <= number).mean()), 4) for number in range(N_SIZES)],
        "marked": round(float(np.mean([one.is_marked for one in searches if one.high < N_SIZES])), 4)
        if is_found.any()
        else None,
    }


def _batches(items: Sequence[_T]) -> list[Sequence[_T]]:
    return [items[first : first + BATCH] for first in range(0, len(items), BATCH)]


def _digest(seed: int, *words: object) -> bytes:
    return hashlib.blake2b(repr((seed, *words)).encode(), digest_size=16).digest()


def _random(seed: int, *words: object) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(_digest(seed, *words), "big"))
