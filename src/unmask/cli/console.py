"""What the command line says, where to and how: notes, failures, progress, figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer


def fail(message: str) -> NoReturn:
    """Print one line and exit with 2; of several processes on a machine, only the first prints."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        typer.echo(f"unmask: {message}", err=True)
    sys.exit(2)


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as a note (it takes the place of `warnings.showwarning`)."""
    note(f"Note: {message}")


def note(message: str) -> None:
    """Say something on standard error: standard output is for results."""
    if speaks():
        typer.echo(message, err=True)


def speaks() -> bool:
    """Of several processes only the first prints."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def console() -> Any:
    """Rich on standard error."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def progress_bars() -> Iterator[Any]:
    """A line for each stage, with the time that is left of it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console(), disable=not speaks()) as bars:
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int, seconds_left: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, left="")
            left = "" if done >= total else f"{seconds_left // 60:.0f}:{seconds_left % 60:02.0f} left"
            bars.update(tasks[stage], completed=done, left=left)

        yield progress


def shown(value: object) -> str:
    """A figure or fact as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {shown(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return " - ".join(shown(one) for one in value)
    return "-" if value is None else str(value)


def megabytes(path: Path) -> float:
    """A model's size on the disk, with the weights that lie beside an .xml file."""
    files = {path, path.with_suffix(".bin") if path.suffix == ".xml" else path}
    return sum(file.stat().st_size for file in files) / 1e6
