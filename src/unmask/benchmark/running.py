"""All rows of a benchmark: what is missing, each in a process of its own, kept as soon as it is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from unmask.benchmark.methods import Method, method_of
from unmask.benchmark.results import JSON, PARQUET, need_pyarrow, rows_of, write, write_table
from unmask.benchmark.row import ROW, SEEN, Job
from unmask.datasets import fingerprint, load
from unmask.errors import DatasetError, DependencyError, SettingError

SEEN_FOLDER = "seen"


class Done(NamedTuple):
    """What came of a job.

    Attributes:
        row: its columns; with "failed" a reason in one line, where there are no figures.
        seen: the bytes of seen.npz; empty where it failed.
    """

    row: dict[str, Any]
    seen: bytes


Run = Callable[[Sequence[Job], float | None], Iterator[Done]]
"""Runs jobs somewhere and hands on what is done as it is done; each is given up after so many minutes, None = never."""


def bench(
    datasets: Sequence[Path],
    methods: Sequence[Method],
    seeds: Sequence[int],
    output: Path,
    *,
    resume: bool = False,
    show_leaks: bool = False,
    max_minutes: float | None = None,
    run: Run | None = None,
    command: str = "",
    shown: Callable[[Path], str] = str,
    told: Callable[[Mapping[str, Any], int, int], None] = lambda row, done, total: None,
) -> list[dict[str, Any]]:
    """Measure what is missing, and write results.json and results.parquet after every row.

    Args:
        datasets: folders or manifests with a labelled test part.
        methods: what to measure.
        seeds: of the split and the method.
        output: folder for the results.
        resume: go on with what is there; rows that failed, or are of files that have changed, are measured again.
        show_leaks: see `Job`.
        max_minutes: of one row; a longer one is recorded as failed.
        run: where; None = here, one after the other.
        command: that asked for it; each row says so.
        shown: what rows call a data set's place.
        told: of each row, how many are done, and of how many.

    Returns:
        All rows of the folder.

    Raises:
        SettingError: there are results and `resume` was not asked for, or two data sets have one name.
        DatasetError: a data set is not there, is none, or has no test part.
        DependencyError: pyarrow is not installed.
    """
    rows = _kept(output, resume)
    wanted = [
        Job(method.detector, method.preset, dict(method.settings), str(dataset.resolve()), seed, show_leaks)
        for seed in seeds
        for dataset in datasets
        for method in methods
    ]
    given = {str(dataset.resolve()): dataset for dataset in datasets}
    prints = _checked(given, max_minutes)
    there = {_key(row) for row in rows if _still_good(row, prints, show_leaks=show_leaks)}
    jobs = [job for job in wanted if (str(job.method), _name(job.dataset), job.seed) not in there]
    rows = [row for row in rows if prints.get(row["dataset"]) in (None, row.get("fingerprint")) or row.get("failed")]
    total = len(wanted)
    for number, done in enumerate((run or here())(jobs, max_minutes), total - len(jobs) + 1):
        row = {**done.row, "folder": shown(given[done.row["folder"]]), "command": command}
        rows = [*(one for one in rows if _key(one) != _key(row)), row]
        write(output / JSON, {"format": "unmask-bench", "rows": rows})
        write_table(output / PARQUET, rows)
        if done.seen:
            _write_bytes(output / SEEN_FOLDER / seen_name(row), done.seen)
        told(row, number, total)
    return rows


def seen_name(row: Mapping[str, Any]) -> str:
    """The file of a row's scores and small maps."""
    name = method_of(row)
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)[:60]
    return f"{row['dataset']}-{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}-{row['seed']}.npz"


