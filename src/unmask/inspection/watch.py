"""Watches a stream of images: have they left what the good ones were like, since which image, and in what?

Two things are asked of each number (the measures of `imaging.measures`, and the score of images judged good). Is there
evidence that it is not distributed as on the normal images? `martingale` gives it, with its bound on false warnings.
And do the images lie outside of what is usual, most of them, from some image on (CUSUM of how many do; Page 1954)? Real
images come in lots that differ a little, which is evidence, and nothing that anybody has to be told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from unmask.errors import SettingError
from unmask.inspection.calibration import Calibration
from unmask.inspection.martingale import ChangeTest, Direction
from unmask.inspection.usual import Usual

IMAGES_TO_A_FALSE_WARNING = 10_000
TAIL = 0.025  # share of the normal images below the usual range, and as many above it
MARGIN = 0.1  # of the width of the usual range, by which an image must lie outside of it
RUN = 16
"""Images more outside than inside, since the change, before it is told. With 8, lots of a few parts that differ from
what was learned were told on three of six real sets; with 16 on one (`benchmarks/stream_watch.py`)."""
RECENT = 200  # values that are kept to tell by how much a number has changed
SCORE = "score"
LEAST_SCORES = 8

LOWER, HIGHER, APART = Direction


class Wording(NamedTuple):
    """How a change of a number is told.

    Attributes:
        lower, higher: what the pictures do then; {} stands for how much. None = is no change to tell of.
        noun: what they vary in, where they do so more than is usual.
        is_ratio: whether the amount is a share of what was usual; otherwise a difference of shares.
        least: the width of the usual range is at least this: less is nothing that matters.
    """

    lower: str | None
    higher: str | None
    noun: str | None
    is_ratio: bool
    least: float

    @property
    def directions(self) -> list[Direction]:
        """Those in which a change counts."""
        words = zip(Direction, (self.lower, self.higher, self.noun), strict=True)
        return [direction for direction, word in words if word is not None]


WORDINGS: dict[str, Wording] = {
    "brightness": Wording("are {} darker", "are {} brighter", "brightness", True, 0.02),
    "contrast": Wording("have {} less contrast", "have {} more contrast", "contrast", True, 0.01),
    "sharpness": Wording("are {} less sharp", "are {} sharper", "sharpness", True, 0.02),
    "noise": Wording(None, "have {} more noise", None, True, 0.001),  # focus and compression take noise away
    "blocks": Wording(None, "show the blocks of JPEG {} more", None, True, 0.05),
    "red": Wording("are {} less red", "are {} redder", "colour", True, 0.02),
    "blue": Wording("are {} less blue", "are {} bluer", "colour", True, 0.02),
    "light_x": Wording("are lit {} more from the left", "are lit {} more from the right", "light", False, 0.02),
    "light_y": Wording("are lit {} more from above", "are lit {} more from below", "light", False, 0.02),
    "x": Wording("show the part {} of the width to the left", "show the part {} of the width to the right", "place",
                 False, 0.01),
    "y": Wording("show the part {} of the height further up", "show the part {} of the height further down", "place",
                 False, 0.01),
    "extent": Wording("show the part {} smaller", "show the part {} larger", "size", True, 0.01),
    "direction": Wording("show the part turned", "show the part turned", "pose", False, 0.02),
    SCORE: Wording(None, "that are judged good score {} higher", None, True, 0.0),
}  # fmt: skip


SYMPTOM_OF: dict[tuple[str, Direction], set[tuple[str, Direction]]] = {
    ("sharpness", HIGHER): {("noise", HIGHER)},
    ("contrast", LOWER): {("sharpness", LOWER), ("brightness", LOWER)},
    ("contrast", HIGHER): {("brightness", HIGHER)},
    **{("light_x", one): {("x", LOWER), ("x", HIGHER)} for one in (LOWER, HIGHER)},
    **{("light_y", one): {("y", LOWER), ("y", HIGHER)} for one in (LOWER, HIGHER)},
}
"""What is not told where its cause is seen too: noise looks like detail, and a displaced part like a lamp moved."""


@dataclass(frozen=True)
class Change:
    """What has changed in a stream of images.

    Attributes:
        since: number of the first image that is different, counted from 1; an estimate.
        noticed: number of the image at which it was certain.
        measure: what has changed: a name of `imaging.measures.Measures`, or "score".
        direction: "lower", "higher", or "apart" where it varies more.
        usual: its median on the good images.
        now: its median since then; where it varies more, how many times as far from `usual` as is usual.
    """

    since: int
    noticed: int
    measure: str
    direction: Direction
    usual: float
    now: float

    def __str__(self) -> str:
        wording = WORDINGS[self.measure]
        if self.direction is APART:
            what = f"vary {self.now:.1f} times as much in {wording.noun}"
        else:
            words = wording.lower if self.direction is LOWER else wording.higher
            what = (words or "").format(_in_words(self._amount(wording)))
        return f"since image {self.since} the pictures {what}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the line among them."""
        return {"line": str(self), **asdict(self), "direction": str(self.direction)}

    def _amount(self, wording: Wording) -> float:
        difference = abs(self.now - self.usual)
        return difference / max(abs(self.usual), 1e-9) if wording.is_ratio else difference


