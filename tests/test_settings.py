"""Settings: whatever is outside its declared range, or of another kind, is one line, before anything is built."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pytest

from tiny import SIZE
from unmask.detectors import DETECTORS, build, make
from unmask.detectors.settings import (
    Above,
    AtLeast,
    Between,
    MultipleOf,
    OnlyIf,
    Setting,
    Share,
    check_settings,
    converted,
    settings_of,
    text_of,
)
from unmask.errors import SettingError

SHARED = {"backbone": "tiny", "image_size": SIZE}


def outside(allowed: Any) -> list[Any]:
    """Values outside a range."""
    if isinstance(allowed, AtLeast):
        return [allowed.least - 1]
    if isinstance(allowed, Above):
        return [allowed.bound, allowed.bound - 1]
    if isinstance(allowed, Between):
        return [allowed.low - 1, allowed.high + 1]
    if isinstance(allowed, MultipleOf):
        return [allowed.step + 1, 0, -allowed.step]
    assert isinstance(allowed, Share)
    return [0, -0.5, 1.5]


NUMBERS = {
    int: [1.5, True, "many", None, [], {}, b"1", 1j, range(3)],
    float: [float("nan"), float("inf"), -float("inf"), 10**400, True, "much", None, (1.0,), {}, 1j],
    str: [0, True, None, [], ("greedy",), {}],
    bool: [0, 1, "yes", None, []],
    tuple: [(), [], 3, None, "", ",", "a,b", (2.5,), (True,), ((2,),), {2: 3}, (2, None), (float("nan"),)],
}


TEXTS = {
    int: ["", "1.5", "many", "nan", "1e3", "None none"],
    float: ["", "nan", "inf", "-inf", "1e999", "much", "1,5"],
    bool: ["", "1", "yes"],
    tuple: ["", ",", "a,b", "2.5", "nan", "2;3"],
}


def out_of_range(setting: Setting) -> Iterator[Any]:
    for allowed in setting.ranges:
        for value in outside(allowed):
            kind = setting.item if setting.kind is tuple else setting.kind
            yield (kind(value),) if setting.kind is tuple else kind(value)


def wrong_values(setting: Setting) -> Iterator[Any]:
    """Values that a setting must refuse."""
    yield from out_of_range(setting)
    if setting.choices:
        yield from ("neither", "", " ", setting.choices[0].upper())
    yield from (value for value in NUMBERS.get(setting.kind, []) if not (value is None and setting.optional))


CASES = [
    pytest.param(detector, name, value, id=f"{detector.name} {name}={text_of(value)}")
    for detector in DETECTORS
    for name, setting in settings_of(detector).items()
    if setting.kind in NUMBERS
    for value in wrong_values(setting)
]


def assert_one_line(error: pytest.ExceptionInfo[SettingError], name: str) -> None:
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    assert name in str(error.value)


@pytest.mark.parametrize(("detector", "name", "value"), CASES)
def test_a_wrong_value_is_one_line(detector: type, name: str, value: Any) -> None:
    constructor = inspect.unwrap(detector.__init__)  # type: ignore[misc]  # without what tests put around it
    with pytest.raises(SettingError) as caught:
        constructor(detector.__new__(detector), **{name: value})
    assert_one_line(caught, name)
    with pytest.raises(SettingError) as caught:
        build(detector, "fast", {name: value})
    assert_one_line(caught, name)


@pytest.mark.parametrize(
    ("detector", "name", "text"),
    [
        pytest.param(detector, name, text, id=f"{detector.name} {name}={text}")
        for detector in DETECTORS
        for name, setting in settings_of(detector).items()
        if setting.kind in TEXTS
        for text in (*TEXTS[setting.kind], *map(text_of, out_of_range(setting)))
    ],
)
def test_a_wrong_text_is_one_line(detector: type, name: str, text: str) -> None:
    """As the command line has it."""
    with pytest.raises(SettingError) as caught:
        build(detector, "fast", {name: text})
    assert_one_line(caught, name)


def test_there_are_cases_of_every_detector() -> None:
    assert {case.values[0] for case in CASES} == set(DETECTORS)
    assert len(CASES) > 500


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_preset_is_in_range(detector: type) -> None:
    declared = settings_of(detector)
    for preset in detector.presets.values():  # type: ignore[attr-defined]
        check_settings(detector, {name: one.default for name, one in declared.items()} | preset)


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_setting_is_described_and_returns_as_it_was(detector: type) -> None:
    for name, setting in settings_of(detector).items():
        assert "\n" not in setting.wanted()
        if setting.kind in NUMBERS:
            assert converted(name, text_of(setting.default), setting) == setting.default
            written = json.loads(json.dumps(setting.default))
            assert converted(name, written, setting) == setting.default
        assert setting.only_if is None or setting.only_if.name in settings_of(detector)


# --- the parts --------------------------------------------------------------------------------------------------------


class Thing:
    """What an author may declare."""

    def __init__(
        self,
        *,
        size: Annotated[int, MultipleOf(8)] = 16,
        rate: Annotated[float, Above(0), Between(0, 2)] = 0.5,
        kind: Literal["round", "square"] = "round",
        corners: Annotated[int, AtLeast(3), OnlyIf("kind", "square")] = 4,
        levels: Annotated[tuple[int, ...], AtLeast(0)] = (2, 3),
        name: str | None = None,
        plain: Any = 3,
        bare=7,  # type: ignore[no-untyped-def]
        flag: bool = False,
    ) -> None:
        check_settings(Thing, locals())


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"size": 8, "rate": 2, "levels": [0]},
        {"kind": "square", "corners": 3},
        {"corners": 4},
        {"name": "a", "plain": range(3)},
        {"bare": 9, "flag": True},
    ],
    ids=str,
)
def test_right_values_pass(values: Mapping[str, Any]) -> None:
    Thing(**values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 12}, "size=12 is out of range; give a whole number, a multiple of 8"),
        ({"rate": 0}, "rate=0 is out of range; give a number, a value above 0, 0 to 2"),
        ({"rate": 2.5}, "rate=2.5"),
        ({"kind": "oval"}, "kind=oval is out of range; give round or square"),
        ({"corners": 5}, "corners=5 has no effect with kind=round; give kind=square, or leave corners out"),
        ({"levels": (-1,)}, "levels=-1 is out of range; give a list of whole numbers, such as 2,3, 0 or more"),
        ({"bare": "much"}, "bare=much is out of range; give a whole number"),
        ({"name": 3}, "name=3 is out of range; give a text, or none"),
        ({"kind": "two\nlines"}, "kind=two lines"),
        ({"kind": "x" * 1000}, "kind=xxx"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_says_what_came_and_what_is_wanted(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError) as caught:
        Thing(**values)
    assert words in str(caught.value)
    assert_one_line(caught, next(iter(values)))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("size", "24", 24),
        ("rate", "1", 1.0),
        ("levels", "4", (4,)),
        ("levels", "(1, 2)", (1, 2)),
        ("levels", "1,2,", (1, 2)),
        ("name", "None", None),
        ("name", "a=b", "a=b"),
        ("flag", "True", True),
        ("kind", "square", "square"),
    ],
)
def test_a_text_becomes_its_value(name: str, text: str, value: Any) -> None:
    assert converted(name, text, settings_of(Thing)[name]) == value


def test_an_argument_without_a_default_is_its_author_s_mistake() -> None:
    class Unfinished:
        def __init__(self, *, size: int) -> None: ...

    with pytest.raises(TypeError, match="Unfinished: the setting size has no default"):
        settings_of(Unfinished)


# --- what depends on the network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["patchcore", "fre", "protoad", "fuse", "isstad", "ssm"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 72},
        {"image_size": 0},
        {"image_size": 10**9},
        {"backbone": "resnet"},
        {"backbone": "tiny\nweb"},
        {"backbone": ""},
    ],
    ids=str,
)
def test_what_does_not_fit_the_network_is_one_line(name: str, wrong: dict[str, Any]) -> None:
    cells = {"cells": (16, 32)} if name == "ssm" else {}
    with pytest.raises(SettingError) as caught:
        make(name, "fast", {**SHARED, **cells, **wrong})
    assert_one_line(caught, next(iter(wrong)))


@pytest.mark.parametrize("name", ["patchcore", "fre", "protoad"])
@pytest.mark.parametrize("levels", ["3,2", "2,2", "-1,2", "", "2.5", "9,10", "two"])
@pytest.mark.parametrize("prefix", ["", "part"])
def test_levels_that_do_not_rise_are_one_line(name: str, levels: str, prefix: str) -> None:
    setting = f"{name}.levels" if prefix else "levels"
    with pytest.raises(SettingError) as caught:
        make(f"{name}+{name}" if prefix else name, "fast", {**SHARED, setting: levels})
    assert_one_line(caught, "levels")


@pytest.mark.parametrize("level", [5, 9])
@pytest.mark.parametrize("name", ["patchcore", "fre", "protoad"])
def test_levels_that_the_network_lacks_are_one_line(name: str, level: int) -> None:
    with pytest.raises(SettingError) as caught:
        make(name, "fast", {"image_size": SIZE, "levels": (2, level)})
    assert_one_line(caught, "level")


@pytest.mark.parametrize(
    "wrong",
    [
        {"patchcore.peak": "nan"},
        {"patchcore.bank_size": 0},
        {"1.bank_size": -1},
        {"2.pool": "0"},
        {"fre.variance_share": 1.5},
        {"fre.standardise": "perhaps"},
        {"fre.": 1},
        {".pool": 1},
        {"fre": 1},
        {"fre.pool.pool": 1},
        {"fre.po\nol": 1},
        {"settings": {"fre.pool": 0}},
        {"settings": {3: 4}},
        {"settings": [1]},
        {"settings": "fre.pool=1"},
    ],
    ids=str,
)
def test_a_wrong_setting_of_a_part_is_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        make("patchcore+fre", "fast", {**SHARED, **wrong})
    assert_one_line(caught, "")


def test_a_part_that_looks_at_pixels_alone_gets_no_backbone() -> None:
    """Its backbone would have no effect, which it refuses."""
    made: Any = make("patchcore+isstad", "fast", {**SHARED, "isstad.space": "pixels", "isstad.encoder": "vit_nano"})
    assert [part.maps is None for part in made.members] == [False, True]
    again: Any = make("fuse", "fast", json.loads(json.dumps(made.params())))
    assert again.params() == made.params()
