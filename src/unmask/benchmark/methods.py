"""What is measured: one of our detectors, one of anomalib's, or any command that reads a folder and writes maps."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unmask.errors import SettingError

ANOMALIB, COMMAND = "anomalib:", "command:"


class Method(NamedTuple):
    """A detector with its settings.

    Attributes:
        detector: a name or names of ours ("patchcore+fre"), "anomalib:Patchcore", or "command:python my.py".
        preset: of ours; empty for others.
        settings: that replace some of the preset's; empty for commands.
    """

    detector: str
    preset: str
    settings: Mapping[str, Any]

    @property
    def foreign(self) -> bool:
        """Whether it runs as a command of its own."""
        return self.detector.startswith((ANOMALIB, COMMAND))

    def __str__(self) -> str:
        return method_of(self._asdict())


def methods_of(texts: Sequence[str], preset: str = "fast", settings: Mapping[str, str] | None = None) -> list[Method]:
    """Read the names that a user gives.

    Args:
        texts: each a list separated by commas: "isstad,ssm@light,anomalib:Patchcore"; what follows an @ is a preset of
            that detector alone. A text that begins with "command:" is one method, commas and all.
        preset: of those of ours that name none.
        settings: of a single method.

    Raises:
        SettingError: a name, preset or setting is unknown, or settings came with several methods.
    """
    names = [name for text in texts for name in ([text] if text.startswith(COMMAND) else text.split(","))]
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise SettingError("no detector was named; give --detectors NAME,NAME, as `unmask detectors` lists them")
    if settings and len(names) > 1:
        raise SettingError(f"--set came with {len(names)} detectors; run one at a time with settings of its own")
    methods = [_method(name, preset, settings or {}) for name in names]
    return list({str(method): method for method in methods}.values())


def method_of(row: Mapping[str, Any]) -> str:
    """The detector, preset and changed settings of a row, in one name."""
    changed = (f"{name}={value}" for name, value in row["settings"].items())
    return " ".join(part for part in (row["detector"], row["preset"], *changed) if part)


def _method(name: str, preset: str, settings: Mapping[str, str]) -> Method:
    if name.startswith(COMMAND):
        if settings or not _words(name):
            raise SettingError(f"{name!r}: give a command after command:, with its settings in it")
        return Method(name, "", {})
    if name.startswith(ANOMALIB):
        return Method(name, "", dict(settings))
    detector, _, own = name.partition("@")
    method = Method(detector, own or preset, dict(settings))
    _check(method)
    return method


def _words(name: str) -> list[str]:
    try:
        return shlex.split(name.removeprefix(COMMAND))
    except ValueError as error:
        raise SettingError(f"{name!r}: {error}; give a command as a shell takes it") from error


def _check(method: Method) -> None:
    """Before hours of work, not after the first of them."""
    from unmask.detectors import make

    make(method.detector, method.preset, method.settings)
