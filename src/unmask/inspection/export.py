"""A fitted model to a file that needs no torch: ONNX or OpenVINO, compared with the original before it is kept."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.detectors import Detector
from unmask.errors import DependencyError, ModelFileError, SettingError
from unmask.inspection import exported as runtime
from unmask.inspection import self_test
from unmask.inspection.exported import SLACK, Runtime
from unmask.inspection.inspector import ImageFiles, Inspector
from unmask.inspection.model_file import fingerprint

FORMATS = {"onnx": ".onnx", "openvino": ".xml"}
COMPARED = 16  # images
LEAST_SHRUNK = 256  # values of a weight that is kept in fewer bits
OPSET = 18


class Exported(NamedTuple):
    """What came of an export.

    Attributes:
        path: of the file.
        difference: the largest between its scores and the trained model's; see `runtime.SLACK`.
        map_difference: likewise of the maps.
        compared: images that were looked at, the built-in picture among them.
    """

    path: Path
    difference: float
    map_difference: float
    compared: int


def export(
    model: str | Path,
    path: str | Path | None = None,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    images: Sequence[Path] = (),
) -> Exported:
    """Write a model for `unmask.inspection.exported`, and keep it only if it says what the original says.

    Args:
        model: a .unmask file.
        path: where to; None = beside the model, under its name.
        to: "onnx" or "openvino".
        precision: of the weights in the file: "fp32", "fp16" or, of ONNX, "int8"; arithmetic stays in float32.
        images: good images that were held out, to compare on.

    Raises:
        SettingError: an unknown format or precision, or a detector that cannot be exported.
        DependencyError: a package is missing.
        ModelFileError: the model cannot be read, the place not be written, or the two differ too much.
    """
    _check(to, precision)
    inspector = Inspector.load(model)
    if reason := inspector.detector.not_exportable():
        raise SettingError(f"{inspector.detector.name} cannot be exported: {reason}")
    target = Path(path) if path else Path(model).with_suffix(FORMATS[to])
    if target.suffix != FORMATS[to]:
        raise SettingError(f"{target} should end in {FORMATS[to]}, as {to} files do")
    squares = _squares(inspector, images[:COMPARED])
    facts = {
        **inspector.facts,
        "calibration": inspector.calibration.to_dict(),
        "framing": inspector.framing.to_dict(),
        "exported": {"to": to, "precision": precision, "from": fingerprint(model), "within": SLACK[precision]},
    }
    with tempfile.TemporaryDirectory(dir=_folder(target), prefix=".export-") as folder:
        made = Path(folder) / target.name
        _write(inspector.detector, made, to, precision)
        facts["self_test"] = self_test.answers(runtime.runner(made), inspector.framing.size)
        _set_text(made, json.dumps(facts))
        found = _compare(inspector, Runtime.load(made), squares, precision)
        for suffix in {target.suffix, ".bin" if to == "openvino" else target.suffix}:
            made.with_suffix(suffix).replace(target.with_suffix(suffix))
    return Exported(target, *found, 1 + len(squares))


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(detector: Detector, path: Path, to: str, precision: str) -> None:
    """The graph alone, without what the verdict needs beside it."""
    graph = path.with_suffix(".onnx")
    trace(detector, graph)
    if to == "openvino":
        _to_openvino(graph, path, precision)
        graph.unlink()
    elif precision != "fp32":
        _shrink(graph, precision)


def _set_text(path: Path, text: str) -> None:
    """Put a text into a file of either kind."""
    if path.suffix == ".onnx":
        import onnx

        made = onnx.load(path)
        onnx.helper.set_model_props(made, {runtime.KEY: text})
        onnx.save(made, path)
        return
    import openvino

    made = openvino.Core().read_model(path)
    made.set_rt_info(text, runtime.KEY)
    openvino.save_model(made, path.with_name(f"told-{path.name}"), compress_to_fp16=False)
    del made  # it reads its weights from the file that is replaced now
    for suffix in (".xml", ".bin"):
        path.with_name(f"told-{path.name}").with_suffix(suffix).replace(path.with_suffix(suffix))


class _Graph(nn.Module):
    """A detector's prediction as named outputs."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        prediction = self.detector._predict(images)  # `predict` runs in inference mode, which has no graph
        return tuple(one for one in prediction if one is not None)