class StreamWatch:
    """Watches the images of one stream, in their order; `Inspector.watch` makes one.

    Give it to several calls of `inspect` or `inspect_many` to go on with the same stream. It belongs to one stream and
    one thread. Once it has noticed a change it says so for the rest of the stream; after a new calibration or a mended
    camera, start a new one.

    Args:
        usual: values of each number on normal images; of "score", those of held-out images that are judged good.
        threshold: scores above it are anomalous, and do not count.

    Attributes:
        seen: how many images came.
        change: what has changed; None = nothing that was noticed.
    """

    def __init__(self, usual: Mapping[str, Sequence[float]], threshold: float) -> None:
        self.threshold, self.seen = threshold, 0
        self.change: Change | None = None
        self._tracks = [
            _Track(name, values, seed)
            for seed, (name, values) in enumerate(usual.items())
            if name in WORDINGS and len(values) >= (LEAST_SCORES if name == SCORE else 1)
        ]

    @classmethod
    def of(cls, usual: Usual | None, calibration: Calibration) -> StreamWatch:
        """A watch that knows the good images of a model.

        Args:
            usual: their measures; None = not known, so nothing is noticed.
            calibration: with the scores of held-out images; those of images judged anomalous do not count.
        """
        scores = [score for score in calibration.scores if score <= calibration.threshold]
        return cls({} if usual is None else {**usual.measures, SCORE: scores}, calibration.threshold)

    def add(self, numbers: Mapping[str, float], score: float | None) -> str | None:
        """Take in the next image; return the line on what has changed, once that was noticed.

        Args:
            numbers: its measures by their names; none of an image that could not be read or was not judged.
            score: of it; None where it has none.
        """
        is_good = score is not None and score <= self.threshold
        self._update({**numbers, SCORE: score} if score is not None and is_good else numbers)
        return None if self.change is None else str(self.change)

    def _update(self, values: Mapping[str, float]) -> None:
        self.seen += 1
        if self.change is not None:
            return
        for track in self._tracks:
            if track.name in values:
                track.update(float(values[track.name]), self.seen)
        evidence = sum(track.trial.evidence for track in self._tracks)
        if evidence >= IMAGES_TO_A_FALSE_WARNING * len(self._tracks) > 0:
            self.change = self._largest()

    def _largest(self) -> Change | None:
        """The change that leads furthest out of the usual range, if any does."""
        found = [
            track.changed(self.seen) for track in self._tracks if track.trial.evidence >= IMAGES_TO_A_FALSE_WARNING
        ]
        changes = [one for one in found if one is not None]
        seen = {(change.measure, change.direction) for _, change in changes}
        causes = [one for one in changes if not seen & SYMPTOM_OF.get((one[1].measure, one[1].direction), set())]
        return max(causes or changes, key=lambda one: one[0])[1] if changes else None


def checked_watch(watch: Any) -> StreamWatch | None:
    """What a user gave as a watch.

    Raises:
        SettingError: it is something else.
    """
    if watch is None or isinstance(watch, StreamWatch):
        return watch
    raise SettingError(f"watch={watch!r:.40} is of the wrong kind ({type(watch).__name__}); give inspector.watch()")


class _Run:
    """How many more images lie outside than inside since the last one at which as many did: a CUSUM."""

    def __init__(self) -> None:
        self.excess, self.since = 0, 0

    def update(self, is_outside: bool, image: int) -> None:
        if self.excess == 0:
            self.since = image
        self.excess = max(0, self.excess + (1 if is_outside else -1))


class _Track:
    """One number of the stream."""

    def __init__(self, name: str, usual: Sequence[float], seed: int) -> None:
        self.name, self.wording = name, WORDINGS[name]
        self.trial = ChangeTest(usual, self.wording.directions, seed)
        low, middle, high = (float(one) for one in np.quantile(usual, [TAIL, 0.5, 1 - TAIL]))
        self.middle, self.width = middle, max(high - low, self.wording.least)
        self.low, self.high = low - MARGIN * self.width, high + MARGIN * self.width
        self.spread = max(float(np.median(np.abs(np.asarray(usual) - middle))), self.wording.least / 4)
        self.runs = {direction: _Run() for direction in self.wording.directions}
        self.recent: deque[tuple[int, float]] = deque(maxlen=RECENT)

    def update(self, value: float, image: int) -> None:
        self.trial.update(value)
        self.recent.append((image, value))
        outside = {LOWER: value < self.low, HIGHER: value > self.high, APART: not self.low <= value <= self.high}
        for direction, run in self.runs.items():
            run.update(outside[direction], image)

    def changed(self, image: int) -> tuple[float, Change] | None:
        """How far the images have left the usual range in widths of it, and the change; None = they have not."""
        for direction, run in self.runs.items():  # a shift is told before a spread
            if run.excess >= RUN:
                values = np.array([value for number, value in self.recent if number >= run.since])
                now = float(np.median(values))
                beyond = float(np.median(np.maximum(self.low - values, values - self.high))) / max(self.width, 1e-12)
                if direction is APART:
                    now = float(np.median(np.abs(values - self.middle))) / max(self.spread, 1e-12)
                return beyond, Change(run.since, image, self.name, direction, self.middle, now)
        return None


def _in_words(share: float) -> str:
    """A share as people say it: 22 %, 4.5 %, 8 times."""
    return f"{share:.0f} times" if share >= 2 else f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"
