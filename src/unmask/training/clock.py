"""How far a stage of training is: its steps and seconds, the learning rate that belongs there, and Ctrl-C."""

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
    """Steps and seconds of one stage, those before an interruption included.

    Args:
        steps: of the stage.
        limit: seconds that it may take.

    Attributes:
        done: steps so far.
    """

    def __init__(self, steps: int, limit: float) -> None:
        self.steps, self.limit = steps, limit
        self.resume(0, 0.0)

    def resume(self, done: int, spent: float) -> None:
        """Go on after `done` steps that took `spent` seconds."""
        self.done = self.first = done
        self.spent, self.start = spent, time.monotonic()
        self.last_due = self.start

    def tick(self) -> None:
        """Count one more step."""
        self.done += 1

    def seconds(self) -> float:
        """Seconds since the stage began, without the time between an interruption and its resumption."""
        return self.spent + time.monotonic() - self.start

    def position(self) -> float:
        """How much of the stage is over, in [0, 1], by steps or by time, whichever ends first."""
        by_steps = 1.0 if self.done >= self.steps else self.done / self.steps
        return max(by_steps, self.seconds() / self.limit)

    def seconds_left(self) -> float:
        """Seconds until the end at the pace since the start or the last resumption, or until the limit."""
        pace = (time.monotonic() - self.start) / max(1, self.done - self.first)
        return max(0.0, min(pace * (self.steps - self.done), self.limit - self.seconds()))

    def due(self, every: float) -> bool:
        """Whether `every` seconds have gone by since the start, or since this was last True."""
        if time.monotonic() - self.last_due < every:
            return False
        self.last_due = time.monotonic()
        return True


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Turn the first Ctrl-C into a flag, so that a step is never cut in two; a second one interrupts at once.

    SIGTERM and SIGHUP are treated alike where the program handles them, as the command line does.

    Yields:
        A function that gives the number of the signal that came, or 0.
    """
    signals: list[int] = []
    before = {number: signal.getsignal(number) for number in _numbers()}

    def record(number: int, frame: object) -> None:
        signals.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        for number in before:
            signal.signal(number, record)
    except ValueError:  # only the main thread may: elsewhere Ctrl-C is left to it
        yield lambda: 0
        return
    try:
        yield lambda: signals[0] if signals else 0
    finally:
        restore()


def _numbers() -> list[int]:
    """The signals that ask this program to end, and that it does not leave to the system."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [int(getattr(signal, name)) for name in names if hasattr(signal, name)]
    return [number for number in numbers if callable(signal.getsignal(number))]
