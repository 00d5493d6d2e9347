"""The door without torch: an exported model judges images through ONNX Runtime or OpenVINO.

`unmask export` writes the graph of a fitted detector, and into it, as one JSON text, all that a verdict needs beside
the graph: the calibration, the way from an image to squares, a self-test. Reading one runs no code of the file's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unmask.errors import DependencyError, ModelFileError, SettingError
from unmask.imaging.tiling import Framing
from unmask.inspection import model_file as modelfile
from unmask.inspection import self_test
from unmask.inspection.calibration import Calibration
from unmask.inspection.judging import ArrayPrediction, Judge, Predict
from unmask.types import Step

KEY = "unmask"
SUFFIXES = (".onnx", ".xml")
SLACK = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.5}
"""How far scores and maps of an exported model may be from the trained one's: a share of the threshold or of
themselves, whichever is larger. The exporter measures it, and refuses to write what differs more."""


class Runtime(Judge):
    """An exported model: judges images as the `Inspector` does that it was exported from.

    Attributes:
        calibration: what its scores mean.
        framing: how an image becomes squares.
        facts: plain values that `unmask info` prints.
    """

    def __init__(self, run: Predict, calibration: Calibration, framing: Framing, facts: dict[str, Any]) -> None:
        self.run, self.calibration, self.framing, self.facts = run, calibration, framing, facts

    def predict(self, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        """Score squares, RGB in [0, 1]."""
        return self.run(squares)

    def explain_square(self, square: Float[np.ndarray, "3 s s"]) -> Sequence[Step]:
        """An exported graph tells no steps.

        Raises:
            SettingError: always.
        """
        raise SettingError("an exported model cannot explain itself; give the .unmask file that it was exported from")

    @classmethod
    def load(cls, path: str | Path) -> Runtime:
        """Open an exported model and repeat its self-test.

        Args:
            path: of an .onnx file, or of an .xml file beside its .bin.

        Raises:
            ModelFileError: it is damaged, something else, or does not give the numbers it gave when exported.
            DependencyError: OpenVINO is not installed.
        """
        run, text = _opened(Path(path))
        return cls._made(Path(path), run, _facts(Path(path), text))

    @classmethod
    def beside(cls, model: Path) -> Runtime | None:
        """The export that lies beside a model file, under the same name, if it was made from it as it is now."""
        for path in (model.with_suffix(suffix) for suffix in SUFFIXES):
            if model.is_file() and path.is_file():
                try:
                    run, text = _opened(path)
                    facts = _facts(path, text)
                    if facts["exported"]["from"] == modelfile.fingerprint(model):
                        return cls._made(path, run, facts)
                except (ModelFileError, DependencyError):
                    continue  # the model file itself can still be opened
        return None

    @classmethod
    def _made(cls, path: Path, run: Predict, facts: dict[str, Any]) -> Runtime:
        calibration = Calibration.from_dict(facts.pop("calibration"))
        framing = Framing.from_dict(facts.pop("framing"))
        self_test.check(path, run, framing.size, facts.pop("self_test"), calibration)
        return cls(run, calibration, framing, facts)


def runner(path: Path) -> Predict:
    """What runs an exported graph, without a look at what is written beside it."""
    return _opened(path)[0]


def facts_of(path: str | Path) -> dict[str, Any]:
    """What a model file, exported or not, says about itself.

    Raises:
        ModelFileError: it is damaged or something else.
    """
    if Path(path).suffix not in SUFFIXES:
        return modelfile.facts_of(path)
    return _facts(Path(path), _opened(Path(path))[1])


def _facts(path: Path, text: str) -> dict[str, Any]:
    try:
        facts = dict(json.loads(text))
    except ValueError:
        facts = {}
    if missing := {"calibration", "framing", "self_test", "exported"} - set(facts):
        raise ModelFileError(f"{path} lacks {min(missing)}: it was not written by unmask export; export it again")
    return facts


def _opened(path: Path) -> tuple[Predict, str]:
    """What runs a file's graph, and the text in it."""
    if not path.is_file():
        raise ModelFileError(f"there is no exported model {path}; make one with: unmask export MODEL")
    if path.suffix == ".xml":
        return _openvino(path)
    return _onnx(path)


def _onnx(path: Path) -> tuple[Predict, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its kinds have no common ancestor but this
        reason = " ".join(str(error).split())[:120]
        raise ModelFileError(f"{path} cannot be read as ONNX ({reason}); export it again") from error
    names = [one.name for one in session.get_outputs()]

    def run(squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        return ArrayPrediction(**dict(zip(names, session.run(names, {"images": squares}), strict=True)))

    return run, session.get_modelmeta().custom_metadata_map.get(KEY, "")


def _openvino(path: Path) -> tuple[Predict, str]:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise DependencyError(f"{path} needs OpenVINO; run: pip install 'unmask[openvino]'") from error
    try:
        core = openvino.Core()
        model = core.read_model(path)
        text = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else ""
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelFileError(f"{path} cannot be read as OpenVINO ({reason}); export it again") from error
    names = [one.get_any_name() for one in compiled.outputs]

    def run(squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        return ArrayPrediction(**dict(zip(names, (np.array(one) for one in compiled(squares).values()), strict=True)))

    return run, text
