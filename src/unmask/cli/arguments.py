"""What the commands share: checks before long work, loading, and the words for what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.cli.console import note
from unmask.errors import DependencyError, SettingError

if TYPE_CHECKING:
    from unmask.inspection.judging import Judge
    from unmask.types import Split


@contextmanager
def needs_torch() -> Iterator[None]:
    """Say what to install where torch or its company is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"{error.name} is not installed, and this command needs it; run: pip install 'unmask[train]'"
        ) from error


def loaded(source: Path, seed: int) -> Split:
    """A data set, after a word about what was found."""
    from unmask.datasets import load

    split = load(source, seed=seed)
    counts = f"{len(split.normals)} good images to learn from, {len(split.held_out)} held out"
    note(f"{split.name}: {split.layout}; {counts}, {len(split.test)} to test on.")
    for warning in split.warnings:
        note(f"Note: {warning}")
    return split


def opened(model: Path, *, explain: bool = False) -> Judge:
    """By the runtime where it can, without torch; with torch where steps are to be told."""
    from unmask import load

    return load(model, explain=explain)


def check_writable(place: Path | None) -> None:
    """Before hours of work, not after them."""
    if place is None:
        return
    nearest = next(path for path in (place.resolve(), *place.resolve().parents) if path.exists())
    if not os.access(nearest, os.W_OK) or not (nearest.is_dir() or nearest == place.resolve()):
        raise SettingError(f"{place} cannot be written: {nearest} does not allow it; give another place")


def pairs_of(settings: list[str] | None) -> dict[str, str]:
    """NAME=VALUE as a mapping."""
    pairs = [text.partition("=") for text in settings or []]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise SettingError(f"--set {wrong[0]} has no value; write --set {wrong[0]}=VALUE")
    return {name: value for name, _, value in pairs}
