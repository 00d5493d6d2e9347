"""How far a stage of training is: steps, seconds, the learning rate that belongs there, and a polite Ctrl-C."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def schedule(position: float, warm_up: float) -> float:
    """Share of the highest learning rate at a position in [0, 1] of a stage: a linear rise, then half a cosine to 0."""
    return min(1.0, (position + 0.01) / (warm_up + 0.01)) * 0.5 * (1 + math.cos(math.pi * min(1.0, position)))


class Clock:
    """Steps and seconds of one stage, over all of its sittings."""

    def __init__(self, steps: int, limit: float) -> None:
        self.steps, self.limit = steps, limit
        self.resume(0, 0.0)

    def resume(self, done: int, spent: float) -> None:
        """Go on after `done` steps that took `spent` seconds."""
        self.done = self.started_at = done
        self.spent, self.start = spent, time.monotonic()
        self.kept = self.start

    def tick(self) -> None:
        """One more step is done."""
        self.done += 1

    def seconds(self) -> float:
        """Of all sittings."""
        return self.spent + time.monotonic() - self.start

    def position(self) -> float:
        """How much of the stage is over, in [0, 1], by steps or by time, whichever ends first."""
        by_steps = 1.0 if self.done >= self.steps else self.done / self.steps
        return max(by_steps, self.seconds() / self.limit)

    def seconds_left(self) -> float:
        """By the pace of this sitting, or until the limit."""
        pace = (time.monotonic() - self.start) / max(1, self.done - self.started_at)
        return max(0.0, min(pace * (self.steps - self.done), self.limit - self.seconds()))

    def due(self, every: float) -> bool:
        """Whether so many seconds have gone by since this last said yes."""
        if time.monotonic() - self.kept < every:
            return False
        self.kept = time.monotonic()
        return True


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, so that a step is never cut in two; a second one interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: whoever owns it decides
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
