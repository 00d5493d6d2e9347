"""Progress of long work, reported to whoever shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Progress = Callable[[str, int, int, float], None]
"""Called with the name of a stage, the number of steps done, the number of all steps, and the seconds that are left."""

Item = TypeVar("Item")


def silent(stage: str, done: int, total: int, seconds_left: float) -> None:
    """Report nothing."""


def tracked(items: Iterable[Item], total: int, stage: str, progress: Progress) -> Iterator[Item]:
    """Pass items on, and report each once it has been used.

    Args:
        items: to pass on.
        total: how many there are.
        stage: the name of the work.
        progress: called after each item.
    """
    start = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        progress(stage, done, total, (time.monotonic() - start) / done * (total - done))
