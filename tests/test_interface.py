"""The Python interface as people guess it: what `fit` takes, what `load` gives, what cannot be judged, many threads."""

import json
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import unmask
from tiny import (
    FUSE,
    PATCHCORE,
    SIZE,
    Textures,
    as_picture,
    planted,
    run_python,
    texture,
    write_dataset,
    write_textures,
)
from unmask.detectors import Detector
from unmask.detectors.patchcore import PatchCore
from unmask.errors import CalibrationError, DatasetError, ImageError, ModelFileError, SettingError
from unmask.imaging import tiling
from unmask.imaging.region import region_of
from unmask.imaging.tiling import Tiling, split
from unmask.imaging.tolerance import Tolerance
from unmask.inspection.copies import Copies
from unmask.inspection.inspector import Inspector
from unmask.inspection.scoring import Reading
from unmask.inspection.training_images import TrainingImages, check_images
from unmask.training.trainer import Training
from unmask.types import FailedImage, Prediction

QUICK: dict[str, Any] = {"detector": "patchcore", "settings": PATCHCORE, "false_alarm_rate": 0.2}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_textures(tmp_path_factory.mktemp("good"), 40)


@pytest.fixture(scope="module")
def inspector(paths: list[Path]) -> Inspector:
    return unmask.fit(paths, **QUICK)


# --- what fit takes ---------------------------------------------------------------------------------------------------


