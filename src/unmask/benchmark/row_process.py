"""A row in a process of its own: its environment, its time limit, and what went wrong in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from unmask.benchmark import processes
from unmask.benchmark.job import PREDICTIONS, ROW, Job

THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
TEMPORARY_FOLDERS = ("TMPDIR", "TEMP", "TMP")


class Done(NamedTuple):
    """What came of a job.

    Attributes:
        row: its columns; with "failed" a reason in one line, where there are no figures.
        predictions: the bytes of predictions.npz; empty where it failed.
    """

    row: dict[str, Any]
    predictions: bytes


def row_environment(threads: int, folder: Path) -> dict[str, str]:
    """The environment variables of a row's process; all that a row's threads depend on is set here.

    Args:
        threads: that the row may use.
        folder: for its temporary files.
    """
    return {
        **os.environ,
        **dict.fromkeys(THREAD_COUNTS, str(threads)),
        **dict.fromkeys(TEMPORARY_FOLDERS, str(folder)),
        "PYTHONPATH": os.pathsep.join(one or str(Path.cwd()) for one in sys.path),
        "PYTHONIOENCODING": "utf-8",
    }


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
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        file = folder / "job.json"
        file.write_text(json.dumps(job._asdict()), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "unmask.benchmark.row", str(file), name]
        child = processes.start(command, row_environment(threads, folder))
        running = children if children is not None else set()
        running.add(child)
        try:
            _, messages = child.communicate(timeout=None if minutes is None else 60 * minutes)
        except subprocess.TimeoutExpired:
            return failed(job, f"stopped after {minutes:g} minutes")
        finally:
            processes.end(child)
            if child.stderr is not None:
                child.stderr.close()
            running.discard(child)
        if child.returncode:
            return failed(job, _reason(messages, child.returncode))
        row = json.loads((folder / ROW).read_text(encoding="utf-8"))
        return Done({**row, "folder": job.dataset, "failed": None}, (folder / PREDICTIONS).read_bytes())


def failed(job: Job, reason: str) -> Done:
    """The row of a job that has no figures."""
    named = {"dataset": dataset_name(job.dataset), "folder": job.dataset, "date": time.strftime("%Y-%m-%d")}
    return Done({**job._asdict(), **named, "failed": reason}, b"")


def dataset_name(dataset: str) -> str:
    """The name that `datasets.load` gives to a data set."""
    return Path(dataset).stem if Path(dataset).is_file() else Path(dataset).name


def _reason(messages: str, code: int) -> str:
    """The last line that a process wrote: of a traceback, the error."""
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    if code < 0:
        name = signal.Signals(-code).name
        ended = f"ended by signal {name}"
        return f"{ended}, as the system does when memory runs out" if name == "SIGKILL" else ended
    return lines[-1] if lines else f"ended with code {code} and no message"
