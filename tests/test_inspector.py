"""The one door: train, calibrate, inspect anything that is an image, save, load, and refuse what is broken."""

import dataclasses
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unmask
from tiny import FEATURES, PIXELS, SIZE, as_picture, planted, texture, write_textures
from unmask.detectors import Detector
from unmask.errors import CalibrationError, ImageError, ModelFileError, SettingError, UnmaskError
from unmask.imaging.images import HEAT_ANCHORS
from unmask.inspection import model_file
from unmask.inspection.explanation import frames
from unmask.inspection.guarantee import best_rate
from unmask.inspection.inspector import Inspector
from unmask.training.trainer import Training
from unmask.types import AnomalyResult, Step

CPU = Training(device="cpu")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_textures(tmp_path_factory.mktemp("good"), 40)


def train(normals: list[Path], held_out: list[Path], **more: Any) -> Inspector:
    return Inspector.fit(
        normals, held_out=held_out, **{"detector": "isstad", "settings": FEATURES, "training": CPU, **more}
    )


@pytest.fixture(scope="module")
def inspector(paths: list[Path]) -> Inspector:
    return train(paths[:20], paths[20:])


@pytest.fixture
def model(inspector: Inspector, tmp_path: Path) -> Path:
    inspector.save(tmp_path / "a.unmask")
    return tmp_path / "a.unmask"


def equal(a: AnomalyResult, b: AnomalyResult) -> bool:
    return a.score == b.score and a.is_anomalous == b.is_anomalous and np.array_equal(a.map, b.map)


# --- inspecting ------------------------------------------------------------------------------------------------------


def test_an_image_is_the_same_in_every_form(inspector: Inspector, paths: list[Path]) -> None:
    path = paths[0]
    from_path = inspector.inspect(path)
    with Image.open(path) as picture:
        forms = [str(path), path.read_bytes(), picture.copy(), np.asarray(picture)]
    forms.append(np.asarray(forms[-1], np.float32) / np.float32(255))
    for form in forms:
        assert equal(inspector.inspect(form), from_path)
    assert (from_path.path, inspector.inspect(forms[1]).path) == (path, None)


@pytest.mark.parametrize("size", [(64, 64), (200, 90), (31, 47)])
def test_a_map_has_the_image_s_own_size(inspector: Inspector, size: tuple[int, int]) -> None:
    result = inspector.inspect(as_picture(texture(3)).resize(size))
    assert result.map.shape == result.mask.shape == (size[1], size[0])
    assert result.map.dtype == np.float32


def test_a_defect_is_found_and_placed(inspector: Inspector) -> None:
    result = inspector.inspect(as_picture(planted(texture(700), 32, 16, 16)).resize((128, 128)))
    assert result.is_anomalous
    assert result.score > result.threshold == inspector.calibration.threshold
    x, y = result.regions[0].peak_at
    assert (48 <= x < 112, 16 <= y < 80) == (True, True)
    assert np.array_equal(result.mask, result.map > result.pixel_threshold)
    assert sum(region.area for region in result.regions) == result.mask.sum()


def test_held_out_images_keep_the_promise(inspector: Inspector, paths: list[Path]) -> None:
    assert inspector.calibration.n_held_out == 20
    flagged = [result.is_anomalous for result in inspector.inspect_many(paths[20:])]
    assert sum(flagged) <= 0.05 * 21


def test_many_images_give_what_each_gives(inspector: Inspector, paths: list[Path]) -> None:
    some = [*paths[:5], as_picture(texture(9)).resize((90, 50))]
    alone = [inspector.inspect(one) for one in some]
    for a, b in zip(alone, inspector.inspect_many(iter(some), batch_size=4), strict=True):
        assert a.score == pytest.approx(b.score, rel=1e-3, abs=1e-4)
        np.testing.assert_allclose(a.map, b.map, rtol=1e-3, atol=1e-4)
    assert list(inspector.inspect_many([])) == []


