"""The calibrations of a model in the facts of its file: the one that holds, and earlier ones that `--undo` returns to.

A fit's own calibration is `calibration`. `unmask calibrate` puts another in its place, adds `calibrated` (when it was
made, of which images, by which backend, and what these images were like), and appends what held before to
`calibrations`. Nothing else changes, so that undoing a calibration gives back the very same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.errors import SettingError
from unmask.inspection.calibration import Calibration

NOW, EARLIER = "calibrated", "calibrations"
RENEWED = ("properties", "usual", "expected_alarms", "sensitivity")
"""What a fit says of its good images, and a calibration says again of its own."""


def added(facts: Mapping[str, Any], calibration: Calibration, made: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a file with another calibration.

    Args:
        facts: as they were, with their `calibration`.
        calibration: that holds from now on.
        made: plain values: "made" (when), "source" (of which images, in words), "backend", "images" (hashes of their
            contents), and whatever else is known of good images by these, under the name that a fit has for it.
    """
    before = {**facts.get(NOW, {}), "calibration": facts["calibration"]}
    earlier = [*facts.get(EARLIER, []), before]
    return {**facts, "calibration": calibration.to_dict(), NOW: dict(made), EARLIER: earlier}


def undone(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a file as they were before its last calibration.

    Raises:
        SettingError: there was none but the fit's.
    """
    if not facts.get(EARLIER):
        raise SettingError("the model has the thresholds that it was made with: there is nothing to undo")
    *earlier, before = facts[EARLIER]
    made = {name: value for name, value in before.items() if name != "calibration"}
    rest = {name: value for name, value in facts.items() if name not in (NOW, EARLIER)}
    rest["calibration"] = before["calibration"]
    return rest | ({NOW: made} if made else {}) | ({EARLIER: earlier} if earlier else {})


def current(facts: Mapping[str, Any], name: str) -> Any:
    """What is known of the images that set the thresholds: by the last calibration, or else by the fit; None = nothing.

    Args:
        facts: of a model.
        name: such as "properties".
    """
    return facts.get(NOW, {}).get(name, facts.get(name))


def renewed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a model with what the last calibration says of good images in place of what the fit said."""
    return {name: current(facts, name) if name in RENEWED else value for name, value in facts.items()}


def calibrated_on(facts: Mapping[str, Any]) -> frozenset[str]:
    """Hashes of the images of the last `unmask calibrate`; empty where the fit's own calibration holds."""
    return frozenset(facts.get(NOW, {}).get("images", ()))


def sources(facts: Mapping[str, Any]) -> str | None:
    """When and of what the last calibration was made, in words; None = by the fit."""
    return _made(facts[NOW]) if NOW in facts else None


def lines(facts: Mapping[str, Any]) -> list[str]:
    """A line for each calibration of a file, the oldest first.

    Raises:
        CalibrationError: one of them is none.
    """
    steps = [*facts.get(EARLIER, []), {**facts.get(NOW, {}), "calibration": facts["calibration"]}]
    texts = [f"{_made(step) if 'made' in step else 'by the fit'}: {_numbers(step['calibration'])}" for step in steps]
    return [*texts[:-1], f"{texts[-1]} (in use)"]


def _made(step: Mapping[str, Any]) -> str:
    return f"{step['made']} by {step['source']}"


def _numbers(values: dict[str, Any]) -> str:
    one = Calibration.from_dict(values)
    sure = "" if one.confidence is None else f" with {100 * one.confidence:g} % confidence"
    return (
        f"threshold {one.threshold:.4g}, of a pixel {one.pixel_threshold:.4g}, from {one.n_held_out} images, "
        f"at most {100 * one.false_alarm_rate:.3g} %{sure}"
    )
