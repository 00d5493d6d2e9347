"""The registry: one tuple. The command line, the contract test, the benchmark and the docs read it."""

from __future__ import annotations

from unmask.detectors.base import Detector, build, settings
from unmask.detectors.fre import FRE
from unmask.detectors.isstad import ISSTAD
from unmask.detectors.patchcore import PatchCore
from unmask.detectors.protoad import ProtoAD
from unmask.detectors.ssm import SSM
from unmask.errors import SettingError

DETECTORS: tuple[type[Detector], ...] = (ISSTAD, SSM, PatchCore, FRE, ProtoAD)

__all__ = ["DETECTORS", "Detector", "build", "find", "settings"]


def find(name: str) -> type[Detector]:
    """The detector class of a name.

    Raises:
        SettingError: there is none.
    """
    for detector in DETECTORS:
        if detector.name == name:
            return detector
    raise SettingError(f"there is no detector {name!r}; there are: {', '.join(d.name for d in DETECTORS)}")
