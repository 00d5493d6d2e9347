"""The commands say what was seen, used and skipped: in one line, in JSON, in reports, models and rows."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import unmask
from tiny import FRE, SIZE, Run, as_picture, planted, texture, write_dataset, write_textures
from unmask.benchmark import running, summary
from unmask.benchmark.results import prints_of, same_files
from unmask.cli import fitting
from unmask.datasets import load
from unmask.errors import SettingError
from unmask.inspection.model_file import facts_of

SETTINGS = {**FRE, "levels": "2,3"}
QUICK = ["--false-alarm-rate", "0.5", "--detector", "fre"]
QUICK += [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """24 good photographs in two folders, and what lies about in folders."""
    root = tmp_path / "photos"
    write_textures(root, 20)
    write_textures(root / "day2", 4, first=50)
    write_textures(root / ".cache", 2)
    write_textures(root / "@eaDir", 1)
    (root / "notes.txt").write_text("x")
    (root / "link.png").symlink_to("00.png")
    return root


@pytest.fixture
def model(photos: Path, tmp_path: Path, run: Run) -> Path:
    assert run("fit", photos, "-o", tmp_path / "part.unmask", *QUICK).code == 0
    return tmp_path / "part.unmask"


def test_a_fit_says_it_and_keeps_it(photos: Path, tmp_path: Path, run: Run) -> None:
    said = run("fit", photos, "-o", tmp_path / "part.unmask", *QUICK)
    assert said.code == 0, said.err
    line = next(line for line in said.err.splitlines() if line.startswith("Saw"))
    assert line.startswith("Saw 29 files: used 24, skipped 5 (2 hidden, ")
    assert all(part in line for part in ("1 copy of another image", "1 thumbnail", "1 not an image (.txt)"))
    facts = facts_of(tmp_path / "part.unmask")
    assert (facts["files"]["seen"], facts["files"]["used"]) == (29, 24)
    assert facts["files"]["skipped"] == {
        "hidden": 2,
        "thumbnail": 1,
        "not an image": 1,
        "copy of another image": 1,
    }
    assert str(tmp_path) not in json.dumps(facts)
    assert "hidden: 2" in run("info", tmp_path / "part.unmask").out


def test_nested_folders_can_be_left_out(photos: Path, tmp_path: Path, run: Run) -> None:
    run("fit", photos, "-o", tmp_path / "flat.unmask", "--no-recursive", *QUICK)
    facts = facts_of(tmp_path / "flat.unmask")
    assert facts["files"]["skipped"]["nested folder"] == 4
    assert facts["n_normal"] + facts["n_held_out"] == 20
    assert len(fitting._good_images(tmp_path / "flat.unmask", facts, None)) == 20, "an export is set by the same images"
    inspector = unmask.fit(photos, recursive=False, detector="fre", settings=FRE, false_alarm_rate=0.5)
    assert inspector.facts["files"] == facts["files"]
    assert len(list(inspector.inspect_many(str(photos)))) == 24
    assert len(list(inspector.inspect_many(str(photos), recursive=False))) == 20
    assert "used 20" in run("data", photos, "--no-recursive").out
    assert "used 20" in run("inspect", tmp_path / "flat.unmask", photos, "--no-recursive").err


def test_inspect_says_it_and_writes_it_as_json(model: Path, photos: Path, run: Run) -> None:
    said = run("inspect", model, photos)
    assert said.code == 0
    assert "Saw 29 files: used 24, skipped 5 (2 hidden, " in said.err
    assert "1 the same file twice" in said.err
    lines = [json.loads(line) for line in run("inspect", model, photos, photos / "00.png", "--json").out.splitlines()]
    assert len({tuple(line) for line in lines}) == 1, "the same names in every line"
    assert sum(line["skipped"] is None for line in lines) == 24
    skipped = [line for line in lines if line["skipped"] is not None]
    assert all(line["is_anomalous"] is None and line["score"] is None and line["error"] is None for line in skipped)
    assert sorted(line["skipped"] for line in skipped) == [
        *("hidden", "hidden", "the same file twice", "the same file twice", "thumbnail")
    ], "the text is not named like an image"


def test_a_file_that_is_named_is_judged_or_told(model: Path, photos: Path, run: Run) -> None:
    said = run("inspect", model, photos / "notes.txt", photos / ".cache/00.png", "--json")
    errors = [json.loads(line)["error"] for line in said.out.splitlines()]
    assert said.code == 3
    assert "notes.txt" in errors[0]
    assert errors[1:] == [None]


def test_what_is_named_like_an_image_is_an_error(model: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    (photos / "page.png").write_text("<html>")
    (photos / "empty.JPG").touch()
    said = run("inspect", model, photos)
    assert said.code == 3
    assert said.out.count("NOT JUDGED") == 2
    refused = run("fit", photos, "-o", tmp_path / "other.unmask", *QUICK)
    assert refused.code == 2
    assert "2 files cannot be used" in refused.err
    assert not (tmp_path / "other.unmask").exists()


def test_a_folder_that_cannot_be_opened_is_not_judged(
    model: Path, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.stat

    def stat(self: Path, **options: Any) -> Any:
        if self.name == "day2":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    said = run("inspect", model, photos)
    assert said.code == 3
    assert "1 files or folders cannot be opened" in said.err


def test_no_images_are_told_with_what_was_seen(model: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("x")
    said = run("inspect", model, tmp_path / "texts")
    assert said.code == 2
    assert "(Saw 1 file: used 0, skipped 1 (1 not an image (.txt)))" in said.err


def test_a_report_holds_it_and_is_not_judged_next_time(model: Path, photos: Path, run: Run) -> None:
    report = photos / "report"
    first = run("inspect", model, photos, "-o", report)
    files = json.loads((report / "results.json").read_text())["files"]
    assert (files["seen"], files["used"], len(files["skipped"])) == (29, 24, 5)
    assert {"path": str(photos / "notes.txt"), "reason": "not an image"} in files["skipped"]
    page = (report / "index.html").read_text()
    assert "Saw 29 files: used 24, skipped 5" in page
    assert "<summary>The skipped files</summary>" in page
    (report / "explain").mkdir()
    shutil.copy(photos / "00.png", report / "explain" / "0001-00.webp")
    second = run("inspect", model, photos)
    assert second.out == first.out
    assert "part" in second.err
    assert "of reports" in second.err


def test_figures_hold_it(tmp_path: Path, run: Run) -> None:
    weave = write_dataset(tmp_path / "weave", 24)
    for place in ("test/bright/.hidden.png", "test/bright/cam1/9.png", "ground_truth/bright/cam1/9_mask.png"):
        (weave / place).parent.mkdir(exist_ok=True)
        shutil.copy(weave / "ground_truth/bright/00_mask.png", weave / place)
    as_picture(planted(texture(77, SIZE))).save(weave / "test/bright/cam1/9.png")
    assert run("fit", weave, "-o", tmp_path / "a.unmask", *QUICK).code == 0
    said = run("evaluate", tmp_path / "a.unmask", weave, "-o", tmp_path / "report")
    assert "Saw 36 files: used 35, skipped 1 (1 hidden)." in said.err
    kept = json.loads((tmp_path / "report/metrics.json").read_text())
    assert kept["n_test"] == 7
    assert kept["files"] == {"seen": 36, "used": 35, "skipped": {"hidden": 1}}
    assert json.loads((tmp_path / "report/results.json").read_text())["files"]["used"] == 35
    said = run("evaluate", tmp_path / "a.unmask", weave, "--no-recursive")
    assert "2 in nested folders" in said.err


@pytest.mark.parametrize("name", ["a.onnx", "a.XML", "a.bin", "a.png", "a.jpeg", "a.html", "a.csv"])
def test_a_model_is_not_written_under_the_name_of_something_else(
    photos: Path, tmp_path: Path, run: Run, name: str
) -> None:
    said = run("fit", photos, "-o", tmp_path / name, *QUICK)
    assert said.code == 2
    assert said.err.count("\n") == 1, "before anything is read"
    assert ("unmask export" in said.err) == (Path(name).suffix.lower() in (".onnx", ".xml", ".bin"))
    assert not (tmp_path / name).exists()


def test_nor_does_python_write_it(model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unmask export"):
        unmask.load(model).save(tmp_path / "a.onnx")


def test_rows_know_their_files_by_contents(tmp_path: Path) -> None:
    weave = write_dataset(tmp_path / "weave", 12)
    named = {"detector": "fre", "preset": "fast", "settings": {}, "dataset": "weave", "seed": 0, "failed": None}
    row = {**named, **prints_of(load(weave))}
    assert running._missing([], [row], running._fingerprints([str(weave)], None, recursive=True))[1] == [row]
    image = weave / "test/good/00.png"
    content = bytearray(image.read_bytes())
    content[-20] ^= 1
    image.write_bytes(content)
    prints = running._fingerprints([str(weave)], None, recursive=True)
    assert prints["weave"]["fingerprint"] == row["fingerprint"]
    assert not same_files(row, prints["weave"])
    assert running._missing([], [row], prints)[1] == [], "it is measured again"
    older = {name: value for name, value in row.items() if name != "contents"}
    assert same_files(older, prints["weave"]), "rows of older versions know names and sizes alone"


def test_a_benchmark_says_it() -> None:
    row = {"dataset": "weave", "files": {"seen": 36, "used": 35, "skipped": {"hidden": 1}}}
    clean = {"dataset": "part", "files": {"seen": 9, "used": 9, "skipped": {}}}
    assert list(summary.accounts([row, row, clean, {"dataset": "older"}])) == [
        "weave: Saw 36 files: used 35, skipped 1 (1 hidden)",
        "part: Saw 9 files: used all of them",
    ]