class Items:
    """Something with a length and an index, as a torch Dataset is."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def arrays(paths: list[Path]) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in paths]


FORMS = {
    "strings": lambda paths: [str(path) for path in paths],
    "a generator of paths": lambda paths: (path for path in paths),
    "bytes": lambda paths: [path.read_bytes() for path in paths],
    "Pillow images": lambda paths: [Image.open(path) for path in paths],
    "arrays": arrays,
    "one array": lambda paths: np.stack(arrays(paths)),
    "tensors": lambda paths: [torch.from_numpy(one.copy()).permute(2, 0, 1) for one in arrays(paths)],
    "a data set of float tensors": lambda paths: Items(
        [torch.from_numpy(one.copy()).permute(2, 0, 1) / 255 for one in arrays(paths)]
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_fit_takes_images_in_every_form(form: str, paths: list[Path], inspector: Inspector) -> None:
    found = unmask.fit(FORMS[form](paths), **QUICK)
    assert found.facts["n_normal"] + found.facts["n_held_out"] == 40
    if form == "a data set of float tensors":  # their contents have other hashes, so others are held out
        return
    assert found.calibration == inspector.calibration, "what is held out follows from the contents"
    assert found.inspect(paths[0]).score == inspector.inspect(paths[0]).score


def test_fit_takes_a_folder_and_a_data_set(paths: list[Path]) -> None:
    folder = unmask.fit(paths[0].parent, calibrate="split", **QUICK)
    split = unmask.load_dataset(paths[0].parent)
    assert folder.facts["n_held_out"] == folder.calibration.n_held_out == len(split.held_out)
    assert unmask.fit(split, calibrate="split", **QUICK).calibration == folder.calibration
    given = unmask.fit(split.normals, held_out=split.held_out, **QUICK)
    assert given.calibration == folder.calibration


def test_by_default_every_image_is_learned_from_and_calibrates(paths: list[Path]) -> None:
    folder = unmask.fit(paths[0].parent, **QUICK)
    split = unmask.load_dataset(paths[0].parent)
    assert folder.calibration.protocol == "cross"
    assert folder.facts["n_normal"] == folder.calibration.n_held_out == len(paths)
    assert folder.facts["n_held_out"] == 0
    assert unmask.fit(split, **QUICK).calibration == folder.calibration


@pytest.mark.parametrize(
    ("images", "error", "word"),
    [
        ([], DatasetError, "no images"),
        (np.zeros((8, 8, 3), np.uint8), DatasetError, "not a batch"),
        (Image.new("RGB", (8, 8)), DatasetError, "one Image"),
        (7, DatasetError, "type int"),
        ([(np.zeros((8, 8, 3), np.uint8), 0)] * 20, ImageError, "without labels"),
        ([None] * 20, ImageError, "NoneType"),
    ],
    ids=["nothing", "one array", "one image", "a number", "pairs", "none"],
)
def test_what_are_no_images_is_one_line(images: Any, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word) as caught:
        unmask.fit(images, **QUICK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"detector": PatchCore(**PATCHCORE), "settings": {"peak": 0.1}}, "constructor"),
        ({"detector": PatchCore(**PATCHCORE), "preset": "paper"}, "constructor"),
        ({"training": Training(), "seed": 3}, "seed"),
        ({"held_out_share": 1.0}, "held_out_share=1"),
        ({"intensity_range": (5, 5)}, "5,5"),
        ({"detector": "patchcoar"}, "patchcoar"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_options_that_contradict_are_one_line(paths: list[Path], more: dict[str, Any], word: str) -> None:
    options = {key: value for key, value in QUICK.items() if key not in ("detector", "settings")}
    with pytest.raises(SettingError, match=word) as caught:
        unmask.fit(paths, **{**options, **more})
    assert "\n" not in str(caught.value)


def test_a_detector_can_be_given_itself(paths: list[Path], inspector: Inspector) -> None:
    detector = PatchCore(**PATCHCORE)
    found = unmask.fit(paths, detector=detector, false_alarm_rate=0.2)
    assert found.detector is detector
    assert found.calibration == inspector.calibration


def test_copies_count_once(paths: list[Path]) -> None:
    with pytest.warns(UserWarning, match="5 good images are copies"):
        found = unmask.fit([*paths[:20], *paths[:5]], held_out=paths[20:], **QUICK)
    assert (found.facts["n_normal"], found.facts["n_held_out"]) == (20, 20)
    with pytest.warns(UserWarning, match="2 good images are copies"):
        found = unmask.fit(paths[:20], held_out=[*paths[:2], *paths[20:]], **QUICK)
    assert (found.facts["n_normal"], found.facts["n_held_out"]) == (20, 20), "what was learned does not calibrate"
    with pytest.warns(UserWarning, match="copies"), pytest.raises(CalibrationError, match="got 0"):
        unmask.fit(paths[:20], held_out=paths[:20], **QUICK)


def test_near_duplicates_on_both_sides_are_told(paths: list[Path]) -> None:
    frames = [np.asarray(Image.open(path)) for path in paths]
    burst = [np.clip(frame.astype(int) + 1, 0, 255).astype(np.uint8) for frame in frames[:3]]
    with pytest.warns(UserWarning, match="3 of 23 held-out images show nearly the same"):
        unmask.fit(frames[:20], held_out=[*burst, *frames[20:]], **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unmask.fit([*frames[:20], *burst], held_out=frames[20:], **QUICK)


def test_each_tile_that_is_learned_from_is_made_once(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = tiling.resize

    def counted(image: np.ndarray, h: int, w: int) -> np.ndarray:
        made.append(image.shape)
        return real(image, h, w)

    settings = Tiling(16, tile=32, mask=region_of(str(paths[0]))["mask"])
    checked = check_images(paths[:2], Reading(settings), Training())
    images = TrainingImages(paths[:2], range(2), Reading(settings), checked, Copies(Tolerance.parse("none"), False, 2))
    corners = settings.corners(*checked.sizes[0])
    expected = [list(split(Reading(settings).decode(path), settings)) for path in paths[:2]]
    monkeypatch.setattr(tiling, "resize", counted)
    for number in range(len(images)):
        image, square = divmod(number, len(corners))
        assert np.array_equal(images[number].numpy(), expected[image][square])
    assert len(made) == len(images) == 2 * len(corners) > 2


def test_held_out_images_may_be_a_folder(paths: list[Path], inspector: Inspector) -> None:
    with pytest.warns(UserWarning, match="20 good images are copies"):
        found = unmask.fit(paths[:20], held_out=str(paths[0].parent), **QUICK)
    assert found.facts["n_held_out"] == 20, "those that are learned from do not count"
    with pytest.raises(DatasetError, match="there is no file or folder"):
        inspector.inspect_many("absent")


# --- what load gives --------------------------------------------------------------------------------------------------


def test_no_path_travels_in_a_model_file(paths: list[Path], tmp_path: Path) -> None:
    unmask.fit(paths[0].parent, **QUICK).save(tmp_path / "a.unmask")
    assert str(paths[0].parent).encode() not in (tmp_path / "a.unmask").read_bytes()


def test_a_result_becomes_plain_values(inspector: Inspector, paths: list[Path]) -> None:
    result = inspector.inspect(as_picture(planted(texture(700))))
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["version"] == 1
    assert (plain["path"], plain["error"], plain["is_anomalous"]) == (None, None, True)
    assert plain["score"] == result.score
    assert tuple(plain["regions"][0]["box"]) == result.regions[0].box
    failed = FailedImage("why", paths[0]).to_dict()
    assert set(failed) == set(plain), "one schema for both"
    assert (failed["error"], failed["score"], failed["is_anomalous"]) == ("why", None, None)


def test_the_public_names_need_no_torch() -> None:
    code = (
        "import sys, unmask\n"
        "from unmask import load, Inspector, AnomalyResult, Calibration, load_dataset, evaluate, UnmaskError\n"
        "assert sorted(unmask.__all__) == [n for n in dir(unmask) if n in unmask.__all__]\n"
        "print('torch' in sys.modules, [n for n in unmask.__all__ if n != 'fit' and not hasattr(unmask, n)])"
    )
    assert run_python("-c", code).stdout.split() == ["False", "[]"]


def test_eight_threads_give_equal_results(paths: list[Path], tmp_path: Path) -> None:
    unmask.fit(paths, detector="fuse", settings=FUSE, false_alarm_rate=0.2).save(tmp_path / "a.unmask")
    alone = [result.score for result in unmask.load(tmp_path / "a.unmask").inspect_many(paths, batch_size=1)]
    shared = unmask.load(tmp_path / "a.unmask")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert [result.score for result in pool.map(shared.inspect, paths)] == alone


# --- what cannot be judged --------------------------------------------------------------------------------------------


class Broken:
    """A backend whose maps or scores are not numbers."""

    name, device = "torch", "cpu"

    def __init__(self, backend: Any, spoil: str, value: float) -> None:
        self.backend, self.spoil, self.value = backend, spoil, value

    def predict(self, squares: np.ndarray) -> Any:
        prediction = self.backend.predict(squares)
        spoiled = getattr(prediction, self.spoil).copy()
        spoiled[1 if len(spoiled) > 1 else 0].fill(self.value) if self.spoil == "maps" else spoiled.put(-1, self.value)
        return prediction._replace(**{self.spoil: spoiled})

    def explain(self, square: np.ndarray) -> list[Any]:
        return []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("spoil", ["maps", "scores"])
def test_what_is_not_finite_is_an_error_of_that_image(
    inspector: Inspector, paths: list[Path], spoil: str, value: float
) -> None:
    broken = Inspector(Broken(inspector.backend, spoil, value), inspector.calibration, inspector.reading, {})
    with pytest.raises(ImageError, match="no verdict"):
        broken.inspect(paths[0])
    results = list(broken.inspect_many(paths[:2], on_error="record"))
    assert [type(result).__name__ for result in results] == ["AnomalyResult", "FailedImage"]
    assert results[1].path == paths[1]


def test_a_tile_that_is_not_finite_is_an_error_of_its_image(paths: list[Path]) -> None:
    tiled = unmask.fit(paths, tile=32, **QUICK)
    broken = Inspector(Broken(tiled.backend, "scores", np.nan), tiled.calibration, tiled.reading, {})
    with pytest.raises(ImageError, match="no verdict"):
        broken.inspect(paths[0])


def test_one_unreadable_image_does_not_end_a_batch(inspector: Inspector, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    some = [paths[0], tmp_path / "broken.png", b"nothing", None, paths[1]]
    results = list(inspector.inspect_many(some[:3] + some[4:], on_error="record"))
    assert [result.error is None for result in results] == [True, False, False, True]
    assert isinstance(results[1], FailedImage)
    assert results[1].path == tmp_path / "broken.png"
    assert not hasattr(results[1], "is_anomalous"), "there is no verdict to be misread"
    assert results[3].score == pytest.approx(inspector.inspect(paths[1]).score, rel=1e-4)
    with pytest.raises(ImageError, match=r"broken\.png"):
        list(inspector.inspect_many(some))
    for wrong in ({"on_error": "ignore"}, {"batch_size": 0}):
        with pytest.raises(SettingError):
            inspector.inspect_many(paths, **wrong)


# --- intensity --------------------------------------------------------------------------------------------------------


def deep(folder: Path, bits: int, n: int = 40) -> list[Path]:
    """Textures as a camera of so many bits writes them into 16-bit files."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(n):
        grey = texture(number, SIZE).mean(0).numpy()
        grey = 0.05 + 0.9 * (grey - grey.min()) / (grey.max() - grey.min())
        paths.append(folder / f"{number:02d}.png")
        Image.fromarray(np.round(grey * (2**bits - 1)).astype(np.uint16)).save(paths[-1])
    return paths


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_bits_of_the_camera_are_learned(tmp_path: Path, bits: int) -> None:
    paths = deep(tmp_path / "good", bits)
    found = unmask.fit(paths, **QUICK)
    intensity = found.reading.intensity
    assert (None if intensity is None else intensity.high) == (None if bits == 16 else 2**bits - 1)
    brightest = found.reading.decode(paths[0]).max()
    assert brightest == pytest.approx(0.95, abs=0.01), "not nearly black"
    found.save(tmp_path / "a.unmask")
    again = unmask.load(tmp_path / "a.unmask")
    assert again.reading == found.reading
    assert again.inspect(paths[0]).score == found.inspect(paths[0]).score


