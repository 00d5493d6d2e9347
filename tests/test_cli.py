"""The command line as people and scripts meet it: every command, every option, and one line for every mistake."""

import json
import subprocess
import warnings
from pathlib import Path

import pytest

from tiny import FEATURES, FUSE, Finished, Run, as_picture, planted, run_python, texture, write_dataset, write_textures
from unmask import samples
from unmask.cli import app as cli
from unmask.detectors import DETECTORS, Detector, settings_of
from unmask.detectors.fuse import Fuse
from unmask.detectors.isstad import ISSTAD
from unmask.inspection.model_file import facts_of

TINY = ["--detector", "isstad"] + [part for key, value in FEATURES.items() for part in ("--set", f"{key}={value}")]
QUICK = [*TINY, "--device", "cpu", "--false-alarm-rate", "0.3"]


@pytest.fixture(scope="module")
def weave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set") / "weave", 24)


@pytest.fixture(scope="module")
def model(weave: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "weave.unmask"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        patch.setattr("sys.argv", ["unmask", "fit", str(weave), "-o", str(path), *QUICK])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    assert exit_.value.code is None
    return path


def one_line(said: Finished, *words: str) -> None:
    assert said.code == 2
    last = said.err.strip().splitlines()
    notes = [line for line in last if not line.startswith("unmask:")]
    assert len(last) - len(notes) == 1, said.err
    assert not any("Traceback" in line for line in notes)
    assert all(word in last[-1] for word in words), last[-1]


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_says_what_it_did(run: Run, weave: Path, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.unmask"
    said = run("fit", weave, "--output", path, *QUICK, "--seed", 3, "--max-minutes", 5)
    assert said.code == 0
    assert said.out == "", "results go to the file"
    assert "24 good images, 6 to test on" in said.err
    assert "False alarms to expect: as it is" in said.err
    assert f"Wrote {path}" in said.err
    assert "30.0% of good images" in said.err
    assert list(path.parent.iterdir()) == [path], "no checkpoint is left over"
    facts = facts_of(path)
    assert (facts["seed"], facts["preset"], facts["source"]) == (3, "fast", "weave (MVTec AD)")
    assert facts["params"]["decoder_dim"] == FEATURES["decoder_dim"]


@pytest.mark.filterwarnings("default:there is no checkpoint")
def test_an_interrupted_fit_is_noticed(run: Run, weave: Path, tmp_path: Path) -> None:
    path, partial = tmp_path / "a.unmask", tmp_path / "a.unmask.partial"
    assert "the fit starts from the beginning" in run("fit", weave, "-o", path, *QUICK, "--resume").err
    partial.mkdir()
    (partial / "stage_1.checkpoint").write_text("damaged")
    one_line(run("fit", weave, "-o", path, *QUICK, "--resume"), "stage_1.checkpoint cannot be read", "delete it")
    said = run("fit", weave, "-o", path, *QUICK)
    assert said.code == 0
    assert "starts afresh" in said.err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "batc=3"], ["batc"]),
        (["--set", "batch"], ["--set batch=VALUE"]),
        (["--set", "batch=many"], ["batch=many"]),
        (["--detector", "isstat"], ["isstat", "there are: isstad"]),
        (["--preset", "slow"], ["slow", "fast"]),
        (["--device", "tpu"], ["tpu", "cpu"]),
        (["--devices", "0"], ["devices"]),
        (["--nodes", "0"], ["nodes"]),
        (["--max-minutes", "-1"], ["-1"]),
        (["--false-alarm-rate", "0.01"], ["0.01", "99"]),
        (["--seed", "first"], ["--seed", "unmask fit --help"]),
        (["--colour", "red"], ["--colour", "unmask fit --help"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_in_fit_is_one_line(run: Run, weave: Path, tmp_path: Path, more: list[str], words: list[str]) -> None:
    one_line(run("fit", weave, "-o", tmp_path / "a.unmask", *QUICK, *more), *words)
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_a_place_that_cannot_be_written_is_told_before_the_training(run: Run, weave: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output, word in ((tmp_path, "give a file name"), (tmp_path / "file" / "a.unmask", "give another place")):
        said = run("fit", weave, "-o", output, *QUICK)
        one_line(said, word)
        assert "to learn from" not in said.err


def test_bad_sources_are_one_line(run: Run, tmp_path: Path) -> None:
    one_line(run("fit", tmp_path / "absent", "-o", tmp_path / "a.unmask"), "absent")
    one_line(run("fit", tmp_path, "-o", tmp_path / "a.unmask"), "no layout recognised")
    one_line(run("fit"), "Missing argument", "unmask fit --help")
    one_line(run("fitt"), "fitt", "unmask --help")
    cut = write_textures(tmp_path / "good", 12)[3]
    cut.write_bytes(cut.read_bytes()[:-400])
    one_line(run("fit", tmp_path / "good", "-o", tmp_path / "a.unmask", *QUICK), str(cut))
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


# --- inspect ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    write_textures(folder / "good", 2)
    as_picture(planted(texture(7))).save(folder / "bad.png")
    return folder


def test_inspect_prints_a_line_an_image(run: Run, model: Path, pictures: Path) -> None:
    said = run("inspect", model, pictures / "bad.png", pictures / "good")
    assert said.code == 0
    bad, *good, summary = said.out.splitlines()
    assert bad.startswith("ANOMALOUS")
    assert "bad.png" in bad
    assert len(good) == 2
    assert summary.endswith("of 3 images anomalous")


def test_json_lines_parse(run: Run, model: Path, pictures: Path) -> None:
    said = run("inspect", model, pictures, "--json")
    records = [json.loads(line) for line in said.out.splitlines()]
    assert [Path(record["path"]).name for record in records] == ["bad.png", "00.png", "01.png"]
    assert records[0]["is_anomalous"] is True
    assert records[0]["score"] > records[0]["threshold"]
    assert {"box", "area", "peak", "peak_at"} == set(records[0]["regions"][0])


def test_an_anomaly_can_fail_a_script(run: Run, model: Path, pictures: Path) -> None:
    assert run("inspect", model, pictures / "bad.png", "--fail-on-anomaly").code == 1
    assert run("inspect", model, pictures / "bad.png", "--fail-on-anomaly", "--json").code == 1
    assert run("inspect", model, pictures / "bad.png").code == 0
    records = map(json.loads, run("inspect", model, pictures / "good", "--json").out.splitlines())
    good = [record["path"] for record in records if not record["is_anomalous"]]
    assert good
    assert run("inspect", model, *good, "--fail-on-anomaly").code == 0


def test_inspect_writes_a_report(run: Run, model: Path, pictures: Path, tmp_path: Path) -> None:
    said = run("inspect", model, pictures, "-o", tmp_path / "report", "--json")
    assert f"Report: {tmp_path / 'report' / 'index.html'}" in said.err
    assert len(said.out.splitlines()) == 3, "standard output stays for programs"
    assert {"index.html", "results.json"} <= {path.name for path in (tmp_path / "report").iterdir()}


def test_explain_fills_the_report(run: Run, model: Path, pictures: Path, tmp_path: Path) -> None:
    said = run("inspect", model, pictures, "-o", tmp_path / "report", "--explain")
    assert said.code == 0
    assert "Note:" not in said.err
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8").count("<h3>repair</h3>") == 3
    animations = sorted(path.name for path in (tmp_path / "report" / "explain").iterdir())
    assert animations == ["0001-bad.webp", "0002-00.webp", "0003-01.webp"]
    plain = run("inspect", model, pictures, "-o", tmp_path / "plain")
    assert said.out == plain.out, "the verdicts are the same"
    assert not (tmp_path / "plain" / "explain").exists()


def test_explain_wants_a_report(run: Run, model: Path, pictures: Path) -> None:
    one_line(run("inspect", model, pictures, "--explain"), "--explain came without --report", "add --report FOLDER")


def test_a_detector_without_steps_is_noticed(
    run: Run, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ISSTAD, "_explain", Detector._explain)
    said = run("inspect", model, pictures, "-o", tmp_path / "report", "--explain")
    assert said.code == 0
    assert "Note: isstad has no steps" in said.err


def test_mistakes_in_inspect_are_one_line(run: Run, model: Path, pictures: Path, tmp_path: Path) -> None:
    one_line(run("inspect", tmp_path / "absent.unmask", pictures), "there is no model file")
    one_line(run("inspect", pictures / "bad.png", pictures), "no model file")
    one_line(run("inspect", model, tmp_path / "absent.png"), "absent.png")
    (tmp_path / "empty").mkdir()
    one_line(run("inspect", model, tmp_path / "empty"), "no images")
    one_line(run("inspect", model), "Missing argument")
    before = sorted(path.name for path in pictures.iterdir())
    one_line(run("inspect", model, pictures, "-o", pictures), "is not a report of unmask")
    assert sorted(path.name for path in pictures.iterdir()) == before
    (pictures / "broken.png").write_text("no image")
    one_line(run("inspect", model, pictures, "-o", tmp_path / "report", "--strict"), "broken.png")
    assert not (tmp_path / "report").exists()


def test_an_image_that_cannot_be_judged_is_recorded_and_the_rest_is_judged(
    run: Run, model: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "broken.png").write_text("no image")
    done = run("inspect", model, pictures, "-o", tmp_path / "report", "--json")
    assert done.code == 3
    records = [json.loads(line) for line in done.out.splitlines()]
    failed = [record for record in records if record["error"] is not None]
    assert len(records) == 4
    assert [Path(record["path"]).name for record in failed] == ["broken.png"]
    assert (failed[0]["score"], failed[0]["is_anomalous"]) == (None, None), "it has no verdict"
    rows = json.loads((tmp_path / "report" / "results.json").read_text())["results"]
    assert [row["name"] for row in rows if row["error"]] == ["broken.png"]
    assert len(rows) == 4
    page = (tmp_path / "report" / "index.html").read_text()
    assert "1 image could not be judged" in page
    assert page.count('data-verdict="failed"') == 1
    done = run("inspect", model, pictures, "--fail-on-anomaly")
    assert done.code == 3, "an image without a verdict counts for more than one that is anomalous"
    assert "of 3 images anomalous, 1 not judged" in done.out


# --- evaluate, info, detectors, sample, demo -------------------------------------------------------------------------


def test_evaluate_prints_and_keeps_the_figures(run: Run, model: Path, weave: Path, tmp_path: Path) -> None:
    said = run("evaluate", model, weave, "--report", tmp_path / "report", "--eval-size", 32)
    assert said.code == 0
    printed = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    kept = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert set(printed) == set(kept) - {"version", "format", "files"}
    assert kept["files"] == {"seen": 33, "used": 33, "skipped": {}}
    assert float(printed["image_auroc"]) == pytest.approx(kept["image_auroc"], rel=1e-3)
    assert "Report:" in said.err


def test_evaluate_without_masks_says_so(run: Run, model: Path, tmp_path: Path) -> None:
    said = run("evaluate", model, write_dataset(tmp_path / "bare", 4, masks=False))
    assert "no ground-truth masks" in said.err
    assert any(line.split() == ["aupro", "-"] for line in said.out.splitlines())


def test_evaluate_refuses_a_set_without_labels(run: Run, model: Path, tmp_path: Path) -> None:
    write_textures(tmp_path / "flat", 4)
    one_line(run("evaluate", model, tmp_path / "flat", "-o", tmp_path / "report"), "no labelled test images")
    assert not (tmp_path / "report").exists()


def test_info_tells_all(run: Run, model: Path) -> None:
    said = run("info", model)
    assert said.code == 0
    for key in facts_of(model):
        assert key in said.out
    assert "tiny" in said.out
    assert "MB" in said.out
    one_line(run("info", model.parent / "absent"), "there is no model file")


def test_detectors_lists_all_settings(run: Run) -> None:
    said = run("detectors")
    for detector in DETECTORS:
        assert detector.paper in said.out
        assert all(f"--set {name}=" in said.out for name in settings_of(detector))
    assert "--set cells=32,64,128 " in said.out, "as a shell takes it"


def test_sample_writes_both_sets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, small = samples.write, {"size": 64, "n_train": 2, "n_good": 1, "n_bad": 3}
    monkeypatch.setattr(samples, "write", lambda out, seed: write(out, seed=seed, **small))
    assert run("sample", tmp_path / "out", "--seed", 4).code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"fabric", "part"}
    one_line(run("sample", tmp_path / "out"), "not an empty folder")


@pytest.mark.filterwarnings("ignore:a false-alarm rate")
def test_demo_goes_all_the_way(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render = samples.render
    small = {"size": 64, "n_train": 20, "n_good": 3, "n_bad": 3}
    monkeypatch.setattr(samples, "render", lambda kind, out, seed, n_train: render(kind, out, seed=seed, **small))
    own = {key: value for key, value in FUSE.items() if "." not in key}
    parts = {key: value for key, value in FUSE.items() if "." in key}
    monkeypatch.setitem(Fuse.presets, "fast", {**own, "settings": parts})
    said = run("demo", tmp_path / "out")
    assert said.code == 0
    assert "image_auroc" in said.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"part", "part.unmask", "report"}
    assert (tmp_path / "out" / "report" / "index.html").exists()


# --- around it -------------------------------------------------------------------------------------------------------


def test_help_is_there_for_every_command(run: Run) -> None:
    assert run() == run("--help")
    assert run("--help").code == 0
    for command in ("fit", "inspect", "evaluate", "info", "detectors", "sample", "demo"):
        assert command in run("--help").out
        said = run(command, "--help")
        assert said.code == 0
        assert "Usage: unmask" in said.out


WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; import unmask.cli; unmask.cli.main()"


def test_without_torch_one_line_says_what_to_install(weave: Path, model: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return run_python("-c", WITHOUT_TORCH, *arguments)

    for command in (["fit", weave, "-o", tmp_path / "a.unmask"], ["inspect", model, weave], ["detectors"]):
        done = run(*command)
        one_line(Finished(done.returncode, done.stdout, done.stderr), "torch", "pip install 'unmask[train]'")
    assert run("info", model).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_its_own_says_only_what_it_should(weave: Path, tmp_path: Path) -> None:
    """Warnings of ours are notes; those of others do not reach the user."""
    done = run_python("-m", "unmask", "fit", weave, "-o", tmp_path / "a.unmask", *TINY, "--device", "cpu")
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "━" not in line]
    starts = (
        "weave: MVTec AD",
        "Saw 33",
        "Note: a false-alarm rate",
        "Wrote",
        "Images that score",
        "False",
        "Judge images",
    )
    assert [line[:20] for line in lines if not line.startswith(starts)] == []
    assert len(lines) == len(starts)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_what_cannot_be_written_is_one_line_before_any_work(run: Run, model: Path, weave: Path) -> None:
    for command in (
        ["fit", weave, "-o", "/proc/a.unmask"],
        ["inspect", model, weave, "-o", "/proc/report"],
        ["evaluate", model, weave, "-o", "/proc/report"],
        ["sample", "/proc/samples"],
        ["sample", model],
        ["demo", model],
        ["export", model, "-o", "/proc/a.onnx"],
        ["bench", weave, "-o", "/proc/results", "--detectors", "fre", "--seeds", 1],
    ):
        done = run(*command)
        assert done.code == 2, command
        assert "Traceback" not in done.err
        assert done.err.strip().splitlines()[-1].startswith("unmask: ")


@pytest.mark.parametrize(
    "wrong", [["--tile", "0"], ["--overlap", "0.4"], ["--intensity-range", "5"], ["--region", "no"]]
)
def test_a_wrong_reading_is_told_before_the_images(run: Run, weave: Path, tmp_path: Path, wrong: list[str]) -> None:
    done = run("fit", weave, "-o", tmp_path / "a.unmask", *wrong)
    one_line(done)
    assert "to learn from" not in done.err


def test_a_defect_of_unmask_never_looks_like_an_anomaly(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("unmask.inspection.loading.facts_of", broken)
    assert run("info", model).code == 70
