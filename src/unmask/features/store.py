"""Arrays of all images in half precision: in memory, or past a limit in a file on a disk."""

from __future__ import annotations

import errno
import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import psutil
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.errors import SettingError
from unmask.training.trainer import Training

MEMORY_LIMIT = 1_000_000_000
"""Bytes of features that are kept in memory; more go to a file. A laptop of 8 GB must get through."""
WORKING_MEMORY = 200_000_000
"""Bytes that a batch through the network and the arithmetic of a fast detector take beside the features."""
IN_MEMORY = ("tmpfs", "ramfs")
"""File systems whose files are memory."""
ZEROS = bytes(1 << 20)


class FeatureStore:
    """n arrays of one shape in half precision: in memory, or past a limit in an unnamed file that goes with them.

    The file has its full size from the start, so that a full disk is found out before anything is computed. Its pages
    leave the process's memory as soon as they have been used; the system may still cache them.

    Args:
        shape: of all arrays together, (n, ...).
        limit: bytes that may stay in memory.
        folder: on a disk, for the file.

    Raises:
        SettingError: a file is needed, and the folder is missing, is in memory or has too little room.
    """

    def __init__(self, shape: tuple[int, ...], limit: int, folder: Path) -> None:
        self.mapped: mmap.mmap | None = None
        if 2 * math.prod(shape) <= limit:
            self.values = torch.empty(shape, dtype=torch.float16)
            return
        self.mapped = _mapped_file(2 * math.prod(shape), folder)
        self.values = torch.frombuffer(self.mapped, dtype=torch.float16).view(shape)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        found = self.values[rows]
        self._release_pages()
        return found

    def put(self, start: int, arrays: Float[Tensor, "b ..."]) -> None:
        """Set the arrays from number `start` on."""
        self.values[start : start + len(arrays)] = arrays
        self._release_pages()

    def _release_pages(self) -> None:
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


# --- the file ---------------------------------------------------------------------------------------------------------


def scratch_folder(training: Training) -> Path:
    """Where the file of a fit goes: beside its checkpoints, unless its user gives another folder."""
    if training.scratch is not None:
        return training.scratch
    beside = None if training.checkpoints is None else training.checkpoints.absolute().parent
    return beside if beside is not None and beside.is_dir() else Path(tempfile.gettempdir())


def check_disk(folder: Path) -> None:
    """Raise SettingError unless a folder exists and is on a disk."""
    if not folder.is_dir():
        raise SettingError(f"there is no folder {folder} for features; make it, or give another folder with --scratch")
    if (kind := _file_system(folder)) in IN_MEMORY:
        raise SettingError(f"{folder} is memory ({kind}), not a disk; give a folder on a disk with --scratch")


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, such as "ext4"; empty where the system does not tell."""
    mounts = [(Path(one.mountpoint), one.fstype) for one in psutil.disk_partitions(all=True)]
    above = [(mount, kind) for mount, kind in reversed(mounts) if folder.resolve().is_relative_to(mount)]
    return max(above, key=lambda one: len(one[0].parts), default=(Path(), ""))[1]  # of equals the last mounted


def _mapped_file(size: int, folder: Path) -> mmap.mmap:
    """An unnamed file of `size` bytes: a killed process leaves nothing behind."""
    check_disk(folder)
    try:
        with tempfile.TemporaryFile(suffix=".features", dir=folder) as file:
            _allocate(file, size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        wanted = f"{size / 1e9:.2g} GB of features do not fit into {folder} ({error.strerror})"
        raise SettingError(f"{wanted}; give a folder with more room with --scratch") from error


def _allocate(file: BinaryIO, size: int) -> None:
    """Reserve the room on the disk: writing into a file with holes would be a crash once the disk is full."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # what a file system says that cannot reserve
                raise
        else:
            return
    for start in range(0, size, len(ZEROS)):
        file.write(ZEROS[: size - start])
    file.flush()


# --- the memory -------------------------------------------------------------------------------------------------------


def check_memory(training: Training) -> None:
    """Raise SettingError if `max_memory` is less than the program takes without an image, or `scratch` is no disk."""
    least = own_memory() + WORKING_MEMORY
    if training.max_memory is not None and training.max_memory < least:
        raise SettingError(
            f"max-memory {training.max_memory / 1e6:.0f} MB is less than the program and a batch of images take; "
            f"give {math.ceil(least / 1e8) * 100} MB or more"
        )
    if training.scratch is not None:
        check_disk(training.scratch)


def memory_left(training: Training) -> int:
    """Bytes of features that a fit may keep in memory: what `max_memory` leaves, less what the work itself takes."""
    if training.max_memory is None:
        return MEMORY_LIMIT
    return max(0, training.max_memory - own_memory() - WORKING_MEMORY)


def own_memory() -> int:
    """Bytes of the program's own: without the pages of files, such as torch's libraries, which the system can drop.

    How much of those is resident differs by half a gigabyte between two Linux kernels. Where the system does not tell
    them apart, they count.
    """
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
