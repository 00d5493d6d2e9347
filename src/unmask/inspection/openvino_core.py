"""OpenVINO's core, of which a process has one."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def openvino_core() -> Any:
    """The core that reads and compiles all models of this process.

    Each core replaces the stack on which signals are handled, and puts back what was there when it ends. Of several
    that end in another order than they began, one puts back a stack that is gone, and the next signal ends the process.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    import openvino

    return openvino.Core()
