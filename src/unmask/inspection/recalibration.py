"""New thresholds from new good images, with no new fit."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from unmask.datasets import load as load_dataset
from unmask.errors import DatasetError
from unmask.inspection import history, sensitivity, usual
from unmask.inspection.checking import Checked, Progress, check
from unmask.inspection.copies import Copies
from unmask.inspection.division import each_scene_once
from unmask.inspection.guarantee import Wanted
from unmask.inspection.held_out import HeldOut, score_held_out
from unmask.inspection.inspector import Inspector
from unmask.inspection.pooling import expected_alarms, pooled
from unmask.inspection.sources import Sources, in_pages, several
from unmask.types import Split

CARD = "sensitivity"  # its name among the facts of a model file
SEED = 0  # of the marks that are planted for the sensitivity card
PLANTING_SECONDS = 5.0


class GoodImages(NamedTuple):
    """Images that are to set thresholds.

    Attributes:
        images: all of them.
        source: where they come from in words, without a path.
    """

    images: Sequence[Any]
    source: str


class _Run(NamedTuple):
    """How marks are planted."""

    seed: int
    progress: Progress


def silent(stage: str, done: int, total: int, seconds_left: float) -> None:
    """Report nothing."""


def is_data_set(path: Path) -> bool:
    """Whether a path leads to what may hold other images than good ones: a folder, a table, annotations."""
    return os.path.isdir(path) or path.suffix.lower() in (".csv", ".json")  # noqa: PTH112 - of odd names `Path` raises


def good_images(images: Any, *, recursive: bool = True) -> GoodImages:
    """The good images of a folder or data set, or images as they are given.

    Args:
        images: a folder or data set, what `load_dataset` gives, or images as `inspect_many` takes them.
        recursive: whether folders inside a folder of good images count.

    Raises:
        DatasetError: there are none.
    """
    if isinstance(images, str | os.PathLike) and is_data_set(Path(images)):
        images = load_dataset(Path(images), recursive=recursive)
    if isinstance(images, Split):
        good = (*images.normals, *images.held_out)
        return GoodImages(good, f"{images.name} ({len(good)} images)")
    some = Sources(several(images, recursive=recursive))
    if not len(some):
        raise DatasetError("there are no images to calibrate on; give good ones")
    return GoodImages(some, f"{len(some)} images")


def recalibrated(inspector: Inspector, good: GoodImages, wanted: Wanted, progress: Progress = silent) -> Inspector:
    """The same inspector with thresholds from other good images; what held before becomes history.

    Args:
        inspector: whose detector has not learned from them; images that it did learn from are left out.
        good: images, as new ones will be.
        wanted: the promise; without a rate and a confidence it is the present one, and without a rate the present rate.
        progress: called with the stages "check" and "calibrate" after each image, and then with "sensitivity".

    Raises:
        ImageError: some cannot be used, all of them are named; or none shows anything.
        DatasetError: all were learned from, or they show only one picture.
        CalibrationError: they are too few for what was wanted.
        SettingError: the rate or the confidence is out of range.
    """
    wanted.check()
    before, reading = inspector.calibration, inspector.reading
    promise = wanted if wanted != Wanted() else Wanted(None, before.confidence)
    images: Sequence[Any] = list(in_pages(good.images, reading.options))
    checked = check(images, reading, progress)
    images, checked = _chosen(images, checked, _not_learned_from(inspector, checked))
    images, checked = _chosen(images, checked, each_scene_once(images, checked, reading))
    rate = promise.of(len(images), before.false_alarm_rate)
    scored = list(_scored(inspector, images, progress))
    calibration = pooled(scored, rate, "split", promise.confidence)
    made: dict[str, Any] = {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "source": good.source,
        "backend": inspector.backend.name,
        "images": checked.hashes,
        "properties": checked.properties(),
        usual.FACT: usual.Usual.of(
            [one.view for one in checked.looks], [one.copies for one in checked.looks]
        ).to_dict(),
        "expected_alarms": {kind: list(one) for kind, one in expected_alarms(scored, calibration.threshold).items()},
    }
    if CARD in inspector.facts:
        run = _Run(SEED, progress)
        made[CARD] = sensitivity.card(inspector.backend.predict, reading, images, calibration, run, PLANTING_SECONDS)
    facts = history.added({**inspector.facts, "calibration": before.to_dict()}, calibration, made)
    del facts["calibration"]  # an inspector has it as an object
    return Inspector(inspector.backend, calibration, reading, facts)


def _chosen(images: Sequence[Any], checked: Checked, numbers: Sequence[int]) -> tuple[Sequence[Any], Checked]:
    return [images[number] for number in numbers], checked.of(numbers)


def _not_learned_from(inspector: Inspector, checked: Checked) -> list[int]:
    """Numbers of the images that the detector has not learned from, which alone can set a threshold."""
    known = inspector.facts.get("images")
    if known is None:
        warnings.warn(
            "the model does not say which images it learned from; thresholds from such images would be too low",
            stacklevel=4,
        )
        return list(range(len(checked.hashes)))
    learned = set(known["learned"])
    unseen = [number for number, content in enumerate(checked.hashes) if content not in learned]
    total = len(checked.hashes)
    if not unseen:
        raise DatasetError(
            f"the model learned from all of these {total} images, so they say nothing of new ones; give good images "
            "that were taken since"
        )
    if left_out := total - len(unseen):
        warnings.warn(f"the model learned from {left_out} of {total} images; they are left out", stacklevel=4)
    return unseen


def _scored(inspector: Inspector, images: Sequence[Any], progress: Progress) -> Iterator[list[HeldOut]]:
    copies, start = Copies.of(inspector.facts, len(images)), time.monotonic()
    scored = score_held_out(inspector.backend.predict, inspector.reading, images, copies)
    for done, one in enumerate(scored, 1):
        yield one
        progress("calibrate", done, len(images), (time.monotonic() - start) / done * (len(images) - done))
