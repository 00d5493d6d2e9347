"""Measure a fitted inspector on a labelled test set, whose images are scored once."""

from __future__ import annotations

import json
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from unmask.datasets import load
from unmask.evaluation.dataset_metrics import DatasetMetrics
from unmask.evaluation.progress import Progress, silent, tracked
from unmask.evaluation.selection import Selection, select
from unmask.imaging import accounting
from unmask.imaging.writing import written_whole
from unmask.inspection.history import calibrated_on
from unmask.inspection.inspector import Inspector
from unmask.inspection.notes import lines_of
from unmask.inspection.options import checked_options
from unmask.report.page import Summary, write_report
from unmask.types import AnomalyResult, Sample, Split

METRICS = "metrics.json"
FORMAT, VERSION = "unmask-metrics", 1
"""Of `metrics.json`; the version rises when a name or a meaning changes."""


@checked_options
def evaluate(
    inspector: Inspector,
    split: Split | str | Path,
    report: str | Path | None = None,
    *,
    eval_size: int | None = None,
    include_seen: bool = False,
    recursive: bool = True,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score the test set once and measure.

    Test images whose picture the model was fitted or calibrated on are left out, with a warning. `n_left_out` counts
    them; it is None where the model file does not say what it was fitted on (files of older versions).

    Args:
        inspector: fitted and calibrated.
        split: whose test set to use: what `load_dataset` gives, or a data set's folder.
        report: a folder for index.html, results.json, results.parquet and metrics.json; None = write nothing.
        eval_size: pixel metrics at eval_size x eval_size, as in papers; None = at the masks' own size.
        include_seen: also measure test images that the model was fitted or calibrated on.
        recursive: of a folder: see `load_dataset`.
        progress: called after each image of the stages "check" and "measure".

    Returns the figures of metrics.json; None where there are no masks or only one class.

    Raises:
        DatasetError: there is no test set, all of it was fitted on, or an image or mask of it cannot be read.
        SettingError: eval_size is below 1.
    """
    if isinstance(split, str | Path):
        split = load(split, seed=inspector.facts.get("seed", 0), recursive=recursive)
    metrics = DatasetMetrics(split.name, has_masks=split.has_masks, eval_size=eval_size)
    fitted = fitted_pictures(inspector.facts)
    selected = select(split, fitted, inspector.reading, include_seen=include_seen, progress=progress)
    warn_of_fitted(selected)
    results = _results(inspector, selected.split.test, metrics, progress)

    @cache  # asked for by the report, and once more
    def figures() -> dict[str, Any]:
        found = metrics.figures(inspector.facts["detector"], inspector.facts["n_normal"], inspector.calibration)
        return {**found, "n_left_out": selected.n_left_out}

    if report is None:
        deque(results, maxlen=0)
    else:
        folder, files = Path(report), accounting.counts(split.seen, split.skipped)
        _write_report(folder, inspector, split, results, lambda: _summary(figures(), metrics))
        _write_json(folder / METRICS, {"format": FORMAT, "version": VERSION, **figures(), "files": files})
    return figures()


def _write_report(
    folder: Path, inspector: Inspector, split: Split, results: Iterator[AnomalyResult], summary: Callable[[], Summary]
) -> None:
    write_report(
        folder,
        results,
        title=split.name,
        calibration=inspector.calibration,
        model={**inspector.facts, "test set": f"{split.name} ({split.layout})"},
        summary=summary,
        photo=inspector.photograph,
        files=(split.seen, split.skipped) if split.seen else None,
    )


def fitted_pictures(facts: dict[str, Any]) -> Collection[str] | None:
    """Hashes of the pictures that a model was fitted or calibrated on; None = its file does not say."""
    hashes = facts.get("images")
    return None if hashes is None else {*hashes["learned"], *hashes["held_out"], *calibrated_on(facts)}


def warn_of_fitted(selected: Selection) -> None:
    """Warn where test images are pictures that the model was fitted or calibrated on."""
    if selected.n_left_out:
        total = selected.n_left_out + len(selected.numbers)
        counted = f"{selected.n_left_out} of {total} test images are pictures that the model was fitted or calibrated"
        warnings.warn(f"{counted} on; they are left out of all figures", stacklevel=3)
    if selected.n_included:
        counted = f"{selected.n_included} of {len(selected.numbers)} test images are pictures that the model was fitted"
        warnings.warn(f"{counted} or calibrated on; they are measured all the same, which flatters", stacklevel=3)


def _results(
    inspector: Inspector, samples: Sequence[Sample], metrics: DatasetMetrics, progress: Progress
) -> Iterator[AnomalyResult]:
    """Inspect the samples, and measure each result on its way; at the end, warn of what their notes say."""
    results = inspector.inspect_many([sample.path for sample in samples], refuse=False)
    notes: Counter[str] = Counter()
    for sample, result in zip(samples, tracked(results, len(samples), "measure", progress), strict=True):
        metrics.update(sample, result)
        notes.update(result.notes)
        yield result
    for line in lines_of(notes, len(samples)):
        warnings.warn(line, stacklevel=2)


def _summary(figures: dict[str, Any], metrics: DatasetMetrics) -> Summary:
    """What a report says of the whole."""
    shown: dict[str, float | int | str | None] = {
        name: value for name, value in figures.items() if isinstance(value, float | int | None)
    }
    shown |= {name: _in_words(value) for name, value in figures.items() if isinstance(value, dict)}
    return Summary(shown, metrics.curves(), [sample.kind for sample in metrics.samples])


def _in_words(shares: dict[str, float]) -> str:
    return ", ".join(f"{name}: {100 * share:.0f} %" for name, share in shares.items())


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
