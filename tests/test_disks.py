"""Full disks and odd names: every writer leaves what was there, nothing half-written, and one line."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unmask
from tiny import FEATURES, PATCHCORE, as_picture, environment, planted, run_python, texture, write_dataset
from unmask.cli import app as cli
from unmask.errors import ModelFileError, OutputError, UnmaskError
from unmask.imaging.writing import written_whole
from unmask.report.page import write_report
from unmask.training.trainer import Training

pytestmark = pytest.mark.filterwarnings("ignore:a false-alarm rate")


@pytest.fixture(scope="module")
def weave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set") / "weave", 12)


@pytest.fixture(scope="module")
def model(weave: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "weave.unmask"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unmask.fit(weave, detector="patchcore", settings=PATCHCORE, training=Training(device="cpu")).save(path)
    return path


def words(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


# --- full disks -------------------------------------------------------------------------------------------------------

FIT = ["fit", "{weave}", "-o", "{out}", "--device", "cpu"]
WRITERS: dict[str, tuple[list[str], str]] = {
    "model": ([*FIT, "--detector", "patchcore", *words(PATCHCORE)], "a.unmask"),
    "checkpoint": ([*FIT, "--detector", "isstad", *words(FEATURES)], "a.unmask"),
    "export": (["export", "{model}", "-o", "{out}"], "a.onnx"),
    "openvino": (["export", "{model}", "-o", "{out}", "--to", "openvino"], "a.xml"),
    "calibration": (
        ["calibrate", "{model}", "{weave}/test/good", "--false-alarm-rate", "0.3", "-o", "{out}"],
        "a.unmask",
    ),
    "report": (["inspect", "{model}", "{weave}/test/bright", "-o", "{out}"], "report"),
    "measures": (["evaluate", "{model}", "{weave}", "-o", "{out}"], "report"),
    "samples": (["sample", "{out}"], "samples"),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    what: str,
    weave: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    resource = pytest.importorskip("resource", reason="files have no limit of their size on Windows")
    command, name = WRITERS[what]
    filled = [part.format(weave=weave, model=model, out=tmp_path / name) for part in command]
    if not name.startswith("samples") and "." in name:
        (tmp_path / name).write_text("an earlier file")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("sys.argv", ["unmask", *filled])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert exit_.value.code == 2, said
    lines = [line for line in said.splitlines() if line.startswith("unmask:")]
    assert len(lines) == 1, said
    assert "cannot be written" in lines[0]
    assert "Traceback" not in said
    left = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert left == ({name: "an earlier file"} if "." in name else {})
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != name] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_standard_output_is_one_line(model: Path, weave: Path) -> None:
    for command in (["info", model], ["--help"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "unmask", *map(str, command)],
                env=environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=240,
                check=False,
            )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith("unmask: ")


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".json")
    for content in ("first", "second"):
        with written_whole(path) as temporary:
            temporary.write_text(content)
        assert path.read_text() == content

    def fail(error: BaseException) -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(OutputError, match=r"cannot be written \(No space left"):
        fail(OSError(28, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_and_a_device_a_device(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link.unmask").symlink_to(tmp_path / "there.unmask")
    inspector = unmask.load(model)
    inspector.save(tmp_path / "link.unmask")
    assert (tmp_path / "link.unmask").is_symlink()
    assert unmask.load(tmp_path / "there.unmask").calibration == inspector.calibration
    with pytest.raises(ModelFileError, match="no regular file"):
        inspector.save("/dev/null")


def test_the_earlier_report_is_back_where_the_new_one_cannot_take_its_place(
    model: Path, weave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector = unmask.load(model)

    def write() -> Path:
        found = inspector.inspect_many(weave / "test" / "bright")
        return write_report(tmp_path / "r", found, title="t", calibration=inspector.calibration, model={})

    before = write().read_text()
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == "r" and (self / "index.html").read_text() != before:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    (tmp_path / "r" / "index.html").write_text("earlier")
    before = "earlier"
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write()
    assert (tmp_path / "r" / "index.html").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    b"caf\xe9.png",
    b"a\nb\tc.png",
    b"\x1b[31mred\x1b[0m.png",
    b"<script>alert(1)</script>".replace(b"/", b"|") + b".png",
    b"100% #1? \"quoted\" 'name' & more.png",
    "\u202egnp.exe \U0001f642 大.png".encode(),
    b"n" * 251 + b".png",
    b"CON.png",
    b"-o.png",
    b" .png",
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for number, name in enumerate(NAMES):
        try:
            as_picture(planted(texture(number))).save(folder / os.fsdecode(name), "PNG")
        except OSError:
            pytest.skip("this file system does not take such names")
    return folder


def test_any_name_comes_through_every_writer(odd: Path, model: Path, tmp_path: Path) -> None:
    done = run_python("-m", "unmask", "inspect", model, odd, "--json", "-o", tmp_path / "report", timeout=240)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {os.fsencode(Path(record["path"]).name) for record in records} == set(NAMES), "as bytes, they are the same"
    rows = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))["results"]
    assert {os.fsencode(row["name"]) for row in rows} == set(NAMES)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "\x1b" not in page
    from pyarrow import parquet

    kept = parquet.read_table(tmp_path / "report" / "results.parquet").column("name").to_pylist()
    assert {r"caf\xe9.png", r"a\nb\tc.png", r"\x1b[31mred\x1b[0m.png"} <= set(kept)


@pytest.mark.parametrize("setting", ["LC_ALL=C", "PYTHONIOENCODING=cp1252"])
def test_any_name_can_be_printed_on_any_console(odd: Path, model: Path, setting: str) -> None:
    variable, _, value = setting.partition("=")
    done = subprocess.run(
        [sys.executable, "-m", "unmask", "inspect", str(model), str(odd)],
        env={**environment(), variable: value, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()) == (0, [b"Saw 10 files: used all of them."])
    lines = done.stdout.splitlines()
    assert len(lines) == len(NAMES) + 1, "a line an image, whatever its name holds"
    assert not any(byte in done.stdout for byte in (b"\x1b", b"\t"))


def test_explanations_of_images_with_any_name_are_found(odd: Path, weave: Path, tmp_path: Path) -> None:
    from urllib.parse import unquote

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inspector = unmask.fit(weave, detector="isstad", settings=FEATURES, training=Training(device="cpu"))
    results = inspector.inspect_many(odd, explain=True)
    page = write_report(tmp_path / "r", results, title="a\nb", calibration=inspector.calibration, model={})
    text = page.read_text(encoding="utf-8")
    links = [part.partition('"')[0] for part in text.split('href="')[1:]]
    assert len(links) == len(NAMES)
    assert all((page.parent / unquote(link)).is_file() for link in links)


def test_every_message_about_any_name_is_one_short_line(model: Path, tmp_path: Path) -> None:
    inspector = unmask.load(model)
    deep = tmp_path / "/".join(["d" * 200] * 30)
    for name in [*map(os.fsdecode, NAMES), str(deep / "a.png")]:
        (failed,) = inspector.inspect_many([tmp_path / f"absent {name}"], on_error="record")
        for message in (failed.error, str(_error_of(lambda: unmask.load(tmp_path / name)))):  # noqa: B023
            assert message.isprintable()
            assert len(message) <= 290


def _error_of(action: Callable[[], Any]) -> UnmaskError:
    with pytest.raises(UnmaskError) as caught:
        action()
    return caught.value


def test_predictions_of_a_data_set_with_a_long_name_have_a_short_one() -> None:
    from unmask.benchmark.running import predictions_name

    row = {"detector": "fre", "preset": "fast", "settings": {}, "seed": 0}
    names = {predictions_name({**row, "dataset": "n" * 250 + end}) for end in ("a", "b", os.fsdecode(b"\xe9"))}
    assert len(names) == 3
    assert all(len(name.encode()) < 255 for name in names)


def test_a_long_path_of_a_model_is_one_line(tmp_path: Path) -> None:
    for place in (tmp_path / ("n" * 300), tmp_path / "/".join(["d" * 200] * 30)):
        with pytest.raises(UnmaskError):
            unmask.load(place)
    done = run_python("-m", "unmask", "info", "n" * 5000)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert len(done.stderr) <= 301
