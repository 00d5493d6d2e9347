"""Test images that a model was fitted on are left out, and unreadable ones are found before anything is measured."""

import io
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny import FRE, as_picture, planted, texture, write_dataset
from unmask.benchmark.galleries import galleries
from unmask.benchmark.job import Job
from unmask.benchmark.methods import Method
from unmask.benchmark.page import write_page
from unmask.benchmark.results import rows_of
from unmask.benchmark.row import measure, write_predictions
from unmask.benchmark.row_process import Done
from unmask.benchmark.running import bench
from unmask.cli.app import main
from unmask.datasets import load
from unmask.errors import DatasetError, SettingError
from unmask.evaluation.evaluate import evaluate
from unmask.inspection.inspector import Inspector
from unmask.training.trainer import Training
from unmask.types import Split

pytestmark = [
    pytest.mark.filterwarnings("ignore:a false-alarm rate of 0.05 needs"),
    pytest.mark.filterwarnings("ignore:.*good images are copies of others"),
]
FIGURES = ("image_auroc", "image_ap", "pixel_auroc", "recall", "false_alarm_rate", "recall_by_kind", "recall_by_size")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good test images and three with a defect, none of which was fitted on."""
    return write_dataset(tmp_path_factory.mktemp("clean") / "weave", 24)


@pytest.fixture(scope="module")
def repeated(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, and in its test set two pictures of the training folder: one by another name, one in another format."""
    root = tmp_path_factory.mktemp("repeated") / "weave"
    shutil.copytree(clean, root)
    split = load(clean, seed=0)
    shutil.copyfile(split.normals[0], root / "test" / "good" / "0.png")
    with Image.open(split.held_out[0]) as picture:
        picture.save(root / "test" / "good" / "0.bmp")
    return root


@pytest.fixture(scope="module")
def inspector(clean: Path) -> Inspector:
    split = load(clean, seed=0)
    return Inspector.fit(split, detector="fre", settings=FRE, false_alarm_rate=0.3, training=Training(device="cpu"))


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_images_that_were_fitted_on_are_left_out_of_all_figures(
    inspector: Inspector, clean: Path, repeated: Path, tmp_path: Path
) -> None:
    plain = evaluate(inspector, load(clean))
    assert (plain["n_test"], plain["n_left_out"]) == (6, 0)
    with pytest.warns(UserWarning, match="^2 of 8 test images are pictures that the model was fitted or calibrated on"):
        found = evaluate(inspector, load(repeated), tmp_path / "report")
    assert (found["n_test"], found["n_left_out"]) == (6, 2)
    assert {name: found[name] for name in FIGURES} == {name: plain[name] for name in FIGURES}
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["version"], metrics["n_left_out"]) == (1, 2)
    results = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))["results"]
    assert [row["group"] for row in results] == ["bright"] * 3 + ["good"] * 3
    assert not {Path(row["path"]).stem for row in results} & {"0"}


def test_they_are_kept_where_that_is_asked_for(inspector: Inspector, clean: Path, repeated: Path) -> None:
    with pytest.warns(UserWarning, match="^2 of 8 test images .* measured all the same"):
        found = evaluate(inspector, load(repeated), include_seen=True)
    assert (found["n_test"], found["n_left_out"]) == (8, 0)
    assert found["pixel_auroc"] != evaluate(inspector, load(clean))["pixel_auroc"]


def test_where_nothing_is_left_one_line_says_so(inspector: Inspector, clean: Path) -> None:
    split = load(clean)
    own = tuple(replace(split.test[0], path=path) for path in (*split.normals, *split.held_out))
    with pytest.raises(DatasetError, match="all 24 test images of weave are pictures that") as caught:
        evaluate(inspector, replace(split, test=own, has_masks=False))
    assert "\n" not in str(caught.value)


def test_a_model_of_an_older_version_cannot_be_checked(inspector: Inspector, repeated: Path) -> None:
    facts = {name: value for name, value in inspector.facts.items() if name != "images"}
    older = Inspector(inspector.backend, inspector.calibration, inspector.reading, facts)
    found = evaluate(older, load(repeated))
    assert (found["n_test"], found["n_left_out"]) == (8, None)