def here(jobs_at_once: int = 1) -> Run:
    """On this machine, so many rows at once, which share its cores."""
    if jobs_at_once < 1:
        raise SettingError(f"jobs count from 1, got {jobs_at_once}")
    threads = max(1, len(os.sched_getaffinity(0)) // jobs_at_once)

    def run(jobs: Sequence[Job], minutes: float | None) -> Iterator[Done]:
        children: set[subprocess.Popen[str]] = set()
        with ThreadPoolExecutor(jobs_at_once) as pool:
            waiting: set[Future[Done]] = {pool.submit(run_job, job, threads, minutes, children) for job in jobs}
            try:
                while waiting:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            except BaseException:
                for future in waiting:
                    future.cancel()
                while any(future.running() for future in waiting):  # one may be about to start its process
                    for child in list(children):
                        _end(child)
                    time.sleep(0.05)
                raise

    return run


def on_ray(address: str | None = None, threads: int = 1) -> Run:
    """Over a Ray cluster, `threads` cores a row; the data sets lie at the same paths on every machine.

    Args:
        address: of the cluster; None = RAY_ADDRESS, or one that is started here.
        threads: cores of a row.

    Raises:
        DependencyError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise DependencyError("--on ray needs Ray; run: pip install 'unmask[ray]'") from error

    def run(jobs: Sequence[Job], minutes: float | None) -> Iterator[Done]:
        started = not ray.is_initialized()
        if started:
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        try:
            remote = ray.remote(num_cpus=threads, max_retries=1)(run_job)
            jobs_of = {remote.remote(job, threads, minutes): job for job in jobs}
            waiting = list(jobs_of)
            while waiting:
                (first,), waiting = ray.wait(waiting)
                try:
                    yield ray.get(first)
                except ray.exceptions.RayError as error:
                    yield _failed(jobs_of[first], f"Ray: {str(error).strip().splitlines()[-1]}")
        finally:
            if started:
                ray.shutdown()

    return run


def run_job(
    job: Job, threads: int, minutes: float | None = None, children: set[subprocess.Popen[str]] | None = None
) -> Done:
    """Measure a row in a process of its own; whatever goes wrong in it becomes a row that says so.

    Args:
        job: what to measure.
        threads: that it may use.
        minutes: after which it is given up; None = never.
        children: the process is among them while it runs.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        paths = os.pathsep.join(filter(None, sys.path))
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        own = {**counts, "PYTHONPATH": paths, "TMPDIR": folder}
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(job._asdict()), encoding="utf-8")
        command = [sys.executable, "-m", "unmask.benchmark.row", str(file), folder]
        child = subprocess.Popen(
            command, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        running = children if children is not None else set()
        assert child.stderr is not None  # noqa: S101 - it is a pipe
        running.add(child)
        try:
            _, words = child.communicate(timeout=None if minutes is None else 60 * minutes)
        except subprocess.TimeoutExpired:
            return _failed(job, f"stopped after {minutes:g} minutes")
        finally:
            _end(child)
            child.stderr.close()
            running.discard(child)
        if child.returncode:
            return _failed(job, _reason(words, child.returncode))
        row = json.loads((Path(folder) / ROW).read_text(encoding="utf-8"))
        return Done({**row, "folder": job.dataset, "failed": None}, (Path(folder) / SEEN).read_bytes())


def _end(child: subprocess.Popen[str]) -> None:
    """With all that it has started, even if it is gone itself: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _failed(job: Job, reason: str) -> Done:
    known = {**job._asdict(), "dataset": _name(job.dataset), "folder": job.dataset, "date": time.strftime("%Y-%m-%d")}
    return Done({**known, "failed": reason}, b"")


def _key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return method_of(row), row["dataset"], row["seed"]


def _name(dataset: str) -> str:
    """As `datasets.load` names it."""
    return Path(dataset).stem if Path(dataset).is_file() else Path(dataset).name


def _checked(datasets: Iterable[str], minutes: float | None) -> dict[str, str]:
    """Fingerprints by name, after all that can be wrong has been looked for."""
    if minutes is not None and minutes <= 0:
        raise SettingError(f"max-minutes must be above 0, got {minutes:g}")
    need_pyarrow()
    names: dict[str, str] = {}
    for one in datasets:
        if (other := names.setdefault(_name(one), one)) != one:
            raise SettingError(f"{other} and {one} have the same name, and rows go by names; rename one of them")
    return {name: _fingerprint(one) for name, one in names.items()}


def _fingerprint(dataset: str) -> str:
    split = load(dataset)
    if not split.test:
        raise DatasetError(f"{split.name} ({split.layout}) has no labelled test images; bench needs some")
    return fingerprint(split)


def _still_good(row: Mapping[str, Any], prints: Mapping[str, str], *, show_leaks: bool) -> bool:
    """Measured, on the files that are there now, and with looks where those are wanted."""
    same = row.get("fingerprint") == prints.get(row["dataset"])
    return not row.get("failed") and same and (bool(row.get("show_leaks")) or not show_leaks)


def _reason(words: str, code: int) -> str:
    """The last line that a process said: of a traceback, the error."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    if code < 0:
        killed = f"ended by signal {signal.Signals(-code).name}"
        return f"{killed}, as the system does when memory runs out" if code == -signal.SIGKILL else killed
    return lines[-1] if lines else f"ended with code {code} and no words"


def _kept(output: Path, resume: bool) -> list[dict[str, Any]]:
    if not (output / JSON).exists():
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise SettingError(f"{output} exists and holds no results; give a new folder, or an empty one")
        return []
    rows = rows_of(output)
    if not resume:
        raise SettingError(f"{output} holds {len(rows)} rows; add --resume to go on, or give another folder")
    return rows


def _write_bytes(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(file)
