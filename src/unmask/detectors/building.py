"""A detector from a preset and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.detectors.base import Detector
from unmask.detectors.settings import check_settings, converted, settings_of
from unmask.errors import SettingError


def build(detector: type[Detector], preset: str, overrides: Mapping[str, Any]) -> Detector:
    """Make a detector from a preset and settings that replace some of it.

    Raises:
        SettingError: no such preset or setting, or a value of the wrong kind or out of range.
    """
    if preset not in detector.presets:
        raise SettingError(f"{detector.name} has no preset {preset!r}; it has {', '.join(detector.presets)}")
    known = settings_of(detector)
    overrides = _with_settings_of_parts(overrides) if "settings" in known else overrides
    if unknown := sorted(set(overrides) - set(known)):
        raise SettingError(f"{detector.name} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    given = {key: converted(key, value, known[key]) for key, value in overrides.items()}
    values = {**{key: one.default for key, one in known.items()}, **detector.presets[preset], **given}
    check_settings(detector, values)
    return detector(**values)


def _with_settings_of_parts(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of parts, such as "fre.pool", together in the one setting `settings`."""
    own = {key: value for key, value in overrides.items() if "." not in key}
    if len(own) < len(overrides):
        parts = {key: value for key, value in overrides.items() if "." in key}
        if not isinstance(own.get("settings"), Mapping | None):
            raise SettingError("settings is no mapping; write --set PART.NAME=VALUE, such as fre.pool=1")
        own["settings"] = {**(own.get("settings") or {}), **parts}
    return own
