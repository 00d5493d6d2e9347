"""Exported models without torch: ONNX Runtime and OpenVINO as backends of an inspector.

`unmask export` writes the graph of a fitted detector, and into it, as one JSON text, all that a verdict needs beside
the graph: the calibration, the way from an image to squares, a self-test. Reading one runs no code of the file's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unmask.errors import DependencyError, ModelFileError, SettingError
from unmask.types import ArrayPrediction, Step

KEY = "unmask"
SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}
BACKENDS = ("onnx", "openvino")
SPIN_MICROSECONDS = "20"
"""For which a thread of ONNX Runtime waits for others before it sleeps: see docs/experiments/0005-busy-machines.md."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class ExportedBackend:
    """Runs an exported graph.

    Args:
        name: "onnx" or "openvino".
        device: where it runs: "cpu" or "cuda".
        run: squares -> maps, scores and, where the graph has them, restored images, by their names.
    """

    def __init__(self, name: str, device: str, run: Callable[[np.ndarray], dict[str, np.ndarray]]) -> None:
        self.name, self.device, self.run = name, device, run

    def predict(self, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        """Score squares, RGB in [0, 1]."""
        return ArrayPrediction(**self.run(squares))

    def explain(self, square: Float[np.ndarray, "3 s s"]) -> Sequence[Step]:
        """An exported graph has no steps.

        Raises:
            SettingError: always.
        """
        raise SettingError("an exported model cannot explain itself; load the .unmask file with backend='torch'")


def open_exported(path: Path, device: str = "auto") -> tuple[ExportedBackend, dict[str, Any]]:
    """Open an exported file: what runs its graph, and what it says about itself.

    Raises:
        ModelFileError: there is no such file, or it is damaged or something else.
        DependencyError: OpenVINO is not installed.
        SettingError: the device is not there.
    """
    backend, text = open_graph(path, device)
    try:
        facts = dict(json.loads(text))
    except ValueError:
        facts = {}
    if missing := {"calibration", "self_test", "exported"} - set(facts):
        raise ModelFileError(f"{path} lacks {min(missing)}: it was not written by unmask export; export it again")
    return backend, facts


def open_graph(path: Path, device: str = "auto") -> tuple[ExportedBackend, str]:
    """Open an exported file: what runs its graph, and the text that was written into it, empty where there is none.

    Raises:
        ModelFileError, DependencyError, SettingError: see `open_exported`.
    """
    if not path.is_file():
        raise ModelFileError(f"there is no exported model {path}; make one with: unmask export MODEL")
    return (_open_onnx if SUFFIXES[path.suffix] == "onnx" else _open_openvino)(path, device)


def _open_onnx(path: Path, device: str) -> tuple[ExportedBackend, str]:
    import onnxruntime

    there = onnxruntime.get_available_providers()
    chosen = next((name for name in ("cuda", "cpu") if PROVIDERS[name] in there), "cpu") if device == "auto" else device
    if PROVIDERS.get(chosen) not in there:
        raise SettingError(f"device={device} is not there for ONNX Runtime, which has {', '.join(there)}; give cpu")
    try:
        session = onnxruntime.InferenceSession(str(path), session_options(), providers=[PROVIDERS[chosen]])
    except Exception as error:  # its kinds have no common ancestor but this
        reason = " ".join(str(error).split())[:120]
        raise ModelFileError(f"{path} cannot be read as ONNX ({reason}); export it again") from error
    names = [one.name for one in session.get_outputs()]

    def run(squares: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {"images": squares}), strict=True))

    return ExportedBackend("onnx", chosen, run), session.get_modelmeta().custom_metadata_map.get(KEY, "")


def session_options() -> Any:
    """ONNX Runtime's options: a thread that waits for others soon sleeps, and leaves its core to other programs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
    return options


def _open_openvino(path: Path, device: str) -> tuple[ExportedBackend, str]:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise DependencyError(f"{path} needs OpenVINO; run: pip install 'unmask[openvino]'") from error
    if device not in ("auto", "cpu"):
        raise SettingError(f"device={device} is not there for OpenVINO files, which run on the CPU; give cpu")
    try:
        core = openvino.Core()
        model = core.read_model(path)
        text = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else ""
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelFileError(f"{path} cannot be read as OpenVINO ({reason}); export it again") from error
    names = [one.get_any_name() for one in compiled.outputs]

    def run(squares: np.ndarray) -> dict[str, np.ndarray]:
        request = compiled.create_infer_request()  # one a call: two threads must not share a request
        return dict(zip(names, (np.array(one) for one in request.infer(squares).values()), strict=True))

    return ExportedBackend("openvino", "cpu", run), text
