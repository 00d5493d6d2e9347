"""What a model file says about itself, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unmask.cli.calibrating import HISTORY, calibration_lines
from unmask.cli.console import shown
from unmask.imaging.tolerance import Tolerance
from unmask.inspection import history, sensitivity_text
from unmask.inspection.pooling import alarms_in_words


def lines_of(facts: Mapping[str, Any]) -> Iterator[str]:
    """A line or more for each fact of a model file."""
    for key, value in history.renewed(facts).items():
        if key in HISTORY:
            continue
        if key == "calibration" and isinstance(value, dict):
            yield from calibration_lines(facts)
        elif words := _in_words(facts, key, value):
            yield f"{key:18} {words}"
            if key == "sensitivity":
                yield from (f"  {line}" for line in sensitivity_text.lines(value, facts["calibration"]["threshold"]))
        elif isinstance(value, dict):
            yield key
            yield from (f"  {name:16} {shown(one)}" for name, one in value.items())
        else:
            yield f"{key:18} {shown(value)}"


def _in_words(facts: Mapping[str, Any], key: str, value: Any) -> str:
    """A fact that its values alone would not tell; empty for others."""
    if key == "self_test":
        return f"a score of {value['score']:.4g} on a built-in picture, checked whenever it is loaded"
    if key == "images":
        counts = ", ".join(f"{len(hashes)} {role.replace('_', ' ')}" for role, hashes in value.items())
        return f"{counts}; their contents are recognised"
    if key == "tolerance":
        return str(Tolerance(value))
    if key == "expected_alarms":
        return alarms_in_words(value)
    if key == "alignment":
        kept = f"{len(value['pictures'])} good parts kept"
        return f"{value['way']}; a part is found from a similarity of {value['least']:.2g}, {kept}"
    if key == "sensitivity" and value:
        return sensitivity_text.introduction(value)
    if key == "usual":
        return f"{len(value['measures'])} measures of the good images, which new ones are compared with"
    return ""
