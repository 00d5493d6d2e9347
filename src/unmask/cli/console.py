"""What the command line says, where to and how: notes, failures, progress, figures."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import typer

from unmask.errors import OutputError, one_line, printable

MISTAKE = 2
"""The exit code of what a user can mend."""


def out(text: str) -> None:
    """Print a line of results on standard output.

    Raises:
        OutputError: it cannot be written, such as into a file on a full disk.
        BrokenPipeError: nobody reads it any more.
    """
    try:
        typer.echo(printable(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written ({error.strerror}); check the disk") from error


def fail(message: str, code: int = MISTAKE) -> NoReturn:
    """Print one line and exit; of several processes on a machine, only the first prints."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        _echo_error(f"unmask: {one_line(message)}")
    sys.exit(code)


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as a note (it takes the place of `warnings.showwarning`)."""
    note(f"Note: {message}")


def note(message: str) -> None:
    """Say one line on standard error: standard output is for results."""
    if speaks():
        _echo_error(one_line(message))


def _echo_error(line: str) -> None:
    """A line on standard error; where that is full or closed, the work goes on, and the exit code still tells."""
    try:
        typer.echo(line, err=True)
    except BrokenPipeError:
        raise
    except OSError:
        silence(sys.stderr)


@contextmanager
def streams() -> Iterator[None]:
    """Standard streams that any name can be printed to, for the time of a block; what cannot be flushed is dropped.

    Where one was closed (`unmask ... >&-`), its number would go to the next file that is opened, and what a library
    prints would go into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number: this one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for one in (sys.stdout, sys.stderr):
            try:
                if one is not None:
                    one.flush()
            except (OSError, ValueError):
                silence(one)


def silence(stream: TextIO) -> None:
    """Send what a stream still holds to nowhere: Python would complain of it at the end, and exit with 120."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


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
    return "-" if value is None else printable(str(value))


def megabytes(path: Path) -> float:
    """A model's size on the disk, with the weights that lie beside an .xml file."""
    files = {path, path.with_suffix(".bin") if path.suffix == ".xml" else path}
    return sum(file.stat().st_size for file in files) / 1e6