def cut(path: Path) -> None:
    """A file whose header is whole and whose pixels are not."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("part", ["test", "ground_truth"])
def test_an_image_that_cannot_be_read_is_found_before_anything_is_measured(
    part: str, inspector: Inspector, clean: Path, tmp_path: Path
) -> None:
    root = tmp_path / "weave"
    shutil.copytree(clean, root)
    split = load(root)
    bad = sorted((root / part).rglob("*.png"))[-1]
    cut(bad)
    stages: list[str] = []
    with pytest.raises(DatasetError, match="cannot be read") as caught:
        evaluate(inspector, split, tmp_path / "report", progress=lambda stage, *_: stages.append(stage))
    assert f"{bad.parent.name}/{bad.name}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(stages) == {"check"}
    assert not (tmp_path / "report").exists()


def test_progress_counts_both_stages(inspector: Inspector, clean: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    evaluate(inspector, load(clean), progress=lambda stage, done, total, left: steps.append((stage, done, total)))
    assert steps == [("check", i, 6) for i in range(1, 7)] + [("measure", i, 6) for i in range(1, 7)]


def test_an_eval_size_of_nothing_is_refused(inspector: Inspector, clean: Path) -> None:
    with pytest.raises(SettingError, match="eval size of 0 pixels"):
        evaluate(inspector, load(clean), eval_size=0)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", lambda *_, **__: None)
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return command


@pytest.mark.filterwarnings("default:.*test images are pictures")
def test_evaluate_leaves_them_out_and_says_so(inspector: Inspector, repeated: Path, tmp_path: Path, run: Any) -> None:
    inspector.save(tmp_path / "m.unmask")
    code, out, err = run("evaluate", tmp_path / "m.unmask", repeated)
    assert code == 0
    assert "Note: 2 of 8 test images are pictures that the model was fitted or calibrated on" in err
    assert dict(line.split(None, 1) for line in out.splitlines())["n_left_out"] == "2"
    code, out, err = run("evaluate", tmp_path / "m.unmask", repeated, "--include-seen")
    assert dict(line.split(None, 1) for line in out.splitlines())["n_test"] == "8"
    del inspector.facts["images"]
    inspector.save(tmp_path / "older.unmask")
    code, out, err = run("evaluate", tmp_path / "older.unmask", repeated)
    assert code == 0
    assert "does not say which images it was fitted on" in err
    assert dict(line.split(None, 1) for line in out.splitlines())["n_left_out"] == "-"


def test_evaluate_fails_in_one_line(inspector: Inspector, clean: Path, tmp_path: Path, run: Any) -> None:
    root = tmp_path / "weave"
    shutil.copytree(clean, root)
    cut(root / "test" / "good" / "01.png")
    inspector.save(tmp_path / "m.unmask")
    for more in ([], ["--eval-size", "0"]):
        code, out, err = run("evaluate", tmp_path / "m.unmask", root, "-o", tmp_path / "report", *more)
        assert (code, out) == (2, "")
        assert sum(line.startswith("unmask: ") for line in err.splitlines()) == 1
        assert "Traceback" not in err
    assert not (tmp_path / "report").exists()


# --- bench ------------------------------------------------------------------------------------------------------------


FRE_METHOD = Method("fre", "fast", {**FRE, "levels": "2,3"})


def job(dataset: Path) -> Job:
    return Job(*FRE_METHOD[:3], str(dataset), 0)


def test_a_row_leaves_them_out_of_all_figures(clean: Path, repeated: Path) -> None:
    plain, _ = measure(job(clean))
    with pytest.warns(UserWarning, match="^2 of 8 test images"):
        row, arrays = measure(job(repeated))
    assert (row["n_test"], row["n_left_out"], plain["n_left_out"]) == (6, 2, 0)
    assert {name: row[name] for name in FIGURES} == {name: plain[name] for name in FIGURES}
    assert row["robustness"] == plain["robustness"]
    names = [sample.path.stem for sample in load(repeated).test]
    assert [names[i] for i in arrays["tested"]] == ["00", "01", "02", "00", "01", "02"]


def test_a_row_says_which_test_image_cannot_be_read_before_it_fits(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean, tmp_path / "weave")
    cut(tmp_path / "weave" / "test" / "good" / "01.png")
    with pytest.raises(DatasetError, match="1 of 6 test images cannot be read"):
        measure(job(tmp_path / "weave"))


@pytest.mark.filterwarnings("ignore:2 of 8 test images")
def test_the_page_shows_the_images_that_were_tested(repeated: Path, tmp_path: Path) -> None:
    def in_process(jobs: Sequence[Job], minutes: float | None) -> Iterator[Done]:
        for one in jobs:
            row, arrays = measure(one)
            labels = [load(repeated).test[i].anomalous for i in arrays["tested"]]
            arrays["scores"] = np.array([0.0 if is_bad else 1e9 for is_bad in labels])  # all wrong
            file = io.BytesIO()
            write_predictions(file, arrays)
            yield Done({**row, "folder": one.dataset, "failed": None}, file.getvalue())

    (row,) = bench([repeated], [FRE_METHOD], [0], tmp_path / "r", place=in_process)
    (gallery,) = galleries(tmp_path / "r", [row], [str(FRE_METHOD)])
    assert [case.name for case in gallery.misses] == ["bright/00.png"]
    assert [case.name for case in gallery.alarms] == [f"good/0{i}.png" for i in range(3)]
    page = write_page(tmp_path / "r", rows_of(tmp_path / "r")).read_text(encoding="utf-8")
    assert "weave: 2 test images are also good images to learn from" in page


def test_pictures_of_a_training_folder_have_hashes_of_their_own(clean: Path) -> None:
    from unmask.evaluation.selection import content_hashes

    split: Split = load(clean)
    assert len(set(content_hashes([*split.normals, *split.held_out], "good images"))) == 24
    as_picture(planted(texture(0))).save(clean.parent / "other.png")
    assert content_hashes([clean.parent / "other.png"], "images")[0] not in content_hashes(split.normals, "good images")