def test_a_value_above_the_learned_range_is_an_error(tmp_path: Path) -> None:
    found = unmask.fit(deep(tmp_path / "good", 12), **QUICK)
    with pytest.raises(ImageError, match=r"holds the value 4096, the good images had 4095 at the most"):
        found.inspect(np.full((SIZE, SIZE), 4096, np.uint16))
    assert found.inspect(np.full((SIZE, SIZE, 3), 200, np.uint8), refuse=False).score > 0, (
        "8-bit images keep their own range"
    )


def test_a_given_range_is_kept_and_clips(tmp_path: Path) -> None:
    found = unmask.fit(deep(tmp_path / "good", 12), intensity_range=(1000, 3000), **QUICK)
    pixels = np.full((SIZE, SIZE), 1000, np.uint16)
    pixels[0] = (3000, 4000, 0, 2000) * (SIZE // 4)
    image = found.reading.decode(pixels)
    assert image[0, 0, :4].tolist() == [1, 1, 0, 0.5]
    assert image[0, 1, 0] == 0
    assert found.reading.decode(np.full((4, 4), 2000.0)).max() == 0.5, "floats as well"


def test_the_learned_range_is_said_in_one_line(tmp_path: Path) -> None:
    deep(tmp_path / "good", 12)
    settings = [f"--set={key}={value}" for key, value in PATCHCORE.items()]
    options = ["--detector", "patchcore", *settings, "--false-alarm-rate", 0.2]
    done = run_python("-m", "unmask", "fit", tmp_path / "good", "-o", tmp_path / "a.unmask", *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("values up to 4095") == 1
    fit = ["-m", "unmask", "fit", tmp_path / "good", "-o", tmp_path / "a.unmask"]
    done = run_python(*fit, *options, "--intensity-range", "0;5")
    assert done.returncode == 2
    assert "LOW,HIGH" in done.stderr


def test_images_that_show_nothing_are_refused(paths: list[Path]) -> None:
    with pytest.raises(ImageError, match="no good image shows anything"):
        unmask.fit(paths, intensity_range=(10_000, 20_000), **QUICK)


def test_a_region_may_be_four_numbers(paths: list[Path]) -> None:
    assert unmask.fit(paths, region=(8, 8, 40, 40), **QUICK).tiling.box == (8, 8, 40, 40)


def test_a_folder_is_inspected_and_evaluated_by_its_path(
    inspector: Inspector, paths: list[Path], tmp_path: Path
) -> None:
    results = list(inspector.inspect_many(str(paths[0].parent)))
    assert [result.path for result in results] == paths
    with pytest.raises(ImageError, match="is a folder; judge its images with inspect_many"):
        inspector.inspect(paths[0].parent)
    assert unmask.evaluate(inspector, write_dataset(tmp_path / "weave", 4))["n_test"] == 6


def test_about_a_fifth_of_nameless_images_is_held_out(paths: list[Path]) -> None:
    grey = [np.asarray(Image.open(path))[..., channel] for path in paths for channel in range(3)]
    for images in (grey[0::3], grey[1::3], [one / 255 for one in grey[2::3]]):
        assert unmask.fit(images, calibrate="split", **QUICK).facts["n_held_out"] == 8


# --- a detector of one's own ------------------------------------------------------------------------------------------


class MeanImage(Detector):
    """The mean of the good images, and how far off each pixel of a new one is."""

    name = "mean image"
    paper = "none"

    def __init__(self, *, image_size: int = SIZE, power: float = 1.0) -> None:
        super().__init__()
        self.image_size, self.power = image_size, power
        self.register_buffer("mean", torch.zeros(3, image_size, image_size))

    def fit(self, images: Any, training: Training | None = None) -> None:
        self.mean = torch.stack([images[i] for i in range(len(images))]).mean(0)

    def predict(self, images: Tensor) -> Prediction:
        maps = (images - self.mean).abs().mean(1) ** self.power
        return Prediction(maps, maps.amax((1, 2)))


@pytest.fixture
def own(paths: list[Path], tmp_path: Path) -> Iterator[Path]:
    unmask.fit(paths, detector=MeanImage(power=2.0), false_alarm_rate=0.2).save(tmp_path / "own.unmask")
    return tmp_path / "own.unmask"


def test_a_detector_of_one_s_own_is_saved_and_loaded_by_its_class(own: Path, paths: list[Path]) -> None:
    loaded = unmask.load(own, detector=MeanImage)
    assert isinstance(loaded.detector, MeanImage)
    assert loaded.detector.power == 2.0
    assert loaded.inspect(as_picture(planted(texture(700)))).is_anomalous
    with pytest.raises(ModelFileError, match=r"was made by the class test_interface:MeanImage; pass it"):
        unmask.load(own)
    with pytest.raises(ModelFileError, match="PatchCore"):
        unmask.load(own, detector=PatchCore)


def test_a_class_is_refused_where_unmask_has_its_own(inspector: Inspector, tmp_path: Path) -> None:
    inspector.save(tmp_path / "a.unmask")
    with pytest.raises(SettingError, match="leave detector= out"):
        unmask.load(tmp_path / "a.unmask", detector=MeanImage)


def test_textures_are_a_data_set_too() -> None:
    assert unmask.fit(Textures(40), **QUICK).facts["n_normal"] > 20
