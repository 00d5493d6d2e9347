"""A fitted detector as the backend of an inspector, and its model file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from unmask.detectors import Detector, build, find
from unmask.errors import ModelFileError, SettingError
from unmask.features import hub
from unmask.inspection import model_file, self_test
from unmask.training.devices import resolve_device
from unmask.types import ArrayPrediction, Step

if TYPE_CHECKING:
    from unmask.inspection.inspector import Inspector


class TorchBackend:
    """Runs a fitted detector.

    Args:
        detector: fitted.
        device: "auto", "cpu", "cuda" or "mps"; None = where the detector is.
    """

    name = "torch"

    def __init__(self, detector: Detector, device: str | None = None) -> None:
        self.detector = detector.eval() if device is None else detector.to(resolve_device(device)).eval()
        self._process = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    @property
    def device(self) -> str:
        """Where the detector's tensors are."""
        return str(self.detector.device)

    def predict(self, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        """Score squares, RGB in [0, 1].

        Raises:
            SettingError: the detector is on a graphics card, and this process is a fork of the one that loaded it.
        """
        if self._process != os.getpid() and self.device != "cpu":
            raise SettingError(
                f"a model on {self.device} cannot be used after a fork; load it in each process, or start them by spawn"
            )
        prediction = self.detector.predict(torch.from_numpy(squares))
        restored = None if prediction.restored is None else prediction.restored.cpu().numpy()
        return ArrayPrediction(prediction.maps.cpu().numpy(), prediction.scores.cpu().numpy(), restored)

    def explain(self, square: Float[np.ndarray, "3 s s"]) -> Sequence[Step]:
        """The steps that led to a square's map, as the detector describes them."""
        return self.detector.explain(torch.from_numpy(square)[None])[0]


def detector_of(backend: object) -> Detector:
    """The detector of a backend.

    Raises:
        SettingError: it is not the torch backend.
    """
    if not isinstance(backend, TorchBackend):
        name = getattr(backend, "name", type(backend).__name__)
        raise SettingError(f"a model of the backend {name} was exported; load the .unmask file with backend='torch'")
    return backend.detector


def save(inspector: Inspector, path: Path) -> None:
    """Write an inspector's model file, with a self-test in it.

    Raises:
        ModelFileError: the place cannot be written.
        SettingError: its backend is not torch, or the name is that of an export, a picture or a table.
    """
    detector = detector_of(inspector.backend)
    model_file.check_model_name(path)
    facts = {**inspector.facts, **judged_by(inspector)}
    facts["self_test"] = self_test.answers(inspector.backend.predict, inspector.tiling.size)
    model_file.write(path, facts, {key: value.numpy() for key, value in detector.learned().items()})


def judged_by(inspector: Inspector) -> dict[str, Any]:
    """What a verdict needs beside a graph, as plain values: calibration, tiling, and how images are read."""
    intensity, alignment = inspector.reading.intensity, inspector.reading.alignment
    return {
        "calibration": inspector.calibration.to_dict(),
        "tiling": inspector.tiling.to_dict(),
        "intensity_range": None if intensity is None else intensity.to_dict(),
        "reading": inspector.reading.options.to_dict(),
        **({} if alignment is None else {"alignment": alignment.to_dict()}),
    }


def restored(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], own: type | None) -> Detector:
    """Build the detector of a model file and give it what it had learned.

    Args:
        path: of the file, for messages.
        facts: of the file.
        arrays: of the file.
        own: the class, where it is not one of unmask's.

    Raises:
        ModelFileError: the file is of another class, or its tensors do not fit.
        WeightsError: its backbone is not on this machine; it is not downloaded.
    """
    kind = _class_of(path, facts, own)
    with hub.offline():
        detector = build(kind, next(iter(kind.presets)), facts["params"])
    for name, checksum in facts["frozen"].items():
        if (here := detector.frozen().get(name)) != checksum:
            raise ModelFileError(
                f"{path} needs {name} with checksum {checksum}, here it is {here}; install those weights or fit again"
            )
    return detector.restore({key: torch.from_numpy(value) for key, value in arrays.items()})


def _class_of(path: Path, facts: Mapping[str, Any], own: type | None) -> type[Detector]:
    wanted = facts.get("detector_class")
    if wanted is None:
        if own is not None:
            raise SettingError(f"{path} holds {facts['detector']}, a detector of unmask; leave detector= out")
        return find(facts["detector"])
    if own is None or not issubclass(own, Detector) or import_path(own) != wanted:
        given = "" if own is None else f", got {import_path(own)}"
        raise ModelFileError(
            f"{path} was made by the class {wanted}{given}; pass it: unmask.load(path, detector=CLASS)"
        )
    return own


def import_path(kind: type) -> str:
    """How a model file names the class of a detector from outside unmask: "package.module:Class"."""
    return f"{kind.__module__}:{kind.__qualname__}"
