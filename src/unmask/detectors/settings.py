"""A detector's settings: their kinds and ranges are declared in its constructor, and checked here, in one place.

def __init__(
    self, *, bank_size: Annotated[int, AtLeast(1)] = 4_000, selection: Literal["greedy", "random"] = "greedy"
) -> None:
    check_settings(MyDetector, locals())
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args, get_origin, get_type_hints

from unmask.errors import SettingError


class Range(Protocol):
    """What a value must fulfil, declared as `Annotated[kind, range]`; of a tuple, each of its values."""

    def __contains__(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class AtLeast:
    """Values from `least` on."""

    least: float

    def __contains__(self, value: Any) -> bool:
        return bool(value >= self.least)

    def __str__(self) -> str:
        return f"{self.least:g} or more"


@dataclass(frozen=True)
class Above:
    """Values above `bound`."""

    bound: float

    def __contains__(self, value: Any) -> bool:
        return bool(value > self.bound)

    def __str__(self) -> str:
        return f"a value above {self.bound:g}"


@dataclass(frozen=True)
class Between:
    """Values from `low` to `high`, both included."""

    low: float
    high: float

    def __contains__(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Share:
    """Values above 0 and at most 1."""

    def __contains__(self, value: Any) -> bool:
        return bool(0 < value <= 1)

    def __str__(self) -> str:
        return "a share above 0 and at most 1"


@dataclass(frozen=True)
class MultipleOf:
    """Whole multiples of `step`, from `step` on."""

    step: int

    def __contains__(self, value: Any) -> bool:
        return bool(value > 0 and value % self.step == 0)

    def __str__(self) -> str:
        return f"a multiple of {self.step}"


class OnlyIf:
    """The setting acts only where another setting, `name`, has one of `values`; elsewhere it keeps its default."""

    def __init__(self, name: str, *values: Any) -> None:
        self.name, self.values = name, values

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the setting acts beside these values of all settings."""
        return values[self.name] in self.values


class Setting(NamedTuple):
    """One constructor argument of a detector.

    Attributes:
        default: its value unless it is given.
        kind: bool, int, float, str or tuple; of a tuple, `item` is the kind of its values. A value of any other kind is
            checked by its detector.
        item: see `kind`.
        optional: whether None is a value.
        choices: its only values; empty = any in range.
        ranges: what a value must fulfil.
        only_if: where it acts; None = everywhere.
    """

    default: Any
    kind: type
    item: type = int
    optional: bool = False
    choices: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()
    only_if: OnlyIf | None = None

    def wanted(self) -> str:
        """The kind and range in words, such as "a whole number, 1 or more"."""
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        words = _WORDS.get(self.kind, "a table")
        if self.kind is tuple:
            words = f"a list of {_WORDS[self.item].removeprefix('a ')}s, such as {text_of(self.default)}"
        return ", ".join([words, *map(str, self.ranges)]) + (", or none" if self.optional else "")


_WORDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


MOST_TEXT = 60
"""Letters of a value that a message shows."""


def text_of(value: Any) -> str:
    """A value as it is written after NAME= on the command line; one line, and cut where it is long."""
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    line = " ".join(text.split())
    return line if len(line) <= MOST_TEXT else f"{line[:MOST_TEXT]}..."


def settings_of(detector: type) -> Mapping[str, Setting]:
    """The constructor's arguments by name.

    Raises:
        TypeError: an argument has no default; its author must give it one.
    """
    parameters = dict(inspect.signature(detector.__init__).parameters)  # type: ignore[misc]
    parameters.pop("self")
    hints = get_type_hints(detector.__init__, include_extras=True)  # type: ignore[misc]
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty:
            raise TypeError(f"{detector.__name__}: the setting {name} has no default")
    return {  # without an annotation, the default says which kind is meant
        name: _setting(hints.get(name, type(parameter.default)), parameter.default)
        for name, parameter in parameters.items()
    }


def check_settings(detector: type, values: Mapping[str, Any]) -> None:
    """Check the values of a constructor's arguments; the first line of every detector's constructor.

    Args:
        detector: its class.
        values: at least all arguments by name, such as `locals()`.

    Raises:
        SettingError: a value is of the wrong kind or out of range, or has no effect beside the others.
    """
    declared = settings_of(detector)
    for name, setting in declared.items():
        _check(name, values[name], setting)
    for name, setting in declared.items():
        if (only := setting.only_if) and not only.holds(values) and values[name] != setting.default:
            raise SettingError(
                f"{name}={text_of(values[name])} has no effect with {only.name}={text_of(values[only.name])}; "
                f"give {only.name}={' or '.join(map(text_of, only.values))}, or leave {name} out"
            )


def converted(name: str, value: Any, setting: Setting) -> Any:
    """A value of the command line (text) or of a model file (JSON) as its constructor takes it.

    Raises:
        SettingError: the text stands for no such value.
    """
    if setting.kind is tuple and isinstance(value, list):  # as JSON has it
        return tuple(value)
    if not isinstance(value, str) or setting.kind not in (bool, int, float, str, tuple):
        return value
    if setting.optional and value.lower() == "none":
        return None
    try:
        return _from_text(value, setting)
    except (KeyError, ValueError) as error:
        raise _wrong(name, value, setting) from error


def _from_text(value: str, setting: Setting) -> Any:
    if setting.kind is bool:
        return {"true": True, "false": False}[value.lower()]
    if setting.kind is tuple:
        return tuple(setting.item(one) for one in value.strip("()").rstrip(",").split(","))
    if setting.choices and value not in setting.choices:
        raise ValueError(value)
    return setting.kind(value)


def _setting(hint: Any, default: Any) -> Setting:
    ranges: list[Range] = []
    only_if, optional, choices = None, False, ()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        only_if = next((one for one in extras if isinstance(one, OnlyIf)), None)
        ranges = [one for one in extras if not isinstance(one, OnlyIf)]
    if type(None) in get_args(hint):
        optional, hint = True, next(one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is Literal:
        choices, hint = get_args(hint), str
    item = get_args(hint)[0] if get_origin(hint) is tuple else int
    return Setting(
        default, get_origin(hint) or hint, item, optional or default is None, choices, tuple(ranges), only_if
    )


def _check(name: str, value: Any, setting: Setting) -> None:
    """Raise SettingError unless a value is of the setting's kind and in its range."""
    if (value is None and setting.optional) or setting.kind not in (bool, int, float, str, tuple):
        return  # of other kinds, each detector checks its own
    if setting.kind is tuple:
        is_right = isinstance(value, tuple | list) and len(value) > 0
        is_right = is_right and all(_is_allowed(one, setting.item, setting) for one in value)
    else:
        is_right = _is_allowed(value, setting.kind, setting)
    if not is_right:
        raise _wrong(name, value, setting)


def _is_allowed(value: Any, kind: type, setting: Setting) -> bool:
    if not _is_kind(value, kind) or (setting.choices and value not in setting.choices):
        return False
    return all(value in allowed for allowed in setting.ranges)


def _is_kind(value: Any, kind: type) -> bool:
    """A bool is no number here, a whole number is a float too, and NaN and infinity are no numbers."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def _wrong(name: str, value: Any, setting: Setting) -> SettingError:
    return SettingError(f"{name}={text_of(value)} is out of range; give {setting.wanted()}")
