"""What else than an `UnmaskError` is no mistake of unmask: a disk, memory, a broken installation."""

from __future__ import annotations

import errno
import re

from unmask.errors import UnmaskError

NO_MEMORY = re.compile(
    r"out of memory|can(no|')t allocate memory|bad allocation|bad_alloc|failed to allocate", re.IGNORECASE
)
"""How torch, ONNX Runtime and others say so, each in an error of its own kind."""


def reason_of(error: Exception) -> str:
    """What a user reads of an error that the machine or the user can be asked about; empty where unmask is to blame."""
    if isinstance(error, UnmaskError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        return "memory ran out; close other programs, cut images into tiles (--tile), or take a smaller preset"
    if isinstance(error, ImportError):
        what = "is not installed" if isinstance(error, ModuleNotFoundError) else f"is broken ({error.msg})"
        return f"{error.name or 'a package'} {what}; run: pip install --force-reinstall 'unmask[train]'"
    if isinstance(error, OSError):
        what = error.filename if isinstance(error.filename, str) else "a file"
        advice = "make room on the disk" if error.errno == errno.ENOSPC else "check the path and the disk"
        return f"{what} cannot be used ({error.strerror or error}); {advice}"
    return ""
