"""What is measured: a detector of unmask or of the user, one of anomalib's, or any command that writes maps."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unmask.errors import SettingError
from unmask.imaging.tolerance import Tolerance

if TYPE_CHECKING:
    from unmask.detectors import Detector

ANOMALIB, COMMAND = "anomalib:", "command:"
FIT_OPTIONS = ("tolerate", "calibrate")
CALIBRATIONS = ("cross", "split")
DEFAULT_TOLERANCE = "mild"


class Method(NamedTuple):
    """A detector with its settings.

    Attributes:
        detector: a name ("patchcore"), names of a fusion ("patchcore+fre"), the import path of a user's class
            ("my_package.my_module:MyDetector"), "anomalib:Patchcore", or "command:python my.py".
        preset: of a `Detector`; empty for others.
        settings: that replace some of the preset's; empty for commands.
        tolerate: what the fit is to tolerate, as `unmask fit --tolerate` takes it; empty = its default.
        calibrate: how the fit calibrates, "cross" or "split"; empty = its default.
    """

    detector: str
    preset: str
    settings: Mapping[str, Any]
    tolerate: str = ""
    calibrate: str = ""

    @property
    def foreign(self) -> bool:
        """Whether it is no `Detector` but runs as a command of its own."""
        return self.detector.startswith((ANOMALIB, COMMAND))

    @property
    def is_outside(self) -> bool:
        """Whether it is a `Detector` that is not one of unmask's."""
        return ":" in self.detector and not self.foreign

    def fit_options(self) -> dict[str, str]:
        """The options of `Inspector.fit` that are not left at their defaults."""
        return {name: value for name in FIT_OPTIONS if (value := getattr(self, name))}

    def __str__(self) -> str:
        return method_of(self._asdict())


def methods_of(
    texts: Sequence[str],
    preset: str = "fast",
    settings: Mapping[str, str] | None = None,
    tolerate: str | None = None,
    calibrate: str | None = None,
) -> list[Method]:
    """Read the names that a user gives.

    Args:
        texts: each a list separated by commas: "isstad,ssm@light,my_module:MyDetector,anomalib:Patchcore"; what follows
            an @ is a preset of that detector alone. A text that begins with "command:" is one method, commas and all.
        preset: of the detectors that name none.
        settings: of a single method.
        tolerate: what the fits of all of them tolerate; None = their default.
        calibrate: how they calibrate; likewise.

    Raises:
        SettingError: a name, preset, setting or option is unknown, settings came with several methods, or an option of
            fits with a method that is fitted by its own program.
    """
    names = [name for text in texts for name in ([text] if text.startswith(COMMAND) else text.split(","))]
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise SettingError("no detector was named; give --detectors NAME,NAME, as `unmask detectors` lists them")
    if settings and len(names) > 1:
        raise SettingError(f"--set came with {len(names)} detectors; run one at a time with settings of its own")
    options = fit_options(tolerate, calibrate)
    return _unique(_with_options(_method(name, preset, settings or {}), options) for name in names)


def as_methods(given: Sequence[Method | str | type[Detector]]) -> list[Method]:
    """Methods of what a caller in Python gives: methods, texts as in `methods_of`, and detector classes.

    Raises:
        SettingError: see `methods_of`; or a class is of a script, which the process of a row cannot import.
    """
    found: list[Method] = []
    for one in given:
        if isinstance(one, Method):
            found.append(_with_options(one, one.fit_options()))
        else:
            found += methods_of([one if isinstance(one, str) else _import_path(one)])
    return _unique(found)


def method_of(row: Mapping[str, Any]) -> str:
    """The detector, preset, changed settings and options of the fit of a row, in one name.

    Rows of older versions hold no options of fits.
    """
    changed = (f"{name}={value}" for name, value in row["settings"].items())
    options = (f"{name}={row[name]}" for name in FIT_OPTIONS if row.get(name))
    return " ".join(part for part in (row["detector"], row["preset"], *changed, *options) if part)


def fit_options(tolerate: str | None, calibrate: str | None) -> dict[str, str]:
    """Options of a fit by name; those that are given as they are by default are left out.

    Raises:
        SettingError: a value is unknown.
    """
    if calibrate is not None and calibrate not in CALIBRATIONS:
        raise SettingError(f"--calibrate {calibrate} is unknown; give {' or '.join(CALIBRATIONS)}")
    wanted = str(Tolerance.parse(DEFAULT_TOLERANCE if tolerate is None else tolerate))
    given = {"tolerate": "" if wanted == DEFAULT_TOLERANCE else wanted, "calibrate": calibrate}
    return {name: value for name, value in given.items() if value}


def detector_class(name: str) -> type[Detector]:
    """The class of a `Detector` that a method names.

    Args:
        name: of one of unmask's, or an import path.

    Raises:
        SettingError: there is none of that name, or what the path leads to is no `Detector`.
    """
    from unmask.detectors import Detector, find

    if ":" not in name:
        return find(name)
    module, _, inside = name.partition(":")
    try:
        found = attrgetter(inside)(import_module(module))
    except (Exception, SystemExit) as error:  # a module of the user's may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise SettingError(
            f"{name} cannot be imported ({reason}); give MODULE:CLASS, such as my_package.my_module:MyDetector, of a "
            "module in the current folder or an installed one"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Detector)):
        raise SettingError(f"{name} is no detector; give a subclass of unmask.detectors.Detector")
    return found


def make_detector(method: Method) -> Detector:
    """Build the detector of a method that is not foreign.

    Raises:
        SettingError: no such detector, preset or setting, or a value of the wrong kind or out of range.
    """
    from unmask.detectors import build, make

    if method.is_outside:
        return build(detector_class(method.detector), method.preset, method.settings)
    return make(method.detector, method.preset, method.settings)


def words_of(command: str) -> list[str]:
    """The words of a command as a shell takes it; on Windows a backslash belongs to a path."""
    return shlex.split(command.replace("\\", "\\\\") if sys.platform == "win32" else command)


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Find modules in the current folder, after all others, for the time of a block."""
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def _method(name: str, preset: str, settings: Mapping[str, str]) -> Method:
    if name.startswith(COMMAND):
        if settings or not _command(name):
            raise SettingError(f"{name!r}: give a command after command:, with its settings in it")
        return Method(name, "", {})
    if name.startswith(ANOMALIB):
        return Method(name, "", dict(settings))
    detector, _, own = name.partition("@")
    method = Method(detector, own or preset, dict(settings))
    make_detector(method)  # what is wrong with it is known before hours of work
    return method


def _with_options(method: Method, options: Mapping[str, Any]) -> Method:
    if options and method.foreign:
        name = next(iter(options))
        raise SettingError(
            f"--{name} came with {method.detector}, which its own program fits; leave it out, or run it by itself"
        )
    return method._replace(**options)


def _command(name: str) -> list[str]:
    try:
        return words_of(name.removeprefix(COMMAND))
    except ValueError as error:
        raise SettingError(f"{name!r}: {error}; give a command as a shell takes it") from error


def _import_path(kind: type[Detector]) -> str:
    from unmask.detectors import DETECTORS

    if kind in DETECTORS:
        return kind.name
    path = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__" or "<locals>" in path:
        raise SettingError(
            f"{path} cannot be imported by the process of a row; define the class in a module of its own"
        )
    return path if "fast" in kind.presets else f"{path}@{next(iter(kind.presets))}"


def _unique(methods: Iterator[Method] | Sequence[Method]) -> list[Method]:
    return list({str(method): method for method in methods}.values())
