"""What the commands share: checks before long work, loading, and what to say where something is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.cli.console import note
from unmask.errors import DatasetError, DependencyError, SettingError

if TYPE_CHECKING:
    from unmask.imaging.listing import Listing
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


def load_dataset(source: Path, seed: int, groups: str | None = None, *, recursive: bool = True) -> Split:
    """A data set, after lines about what was found, and about the files that were seen, used and skipped."""
    from unmask.datasets import load
    from unmask.imaging.accounting import sentence

    split = load(source, seed=seed, groups=groups, recursive=recursive)
    good = f"{len(split.normals) + len(split.held_out)} good images"
    if not split.is_drawn:
        good = f"{len(split.normals)} good images to learn from, {len(split.held_out)} held out"
    note(f"{split.name}: {split.layout}; {good}, {len(split.test)} to test on.")
    note(f"{sentence(split.seen, split.skipped)}.")
    for warning in split.warnings:
        note(f"Note: {warning}")
    return split


def image_files(given: list[Path], *, recursive: bool = True) -> Listing:
    """Image files, and those in folders, each once.

    Raises:
        DatasetError: there are none, or a path leads nowhere.
    """
    from unmask.imaging.accounting import sentence
    from unmask.imaging.listing import gather

    listing = gather(given, recursive=recursive)
    if not listing.files:
        found = f" ({sentence(listing.seen, listing.skipped)})" if listing.skipped else ""
        raise DatasetError(f"no images in {given[0]}{found}; give image files or folders of them")
    return listing


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
