"""A fitted detector's graph as a file: ONNX or OpenVINO, in full or fewer bits, with a text in it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unmask.detectors import Detector
from unmask.inspection.exported import KEY
from unmask.inspection.openvino_core import openvino_core

LEAST_SHRUNK = 256  # values of a weight that is kept in fewer bits
OPSET = 18


def write_graph(detector: Detector, path: Path, to: str, precision: str) -> None:
    """Write the graph of a fitted detector, without what a verdict needs beside it.

    Args:
        detector: fitted.
        path: of the file, .onnx or .xml.
        to: "onnx" or "openvino".
        precision: of the weights: "fp32", "fp16" or, of ONNX, "int8"; arithmetic stays in float32.
    """
    graph = path.with_suffix(".onnx")
    trace(detector, graph)
    if to == "openvino":
        _to_openvino(graph, path, precision)
        graph.unlink()
    elif precision != "fp32":
        _shrink(graph, precision)


def set_text(path: Path, text: str) -> None:
    """Put a text into a file of either kind."""
    if path.suffix == ".onnx":
        import onnx

        made = onnx.load(path)
        onnx.helper.set_model_props(made, {KEY: text})
        onnx.save(made, path)
        return
    import openvino

    made = openvino_core().read_model(path)
    made.set_rt_info(text, KEY)
    openvino.save_model(made, path.with_name(f"with-text-{path.name}"), compress_to_fp16=False)
    del made  # it reads its weights from the file that is replaced now
    for suffix in (".xml", ".bin"):
        path.with_name(f"with-text-{path.name}").with_suffix(suffix).replace(path.with_suffix(suffix))


class _Graph(nn.Module):
    """A detector's prediction as named outputs."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        own = type(self.detector).predict is not Detector.predict
        # That of `Detector` runs in inference mode, which has no graph.
        prediction = self.detector.predict(images) if own else self.detector._predict(images)
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
