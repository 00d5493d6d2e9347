"""A detector's settings: their kinds and ranges are declared in its constructor, and checked here, in one place.

def __init__(self, *, bank_size: Annotated[int, AtLeast(1)] = 4_000, selection: Literal["greedy", "random"] = ...)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
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


class Setting(NamedTuple):
    """One constructor argument of a detector.

    Attributes:
        default: its value unless it is given.
        kind: bool, int, float, str or tuple; of a tuple, `item` is the kind of its values.
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


def text_of(value: Any) -> str:
    """A value as it is written after NAME= on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
    return {name: _setting(hints.get(name, Any), parameter.default) for name, parameter in parameters.items()}


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
        if (only := setting.only_if) and values[only.name] not in only.values and values[name] != setting.default:
            raise SettingError(
                f"{name}={text_of(values[name])} has no effect with {only.name}={text_of(values[only.name])}; "
                f"give {only.name}={' or '.join(map(text_of, only.values))}, or leave {name} out"
            )


def converted(name: str, value: Any, setting: Setting) -> Any:
    """A value of the command line (text) or of a model file (JSON), as its constructor wants it.

    Raises:
        SettingError: the text does not say such a value.
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
    kind = get_origin(hint) or hint
    if not isinstance(kind, type):  # an outside detector without annotations: its default says what is meant
        kind = type(default)
    return Setting(default, kind, item, optional or default is None, choices, tuple(ranges), only_if)


def _check(name: str, value: Any, setting: Setting) -> None:
    if value is None and setting.optional:
        return
    values: Sequence[Any] = value if setting.kind is tuple and isinstance(value, tuple | list) else [value]
    kind = setting.item if setting.kind is tuple else setting.kind
    if kind not in (bool, int, float, str) or (setting.kind is tuple and not isinstance(value, tuple | list)):
        if setting.kind is tuple:
            raise _wrong(name, value, setting)
        return  # a kind that its detector checks itself
    for one in values:
        if not _is_kind(one, kind) or (setting.choices and one not in setting.choices):
            raise _wrong(name, value, setting)
        if any(one not in allowed for allowed in setting.ranges):
            raise _wrong(name, value, setting)
    if not len(values):
        raise _wrong(name, value, setting)


def _is_kind(value: Any, kind: type) -> bool:
    """A bool is no number here, a whole number is one, and NaN and infinity are none."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and abs(value) < float("inf")
    return isinstance(value, kind)


def _wrong(name: str, value: Any, setting: Setting) -> SettingError:
    return SettingError(f"{name}={text_of(value)} is out of range; give {setting.wanted()}")
