"""What a row costs: milliseconds an image, peak memory, energy; and on what machine."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

WARM_UP, TIMED = 3, 100
RAPL = Path("/sys/class/powercap")  # the energy counters that Linux shows of Intel's and AMD's processors


def timed(inspect: Callable[[Path], object], paths: Sequence[Path]) -> dict[str, float]:
    """Time one image at a time, decoding included; a few to warm up first.

    Args:
        inspect: judges an image file.
        paths: of images; the first `TIMED` of them are taken.

    Returns:
        Median and 95th percentile in milliseconds.
    """
    for path in paths[:WARM_UP]:
        inspect(path)
    return percentiles(list(_each(inspect, paths[:TIMED])))


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Columns of a row."""
    p50, p95 = np.quantile(milliseconds, [0.5, 0.95])
    return {"ms_p50": round(float(p50), 2), "ms_p95": round(float(p95), 2)}


def _each(inspect: Callable[[Path], object], paths: Sequence[Path]) -> Iterator[float]:
    for path in paths:
        start = time.perf_counter()
        inspect(path)
        yield 1000 * (time.perf_counter() - start)


def peak_megabytes() -> int:
    """The most resident memory that this process ever had, in units of 2^20 bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset) // 2**20
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, StopIteration):  # `ru_maxrss` would count that of the parent as well
            lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, the others kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def busy_cores(seconds: float = 0.3) -> float:
    """How many of the cores that this process may use are busy with other work; it sleeps while they are watched."""
    shares = psutil.cpu_percent(seconds, percpu=True)
    process = psutil.Process()
    mine = process.cpu_affinity() if hasattr(process, "cpu_affinity") else range(len(shares))
    return round(float(sum(shares[core] for core in mine if core < len(shares))) / 100, 2)


class PeakOf:
    """The most resident memory of a process and its children together, read every 50 ms while a block runs."""

    def __init__(self, pid: int) -> None:
        self.pid, self.bytes, self.over = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakOf:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    @property
    def megabytes(self) -> int:
        """The most that was read, in units of 2^20 bytes."""
        return self.bytes // 2**20

    def _watch(self) -> None:
        while not self.over.wait(0.05):
            with contextlib.suppress(psutil.Error):
                first = psutil.Process(self.pid)
                family = [first, *first.children(recursive=True)]
                self.bytes = max(self.bytes, sum(one.memory_info().rss for one in family))


class Energy:
    """The joules that the processor counts from now on, where the system gives them."""

    def __init__(self, counters: Path = RAPL) -> None:
        self.files = sorted(counters.glob("*-rapl:[0-9]/energy_uj"))
        self.start = self._read()

    def joules(self) -> float | None:
        """Joules of all processors since the start; None where the system gives none or a counter began anew."""
        now = self._read()
        if self.start is None or now is None or now < self.start:
            return None
        return (now - self.start) / 1e6

    def _read(self) -> int | None:
        try:
            return sum(int(file.read_text()) for file in self.files) if self.files else None
        except OSError:  # root alone may read them on most systems
            return None


def machine(threads: int | None = None) -> dict[str, Any]:
    """What a figure was measured on.

    Args:
        threads: the number of threads that were used; None = as many as torch uses.
    """
    if threads is None:
        import torch

        threads = torch.get_num_threads()
    return {
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "date": time.strftime("%Y-%m-%d"),
    }


def _commit() -> str:
    """The commit of the source that runs; empty where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _processor() -> str:
    """The processor's name, with the instruction sets that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    more = [name for flag, name in (("avx512f", "AVX-512"), ("avx512_bf16", "bf16")) if flag in flags]
    return ", ".join([*names[:1], *more]) or platform.processor()
