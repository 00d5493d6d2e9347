"""Ctrl-C, SIGTERM and SIGHUP: the first one ends the work in order, another one ends the program at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Signals:
    """What the program does when it is asked to end.

    Attributes:
        received: numbers of the signals that came, in order.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._waits = False

    def __bool__(self) -> bool:
        """Whether a signal came."""
        return bool(self.received)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals for the time of a block; those that are ignored, as after nohup, stay ignored."""
        if threading.current_thread() is not threading.main_thread():  # only that one may
            yield
            return
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
        caught = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
        for number in caught:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number in caught:
                signal.signal(number, before[number])

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Interrupt nothing inside a block, which looks at `received` between its steps; a second signal interrupts."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _receive(self, number: int, frame: FrameType | None) -> Any:
        self.received.append(number)
        if self._waits and len(self.received) == 1:
            return
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt
