"""One benchmark at a time writes into a folder: two would overwrite each other's rows."""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from unmask.errors import SettingError

LOCK = "bench.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder for the time of a block; the folder is made where it is missing.

    A lock that a process of this machine has left behind when it was killed is taken over, with a warning.

    Raises:
        SettingError: another benchmark holds the lock, or it cannot be known whether one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        _take_over(file)
    else:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(_owner())
    try:
        yield
    finally:
        if _read(file) == json.loads(_owner()):
            file.unlink(missing_ok=True)


def _owner() -> str:
    return json.dumps({"process": os.getpid(), "machine": platform.node()})


def _take_over(file: Path) -> None:
    """Put our name into a lock whose process is gone."""
    held = _read(file)
    process, machine = held.get("process"), held.get("machine")
    by = f"process {process} on {machine or 'an unnamed machine'}" if held else "an unknown process"
    if not held or machine != platform.node() or psutil.pid_exists(int(process or 0)):
        wait = "wait until it has ended or give another folder; if it has ended, delete"
        raise SettingError(f"{file.parent} is locked by a benchmark, {by}: {wait} {file}")
    warnings.warn(f"{file} was left behind by {by}, which is gone; the folder is locked anew", stacklevel=4)
    temporary = file.with_name(f".{LOCK}.{os.getpid()}.tmp")
    temporary.write_text(_owner(), encoding="utf-8")
    temporary.replace(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
