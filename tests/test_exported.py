"""Exported models: equal verdicts, thresholds of their own, refusals in one line, an environment without torch."""

import json
import shutil
import subprocess
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unmask
from tiny import FEATURES, FRE, FUSE, PATCHCORE, PIXELS, PROTOAD, SSM_FEATURES, run_python, write_textures
from unmask.errors import ModelFileError, SettingError
from unmask.inspection import export as exporting
from unmask.inspection.export import export
from unmask.inspection.export_comparison import SLACK
from unmask.inspection.exported import MARK, UNSEALED, seal
from unmask.inspection.inspector import Inspector
from unmask.training.trainer import Training

ROOT = Path(__file__).parents[1]
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "fuse": ("fuse", FUSE),
    "patchcore": ("patchcore", PATCHCORE),
    "fre": ("fre", FRE),
    "protoad": ("protoad", PROTOAD),
    "isstad features": ("isstad", FEATURES),
    "isstad pixels": ("isstad", PIXELS),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:no pre-trained weights"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_textures(tmp_path_factory.mktemp("good"), 40)


def trained(paths: list[Path], file: Path, detector: str, settings: dict[str, Any], **more: Any) -> Inspector:
    chosen: dict[str, Any] = {"detector": detector, "settings": settings, "tolerate": "none", **more}
    inspector = Inspector.fit(paths[:20], held_out=paths[20:], training=Training(device="cpu"), **chosen)
    inspector.save(file)
    return inspector


