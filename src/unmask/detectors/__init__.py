"""The registry: one tuple. The command line, the contract test, the benchmark and the docs read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import unmask.training  # noqa: F401 - it imports torch, which its settings must precede
from unmask.detectors.base import Detector
from unmask.detectors.building import build
from unmask.detectors.fre import FRE
from unmask.detectors.fuse import Fuse
from unmask.detectors.isstad import ISSTAD
from unmask.detectors.patchcore import PatchCore
from unmask.detectors.protoad import ProtoAD
from unmask.detectors.settings import settings_of
from unmask.detectors.ssm import SSM
from unmask.errors import SettingError

DETECTORS: tuple[type[Detector], ...] = (ISSTAD, SSM, PatchCore, FRE, ProtoAD, Fuse)

__all__ = ["DETECTORS", "Detector", "build", "find", "make", "settings_of"]


def make(name: str, preset: str, overrides: Mapping[str, Any]) -> Detector:
    """Build a detector by its name, or by the names of a fusion's parts, such as "patchcore+fre".

    Raises:
        SettingError: no such detector, preset or setting, or a value of the wrong kind.
    """
    return build(find(name), preset, {**overrides, "parts": name} if "+" in name else overrides)


def find(name: str) -> type[Detector]:
    """The detector class of a name.

    Args:
        name: such as "patchcore"; "patchcore+fre" stands for a fusion of the two.

    Raises:
        SettingError: there is none.
    """
    name = Fuse.name if "+" in name else name
    for detector in DETECTORS:
        if detector.name == name:
            return detector
    raise SettingError(f"there is no detector {name!r}; there are: {', '.join(d.name for d in DETECTORS)}")
