"""Files that are written whole or not at all, and one line where a disk is full."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unmask.errors import OutputError, UnmaskError


@contextmanager
def written_whole(path: Path, kind: type[UnmaskError] = OutputError) -> Iterator[Path]:
    """A temporary path that takes the place of `path` once a block has filled it; until then, `path` is as it was.

    Args:
        path: of the file; its folder is made where it is missing. Of a link, the file that it leads to is written.
        kind: of the error.

    Raises:
        UnmaskError: of this kind; the file cannot be written.
    """
    whole = Path(os.path.realpath(path))
    temporary = whole.with_name(temporary_name())
    try:
        with failing_as(path, kind):
            whole.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(whole)
    finally:
        with suppress(OSError):  # it is gone already, or its folder is none
            temporary.unlink()


@contextmanager
def failing_as(path: Path, kind: type[UnmaskError] = OutputError) -> Iterator[None]:
    """Say of a file or folder that it cannot be written, where a block fails in writing.

    Raises:
        UnmaskError: of this kind.
    """
    try:
        yield
    except BrokenPipeError:  # whoever reads the output has gone: no matter of this file
        raise
    except OSError as error:
        raise kind(f"{path} cannot be written ({error.strerror or error}); give another place") from error


def temporary_name() -> str:
    """A hidden name, short however long the final one is."""
    return f".unmask-{os.getpid()}-{secrets.token_hex(3)}.tmp"
