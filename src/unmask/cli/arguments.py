"""What the commands share: checks before long work, loading, and what to say where something is missing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.cli.console import note
from unmask.errors import DatasetError, DependencyError, SettingError

if TYPE_CHECKING:
    from unmask.types import Split


@contextmanager
def needs_torch() -> Iterator[None]:
    """Say what to install where torch or a package of the extra `train` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"{error.name} is not installed, and this command needs it; run: pip install 'unmask[train]'"
        ) from error


def load_dataset(source: Path, seed: int, groups: str | None = None) -> Split:
    """A data set, after a line about what was found."""
    from unmask.datasets import load

    check_can_be_read(source)
    split = load(source, seed=seed, groups=groups)
    counts = f"{len(split.normals)} good images to learn from, {len(split.held_out)} held out"
    note(f"{split.name}: {split.layout}; {counts}, {len(split.test)} to test on.")
    for warning in split.warnings:
        note(f"Note: {warning}")
    return split


def check_can_be_read(source: Path) -> None:
    """Raise DatasetError for a link to nothing, and for a pipe or device, which would be waited for without an end."""
    if os.path.lexists(source) and not os.path.exists(source):  # noqa: PTH110 - of odd names `Path` raises
        raise DatasetError(f"{source} is a link that leads nowhere; give a folder or a file")
    if os.path.exists(source) and not (source.is_file() or source.is_dir()):  # noqa: PTH110 - of odd names `Path` raises
        raise DatasetError(f"{source} is a pipe or device; give a folder or a file")


def image_files(given: list[Path]) -> list[Path]:
    """Image files, and those in folders.

    Raises:
        DatasetError: there are none, or a path leads nowhere.
    """
    from unmask.imaging.images import list_images

    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise DatasetError(f"there is no file or folder {path}; give image files or folders of them")
        found += list_images(path, recursive=True) if path.is_dir() else [path]
    if not found:
        raise DatasetError(f"no images in {given[0]}; give image files or folders of them")
    return found


def check_is_model_name(place: Path) -> None:
    """Raise SettingError where a model file would have the name of an export, and so be opened as one."""
    from unmask.inspection.exported import SUFFIXES

    if place.suffix in SUFFIXES:
        wanted = place.with_suffix(".unmask")
        raise SettingError(
            f"{place} would be an export, and fit writes model files; give {wanted.name}, then: unmask export {wanted}"
        )


def check_writable(place: Path | None) -> None:
    """Raise SettingError where a file cannot be written: before hours of work, not after them."""
    if place is None:
        return
    try:
        nearest = next(path for path in (place.resolve(), *place.resolve().parents) if path.exists())
        folder = nearest if nearest.is_dir() else nearest.parent
        if nearest == place.resolve() and not (nearest.is_file() or nearest.is_dir()):
            raise OSError(0, "it is a device or a pipe")
        if nearest.is_file() and nearest != place.resolve():
            raise NotADirectoryError(0, f"{nearest} is a file")
        with tempfile.TemporaryFile(dir=folder):
            pass  # permissions alone do not tell: a folder may be on a disk that is full or read-only
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise SettingError(f"{place} cannot be written ({reason}); give another place") from error


def settings_in(settings: list[str] | None) -> dict[str, str]:
    """NAME=VALUE as a mapping."""
    pairs = [text.partition("=") for text in settings or []]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise SettingError(f"--set {wrong[0]} has no value; write --set {wrong[0]}=VALUE")
    return {name: value for name, _, value in pairs}
