"""Export and the door without torch: equal results, refusals in one line, an environment that has no torch."""

import json
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unmask
from tiny import FEATURES, FRE, FUSE, PATCHCORE, PIXELS, PROTOAD, SIZE, SSM_FEATURES, run_python, write_textures
from unmask.errors import ModelFileError, SettingError
from unmask.inspection import export as exporting
from unmask.inspection.export import export
from unmask.inspection.exported import SLACK, Runtime, facts_of
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
    inspector = Inspector.train(
        paths[:20], paths[20:], detector=detector, settings=settings, training=Training(device="cpu"), **more
    )
    inspector.save(file)
    return inspector


@pytest.fixture(scope="module")
def model(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small fused model with its ONNX export beside it."""
    file = tmp_path_factory.mktemp("model") / "weave.unmask"
    trained(paths, file, "fuse", FUSE)
    export(file, images=paths[20:24])
    return file


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_exported_it_says_the_same(configuration: str, paths: list[Path], tmp_path: Path) -> None:
    inspector = trained(paths, tmp_path / "a.unmask", *CONFIGURATIONS[configuration])
    done = export(tmp_path / "a.unmask", images=paths[20:26])
    assert done.path == tmp_path / "a.onnx"
    assert (done.compared, max(done.difference, done.map_difference) <= SLACK["fp32"]) == (7, True)
    runtime = Runtime.load(done.path)
    assert runtime.calibration == inspector.calibration
    for batch in (1, 3):
        for a, b in zip(inspector.inspect_many(paths[:4]), runtime.inspect_many(paths[:4], batch), strict=True):
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


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_make_a_smaller_file(model: Path, paths: list[Path], tmp_path: Path, precision: str) -> None:
    done = export(model, tmp_path / "small.onnx", precision=precision, images=paths[20:24])
    assert done.path.stat().st_size < model.with_suffix(".onnx").stat().st_size
    assert 0 < max(done.difference, done.map_difference) <= SLACK[precision]
    assert facts_of(done.path)["exported"]["precision"] == precision
    assert Runtime.load(done.path).inspect(paths[0]).map.shape == (SIZE, SIZE)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_openvino_says_the_same(model: Path, paths: list[Path], tmp_path: Path, precision: str) -> None:
    done = export(model, tmp_path / "a.xml", to="openvino", precision=precision, images=paths[20:24])
    assert max(done.difference, done.map_difference) <= SLACK[precision]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    trained_one, exported = Inspector.load(model), unmask.load(done.path)
    assert isinstance(exported, Runtime)
    score = trained_one.inspect(paths[3]).score
    assert exported.inspect(paths[3]).score == pytest.approx(score, rel=SLACK[precision], abs=SLACK[precision])


def test_a_file_that_differs_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = exporting.trace

    def wrong(detector: Any, path: Path) -> None:
        detector.high.mul_(1.01)
        real(detector, path)
        detector.high.div_(1.01)

    monkeypatch.setattr(exporting, "trace", wrong)
    with pytest.raises(ModelFileError, match="nothing was written"):
        export(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


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


def test_the_export_beside_a_model_is_taken_if_it_was_made_from_it(
    model: Path, paths: list[Path], tmp_path: Path
) -> None:
    assert isinstance(unmask.load(model), Runtime)
    assert isinstance(unmask.load(model, explain=True), Inspector)
    for file in (model, model.with_suffix(".onnx")):
        shutil.copy(file, tmp_path)
    trained(paths, tmp_path / model.name, "fre", FRE)
    assert isinstance(unmask.load(tmp_path / model.name), Inspector), "another model has this name now"
    with pytest.raises(SettingError, match="cannot explain itself"):
        unmask.load(model.with_suffix(".onnx"), explain=True)


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
    with pytest.raises(ModelFileError, match="self-test"):
        Runtime.load(tmp_path / "a.onnx")


def test_tiles_are_judged_alike(paths: list[Path], tmp_path: Path) -> None:
    inspector = trained(paths, tmp_path / "a.unmask", "patchcore", PATCHCORE, tile=40)
    runtime = Runtime.load(export(tmp_path / "a.unmask", images=paths[20:22]).path)
    a, b = inspector.inspect(paths[1]), runtime.inspect(paths[1])
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
            Inspector.load(model).inspect(paths[0]).score, rel=1e-3
        )
    done = run_python("-c", WITHOUT_TORCH, "inspect", model, paths[0], "-o", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"index.html", "results.json"}
    assert run_python("-c", WITHOUT_TORCH, "info", model.with_suffix(".onnx")).returncode == 0


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
    assert json.loads(done.stdout)["score"] == pytest.approx(Inspector.load(model).inspect(paths[0]).score, rel=1e-3)
