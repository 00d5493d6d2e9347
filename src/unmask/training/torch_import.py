"""Importing torch so that its threads leave room for other programs, and its arrays reuse memory.

Measured in docs/experiments/0005-busy-machines.md.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

SPIN_COUNT = "1000"
"""Turns of a loop, some 20 microseconds, for which a thread of torch waits for the others before it sleeps."""
WAIT_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
BLOCK = (1 << 25) - (1 << 13)
"""Bytes just below the 32 MB up to which glibc's malloc adapts itself to the blocks that are freed."""


def import_torch() -> None:
    """Import torch, unless that is done, and free one large block. A second call changes nothing.

    Threads: libgomp, which torch brings on Linux, lets a thread spin for milliseconds while it waits for another. Where
    that other one waits for a core that a busy program has, both lose time. libgomp reads its setting from the
    environment when it is loaded, and only then; so the setting is there for that moment, and no longer. A user's own
    GOMP_SPINCOUNT or OMP_WAIT_POLICY is left alone. Where torch was imported earlier, its threads stay as they are.

    Forks: a child has none of its parent's threads, and torch waits for them for ever when it shares work out. So a
    child of `os.fork` (also by multiprocessing or a web server that loads before it forks) computes with one thread.

    Memory: glibc's malloc returns freed memory to the system sooner if the program has only freed small blocks so far.
    After one of 32 MB it keeps up to 64 MB, and arrays of that size cost no page faults each time. This is malloc's own
    rule, not a setting of it; elsewhere than in glibc nothing comes of it.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in WAIT_SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
        try:
            import_module("torch")
        finally:
            os.environ.pop("GOMP_SPINCOUNT", None)
    import torch

    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
    torch.empty(BLOCK, dtype=torch.uint8)
