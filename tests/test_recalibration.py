"""New thresholds from new good images: which images count, what a file keeps, its history, exports without torch."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unmask
from test_exported import WITHOUT_TORCH
from tiny import FRE, Run, as_picture, run_python, texture, write_textures
from unmask.errors import CalibrationError, DatasetError, ImageError, ModelFileError, SettingError
from unmask.evaluation.evaluate import fitted_pictures
from unmask.imaging.fingerprints import content_hash
from unmask.inspection import history, model_file, recalibration, sensitivity_text
from unmask.inspection.copies import Copies
from unmask.inspection.export import export
from unmask.inspection.exported import open_exported
from unmask.inspection.exported_text import with_text
from unmask.inspection.guarantee import rank_for
from unmask.inspection.held_out import score_held_out
from unmask.inspection.inspector import Inspector

pytestmark = [
    pytest.mark.filterwarnings("ignore:no pre-trained weights"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_textures(tmp_path_factory.mktemp("good"), 40)


@pytest.fixture(scope="module")
def monday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good images under another lamp: brighter, and saved as JPEG."""
    folder = tmp_path_factory.mktemp("new") / "monday"
    folder.mkdir()
    for i in range(25):
        as_picture((texture(500 + i) + 0.1).clamp(0, 1)).save(folder / f"{i:02d}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def fitted(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its export beside it."""
    file = tmp_path_factory.mktemp("model") / "weave.unmask"
    options: dict[str, Any] = {"detector": "fre", "settings": FRE, "tolerate": "none", "device": "cpu"}
    Inspector.fit(paths[:20], held_out=paths[20:], **options).save(file)
    export(file, images=paths[20:])
    return file


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the model, without the export."""
    return Path(shutil.copy(fitted, tmp_path))


@pytest.fixture
def exported(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the export, without the model."""
    return Path(shutil.copy(fitted.with_suffix(".onnx"), tmp_path))


def one_line(said: Any, *words: str) -> None:
    lines = [line for line in said.err.splitlines() if line.startswith("unmask:")]
    assert (said.code, len(lines)) == (2, 1), said.err
    assert all(word in lines[0] for word in words), lines[0]


def same(one: Path, other: Path) -> bool:
    """Whether two model files hold the same; the order of the two entries of their headers is left to chance."""
    return model_file.fingerprint(one) == model_file.fingerprint(other) and learned(one) == learned(other)


def learned(path: Path) -> bytes:
    """What follows the header of a model file."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


# --- what calibrate does ----------------------------------------------------------------------------------------------


def test_the_thresholds_are_those_of_the_new_images_and_nothing_else_changes(
    run: Run, model: Path, fitted: Path, monday: Path
) -> None:
    before = unmask.load(fitted, backend="torch")
    said = run("calibrate", model, monday)
    assert said.code == 0, said.err
    after = unmask.load(model, backend="torch")
    scores = [result.score for result in before.inspect_many(monday, refuse=False)]
    peaks = [result.map.max() for result in before.inspect_many(monday, refuse=False)]
    rank = rank_for(25, 0.05)
    assert after.calibration.threshold == pytest.approx(sorted(scores)[rank - 1], rel=1e-6)
    assert after.calibration.pixel_threshold == pytest.approx(sorted(peaks)[rank - 1], rel=1e-6)
    assert after.calibration.n_held_out == 25
    assert learned(model) == learned(fitted)
    changed = {"calibration", history.NOW, history.EARLIER}
    facts, kept = model_file.facts_of(model), model_file.facts_of(fitted)
    assert {key: facts[key] for key in facts if key not in changed} == {
        key: kept[key] for key in kept if key not in changed
    }
    flagged = sum(score > before.calibration.threshold for score in scores)
    assert flagged > 20, "another lamp flags everything"
    assert f"which flagged {flagged} of these 25 good images" in said.err
    assert after.calibration.promise in said.err
    assert sum(result.is_anomalous for result in after.inspect_many(monday)) <= 1
    assert [path.name for path in model.parent.iterdir()] == [model.name], "nothing is left behind"


def test_the_sensitivity_card_is_made_again(run: Run, model: Path, monday: Path) -> None:
    before = model_file.facts_of(model)["sensitivity"]
    assert run("calibrate", model, monday).code == 0
    facts = model_file.facts_of(model)
    card = history.current(facts, "sensitivity")
    assert card["threshold"] == facts["calibration"]["threshold"] != before["threshold"]
    assert facts["sensitivity"] == before, "undoing gives it back"
    said = run("info", model).out
    assert all(line in said for line in sensitivity_text.sentences(card))
    assert "other sizes hold" not in said


def test_undoing_gives_back_the_very_same_file(
    run: Run, model: Path, fitted: Path, monday: Path, paths: list[Path]
) -> None:
    assert run("calibrate", model, monday).code == 0
    once = Path(shutil.copy(model, model.with_name("once.unmask")))
    assert run("calibrate", model, *paths[20:], "--false-alarm-rate", 0.1).code == 0
    assert unmask.load(model, backend="torch").calibration.false_alarm_rate == 0.1
    told = run("info", model).out
    steps = told.partition("\ncalibrations\n")[2].splitlines()[:3]
    assert [
        part in step
        for part, step in zip(("by the fit: ", "by monday (25 images): ", "by 20 images: "), steps, strict=True)
    ] == [True] * 3
    assert "at most 10 % (in use)" in steps[2]
    assert "calibrated " not in told
    assert run("calibrate", model, "--undo").code == 0
    assert same(model, once)
    assert run("calibrate", model, "--undo").code == 0
    assert same(model, fitted)
    one_line(run("calibrate", model, "--undo"), "there is nothing to undo")
    assert same(model, fitted)


def test_another_file_can_be_written_and_the_model_stays(run: Run, model: Path, fitted: Path, monday: Path) -> None:
    new = model.with_name("new.unmask")
    assert run("calibrate", model, monday, "-o", new).code == 0
    assert model.read_bytes() == fitted.read_bytes()
    assert unmask.load(new).calibration != unmask.load(model).calibration
    assert run("calibrate", new, "--undo", "-o", model.with_name("old.unmask")).code == 0
    assert same(model.with_name("old.unmask"), fitted)
    assert unmask.load(new).calibration.n_held_out == 25


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no good images came"),
        (("--undo", "{good}"), "--undo goes back without images"),
        (("--undo", "--false-alarm-rate", "0.1"), "--undo goes back without images"),
        (("--undo", "--device", "cpu"), "--undo goes back without images"),
        (("{good}", "--confidence", "1.5"), "a confidence of 1.5 is not between 0.5 and 0.9999"),
        (("{good}", "--false-alarm-rate", "5"), "not between 0 and 1"),
        (("{good}", "--false-alarm-rate", "0.01"), "needs at least 99 held-out normal images, got 25"),
        (("{good}", "--confidence", "0.95", "--false-alarm-rate", "0.05"), "with 95 % confidence needs at least 59"),
        (("{good}", "-o", "{good}"), "is a folder"),
        (("{good}", "-o", "new.onnx"), "new.onnx: .onnx is an export"),
        (("{good}/absent",), "absent"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_the_model_stays(
    run: Run, model: Path, fitted: Path, monday: Path, words: tuple[str, ...], said: str
) -> None:
    one_line(run("calibrate", model, *(word.replace("{good}", str(monday)) for word in words)), said)
    assert model.read_bytes() == fitted.read_bytes()


def test_a_model_that_changes_meanwhile_is_not_overwritten(
    run: Run, model: Path, monday: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recalibration.recalibrated

    def slow(*given: Any) -> Inspector:
        made = real(*given)
        model.write_bytes(model.read_bytes())
        return made

    monkeypatch.setattr(recalibration, "recalibrated", slow)
    before = model.read_bytes()
    one_line(run("calibrate", model, monday), "has changed since it was opened")
    assert model.read_bytes() == before


# --- which images count -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inspector(fitted: Path) -> Inspector:
    return unmask.load(fitted, backend="torch")


def arrays(first: int, n: int) -> list[np.ndarray]:
    return [np.asarray(as_picture(texture(first + i))) for i in range(n)]


def test_in_python_it_gives_another_inspector(inspector: Inspector, monday: Path, tmp_path: Path) -> None:
    before, facts = inspector.calibration, dict(inspector.facts)
    found = inspector.calibrate(monday)
    assert (inspector.calibration, inspector.facts) == (before, facts)
    assert found.calibration != before
    found.save(tmp_path / "a.unmask")
    again = unmask.load(tmp_path / "a.unmask")
    assert again.calibration == found.calibration
    assert again.facts["calibrated"]["source"] == "monday (25 images)"
    assert found.calibrate(arrays(800, 20)).facts["calibrated"]["source"] == "20 images"


def test_what_was_learned_from_cannot_calibrate(inspector: Inspector, paths: list[Path]) -> None:
    with pytest.warns(UserWarning, match="the model learned from 20 of 40 images; they are left out"):
        found = inspector.calibrate(paths)
    assert found.calibration == inspector.calibration, "what the fit held out calibrates as it did"
    with pytest.raises(DatasetError, match="the model learned from all of these 20 images"):
        inspector.calibrate(paths[:20])
    unknown = Inspector(inspector.backend, inspector.calibration, inspector.reading, {})
    with pytest.warns(UserWarning, match="does not say which images it learned from"):
        assert unknown.calibrate(paths).calibration.n_held_out == 40


def test_copies_blanks_and_bursts_count_as_in_a_fit(inspector: Inspector) -> None:
    good = arrays(600, 20)
    burst = [np.clip(good[0].astype(int) + 1, 0, 255).astype(np.uint8)]
    with pytest.warns(UserWarning, match="good images") as told:
        found = inspector.calibrate([*good, good[3], np.zeros_like(good[0]), *burst])
    lines = [str(one.message) for one in told]
    assert found.calibration.n_held_out == 20
    for words in ("1 of 23 good images show nothing", "1 good images are copies", "21 good images show 20 scenes"):
        assert any(words in line for line in lines), lines
    with pytest.warns(UserWarning, match="copies"), pytest.raises(DatasetError, match="show only one picture"):
        inspector.calibrate([good[0]] * 3)
    with pytest.raises(DatasetError, match="no images to calibrate on"):
        inspector.calibrate([])


def test_images_that_cannot_be_read_are_all_named(inspector: Inspector, monday: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(monday, tmp_path / "monday"))
    (folder / "03.jpg").write_bytes((folder / "03.jpg").read_bytes()[:300])
    (folder / "07.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"2 of 25 images cannot be used: .*03\.jpg.*07\.jpg"):
        inspector.calibrate(sorted(folder.iterdir()))


def test_defects_in_a_data_set_do_not_calibrate(run: Run, model: Path, monday: Path, tmp_path: Path) -> None:
    shutil.copytree(monday, tmp_path / "set" / "good")
    shutil.copytree(monday, tmp_path / "set" / "bad")
    for path in (tmp_path / "set" / "bad").iterdir():
        Image.new("RGB", (64, 64), (int(path.stem), 200, 0)).save(path)
    said = run("calibrate", model, tmp_path / "set", "--false-alarm-rate", 0.1)
    assert said.code == 0, said.err
    good = {content_hash(np.asarray(Image.open(path))) for path in (tmp_path / "set" / "good").iterdir()}
    assert set(model_file.facts_of(model)["calibrated"]["images"]) <= good


def test_the_promise_of_the_model_stays_unless_another_is_asked_for(inspector: Inspector) -> None:
    good = arrays(600, 40)
    sure = inspector.calibrate(good, false_alarm_rate=0.2, confidence=0.9)
    assert (sure.calibration.false_alarm_rate, sure.calibration.confidence) == (0.2, 0.9)
    assert sure.calibration.threshold == pytest.approx(sure.calibration.scores[rank_for(40, 0.2, 0.9) - 1], rel=1e-5)
    assert sure.calibrate(good).calibration == sure.calibration
    average = sure.calibrate(good, false_alarm_rate=0.1).calibration
    assert (average.false_alarm_rate, average.confidence) == (0.1, None)
    surer = sure.calibrate(good, confidence=0.95).calibration
    assert (surer.false_alarm_rate, surer.confidence) == (0.2, 0.95)
    with pytest.warns(UserWarning, match=r"needs at least 19 .*the best that can be promised is 0\.112"):
        assert inspector.calibrate(good[:8]).calibration.false_alarm_rate == 0.112
    with pytest.raises(CalibrationError, match="ask for a rate of 0"):
        inspector.calibrate(good, false_alarm_rate=0.01)
    with pytest.raises(SettingError, match="confidence"):
        inspector.calibrate(good, confidence=0.1)


def test_copies_with_noise_are_scored_where_the_fit_had_them(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def seen(predict: Any, reading: Any, images: Any, copies: Copies) -> Any:
        drawn.append((dict(copies.tolerance.amounts), copies.is_noise_free))
        return score_held_out(predict, reading, images, copies)

    monkeypatch.setattr(recalibration, "score_held_out", seen)
    facts = {**inspector.facts, "noise_added": True}
    noisy = Inspector(inspector.backend, inspector.calibration, inspector.reading, facts)
    blurred = Inspector(
        inspector.backend, inspector.calibration, inspector.reading, {**inspector.facts, "tolerance": {"blur": 0.01}}
    )
    good = arrays(600, 20)
    plain, copies = inspector.calibrate(good).calibration, noisy.calibrate(good).calibration
    assert drawn == [({}, False), ({}, True)]
    blurs = blurred.calibrate(good)
    assert drawn[-1] == ({"blur": 0.01}, False)
    assert set(blurs.facts["calibrated"]["expected_alarms"]) == {"as it is", "blur"}
    assert blurs.calibration.scores == plain.scores
    assert copies.threshold > plain.threshold


def test_new_images_are_compared_with_those_that_set_the_threshold(inspector: Inspector, monday: Path) -> None:
    first = sorted(monday.iterdir())[0]
    assert any("the good images were PNG" in note for note in inspector.inspect(first, refuse=False).notes)
    assert inspector.calibrate(monday).inspect(first).notes == ()


def test_images_that_calibrated_are_no_test_images(inspector: Inspector, monday: Path) -> None:
    known = fitted_pictures(inspector.calibrate(monday).facts)
    assert known is not None
    hashes = {content_hash(np.asarray(Image.open(path))) for path in monday.iterdir()}
    assert hashes <= set(known)
    assert not hashes & set(fitted_pictures(inspector.facts) or ())


# --- exports ----------------------------------------------------------------------------------------------------------


def test_an_export_is_calibrated_without_torch_and_undone(exported: Path, fitted: Path, monday: Path) -> None:
    whole = exported.read_bytes()
    done = run_python("-c", WITHOUT_TORCH, "calibrate", exported, monday)
    assert done.returncode == 0, done.stderr
    found = unmask.load(exported)
    scores = sorted(
        result.score for result in unmask.load(fitted.with_suffix(".onnx")).inspect_many(monday, refuse=False)
    )
    assert found.calibration.threshold == pytest.approx(scores[rank_for(25, 0.05) - 1], rel=1e-5)
    assert found.facts["calibrated"]["backend"] == "onnx"
    import onnx

    assert onnx.load(exported).graph == onnx.load(fitted.with_suffix(".onnx")).graph
    done = run_python("-c", WITHOUT_TORCH, "info", exported)
    assert "by monday (25 images)" in done.stdout, done.stderr
    done = run_python("-c", WITHOUT_TORCH, "calibrate", exported, "--undo")
    assert done.returncode == 0, done.stderr
    assert exported.read_bytes() == whole


def test_a_model_needs_torch_to_be_calibrated_and_none_to_be_undone(
    run: Run, model: Path, fitted: Path, monday: Path
) -> None:
    done = run_python("-c", WITHOUT_TORCH, "calibrate", model, monday)
    assert done.returncode == 2
    assert "needs torch, which is not installed" in done.stderr.splitlines()[-1]
    assert run("calibrate", model, monday).code == 0
    done = run_python("-c", WITHOUT_TORCH, "calibrate", model, "--undo")
    assert done.returncode == 0, done.stderr
    assert same(model, fitted)


def test_no_byte_of_a_calibrated_export_can_change_unnoticed(exported: Path, monday: Path) -> None:
    unmask.load(exported).calibrate(monday).save(exported)
    content = exported.read_bytes()
    at = content.index(b'"threshold": ') + 14
    exported.write_bytes(content[:at] + (b"1" if content[at : at + 1] != b"1" else b"2") + content[at + 1 :])
    with pytest.raises(ModelFileError, match="checksum"):
        unmask.load(exported)


def test_a_calibrated_model_is_not_replaced_by_the_export_beside_it(
    run: Run, model: Path, exported: Path, monday: Path
) -> None:
    assert unmask.load(model).backend.name == "onnx"
    said = run("calibrate", model, monday)
    assert f"{exported.name} keeps the thresholds that it has" in said.err
    assert unmask.load(model).backend.name == "torch"
    assert unmask.load(model).calibration.n_held_out == 25
    assert run("calibrate", model, "--undo").code == 0
    assert unmask.load(model).backend.name == "onnx", "its thresholds are the model's again"


def test_a_calibrated_export_does_not_stand_for_the_model_beside_it(
    run: Run, model: Path, exported: Path, monday: Path
) -> None:
    said = run("calibrate", exported, monday)
    assert f"{model} keeps its own thresholds" in said.err
    assert unmask.load(model).backend.name == "torch"
    assert unmask.load(model).calibration.n_held_out == 20
    assert unmask.load(exported).calibration.n_held_out == 25
    with pytest.raises(SettingError, match="no export of"):
        unmask.load(model, backend="onnx")


def test_an_export_of_a_calibrated_model_has_its_thresholds(
    run: Run, model: Path, paths: list[Path], monday: Path
) -> None:
    assert run("calibrate", model, monday).code == 0
    original = unmask.load(model, backend="torch")
    done = export(model, images=paths)  # those of the fit must not set the thresholds again
    assert (done.calibrated_on, done.verdicts, done.differing) == (0, 80, 0)
    assert unmask.load(done.path).calibration == original.calibration
    assert unmask.load(model).backend.name == "onnx"
    with pytest.raises(SettingError, match="19 good images that it was calibrated on, got 0; give those of its last"):
        export(model, model.with_name("b.onnx"), precision="fp16", images=paths)
    done = export(model, model.with_name("b.onnx"), precision="fp16", images=[*paths, *monday.iterdir()], accept=True)
    assert done.calibrated_on == 25
    facts = open_exported(done.path)[1]
    assert history.EARLIER not in facts, "earlier thresholds belong to the model's own scores"
    with pytest.raises(SettingError, match="nothing to undo"):
        history.undone(facts)


def test_openvino_files_are_calibrated_too(model: Path, paths: list[Path], monday: Path, run: Run) -> None:
    made = export(model, to="openvino", images=paths[20:]).path
    graph, weights = made.read_bytes(), made.with_suffix(".bin").read_bytes()
    new = made.with_name("new.xml")
    assert run("calibrate", made, monday, "-o", new).code == 0
    assert made.read_bytes() == graph
    assert new.with_suffix(".bin").read_bytes() == weights
    assert unmask.load(new).calibration.n_held_out == 25
    assert unmask.load(new).inspect(paths[0]).score == unmask.load(made).inspect(paths[0]).score
    assert run("calibrate", made, monday).code == 0
    assert unmask.load(made).calibration == unmask.load(new).calibration
    assert run("calibrate", made, "--undo").code == 0
    assert (made.read_bytes(), made.with_suffix(".bin").read_bytes()) == (graph, weights)
    assert {path.name for path in made.parent.iterdir()} == {model.name, made.name, "weave.bin", "new.xml", "new.bin"}


def test_an_export_keeps_its_kind(exported: Path, monday: Path, run: Run) -> None:
    one_line(run("calibrate", exported, monday, "-o", exported.with_suffix(".unmask")), "should end in .onnx")
    with pytest.raises(SettingError, match=r"should end in \.onnx"):
        unmask.load(exported).save(exported.with_suffix(".xml"))


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff" * 20, b"\x72\x80", b"\x72\x05\x0a\x03abc", b"\x08\x07"])
def test_what_is_no_export_holds_no_text(suffix: str, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"text|early|kind"):
        with_text(content, suffix, "{}")


def test_a_text_of_any_length_is_one_that_onnx_reads(exported: Path) -> None:
    import onnx

    for text in ("", 'é <&>" \\1', 300 * "long", 70_000 * "x"):
        made = onnx.load_from_string(with_text(exported.read_bytes(), ".onnx", text))
        assert {one.key: one.value for one in made.metadata_props} == {"unmask": text}


# --- fit --------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default:a false-alarm rate")
def test_a_fit_takes_a_confidence(run: Run, paths: list[Path], tmp_path: Path) -> None:
    settings = [
        word
        for name, value in FRE.items()
        for word in ("--set", f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
    ]
    command = ("fit", paths[0].parent, "-o", tmp_path / "a.unmask", "--detector", "fre", *settings)
    said = run(*command, "--confidence", 0.95)
    assert said.code == 0, said.err
    facts = model_file.facts_of(tmp_path / "a.unmask")
    n = facts["n_held_out"]
    assert facts["calibration"]["confidence"] == 0.95
    assert f"with 95 % confidence needs at least 59 held-out normal images, got {n}; the best" in said.err
    assert "% with 95 % confidence; one threshold from" in said.err
    one_line(run(*command, "--confidence", 0.95, "--false-alarm-rate", 0.05), "needs at least 59")
    one_line(run(*command, "--confidence", 2), "a confidence of 2 is not between")
    one_line(run(*command, "--confidence", 0.9, "--calibrate", "cross"), "give calibrate=split")
    told = run("info", tmp_path / "a.unmask").out
    assert f"  scores           {n}, " in told
    assert "  promise          Of good images, it flags at most" in told
    assert "\ncalibrations\n" not in told


def test_older_files_are_calibrated_too(run: Run, model: Path, monday: Path) -> None:
    facts, tensors = model_file.read(model)
    for name in ("scores", "protocol", "confidence"):
        del facts["calibration"][name]
    model_file.write(model, facts, tensors)
    assert run("calibrate", model, monday).code == 0
    assert run("calibrate", model, "--undo").code == 0
    assert model_file.facts_of(model)["calibration"] == facts["calibration"]
    assert run("info", model).code == 0


def test_a_history_that_is_none_is_refused(model: Path) -> None:
    facts, tensors = model_file.read(model)
    for wrong in (
        {"calibrations": [{}]},
        {"calibrations": 3},
        {"calibrated": "now"},
        {"calibrations": [{"calibration": {}}]},
    ):
        model_file.write(model.with_name("b.unmask"), {**facts, **wrong}, tensors)
        with pytest.raises((ModelFileError, CalibrationError)) as caught:
            unmask.load(model.with_name("b.unmask"))
        assert "\n" not in str(caught.value)


def test_no_warning_comes_where_all_is_well(inspector: Inspector, monday: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inspector.calibrate(monday)
    assert json.loads(json.dumps(inspector.calibrate(monday).facts)) == inspector.calibrate(monday).facts
