"""Options of the functions that users call, checked against their annotations before anything else happens."""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from unmask.errors import SettingError

P = ParamSpec("P")
Result = TypeVar("Result")
WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    Mapping: "a dict",
    Sequence: "a list of whole numbers",
    tuple: "two numbers",
    type: "a class",
    type(None): "None",
}
"""The kinds that are checked; a value of any other kind is left to the function."""
MOST_SHOWN = 40  # letters of a value in a message


def checked_options(function: Callable[P, Result]) -> Callable[P, Result]:
    """Refuse options of another kind than a function's annotations name.

    Raises:
        SettingError: by the function that is returned; it names the option, what came, and what is taken.
    """

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Result:
        given = inspect.signature(function).bind(*args, **kwargs)
        for name, value in given.arguments.items():
            if kinds := _kinds(function).get(name):
                given.arguments[name] = _as_one_of(kinds, name, value)
        return function(*given.args, **given.kwargs)

    return checked


@cache
def _kinds(function: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """The kinds of each argument's annotation; none where one of them is not checked here."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, hint in get_type_hints(function).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        found[name] = kinds if all(map(_is_checked, kinds)) else ()
    return found


def _is_checked(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return origin in WORDS and (origin not in (tuple, Sequence) or get_args(kind)[0] in WORDS)


def _as_one_of(kinds: tuple[Any, ...], name: str, value: Any) -> Any:
    """A value of one of these kinds; a number of NumPy becomes one of Python, and any path a `Path`."""
    kind = next((kind for kind in kinds if _is(value, kind)), None)
    if kind is None:
        wanted = " or ".join(dict.fromkeys(WORDS[get_origin(kind) or kind] for kind in kinds))
        shown = f"{name}={value!r}"[:MOST_SHOWN] if isinstance(value, str | Real) else name
        raise SettingError(f"{shown} is of the wrong kind ({type(value).__name__}); give {wanted}")
    return kind(value) if kind in (int, float, Path) and type(value) is not kind else value


def _is(value: Any, kind: Any) -> bool:
    origin = get_origin(kind) or kind
    if origin is bool or isinstance(value, bool):
        return origin is bool and isinstance(value, bool)
    if origin in (int, float):
        return isinstance(value, Integral if origin is int else Real)
    if origin is Path:
        return isinstance(value, os.PathLike)
    if origin in (tuple, Sequence):
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return (
            is_list
            and (origin is not tuple or len(value) == len(get_args(kind)))
            and all(_is(one, get_args(kind)[0]) for one in value)
        )
    return isinstance(value, origin)
