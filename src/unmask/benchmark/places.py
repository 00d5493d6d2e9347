"""Where rows are measured: on this machine, or spread over a Ray cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from unmask.benchmark import processes, row_process
from unmask.benchmark.job import Job
from unmask.benchmark.row_process import Done
from unmask.errors import DependencyError, SettingError

Place = Callable[[Sequence[Job], float | None], Iterator[Done]]
"""Runs jobs and hands on what is done as it is done; each is given up after so many minutes, None = never."""


def here(jobs_at_once: int = 1) -> Place:
    """On this machine.

    Args:
        jobs_at_once: rows at a time, which share the cores.

    Raises:
        SettingError: it is below 1.
    """
    if jobs_at_once < 1:
        raise SettingError(f"jobs count from 1, got {jobs_at_once}")
    threads = max(1, processes.usable_cores() // jobs_at_once)

    def run(jobs: Sequence[Job], minutes: float | None) -> Iterator[Done]:
        children: set[subprocess.Popen[str]] = set()
        with ThreadPoolExecutor(jobs_at_once) as pool:
            waiting: set[Future[Done]] = {
                pool.submit(row_process.run_job, job, threads, minutes, children) for job in jobs
            }
            try:
                while waiting:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            except BaseException:
                _stop(waiting, children)
                raise

    return run


def _stop(waiting: set[Future[Done]], children: set[subprocess.Popen[str]]) -> None:
    for future in waiting:
        future.cancel()
    while any(future.running() for future in waiting):  # one may be about to start its process
        for child in list(children):
            processes.end(child)
        time.sleep(0.05)


def on_ray(address: str | None = None, threads: int = 1) -> Place:
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
            remote = ray.remote(num_cpus=threads, max_retries=1)(row_process.run_job)
            jobs_of = {remote.remote(job, threads, minutes): job for job in jobs}
            waiting = list(jobs_of)
            while waiting:
                (first,), waiting = ray.wait(waiting)
                try:
                    yield ray.get(first)
                except ray.exceptions.RayError as error:
                    yield row_process.failed(jobs_of[first], f"Ray: {str(error).strip().splitlines()[-1]}")
        finally:
            if started:
                ray.shutdown()

    return run
