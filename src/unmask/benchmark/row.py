"""One row: a method, a data set, a seed. Fit on normals, calibrate on held-out normals, look at the test set once.

    python -m unmask.benchmark.row JOB.json FOLDER

writes FOLDER/row.json and FOLDER/seen.npz. A row has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import unmask
from unmask.benchmark import foreign, leaks, robustness
from unmask.benchmark.cost import Energy, machine, peak_megabytes, percentiles, timed
from unmask.benchmark.methods import Method
from unmask.benchmark.robustness import DISTURBANCES, Disturbed
from unmask.datasets import fingerprint, load
from unmask.errors import UnmaskError
from unmask.evaluation.evaluate import Measurement
from unmask.inspection.allocator import reuse_freed_memory
from unmask.inspection.calibration import Calibration, rate_for
from unmask.inspection.inspector import Inspector
from unmask.training.trainer import Training
from unmask.types import AnomalyResult, Split

SIDE = 64  # of the small maps that are kept for the page
ROW, SEEN = "row.json", "seen.npz"
Results = Callable[[Sequence[Disturbed]], Iterator[AnomalyResult]]


class Job(NamedTuple):
    """What one row asks for.

    Attributes:
        detector: see `Method`.
        preset: likewise.
        settings: likewise.
        dataset: its folder or manifest.
        seed: of the split and of the method.
        show_leaks: look at the test set during the training as well, to tell what that would have claimed.
    """

    detector: str
    preset: str
    settings: dict[str, Any]
    dataset: str
    seed: int
    show_leaks: bool = False

    @property
    def method(self) -> Method:
        """What is measured."""
        return Method(self.detector, self.preset, self.settings)


class Fitted(NamedTuple):
    """A method that has learned and has a threshold.

    Attributes:
        results: images -> verdicts, in order.
        calibration: from the held-out images.
        facts: columns of the row.
    """

    results: Results
    calibration: Calibration
    facts: dict[str, Any]


def measure(job: Job) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure a row.

    Returns:
        Plain values; and of each test image its score, verdict and small map, for the page's galleries.

    Raises:
        UnmaskError: the data set has no test part, or the method fails.
    """
    split = load(job.dataset, seed=job.seed)
    measurement = Measurement(split)
    robust = robustness.chosen(split.test)
    looks = leaks.LeakObserver(split.test)
    with tempfile.TemporaryDirectory() as folder:
        if job.method.foreign:
            wanted = [*_whole(split.held_out), *_whole([sample.path for sample in split.test])]
            wanted += [Disturbed(sample.path, kind) for kind in DISTURBANCES if kind != "none" for sample in robust]
            fitted = _foreign(job, split, list(dict.fromkeys(wanted)), Path(folder))
        else:
            fitted = _own(job, split, looks, Path(folder))
        seen = _seen(measurement.watch(fitted.results(_whole([sample.path for sample in split.test]))), fitted)
        disturbed = {
            kind: list(fitted.results([Disturbed(sample.path, kind) for sample in robust])) for kind in DISTURBANCES
        }
    labels = np.array([sample.anomalous for sample in split.test])
    row = {
        **measurement.figures(job.detector, len(split.normals), fitted.calibration),
        **job._asdict(),
        "dataset": split.name,
        "fingerprint": fingerprint(split),
        **fitted.facts,
        "robustness": robustness.figures(robust, disturbed),
        "n_robustness": len(robust),
        "leaks": leaks.claims(seen["scores"], labels, fitted.calibration.threshold, looks.seen),
        **machine(),
    }
    return row, seen


def _own(job: Job, split: Split, looks: leaks.LeakObserver, folder: Path) -> Fitted:
    """Fit one of our detectors, write its model file, and judge by what the file holds, as users do."""
    energy = Energy()
    training = Training(seed=job.seed, device="cpu", observer=looks) if job.show_leaks else Training(seed=job.seed)
    inspector = Inspector.fit(split, detector=job.detector, preset=job.preset, settings=job.settings, training=training)
    facts = {
        "params": inspector.detector.params(),
        "fit_seconds": round(inspector.facts["fit_seconds"] - looks.seconds, 1),
        "fit_joules": None if looks.seen else energy.joules(),
        "fit_peak_mb": peak_megabytes(),
        "versions": inspector.facts["versions"],
    }
    model = folder / "model.unmask"
    inspector.save(model)
    inspector = Inspector.load(model, backend="torch")
    energy = Energy()
    timing = timed(inspector, [sample.path for sample in split.test])
    facts |= {"model_mb": round(model.stat().st_size / 1e6, 2), **timing, "timed_joules": energy.joules()}
    facts["peak_mb"] = peak_megabytes()

    def results(wanted: Sequence[Disturbed]) -> Iterator[AnomalyResult]:
        return inspector.inspect_many(one.path if one.kind == "none" else one.picture() for one in wanted)

    return Fitted(results, inspector.calibration, facts)


def _foreign(job: Job, split: Split, wanted: list[Disturbed], folder: Path) -> Fitted:
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
    return Fitted(lambda some: maps.results(some, calibration), calibration, facts)


def _whole(paths: Sequence[Path]) -> list[Disturbed]:
    return [Disturbed(path, "none") for path in paths]


def _seen(results: Iterator[AnomalyResult], fitted: Fitted) -> dict[str, np.ndarray]:
    scores, maps = [], []
    for result in results:
        scores.append(result.score)
        small = Image.fromarray(fitted.calibration.scaled(result.map)).resize((SIDE, SIDE), Image.Resampling.BOX)
        maps.append(np.round(255 * np.asarray(small)).astype(np.uint8))
    return {"scores": np.array(scores), "maps": np.stack(maps)}


def main() -> None:
    """Measure the job of a file; a user's mistake is one line on standard error and exit code 2."""
    reuse_freed_memory()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    job_file, folder = map(Path, sys.argv[1:])
    job = Job(**json.loads(job_file.read_text(encoding="utf-8")))
    said: list[str] = []
    warnings.showwarning = lambda message, *_, **__: said.append(str(message))
    try:
        row, seen = measure(job)
    except UnmaskError as error:
        sys.stderr.write(f"\n{error}\n")
        sys.exit(2)
    (folder / ROW).write_text(json.dumps({**row, "notes": said}), encoding="utf-8")
    np.savez_compressed(folder / SEEN, scores=seen["scores"], maps=seen["maps"])


def _end_with_parent(parent: int) -> None:
    """A benchmark that was killed leaves no row running: it leads a session of its own, which nobody else would end."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