def test_a_result_cannot_be_changed_and_knows_its_times(inspector: Inspector, paths: list[Path]) -> None:
    result = inspector.inspect(paths[0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.score = 0.0  # type: ignore[misc]
    times = dict(result.milliseconds)
    assert times.pop("total") == pytest.approx(sum(times.values()))
    assert set(times) == {"decode", "predict", "regions"}
    assert min(times.values()) >= 0


def test_an_unreadable_image_is_one_line(inspector: Inspector, tmp_path: Path) -> None:
    for source in (b"nothing", tmp_path / "absent.png", np.zeros((4, 4), np.int64)):
        with pytest.raises(ImageError) as caught:
            inspector.inspect(source)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:no pre-trained weights")
def test_the_repaired_image_has_the_image_s_size(paths: list[Path]) -> None:
    pixels = train(paths[:8], paths[8:10], settings=PIXELS, false_alarm_rate=0.4)
    result = pixels.inspect(as_picture(texture(3)).resize((90, 50)))
    assert result.restored is not None
    assert (result.restored.shape, result.restored.dtype) == ((50, 90, 3), np.uint8)


# --- explaining ------------------------------------------------------------------------------------------------------


def test_an_explanation_comes_only_when_asked_for(inspector: Inspector, paths: list[Path]) -> None:
    plain, told = inspector.inspect(paths[0]), inspector.inspect(paths[0], explain=True)
    assert plain.explanation == ()
    assert equal(plain, told)
    (frame,) = told.explanation
    assert frame.title == "repair"
    assert list(frame.pictures) == ["probability", "error"]
    assert set(told.milliseconds) == {"decode", "predict", "regions", "total"}


def test_each_image_gets_its_own_explanation(inspector: Inspector) -> None:
    sources = [as_picture(texture(700 + i)) for i in range(5)]
    sources[3] = as_picture(planted(texture(703)))
    together = inspector.inspect_many(sources, batch_size=2, explain=True)
    for source, result in zip(sources, together, strict=True):
        (alone,) = inspector.inspect(source, explain=True).explanation
        for caption, picture in result.explanation[0].pictures.items():
            np.testing.assert_allclose(picture.astype(int), alone.pictures[caption], atol=2)


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 64), (64, 64)), ((90, 31), (31, 90)), ((2048, 500), (125, 512)), ((3, 1500), (512, 1))]
)
def test_frames_have_the_image_s_size_but_never_a_large_one(
    inspector: Inspector, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    (frame,) = inspector.inspect(as_picture(texture(3)).resize(size), explain=True, refuse=False).explanation
    for picture in frame.pictures.values():
        assert (picture.shape, picture.dtype) == ((*shown, 3), np.uint8)


def test_pictures_come_first_and_maps_are_heat_over_the_image() -> None:
    image = torch.full((3, SIZE, SIZE), 0.5)
    bright, cold, hot = torch.ones(3, SIZE, SIZE), torch.zeros(SIZE, SIZE), torch.ones(SIZE, SIZE)
    steps = [Step("one", {"restored": bright}, {"zero": cold, "error": hot}), Step("two", {}, {})]
    first, second = frames(steps, image.numpy(), 40, 30)
    assert (first.title, list(first.pictures)) == ("one", ["restored", "zero", "error"])
    assert (second.title, second.pictures) == ("two", {})
    assert (first.pictures["restored"] == 255).all()
    for caption, colour in (("zero", HEAT_ANCHORS[0]), ("error", HEAT_ANCHORS[-1])):
        blend = 0.35 * 128 + 0.65 * colour
        assert np.abs(first.pictures[caption] - blend).max() <= 1


def test_a_detector_without_steps_explains_nothing(
    inspector: Inspector, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(inspector.detector), "_explain", Detector._explain)
    assert [result.explanation for result in inspector.inspect_many(paths[:3], explain=True)] == [(), (), ()]


# --- what is known before the training -------------------------------------------------------------------------------


def no_training(stage: str, done: int, total: int, seconds_left: float) -> None:
    assert stage == "check", "a mistake must be told before the training"


BEFORE = Training(device="cpu", progress=no_training)


def test_a_promise_that_cannot_be_kept_is_refused_before_the_training(paths: list[Path]) -> None:
    with pytest.raises(CalibrationError, match=r"at least 99 held-out normal images, got 20.*a rate of 0.048 or more"):
        train(paths[:20], paths[20:], false_alarm_rate=0.01, training=BEFORE)
    with pytest.raises(CalibrationError, match="got 0"):
        train(paths, [], training=BEFORE)
    with pytest.raises(SettingError, match="between 0 and 1"):
        train(paths[:20], paths[20:], false_alarm_rate=5, training=BEFORE)


def test_by_default_the_best_possible_promise_is_made_and_said(paths: list[Path]) -> None:
    with pytest.warns(UserWarning, match=f"the best that can be promised is {best_rate(6):g}"):
        small = train(paths[:10], paths[10:16])
    assert small.calibration.false_alarm_rate == best_rate(6)


def test_all_unreadable_images_are_listed_with_reasons_before_the_training(paths: list[Path], tmp_path: Path) -> None:
    file = io.BytesIO()
    as_picture(texture(0, 128)).save(file, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(file.getvalue()[:-500])
    (tmp_path / "text.png").write_text("no image")
    bad = [tmp_path / name for name in ("cut.jpg", "text.png", "absent.png")]
    with pytest.raises(ImageError, match="3 of 40 images cannot be used") as caught:
        train([*paths[:17], *bad[:2]], [*paths[20:40], bad[2]], training=BEFORE)
    said = str(caught.value)
    assert all(said.count(path.name) >= 1 for path in bad)
    assert str(paths[0]) not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "wrong",
    [
        {"detector": "isstat"},
        {"preset": "slow"},
        {"settings": {"batc": 3}},
        {"settings": {**FEATURES, "image_size": 65}},
    ],
    ids=str,
)
def test_a_wrong_setting_is_told_before_the_training(paths: list[Path], wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        train(paths[:20], paths[20:], training=BEFORE, **wrong)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_other_images_is_refused(paths: list[Path], tmp_path: Path) -> None:
    training = Training(device="cpu", checkpoints=tmp_path, resume=True)
    train(paths[:10], paths[20:], training=replace(training, resume=False))
    with pytest.raises(SettingError, match="other images or settings"):
        train(paths[:11], paths[20:], training=training)
    with pytest.raises(SettingError, match="other images or settings"):
        train(paths[:10], paths[20:], training=training, settings={**FEATURES, "lr": 0.01})


# --- saving and loading ----------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_gives_equal_results(inspector: Inspector, model: Path, paths: list[Path]) -> None:
    loaded = unmask.load(model)
    assert loaded.calibration == inspector.calibration
    for source in (paths[0], as_picture(planted(texture(700)))):
        assert equal(loaded.inspect(source), inspector.inspect(source))


def test_saved_again_it_is_the_same_model(model: Path, tmp_path: Path, paths: list[Path]) -> None:
    unmask.load(model).save(tmp_path / "b.unmask")
    assert model_file.facts_of(tmp_path / "b.unmask") == model_file.facts_of(model)


def test_a_model_file_tells_where_it_comes_from(model: Path) -> None:
    facts = model_file.facts_of(model)
    expected = {"detector": "isstad", "preset": "fast", "source": "20 images", "seed": 0, "n_normal": 20}
    assert {key: facts[key] for key in expected} == expected
    assert facts["params"]["backbone"] == "tiny"
    assert set(facts["frozen"]) == {"tiny"}
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["input"] == {"size": SIZE, "channels": "RGB", "range": [0.0, 1.0]}
    assert facts["calibration"]["n_held_out"] == 20


def refused(path: Path, said: str) -> None:
    with pytest.raises(UnmaskError, match=said) as caught:
        Inspector.load(path)
    assert isinstance(caught.value, ModelFileError)
    assert "\n" not in str(caught.value)


def rewritten(model: Path, facts: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    """What was written on purpose has a right checksum."""
    model_file.write(model, facts, tensors)
    return model


def test_changed_tensors_fail_the_self_test(model: Path) -> None:
    facts, tensors = model_file.read(model)
    changed = {key: 1.1 * value if value.dtype == np.float32 else value for key, value in tensors.items()}
    refused(rewritten(model, facts, changed), "fails its self-test")


def test_tensors_of_another_model_are_refused(model: Path) -> None:
    facts, tensors = model_file.read(model)
    refused(rewritten(model, facts, {**tensors, "foreign": np.zeros(1)}), "foreign")


def test_another_backbone_is_refused(model: Path) -> None:
    facts, tensors = model_file.read(model)
    refused(rewritten(model, {**facts, "frozen": {"tiny": "0123"}}, tensors), "tiny with checksum 0123")


@pytest.mark.parametrize("key", ["calibration", "self_test", "detector", "params", "frozen"])
def test_a_model_without_a_part_is_refused(model: Path, key: str) -> None:
    facts, tensors = model_file.read(model)
    del facts[key]
    refused(rewritten(model, facts, tensors), key)


def test_a_failed_save_leaves_the_old_model(
    inspector: Inspector, model: Path, monkeypatch: pytest.MonkeyPatch, paths: list[Path]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ModelFileError, match="No space left"):
        inspector.save(model)
    monkeypatch.undo()
    assert equal(unmask.load(model).inspect(paths[0]), inspector.inspect(paths[0]))
