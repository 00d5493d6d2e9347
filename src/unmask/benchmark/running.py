"""All rows of a benchmark: what is missing is measured, each row is written as soon as it is there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.benchmark.job import Job
from unmask.benchmark.lock import LOCK, locked
from unmask.benchmark.methods import Method, as_methods, method_of
from unmask.benchmark.places import Place, here
from unmask.benchmark.results import JSON, Row, need_pyarrow, prints_of, rows_of, same_files, write_rows
from unmask.benchmark.row_process import dataset_name
from unmask.datasets import load
from unmask.errors import DatasetError, SettingError, printable
from unmask.imaging.writing import written_whole

if TYPE_CHECKING:
    from unmask.detectors import Detector

PREDICTIONS_FOLDER = "predictions"
LONGEST_NAME = 150  # bytes of a data set's name in that of a file; 255 are possible in all
OnRow = Callable[[Mapping[str, Any], int, int], None]


def ignore(row: Mapping[str, Any], done: int, total: int) -> None:
    """Report nothing."""


def bench(
    datasets: Sequence[str | Path],
    methods: Sequence[Method | str | type[Detector]],
    seeds: Sequence[int],
    output: str | Path,
    *,
    resume: bool = False,
    show_leaks: bool = False,
    max_minutes: float | None = None,
    place: Place | None = None,
    command: str = "",
    folder_name: Callable[[Path], str] = str,
    on_row: OnRow = ignore,
    recursive: bool = True,
) -> list[dict[str, Any]]:
    """Measure what is missing, and write results.json and results.parquet after every row.

    Args:
        datasets: folders or manifests with a labelled test part.
        methods: what to measure: names and import paths as on the command line, methods, or detector classes.
        seeds: of the split and the method.
        output: folder for the results; only one benchmark at a time writes into it.
        resume: go on with what is there; rows that failed, or are of files that have changed, are measured again.
        show_leaks: see `Job`.
        max_minutes: of one row; a longer one is recorded as failed.
        place: where rows are measured; None = here, one after the other.
        command: that asked for it; each row holds it.
        folder_name: what rows call the folder of a data set.
        on_row: called with each row, how many are done, and how many there are.
        recursive: whether images in folders inside the data sets' own are used.

    Returns:
        All rows of the folder.

    Raises:
        UnmaskError: of a kind that names the cause: a data set or a method is wrong, pyarrow is not installed, the
            folder holds other results, or another benchmark writes into it.
    """
    output, sets = Path(output), {os.path.realpath(one): Path(one) for one in datasets}
    _existing_rows(output, resume)
    jobs = _jobs(sets, as_methods(methods), seeds, show_leaks=show_leaks, recursive=recursive)
    prints = _fingerprints(sets, max_minutes, recursive=recursive)
    with locked(output):
        missing, rows = _missing(jobs, _existing_rows(output, resume), prints)
        for number, done in enumerate((place or here())(missing, max_minutes), len(jobs) - len(missing) + 1):
            named = {"folder": folder_name(sets[done.row["folder"]]), "command": command}
            rows = _write(output, rows, {**done.row, **named}, done.predictions)
            on_row(rows[-1], number, len(jobs))
    return rows


def _jobs(
    sets: Iterable[str], methods: Sequence[Method], seeds: Sequence[int], *, show_leaks: bool, recursive: bool
) -> list[Job]:
    return [
        Job(
            *(method.detector, method.preset, dict(method.settings), dataset, seed, show_leaks, recursive),
            *(method.tolerate, method.calibrate),
        )
        for seed in seeds
        for dataset in sets
        for method in methods
    ]


def _missing(
    jobs: Sequence[Job], rows: Sequence[dict[str, Any]], prints: Mapping[str, Row]
) -> tuple[list[Job], list[dict[str, Any]]]:
    """The jobs that have no row yet, and the rows that are still of the files that are there."""
    show_leaks = any(job.show_leaks for job in jobs)
    there = {_key(row) for row in rows if _is_current(row, prints, show_leaks=show_leaks)}
    missing = [job for job in jobs if (str(job.method), dataset_name(job.dataset), job.seed) not in there]
    current = [row for row in rows if row.get("failed") or same_files(row, prints.get(row["dataset"], row))]
    return missing, current


def _write(
    output: Path, rows: Sequence[dict[str, Any]], row: dict[str, Any], predictions: bytes
) -> list[dict[str, Any]]:
    """Write the rows with a new one, which takes the place of an older one of the same method, data set and seed."""
    rows = [*(one for one in rows if _key(one) != _key(row)), row]
    write_rows(output, rows)
    if predictions:
        _write_bytes(output / PREDICTIONS_FOLDER / predictions_name(row), predictions)
    return rows


def predictions_name(row: Mapping[str, Any]) -> str:
    """The file of a row's scores and small maps."""
    name = method_of(row)
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)[:60]
    dataset = printable(row["dataset"])
    if len(dataset.encode()) > LONGEST_NAME:
        dataset = f"{dataset[: LONGEST_NAME // 4]}-{hashlib.blake2b(dataset.encode(), digest_size=4).hexdigest()}"
    return f"{dataset}-{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}-{row['seed']}.npz"


def _key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return method_of(row), row["dataset"], row["seed"]


def _fingerprints(datasets: Iterable[str], minutes: float | None, *, recursive: bool) -> dict[str, Row]:
    """Fingerprints by name; raises where a data set or the time limit is wrong."""
    if minutes is not None and not 0 < minutes < float("inf"):
        raise SettingError(f"max-minutes is {minutes:g}; give a number above 0")
    need_pyarrow()
    names: dict[str, str] = {}
    for one in datasets:
        if (other := names.setdefault(dataset_name(one), one)) != one:
            raise SettingError(f"{other} and {one} have the same name, and rows go by names; rename one of them")
    return {name: _fingerprint(one, recursive=recursive) for name, one in names.items()}


def _fingerprint(dataset: str, *, recursive: bool) -> Row:
    split = load(dataset, recursive=recursive)
    if not split.test:
        raise DatasetError(f"{split.name} ({split.layout}) has no labelled test images; bench needs some")
    return prints_of(split)


def _is_current(row: Row, prints: Mapping[str, Row], *, show_leaks: bool) -> bool:
    """Whether a row was measured, on the files that are there now, and with observations where those are wanted.

    Rows of older versions do not say what their fits tolerated, and lack kinds of disturbance.
    """
    same = same_files(row, prints.get(row["dataset"], {})) and "tolerate" in row
    return not row.get("failed") and same and (bool(row.get("show_leaks")) or not show_leaks)


def _existing_rows(output: Path, resume: bool) -> list[dict[str, Any]]:
    if not (output / JSON).exists():
        if output.exists() and (not output.is_dir() or any(one.name != LOCK for one in output.iterdir())):
            raise SettingError(f"{output} exists and holds no results; give a new folder, or an empty one")
        return []
    rows = rows_of(output)
    if not resume:
        raise SettingError(f"{output} holds {len(rows)} rows; add --resume to go on, or give another folder")
    return rows


def _write_bytes(file: Path, content: bytes) -> None:
    with written_whole(file) as temporary:
        temporary.write_bytes(content)
