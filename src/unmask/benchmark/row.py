"""One row: a method, a data set, a seed. Fit on normals, calibrate on held-out normals, score the test set once.

    python -m unmask.benchmark.row JOB.json FOLDER

writes FOLDER/row.json and FOLDER/predictions.npz. A row has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import unmask
from unmask.benchmark import foreign, leaks, robustness
from unmask.benchmark.cost import Energy, busy_cores, machine, peak_megabytes, percentiles, timed
from unmask.benchmark.job import PREDICTIONS, ROW, Job
from unmask.benchmark.methods import detector_class, make_detector
from unmask.benchmark.processes import end_with_parent
from unmask.benchmark.results import prints_of
from unmask.benchmark.robustness import NONE, Disturbed
from unmask.datasets import load
from unmask.errors import UnmaskError
from unmask.evaluation.dataset_metrics import DatasetMetrics
from unmask.evaluation.evaluate import warn_of_fitted
from unmask.evaluation.selection import content_hashes, select
from unmask.imaging import accounting
from unmask.inspection.calibration import Calibration, rate_for
from unmask.inspection.inspector import Inspector
from unmask.training.trainer import Training
from unmask.types import AnomalyResult, Sample, Split

SIDE = 64  # of the small maps that are written for the page
Results = Callable[[Sequence[Disturbed]], Iterator[AnomalyResult]]
Arrays = dict[str, np.ndarray]


class Fitted(NamedTuple):
    """A method that has learned and has a threshold.

    Attributes:
        results: images -> verdicts, in order.
        calibration: from the held-out images.
        n_normal: how many images it learned from.
        facts: columns of the row.
    """

    results: Results
    calibration: Calibration
    n_normal: int
    facts: dict[str, Any]


def measure(job: Job) -> tuple[dict[str, Any], Arrays]:
    """Measure a row.

    Returns:
        Plain values; and of the test images, for the page's galleries, their "scores", small "maps", and "tested",
        their places in the whole test set.

    Raises:
        UnmaskError: the data set has no test part, an image cannot be read, or the method fails.
    """
    whole = load(job.dataset, seed=job.seed, recursive=job.recursive)
    selected = select(whole, content_hashes([*whole.normals, *whole.held_out], "good images"))
    warn_of_fitted(selected)
    split = selected.split
    metrics = DatasetMetrics(split.name, has_masks=split.has_masks)
    robust = robustness.chosen(split.test)
    by_kind = robustness.by_kind(robust)
    observer = leaks.LeakObserver(split.test)
    with tempfile.TemporaryDirectory() as folder:
        fitted = _fit(job, split, by_kind, observer, Path(folder))
        tested = fitted.results(_whole([sample.path for sample in split.test]))
        arrays = _predictions(_counted(metrics, split.test, tested), fitted.calibration)
        disturbed = {
            kind: robustness.figures(some, fitted.results([Disturbed(sample.path, kind) for sample in some]))
            for kind, some in by_kind.items()
        }
    row = {
        **metrics.figures(job.detector, fitted.n_normal, fitted.calibration),
        **job._asdict(),
        "dataset": split.name,
        "n_left_out": selected.n_left_out,
        **prints_of(whole),
        "files": accounting.counts(whole.seen, whole.skipped),
        **fitted.facts,
        "robustness": disturbed,
        "n_robustness": len(robust),
        "leaks": leaks.claims(metrics.scores, metrics.labels, fitted.calibration.threshold, observer.observations),
        **machine(),
    }
    return row, {**arrays, "tested": np.array(selected.numbers)}


def _fit(
    job: Job, split: Split, by_kind: Mapping[str, Sequence[Sample]], observer: leaks.LeakObserver, folder: Path
) -> Fitted:
    if not job.method.foreign:
        return _fit_detector(job, split, observer, folder)
    wanted = [*_whole(split.held_out), *_whole([sample.path for sample in split.test])]
    wanted += [Disturbed(sample.path, kind) for kind, some in by_kind.items() if kind != NONE for sample in some]
    return _fit_command(job, split, list(dict.fromkeys(wanted)), folder)


def _fit_detector(job: Job, split: Split, observer: leaks.LeakObserver, folder: Path) -> Fitted:
    """Fit a `Detector`, write its model file, and judge by what the file holds, as users do."""
    energy = Energy()
    training = Training(seed=job.seed, device="cpu", observer=observer) if job.show_leaks else Training(seed=job.seed)
    inspector = Inspector.fit(split, detector=make_detector(job.method), training=training, **job.method.fit_options())
    facts = {
        "params": inspector.detector.params(),
        "fit_seconds": round(inspector.facts["fit_seconds"] - observer.seconds, 1),
        "fit_joules": None if observer.observations else energy.joules(),
        "fit_peak_mb": peak_megabytes(),
        "versions": inspector.facts["versions"],
    }
    model = folder / "model.unmask"
    inspector.save(model)
    own = detector_class(job.detector) if job.method.is_outside else None
    inspector = Inspector.load(model, backend="torch", detector=own)
    energy = Energy()
    timing = timed(inspector.inspect, [sample.path for sample in split.test])
    facts |= {"model_mb": round(model.stat().st_size / 1e6, 2), **timing, "timed_joules": energy.joules()}
    facts["peak_mb"] = peak_megabytes()

    def results(wanted: Sequence[Disturbed]) -> Iterator[AnomalyResult]:
        return inspector.inspect_many(one.path if one.kind == NONE else one.picture() for one in wanted)

    return Fitted(results, inspector.calibration, inspector.facts["n_normal"], facts)


def _fit_command(job: Job, split: Split, wanted: list[Disturbed], folder: Path) -> Fitted:
    """Have a command learn and write maps; its threshold comes from the held-out images, as ours do."""
    rate, energy = rate_for(len(split.held_out), None), Energy()
    maps = foreign.run(job.method, split.normals, wanted, job.seed, folder)
    times = maps.cost["milliseconds"]
    facts = {
        "params": {},
        "fit_seconds": maps.cost["fit_seconds"],
        "fit_joules": None,
        "total_joules": energy.joules(),
        "fit_peak_mb": None,
        "peak_mb": maps.peak_mb,
        "model_mb": maps.cost["model_mb"],
        "ms_per_image": None,
        **(percentiles(times) if times else {"ms_p50": None, "ms_p95": None}),
        "versions": {"unmask": unmask.__version__, **maps.cost["versions"]},
    }
    calibration = maps.calibrate(split.held_out, rate)
    return Fitted(lambda some: maps.results(some, calibration), calibration, len(split.normals), facts)


def _whole(paths: Sequence[Path]) -> list[Disturbed]:
    return [Disturbed(path, NONE) for path in paths]


def _counted(
    metrics: DatasetMetrics, samples: Sequence[Sample], results: Iterator[AnomalyResult]
) -> Iterator[AnomalyResult]:
    """Measure each result on its way."""
    for sample, result in zip(samples, results, strict=True):
        metrics.update(sample, result)
        yield result


def _predictions(results: Iterable[AnomalyResult], calibration: Calibration) -> Arrays:
    scores, maps = [], []
    for result in results:
        scores.append(result.score)
        small = Image.fromarray(calibration.scaled(result.map)).resize((SIDE, SIDE), Image.Resampling.BOX)
        maps.append(np.round(255 * np.asarray(small)).astype(np.uint8))
    return {"scores": np.array(scores), "maps": np.stack(maps)}


def main() -> None:
    """Measure the job of a file; a user's mistake is one line on standard error and exit code 2."""
    busy = busy_cores()
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    job_file, folder = map(Path, sys.argv[1:])
    job = Job(**json.loads(job_file.read_text(encoding="utf-8")))
    notes: list[str] = []
    warnings.showwarning = lambda message, *_, **__: notes.append(str(message))
    try:
        row, arrays = measure(job)
    except UnmaskError as error:
        sys.stderr.write(f"\n{error}\n")
        sys.exit(2)
    content = json.dumps({**row, "busy_cores": busy, "notes": notes})
    (folder / ROW).write_text(content, encoding="utf-8")
    write_predictions(folder / PREDICTIONS, arrays)


def write_predictions(file: Any, arrays: Arrays) -> None:
    """Write the arrays of a row to a path or an open file."""
    np.savez_compressed(file, scores=arrays["scores"], maps=arrays["maps"], tested=arrays["tested"])


if __name__ == "__main__":
    main()