def trace(detector: Detector, path: Path) -> None:
    """Write the graph of a fitted detector's `predict`, with any number of images, as ONNX in float32."""
    example = torch.rand(2, 3, detector.image_size, detector.image_size)
    names = ["maps", "scores"] + ([] if detector.predict(example[:1]).restored is None else ["restored"])
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Graph(detector).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=names,
            dynamic_shapes=[{0: torch.export.Dim.DYNAMIC}],
            verbose=False,
        )
        assert program is not None  # noqa: S101 - it is with dynamo
        program.save(path, external_data=False)


def _shrink(path: Path, precision: str) -> None:
    """Keep large weights in 16 or 8 bits, in place; the runtime computes them once, when it opens the file."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    nodes = []
    for weights in list(model.graph.initializer):
        if weights.data_type != onnx.TensorProto.FLOAT or np.prod(weights.dims) < LEAST_SHRUNK:
            continue
        name, small = weights.name, f"{weights.name}.small"
        values = numpy_helper.to_array(weights)
        if precision == "fp16":
            weights.CopyFrom(numpy_helper.from_array(values.astype(np.float16), small))
            nodes.append(helper.make_node("Cast", [small], [name], to=onnx.TensorProto.FLOAT))
            continue
        whole, steps = _in_steps(values)
        weights.CopyFrom(numpy_helper.from_array(whole, small))
        model.graph.initializer.append(numpy_helper.from_array(steps, f"{name}.steps"))
        nodes.append(helper.make_node("Cast", [small], [f"{name}.cast"], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.cast", f"{name}.steps"], [name]))
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, path)


def _in_steps(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values as whole numbers in [-127, 127] times a step for each row of the first axis."""
    axes = tuple(range(1, values.ndim))
    steps = (np.abs(values).max(axes, keepdims=True) / 127).astype(np.float32)
    whole = np.rint(values / np.maximum(steps, np.finfo(np.float32).tiny))
    return whole.astype(np.int8), steps


def _to_openvino(graph: Path, path: Path, precision: str) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(graph), path, compress_to_fp16=precision == "fp16")


# --- checking ---------------------------------------------------------------------------------------------------------


def _check(to: str, precision: str) -> None:
    if to not in FORMATS:
        raise SettingError(f"to={to} is unknown; give {' or '.join(FORMATS)}")
    if precision not in SLACK:
        raise SettingError(f"precision={precision} is unknown; give {', '.join(SLACK)}")
    if (to, precision) == ("openvino", "int8"):
        raise SettingError("weights in int8 are written to ONNX only; give --to onnx, or --precision fp16")
    for package in ["onnx", "onnxscript", *(["openvino"] if to == "openvino" else [])]:
        _import(package, "train" if package.startswith("onnx") else "openvino")


def _import(package: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise DependencyError(
            f"{package} is not installed, and this export needs it; run: pip install 'unmask[{extra}]'"
        )


def _folder(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelFileError(f"{target} cannot be written ({error.strerror}); give another place") from error
    if not os.access(target.parent, os.W_OK):
        raise ModelFileError(f"{target} cannot be written; give another place")
    return target.parent


def _squares(inspector: Inspector, images: Sequence[Path]) -> list[Float[np.ndarray, "3 s s"]]:
    files = ImageFiles(images, inspector.framing)
    return [files[i].numpy() for i in range(min(len(files), COMPARED))]


def _compare(inspector: Inspector, exported: Runtime, squares: list[np.ndarray], precision: str) -> tuple[float, float]:
    """The largest differences of scores and maps, on the built-in picture and on real images.

    Raises:
        ModelFileError: they are larger than the precision allows.
    """
    scores = maps = 0.0
    levels = inspector.calibration.threshold, inspector.calibration.pixel_threshold
    for square in (self_test.picture(inspector.framing.size), *(one[None] for one in squares)):
        a, b = inspector.predict(square), exported.predict(square)
        scores = max(scores, _difference(a.scores, b.scores, levels[0]))
        maps = max(maps, _difference(a.maps, b.maps, levels[1]))
    if max(scores, maps) > SLACK[precision]:
        raise ModelFileError(
            f"the exported scores differ by {scores:.2g} and the maps by {maps:.2g} of themselves, {precision} allows "
            f"{SLACK[precision]:g}; nothing was written: try another precision"
        )
    return scores, maps


def _difference(a: np.ndarray, b: np.ndarray, usual: float) -> float:
    return float((np.abs(a - b) / np.maximum(np.abs(a), abs(usual))).max())


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks of its own affairs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
