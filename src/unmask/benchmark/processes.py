"""Processes of rows, the same on Linux, macOS and Windows: how they are started, ended, and what they may use."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil


def usable_cores() -> int:
    """The number of processor cores that this process may use: all of them where the system knows no other limit."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return len(process.cpu_affinity())
    return os.cpu_count() or 1


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a process that leads a group of its own, so that `end` reaches all that it starts; stderr is a pipe."""
    group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(
        list(command), env=dict(environment), stderr=subprocess.PIPE, encoding="utf-8", errors="replace", **group
    )


def end(child: subprocess.Popen[str]) -> None:
    """End a process with all that it has started, even if it has ended itself."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses where only zombies are left
            os.killpg(child.pid, signal.SIGKILL)
    else:
        _end_family(child.pid)
    child.wait()


def end_with_parent(parent: int) -> None:
    """Wait until the parent process is gone, then end this process and all that it has started.

    A benchmark that was killed leaves no row running: a row leads a group of its own, which nobody else would end.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        known = psutil.Process(parent)
        while os.getppid() == parent and known.is_running():  # Windows goes on to name a parent that is gone
            time.sleep(1)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    else:
        _end_family(os.getpid())


def _end_family(pid: int) -> None:
    """End a process and its descendants where there are no process groups; the process itself last."""
    parents = {one.pid: one.info["ppid"] for one in psutil.process_iter(["ppid"])}
    family = [pid]
    for member in family:  # it grows on the way
        family += [child for child, parent in parents.items() if parent == member and child not in family]
    for member in reversed(family):
        with contextlib.suppress(psutil.Error):
            psutil.Process(member).kill()