@pytest.fixture(scope="module")
def model(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small fused model with its ONNX export beside it."""
    file = tmp_path_factory.mktemp("model") / "weave.unmask"
    trained(paths, file, "fuse", FUSE)
    export(file, images=paths[20:])
    return file


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_exported_it_gives_the_same(configuration: str, paths: list[Path], tmp_path: Path) -> None:
    inspector = trained(paths, tmp_path / "a.unmask", *CONFIGURATIONS[configuration])
    done = export(tmp_path / "a.unmask", images=paths)
    assert done.path == tmp_path / "a.onnx"
    assert max(done.difference, done.map_difference) <= SLACK
    assert (done.calibrated_on, done.verdicts, done.differing) == (20, 80, 0), (
        "four of each held-out image, none learned"
    )
    exported = unmask.load(done.path)
    assert exported.backend.name == "onnx"
    assert exported.calibration.threshold == pytest.approx(inspector.calibration.threshold, rel=1e-3)
    for batch in (1, 3):
        pairs = zip(inspector.inspect_many(paths[:4]), exported.inspect_many(paths[:4], batch), strict=True)
        for a, b in pairs:
            usual = abs(inspector.calibration.threshold)
            assert abs(a.score - b.score) <= 1e-3 * max(abs(a.score), usual)
            usual = abs(inspector.calibration.pixel_threshold)
            assert (np.abs(a.map - b.map) <= 1e-3 * np.maximum(np.abs(a.map), usual)).all()
            assert (a.restored is None) == (b.restored is None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.unmask"], "nothing is left behind"


def test_ssm_says_why_it_cannot(paths: list[Path], tmp_path: Path) -> None:
    trained(paths, tmp_path / "a.unmask", "ssm", SSM_FEATURES)
    with pytest.raises(SettingError, match="ssm cannot be exported: its passes branch"):
        export(tmp_path / "a.unmask")
    assert [path.name for path in tmp_path.iterdir()] == ["a.unmask"]


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_are_calibrated_anew_and_not_taken_unasked(
    model: Path, paths: list[Path], tmp_path: Path, precision: str
) -> None:
    shutil.copy(model, tmp_path)
    done = export(tmp_path / model.name, precision=precision, images=paths[20:], accept=True)
    assert done.path.stat().st_size < model.with_suffix(".onnx").stat().st_size
    exported = unmask.load(done.path)
    scores = [result.score for result in exported.inspect_many(paths[20:])]
    assert exported.calibration.threshold == pytest.approx(max(scores), rel=1e-6), "by the scores of its own graph"
    assert exported.facts["exported"]["precision"] == precision
    assert unmask.load(tmp_path / model.name).backend.name == "torch"
    assert unmask.load(tmp_path / model.name, backend="onnx").backend.name == "onnx", "asked for, it is taken"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_where_every_image_was_learned_the_thresholds_are_carried_over(
    paths: list[Path], tmp_path: Path, precision: str
) -> None:
    inspector = Inspector.fit(paths, detector="patchcore", settings=PATCHCORE, training=Training(device="cpu"))
    inspector.save(tmp_path / "a.unmask")
    done = export(tmp_path / "a.unmask", precision=precision, images=paths, accept=True)
    exported = unmask.load(done.path)
    assert (done.calibrated_on, done.verdicts) == (0, 160)
    if precision == "fp32":
        assert exported.calibration == inspector.calibration
        assert done.differing == 0
        return
    own = [result.score for result in inspector.inspect_many(paths)]
    moved = [result.score for result in exported.inspect_many(paths)]
    shift = np.median(np.divide(moved, own))
    assert exported.calibration.threshold == pytest.approx(shift * inspector.calibration.threshold, rel=0.05)
    assert exported.calibration.threshold != inspector.calibration.threshold
    assert len(exported.calibration.scores) == len(paths)


def test_fewer_bits_without_good_images_are_refused(model: Path, paths: list[Path], tmp_path: Path) -> None:
    for images in ((), paths[:20], paths[20:30]):
        with pytest.raises(SettingError, match="int8 moves scores, so its thresholds need 19 good images"):
            export(model, tmp_path / "a.onnx", precision="int8", images=images)
    assert list(tmp_path.iterdir()) == []


def test_verdicts_that_differ_are_refused_unless_accepted(
    model: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.write_graph

    def noisy(detector: Any, path: Path, to: str, precision: str) -> None:
        bank = next(part for part in detector.members if part.name == "patchcore").bank
        kept = bank.clone()
        bank.copy_(torch.rand(bank.shape, generator=torch.Generator().manual_seed(0)))
        real(detector, path, to, "fp32")
        bank.copy_(kept)

    monkeypatch.setattr(exporting, "write_graph", noisy)
    with pytest.raises(ModelFileError, match=r"of 80 verdicts in fp16 differ.*nothing was written"):
        export(model, tmp_path / "a.onnx", precision="fp16", images=paths[20:])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ModelFileError, match=r"fp32 allows 0.001 and 0.005; nothing was written"):
        export(model, tmp_path / "a.onnx", images=paths[20:])
    assert list(tmp_path.iterdir()) == []
    done = export(model, tmp_path / "a.onnx", precision="fp16", images=paths[20:], accept=True)
    assert done.differing > 0.005 * done.verdicts
    assert unmask.load(done.path).facts["exported"]["differing_verdicts"] == done.differing


def test_without_images_an_export_is_written_and_not_taken_unasked(model: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path)
    done = export(tmp_path / model.name)
    assert (done.calibrated_on, done.verdicts) == (0, 0)
    assert unmask.load(done.path).calibration == unmask.load(model, backend="torch").calibration
    assert unmask.load(tmp_path / model.name).backend.name == "torch"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_openvino_gives_the_same(model: Path, paths: list[Path], tmp_path: Path, precision: str) -> None:
    done = export(model, tmp_path / "a.xml", to="openvino", precision=precision, images=paths[20:], accept=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    original, exported = unmask.load(model, backend="torch"), unmask.load(done.path)
    assert exported.backend.name == "openvino"
    slack = {"fp32": 1e-3, "fp16": 0.05}[precision]
    assert exported.inspect(paths[3]).score == pytest.approx(original.inspect(paths[3]).score, rel=slack, abs=slack)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"to": "tflite"}, "tflite"),
        ({"precision": "int4"}, "int4"),
        ({"to": "openvino", "precision": "int8"}, "ONNX only"),
        ({"path": "a.bin"}, "a.bin should end in .onnx"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(model: Path, settings: dict[str, str], word: str) -> None:
    with pytest.raises(SettingError, match=word) as caught:
        export(model, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


# --- loading ----------------------------------------------------------------------------------------------------------


def test_the_export_beside_a_model_is_taken_if_it_was_made_from_it(
    model: Path, paths: list[Path], tmp_path: Path
) -> None:
    assert unmask.load(model).backend.name == "onnx"
    assert unmask.load(model, backend="torch").backend.name == "torch"
    for file in (model, model.with_suffix(".onnx")):
        shutil.copy(file, tmp_path)
    trained(paths, tmp_path / model.name, "fre", FRE)
    assert unmask.load(tmp_path / model.name).backend.name == "torch", "another model has this name now"
    with pytest.raises(SettingError, match="no export of"):
        unmask.load(tmp_path / model.name, backend="onnx")


def test_what_a_backend_cannot_do_it_says(model: Path, paths: list[Path], tmp_path: Path) -> None:
    exported = unmask.load(model.with_suffix(".onnx"))
    for cannot in (
        lambda: exported.inspect(paths[0], explain=True),
        lambda: exported.save(tmp_path / "a.unmask"),
        lambda: exported.detector,
        lambda: unmask.load(model.with_suffix(".onnx"), backend="torch"),
        lambda: unmask.load(model.with_suffix(".onnx"), device="cuda"),
        lambda: unmask.load(model, backend="tensorrt"),
    ):
        with pytest.raises(SettingError) as caught:
            cannot()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("device", "expected"), [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_the_graphics_card_is_used_where_there_is_one(
    model: Path, monkeypatch: pytest.MonkeyPatch, device: str, expected: str
) -> None:
    import onnxruntime

    real, asked = onnxruntime.InferenceSession, []

    def opened(path: str, options: Any, providers: list[str]) -> Any:
        asked.extend(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    assert unmask.load(model.with_suffix(".onnx"), device=device).backend.device == expected
    assert asked == [{"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}[expected]]


def test_eight_threads_give_equal_results(model: Path, paths: list[Path]) -> None:
    shared = unmask.load(model.with_suffix(".onnx"))
    alone = [result.score for result in shared.inspect_many(paths, batch_size=1)]
    with ThreadPoolExecutor(8) as pool:
        assert [result.score for result in pool.map(shared.inspect, paths)] == alone


def test_foreign_and_damaged_files_are_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    whole = model.with_suffix(".onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    for name in ("text.onnx", "half.onnx", "absent.onnx"):
        with pytest.raises(ModelFileError) as caught:
            unmask.load(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_changed_weights_fail_the_self_test(model: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model.with_suffix(".onnx"))
    for weights in graph.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT:
            weights.CopyFrom(numpy_helper.from_array(np.float32(1.2) * numpy_helper.to_array(weights), weights.name))
    onnx.save(graph, tmp_path / "a.onnx")
    with pytest.raises(ModelFileError, match="its checksum differs"):
        unmask.load(tmp_path / "a.onnx")
    content = (tmp_path / "a.onnx").read_bytes()
    at = content.index(MARK.encode())
    (tmp_path / "a.onnx").write_bytes(content[:at] + UNSEALED.encode() + content[at + len(UNSEALED) :])
    seal(tmp_path / "a.onnx")
    with pytest.raises(ModelFileError, match="self-test"):
        unmask.load(tmp_path / "a.onnx")


def test_tiles_are_judged_alike(paths: list[Path], tmp_path: Path) -> None:
    inspector = trained(paths, tmp_path / "a.unmask", "patchcore", PATCHCORE, tile=40)
    exported = unmask.load(export(tmp_path / "a.unmask", images=paths[20:]).path)
    a, b = inspector.inspect(paths[1]), exported.inspect(paths[1])
    assert a.score == pytest.approx(b.score, rel=1e-3)
    np.testing.assert_allclose(a.map, b.map, rtol=1e-3, atol=1e-4)


WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "scipy", "pyarrow", "onnx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from unmask.cli.app import main
sys.argv = ["unmask", *sys.argv[1:]]
main()
"""


def test_inspect_needs_no_torch(model: Path, paths: list[Path], tmp_path: Path) -> None:
    for command in (
        ["inspect", model, paths[0], "--json"],
        ["inspect", model.with_suffix(".onnx"), paths[0], "--json"],
    ):
        done = run_python("-c", WITHOUT_TORCH, *command)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["score"] == pytest.approx(
            unmask.load(model, backend="torch").inspect(paths[0]).score, rel=1e-3
        )
    done = run_python("-c", WITHOUT_TORCH, "inspect", model, paths[0], "-o", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"index.html", "results.json"}
    assert run_python("-c", WITHOUT_TORCH, "info", model.with_suffix(".onnx")).returncode == 0


SIGNAL_AFTER_TWO = """
import signal, sys
import unmask
first, second = unmask.load(sys.argv[1]), unmask.load(sys.argv[2])
del first
del second
came = []
signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
signal.raise_signal(signal.SIGINT)
print(len(came))
"""


def test_a_signal_after_two_openvino_models_is_handled(model: Path, paths: list[Path], tmp_path: Path) -> None:
    """Each core of OpenVINO moves the stack for signals; the one that ended last put back a stack that was gone."""
    made = [export(model, tmp_path / f"{name}.xml", to="openvino", images=paths[20:]).path for name in "ab"]
    done = run_python("-c", SIGNAL_AFTER_TWO, *made)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_clean_environment_without_torch(model: Path, paths: list[Path], tmp_path: Path) -> None:
    """The base install, as a machine at a line has it: small, and its verdicts are those of the trained model."""
    venv.create(tmp_path / "base", with_pip=True)
    python = tmp_path / "base" / "bin" / "python"
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", ROOT]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    has = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "scipy", "pyarrow", "timm", "onnx"} & {line.split()[0] for line in has.splitlines()}
    megabytes = sum(file.lstat().st_size for file in (tmp_path / "base").rglob("*") if file.is_file()) / 1e6
    assert megabytes < 350
    command = [python, "-m", "unmask", "inspect", model, paths[0], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"] == pytest.approx(
        unmask.load(model, backend="torch").inspect(paths[0]).score, rel=1e-3
    )


def test_too_little_memory_is_no_fault_of_the_file(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unmask.cli.failures import reason_of

    inspector = unmask.load(model.with_suffix(".onnx"))

    def full(squares: np.ndarray) -> dict[str, np.ndarray]:
        raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer")

    opened = inspector.backend._opened._replace(run=full)  # type: ignore[attr-defined]
    monkeypatch.setattr(inspector.backend, "_opened", opened)
    with pytest.raises(MemoryError) as caught:
        inspector.inspect(np.zeros((64, 64, 3), np.uint8))
    assert "memory ran out" in reason_of(caught.value)
