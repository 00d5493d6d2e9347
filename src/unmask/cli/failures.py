"""What else than an `UnmaskError` is no mistake of unmask: a disk, memory, a broken installation."""

from __future__ import annotations

import errno

from unmask.errors import UnmaskError, is_out_of_memory


def reason_of(error: Exception) -> str:
    """What a user reads of an error that the machine or the user can be asked about; empty where unmask is to blame."""
    if isinstance(error, UnmaskError):
        return str(error)
    if is_out_of_memory(error):
        return "memory ran out; close other programs, cut images into tiles (--tile), or take a smaller preset"
    if isinstance(error, ImportError):
        what = "is not installed" if isinstance(error, ModuleNotFoundError) else f"is broken ({error.msg})"
        return f"{error.name or 'a package'} {what}; run: pip install --force-reinstall 'unmask[train]'"
    if isinstance(error, OSError):
        what = error.filename if isinstance(error.filename, str) else "a file"
        advice = "make room on the disk" if error.errno == errno.ENOSPC else "check the path and the disk"
        return f"{what} cannot be used ({error.strerror or error}); {advice}"
    return ""
