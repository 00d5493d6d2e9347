"""Forks, copies and damaged files: nothing hangs, and what cannot be used is one line."""

import copy
import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import unmask
from tiny import FEATURES, FUSE, environment, run_python, write_textures
from unmask import errors
from unmask.errors import ModelFileError, TrainingStopped, UnmaskError, one_line
from unmask.inspection import export as exporting
from unmask.inspection.calibration import Calibration
from unmask.inspection.inspector import Inspector
from unmask.training.trainer import Training
from unmask.types import FailedImage, Split

pytestmark = [
    pytest.mark.filterwarnings("ignore:a false-alarm rate"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
FILES = ("fuse.unmask", "isstad.unmask", "alone.onnx", "alone.xml")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_textures(tmp_path_factory.mktemp("good"), 12)


@pytest.fixture(scope="module")
def models(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `FILES`: two models, and two exports of the first."""
    folder = tmp_path_factory.mktemp("models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, settings in (("fuse", FUSE), ("isstad", FEATURES)):
            made = unmask.fit(paths, detector=name, settings=settings, training=Training(device="cpu"))
            made.save(folder / f"{name}.unmask")
        exporting.export(folder / "fuse.unmask", folder / "alone.onnx")
        exporting.export(folder / "fuse.unmask", folder / "alone.xml", to="openvino")
    return folder


# --- forks ------------------------------------------------------------------------------------------------------------

FORKED = """
import json, os, signal, sys, time, warnings
from concurrent.futures import ThreadPoolExecutor
warnings.simplefilter("ignore")
import unmask
model, *paths = sys.argv[1:]
inspector = unmask.load(model)
if inspector.backend.name == "torch":
    import torch
    torch.mm(torch.rand(800, 800), torch.rand(800, 800)).sum()
with ThreadPoolExecutor(8) as pool:
    scores = [result.score for result in pool.map(inspector.inspect, paths)]
time.sleep(1)  # a thread that is just ending may hold a lock of MKL, which nobody would open in the child
child = os.fork()
if not child:
    signal.alarm(200)  # a child that hangs ends, and its parent with it
    if inspector.backend.name == "torch":
        torch.mm(torch.rand(800, 800), torch.rand(800, 800)).sum()
    again = [result.score for result in inspector.inspect_many(paths)]
    sys.exit(5 if all(abs(a - b) < 1e-4 * (1 + abs(a)) for a, b in zip(scores, again, strict=True)) else 6)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("name", FILES)
def test_a_model_that_was_used_can_be_used_after_a_fork(models: Path, paths: list[Path], name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, models / name, *paths[:3]],
        env={**environment(), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("5", ""), "the same verdicts, and the exit code of the child"


def test_a_changed_file_is_not_taken_for_the_one_that_was_loaded(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes((models / "alone.onnx").read_bytes())
    inspector = unmask.load(path)
    path.write_bytes(b"another")
    with pytest.raises(ModelFileError, match="has changed since it was loaded"):
        pickle.dumps(inspector)


# --- copies and pickles -----------------------------------------------------------------------------------------------


def scores(inspector: Inspector, paths: list[Path], explain: bool) -> list[tuple[float, int]]:
    return [(one.score, len(one.explanation)) for one in inspector.inspect_many(paths, explain=explain)]


@pytest.mark.parametrize("name", FILES)
def test_a_copy_judges_as_the_original_does(models: Path, paths: list[Path], name: str) -> None:
    inspector, explain = unmask.load(models / name), name == "isstad.unmask"
    expected = scores(inspector, paths[:2], explain)
    for other in (pickle.loads(pickle.dumps(inspector)), copy.deepcopy(inspector), copy.copy(inspector)):  # noqa: S301
        assert scores(other, paths[:2], explain) == expected
        assert pickle.loads(pickle.dumps(other)).facts == inspector.facts  # noqa: S301
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(scores, (inspector, paths[:2], explain)) == expected


def test_results_and_errors_can_be_pickled(models: Path, paths: list[Path]) -> None:
    result = unmask.load(models / "alone.onnx").inspect(paths[0])
    assert pickle.loads(pickle.dumps(result)).to_dict() == result.to_dict()  # noqa: S301
    values: list[Any] = [
        FailedImage("no", Path("a")),
        Calibration(1.0, 2.0, 0.05, 20, 0.1),
        Split("a", "b", (Path("c"),), ()),
    ]
    assert pickle.loads(pickle.dumps(values)) == values  # noqa: S301
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UnmaskError)]
    for kind in kinds:
        again = pickle.loads(pickle.dumps(kind("a: no; give b")))  # noqa: S301
        assert (type(again), str(again)) == (kind, "a: no; give b")
    stopped = TrainingStopped("a")
    stopped.signal = 15
    assert pickle.loads(pickle.dumps(stopped)).signal == 15  # noqa: S301


# --- damaged files ----------------------------------------------------------------------------------------------------


def damaged(content: bytes, random_: random.Random) -> bytes:
    """Cut off, with bytes left out, or with some of its bits turned."""
    found, way = bytearray(content), random_.randrange(4)
    at = random_.randrange(len(found))
    if way == 0:
        return bytes(found[:at])
    if way == 1:
        del found[at : at + random_.randrange(1, 200)]
        return bytes(found)
    for place in (at, random_.randrange(min(4000, len(found)))):
        found[place] ^= 1 << random_.randrange(8)
    return bytes(found)


@pytest.mark.parametrize("name", ["fuse.unmask", "alone.onnx", "alone.xml"])
def test_no_damaged_file_judges_otherwise(models: Path, paths: list[Path], tmp_path: Path, name: str) -> None:
    whole = models / name
    expected = scores(unmask.load(whole), paths[:1], explain=False)
    path, random_ = tmp_path / name, random.Random(0)
    for file in models.glob(f"{whole.stem}.bin"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for _ in range(60):
        path.write_bytes(damaged(whole.read_bytes(), random_))
        with suppress(UnmaskError):
            assert scores(unmask.load(path), paths[:1], explain=False) == expected


def test_weights_beside_an_xml_file_are_checked_too(models: Path, tmp_path: Path) -> None:
    weights = bytearray((models / "alone.bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    (tmp_path / "a.xml").write_bytes((models / "alone.xml").read_bytes())
    (tmp_path / "a.bin").write_bytes(weights)
    with pytest.raises(ModelFileError, match="its checksum differs"):
        unmask.load(tmp_path / "a.xml")


def test_what_is_no_file_is_no_model(tmp_path: Path) -> None:
    for suffix in (".unmask", ".onnx", ".xml"):
        (tmp_path / f"folder{suffix}").mkdir()
        os.mkfifo(tmp_path / f"pipe{suffix}")
        for name, word in (("folder", "is a folder"), ("pipe", "no regular file"), ("absent", "there is no")):
            with pytest.raises(ModelFileError, match=word):
                unmask.load(tmp_path / f"{name}{suffix}")
    with pytest.raises(ModelFileError, match="no regular file"):
        unmask.load("/dev/null")


@pytest.mark.parametrize("facts", [{}, {"format": 3}, {"format": "x"}, {"format": 3, "calibration": 1, "input": 2}])
def test_a_model_file_of_wrong_facts_is_one_line(tmp_path: Path, facts: dict[str, Any]) -> None:
    import numpy as np

    from unmask.inspection import model_file

    model_file.write(
        tmp_path / "a.unmask", {"detector": "fre", "params": {}, "frozen": {}, **facts}, {"a": np.zeros(3)}
    )
    with pytest.raises(UnmaskError):
        unmask.load(tmp_path / "a.unmask")


def test_a_header_without_an_end_is_one_line(tmp_path: Path) -> None:
    for start in (b"\xff" * 8, (2**40).to_bytes(8, "little"), (20000).to_bytes(8, "little")):
        (tmp_path / "a.unmask").write_bytes(start + b'{"__metadata__":' + b'{"a":' * 4000)
        with pytest.raises(ModelFileError):
            unmask.load(tmp_path / "a.unmask")
    deep = json.dumps({"__metadata__": {"unmask": "[" * 100_000}}).encode()
    (tmp_path / "a.unmask").write_bytes(len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(ModelFileError):
        unmask.load(tmp_path / "a.unmask")


# --- broken installations ---------------------------------------------------------------------------------------------

BROKEN = """
import sys
class Broken:
    def find_spec(self, name, *rest):
        if name == {name!r}:
            raise {error}
sys.meta_path.insert(0, Broken())
from unmask.cli.app import main
sys.argv = ["unmask", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("name", ["onnxruntime", "torch", "openvino"])
@pytest.mark.parametrize(
    "error",
    ['ImportError("libgomp.so.1: cannot open shared object file", name="x")', 'ModuleNotFoundError("no", name="x")'],
)
def test_a_broken_installation_is_one_line(models: Path, paths: list[Path], name: str, error: str) -> None:
    file = {"onnxruntime": "alone.onnx", "torch": "isstad.unmask", "openvino": "alone.xml"}[name]
    done = run_python("-c", BROKEN.format(name=name, error=error), "inspect", models / file, paths[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("unmask: ")
    assert done.stderr.count("\n") == 1
    assert "pip install" in done.stderr


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("Größe 大 🙂 \u200d", "Größe 大 🙂 \u200d"),
    ],
)
def test_names_in_messages_are_printable(text: str, wanted: str) -> None:
    assert str(UnmaskError(f"{text} cannot be read")) == f"{wanted} cannot be read"
    assert one_line(one_line(text)) == wanted


def test_long_paths_lose_their_middle() -> None:
    path = "/deep" * 1000 + "/name.png"
    message = str(UnmaskError(f"{path} cannot be written; give another place than {path}"))
    assert len(message) <= errors.LONGEST
    assert message.count("/name.png") == 2
    assert "cannot be written; give another place than" in message
    assert len(str(UnmaskError("word " * 1000))) <= errors.LONGEST
