"""A detector from outside unmask is benchmarked by its import path, without a change in unmask."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tiny import write_dataset
from unmask.benchmark import scaling
from unmask.benchmark.job import Job
from unmask.benchmark.methods import Method, as_methods, detector_class, make_detector, methods_of
from unmask.benchmark.results import rows_of
from unmask.benchmark.row import measure
from unmask.benchmark.row_process import Done
from unmask.benchmark.running import bench
from unmask.cli.app import main
from unmask.detectors.patchcore import PatchCore
from unmask.errors import SettingError

pytestmark = pytest.mark.filterwarnings("ignore:a false-alarm rate of 0.05 needs")
MODULE = '''
"""A detector of a user's."""

import torch

from unmask.detectors import Detector
from unmask.types import Prediction


class MeanImage(Detector):
    """The distance to the mean of the good images."""

    name = "mean_image"
    presets = {"fast": {}, "coarse": {"side": 16}}

    def __init__(self, *, side: int = 64) -> None:
        super().__init__()
        self.side = self.image_size = side
        self.register_buffer("mean", torch.zeros(3, side, side))

    def _fit(self, images, training):
        self.set_buffers(mean=torch.stack([images[i] for i in range(len(images))]).mean(0))

    def _predict(self, images):
        maps = (images - self.mean).abs().mean(1)
        return Prediction(maps, maps.flatten(1).amax(1))


class Nothing:
    pass
'''


@pytest.fixture(scope="module")
def weave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set") / "weave", 24)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, which holds the user's module."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "my_detectors.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "home" / "broken.py").write_text("import nowhere_to_be_found", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "home")
    importlib.invalidate_caches()
    yield tmp_path / "home"
    sys.modules.pop("my_detectors", None)


@pytest.fixture
def importable(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The user's module, imported."""
    monkeypatch.syspath_prepend(str(home))
    return importlib.import_module("my_detectors")


def test_import_paths_are_methods(importable: Any) -> None:
    (method,) = methods_of(["my_detectors:MeanImage@coarse"])
    assert method[:3] == ("my_detectors:MeanImage", "coarse", {})
    assert (method.is_outside, method.foreign) == (True, False)
    assert make_detector(method).params() == {"side": 16}
    assert make_detector(methods_of(["my_detectors:MeanImage"], settings={"side": "8"})[0]).params() == {"side": 8}
    assert detector_class("my_detectors:MeanImage") is importable.MeanImage
    assert not methods_of(["anomalib:Padim"])[0].is_outside


def test_classes_are_methods(importable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = as_methods([importable.MeanImage, PatchCore, "fre@fast", Method("ssm", "light", {})])
    assert [str(one) for one in found] == ["my_detectors:MeanImage fast", "patchcore fast", "fre fast", "ssm light"]
    monkeypatch.setattr(importable.MeanImage, "__module__", "__main__")
    with pytest.raises(SettingError, match="define the class in a module of its own"):
        as_methods([importable.MeanImage])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("my_detectors:Nothing", "is no detector; give a subclass"),
        ("my_detectors:Another", "cannot be imported .AttributeError"),
        ("my_detectors:", "cannot be imported"),
        ("nowhere:MeanImage", "cannot be imported .ModuleNotFoundError: No module named 'nowhere'"),
        ("broken:MeanImage", "No module named 'nowhere_to_be_found'"),
        ("my_detectors:MeanImage@paper", "no preset 'paper'"),
    ],
)
def test_what_is_no_detector_is_refused_in_one_line(path: str, words: str, importable: Any) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        methods_of([path])
    assert "\n" not in str(caught.value)


def test_a_class_is_measured_in_python(importable: Any, weave: Path, tmp_path: Path) -> None:
    def in_process(jobs: Sequence[Job], minutes: float | None) -> Iterator[Done]:
        for one in jobs:
            yield Done({**measure(one)[0], "folder": one.dataset, "failed": None}, b"")

    (row,) = bench([str(weave)], [importable.MeanImage], [0], str(tmp_path / "r"), place=in_process)
    assert (row["detector"], row["preset"]) == ("my_detectors:MeanImage", "fast")
    assert row["params"] == {"side": 64}
    assert row["image_auroc"] == 1.0


def test_it_is_not_scaled_by_a_setting_that_it_lacks(importable: Any) -> None:
    assert scaling.at_sizes(as_methods([importable.MeanImage])) == []


def test_the_command_measures_it_from_the_current_folder(
    home: Path, weave: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a process of its own, as a user's row is; nothing but the current folder leads to the module."""
    options = ["--detectors", "my_detectors:MeanImage@coarse", "--seeds", "1", "--no-pictures", "-o", "r"]
    monkeypatch.setattr(sys, "argv", ["unmask", "bench", str(weave), *options])
    before = list(sys.path)
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert not caught.value.code, printed.out + printed.err
    assert sys.path == before
    (row,) = rows_of(Path("r"))
    assert (row["failed"], row["params"], row["image_auroc"]) == (None, {"side": 16}, 1.0)
    assert row["busy_cores"] >= 0
    assert "my_detectors:MeanImage coarse" in Path("r/index.html").read_text(encoding="utf-8")
    assert "my_detectors:MeanImage coarse, seed 0: image AUROC 1" in printed.err
