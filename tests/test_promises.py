"""Promises that cannot hold: nothing to learn from, bursts, no noise, images unlike those learned from."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unmask
from tiny import FRE, PATCHCORE, SIZE, texture, write_textures
from unmask.cli import app as command_line
from unmask.errors import CalibrationError, DatasetError, ImageError, UnmaskError
from unmask.imaging.noise import COPIES, with_noise
from unmask.imaging.properties import Properties, properties_of
from unmask.imaging.tiling import Tiling
from unmask.inspection.division import Given, divide
from unmask.inspection.guarantee import best_rate
from unmask.inspection.inspector import Inspector
from unmask.inspection.notes import lines_of
from unmask.inspection.scoring import Reading
from unmask.inspection.training_images import check_images
from unmask.training.trainer import Training
from unmask.types import Split

QUICK: dict[str, Any] = {"detector": "fre", "settings": FRE, "device": "cpu"}
PROMISED: dict[str, Any] = {**QUICK, "false_alarm_rate": 0.4}

READING = Reading(Tiling(SIZE))


def pixels(seed: int) -> np.ndarray:
    """A photograph of a woven cloth with stains of its own, (64, 64, 3) bytes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    stains = np.zeros((SIZE, SIZE))
    for _ in range(12):
        at, width = random.uniform(0, 1, 2), random.uniform(0.08, 0.2)
        stains += random.uniform(-0.15, 0.15) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / width**2)
    image = np.clip(texture(seed).numpy() + stains * np.array([1, 0.2, -0.5]).reshape(3, 1, 1), 0, 1)
    return np.rint(255 * image).astype(np.uint8).transpose(1, 2, 0)


def encoded(image: np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def fitted(images: Any, **options: Any) -> tuple[Inspector, list[str]]:
    """A fit and its warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = unmask.fit(images, **QUICK, **options)
    return found, [str(one.message) for one in said]


def refused(images: Any, kind: type[UnmaskError], **options: Any) -> str:
    with pytest.raises(kind) as caught:
        fitted(images, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= 300
    return line


# --- nothing to learn from --------------------------------------------------------------------------------------------


def hot(value: int) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), value, np.uint8)
    image[5, 7] = 255 - value
    return image


@pytest.mark.parametrize(
    "image",
    [np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE), 255, np.uint8), np.full((9, 9), 0.4), hot(0), hot(200)],
    ids=["black", "white", "one value", "a hot pixel", "a dead pixel"],
)
def test_images_that_show_nothing_are_refused(image: np.ndarray) -> None:
    large = image if len(image) < SIZE else np.kron(image, np.ones((4, 4) + (1,) * (image.ndim - 2), np.uint8))
    if len(image) == SIZE and image.std() > 0:
        large[:] = np.median(large)
        large[5, 7] = 255
    assert "no good image shows anything" in refused([large] * 30, ImageError)
    assert "no good image shows anything" in refused([large] * 20, ImageError, held_out=[large] * 20)


@pytest.mark.parametrize("n", [2, 3, 30])
def test_one_picture_is_refused_however_often_it_came(n: int) -> None:
    one = pixels(0)
    assert "show only one picture" in refused([one] * n, DatasetError)
    assert "show only one picture" in refused([one] * n, DatasetError, held_out=[one] * n)
    saved = [encoded(one, quality=quality) for quality in (85, 90, 95)] + [encoded(one, "PNG")]
    assert "show only one picture" in refused((saved * n)[: n + 2], DatasetError)


def test_images_that_are_too_dark_to_be_told_apart_are_refused_for_that() -> None:
    dark = [pixels(number) // 40 for number in range(20)]
    assert "too dark to be told apart" in refused(dark, ImageError)


def test_a_folder_of_copies_is_refused_for_what_it_is(tmp_path: Path) -> None:
    for value, kind, said in ((None, DatasetError, "show only one picture"), (0, ImageError, "no good image shows")):
        folder = tmp_path / str(value)
        folder.mkdir()
        for number in range(5):
            image = pixels(0) if value is None else np.zeros((SIZE, SIZE, 3), np.uint8)
            Image.fromarray(image).save(folder / f"{number}.png")
        assert said in refused(unmask.load_dataset(folder), kind)


def test_blank_images_among_good_ones_are_left_out_and_named(tmp_path: Path) -> None:
    paths = write_textures(tmp_path, 24)
    for name, value in (("lens_cap.png", 0), ("overexposed.png", 255)):
        Image.fromarray(np.full((SIZE, SIZE, 3), value, np.uint8)).save(tmp_path / name)
    with_blank, said = fitted([*paths, tmp_path / "lens_cap.png", tmp_path / "overexposed.png"])
    (line,) = [line for line in said if "show nothing" in line]
    assert "2 of 26" in line
    assert "lens_cap.png" in line
    assert "overexposed.png" in line
    plain, _ = fitted(paths)
    assert with_blank.calibration == plain.calibration, "they do not widen the threshold"
    assert with_blank.facts["n_normal"] == plain.facts["n_normal"]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_are_one_line(n: int) -> None:
    images = [pixels(seed) for seed in range(n)]
    if n == 1:
        assert "show only one picture" in refused(images, DatasetError)
        return
    with pytest.warns(UserWarning, match=f"the best that can be promised is {best_rate(n):g}") as said:
        found = unmask.fit(images, detector="patchcore", settings=PATCHCORE, device="cpu")
    assert len(said) == 1
    assert found.calibration.n_held_out == n
    assert found.calibration.false_alarm_rate == best_rate(n)


# --- dark, white, lossy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda image: image // 10, "the good images are dark: they use"),
        (lambda image: 230 + image // 12, "the good images are nearly white"),
        (lambda image: encoded(image, quality=20), r"24 of 24 good images were saved with much loss \(JPEG"),
        (lambda image: encoded(image, "WEBP", quality=40), r"24 of 24 good images were saved with much loss \(WebP\)"),
    ],
    ids=["dark", "white", "jpeg", "webp"],
)
def test_images_that_promise_little_are_warned_of(change: Any, said: str) -> None:
    images = [change(pixels(seed)) for seed in range(24)]
    with pytest.warns(UserWarning, match=said):
        unmask.fit(images, **PROMISED)


def test_usual_images_and_those_of_a_camera_of_10_bits_are_not_warned_of() -> None:
    for images in (
        [pixels(seed) for seed in range(24)],
        [encoded(pixels(seed), quality=90) for seed in range(24)],
        [pixels(seed)[..., 0].astype(np.uint16) * 4 for seed in range(24)],
    ):
        _, said = fitted(images)
        assert [line for line in said if "held-out" not in line] == []


# --- bursts -----------------------------------------------------------------------------------------------------------


def burst(seed: int, n: int = 5) -> list[np.ndarray]:
    """n frames of one scene, each with noise of its own."""
    frames = [pixels(seed)]
    for number in range(1, n):
        noise = np.random.default_rng([seed, number]).normal(0, 1, (SIZE, SIZE, 3))
        frames.append(np.clip(np.rint(frames[0] + noise), 0, 255).astype(np.uint8))
    return frames


def test_a_burst_counts_as_one_scene() -> None:
    found, said = fitted([frame for seed in range(12) for frame in burst(seed)], calibrate="split")
    assert (found.calibration.n_held_out, found.calibration.false_alarm_rate) == (2, best_rate(2))
    assert found.facts["n_normal"] == 50
    assert any("60 good images show 12 scenes" in line for line in said)
    assert {len(found.facts["images"][role]) for role in ("held_out", "left_out")} == {2, 8}


def test_a_burst_is_one_scene_where_every_image_is_learned_from() -> None:
    found, said = fitted([frame for seed in range(12) for frame in burst(seed)])
    assert (found.calibration.n_held_out, found.calibration.false_alarm_rate) == (12, best_rate(12))
    assert found.facts["n_normal"] == 60
    assert any("60 good images show 12 scenes" in line for line in said)


def test_a_scene_is_on_one_side_whatever_the_order() -> None:
    frames = [frame for seed in range(12) for frame in burst(seed)]
    held_out = []
    for seed in (None, 1, 2):
        order = np.arange(60) if seed is None else np.random.default_rng(seed).permutation(60)
        images = [frames[number] for number in order]
        checked = check_images(images, READING, Training())
        with pytest.warns(UserWarning, match="12 scenes"):
            parts = divide(images, checked, None, READING, 0.2, 0)
        held_out.append({int(order[number]) for number in parts.held_out})
        learned = {order[number] // 5 for number in parts.normals}
        assert not learned & {number // 5 for number in held_out[-1]}
    assert held_out[0] == held_out[1] == held_out[2]


def test_names_do_not_divide_bursts_but_authors_do(tmp_path: Path) -> None:
    frames = [frame for seed in range(12) for frame in burst(seed)]
    images = [*[f for n, f in enumerate(frames) if n % 5], *frames[::5]]  # one frame of each scene is held out
    checked = check_images(images, READING, Training())
    with pytest.warns(UserWarning, match="60 good images show 12 scenes"):
        parts = divide(images, checked, Given(range(48), range(48, 60), is_drawn=True), READING, 0.2, 0)
    assert parts.n_scenes == 2
    with pytest.warns(UserWarning, match="12 of 12 held-out images show nearly the same"):
        parts = divide(images, checked, Given(range(48), range(48, 60), is_drawn=False), READING, 0.2, 0)
    assert (parts.normals, parts.held_out) == (list(range(48)), list(range(48, 60)))
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number:03d}.png")
    split = unmask.load_dataset(tmp_path)
    assert isinstance(split, Split)
    assert split.is_drawn
    assert not unmask.load_dataset(tmp_path, groups=r"^\d").is_drawn


def test_held_out_bursts_count_once() -> None:
    learned = [pixels(seed) for seed in range(20)]
    held_out = [one for seed in range(30, 36) for one in burst(seed)]
    with pytest.warns(UserWarning, match="30 held-out images show 6 scenes"):
        found = unmask.fit(learned, held_out=held_out, **PROMISED)
    assert found.calibration.n_held_out == 6
    with pytest.warns(UserWarning, match="scenes"), pytest.raises(CalibrationError, match=r"at least 9 .* got 6"):
        unmask.fit(learned, held_out=held_out, **{**QUICK, "false_alarm_rate": 0.1})


# --- no noise ---------------------------------------------------------------------------------------------------------


def drawn(seed: int) -> np.ndarray:
    """A disc on a background of exactly one value."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.full((SIZE, SIZE, 3), 120, np.uint8)
    image[random.uniform(8, 12) > np.hypot(*(np.stack([y, x]).T - random.uniform(26, 38, 2)).T).T] = (190, 170, 150)
    return image


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    return (image.astype(int) + np.random.default_rng(seed).integers(-1, 2, image.shape)).astype(np.uint8)


@pytest.mark.filterwarnings("ignore:the parts in the good images lie up to")
@pytest.mark.parametrize(("detector", "settings"), [("fre", FRE), ("patchcore", PATCHCORE)])
def test_one_grey_level_of_noise_is_no_defect(detector: str, settings: dict[str, Any]) -> None:
    images = [drawn(seed) for seed in range(60)]
    with pytest.warns(UserWarning, match="areas without any noise"):
        found = unmask.fit(images, detector=detector, settings=settings, device="cpu", false_alarm_rate=0.1)
    new = [drawn(seed) for seed in range(1000, 1015)]
    for some in (new, [noisy(image, seed) for seed, image in enumerate(new)]):
        assert sum(result.is_anomalous for result in found.inspect_many(some)) <= 5
    bad = np.array(new[0])
    bad[4:20, 40:60] = 255
    assert found.inspect(bad).is_anomalous
    assert found.facts["noise_added"]


def test_photographs_are_learned_without_copies() -> None:
    found, said = fitted([pixels(seed) for seed in range(24)])
    assert not found.facts["noise_added"]
    assert not any("noise" in line for line in said)


@pytest.mark.parametrize("kind", range(COPIES))
def test_a_noisy_copy_is_near_its_image_and_comes_from_the_seed(kind: int) -> None:
    image = texture(0).numpy()
    copy = with_noise(image, kind, 3)
    assert (copy.shape, copy.dtype) == (image.shape, np.float32)
    assert 0 <= copy.min() <= copy.max() <= 1
    assert 0 < np.abs(copy - image).mean() < 6 / 255
    np.testing.assert_array_equal(copy, with_noise(image, kind, 3))


# --- unlike those learned from ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    found, _ = fitted([encoded(pixels(seed), "PNG") for seed in range(24)])
    return found


def grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: encoded(a, quality=60), "JPEG of quality about 60, the good images were PNG"),
        (lambda a: encoded(a, "WEBP", quality=80), "WEBP, the good images were PNG"),
        (lambda a: encoded(grey(a), "PNG"), "grey, the good images were in colour"),
        (lambda a: np.repeat(grey(a)[..., None], 3, axis=2), "grey, the good images were in colour"),
        (lambda a: Image.fromarray(a).resize((SIZE, SIZE // 2)), "64 x 32 pixels, the good images had 64 x 64"),
        (lambda a: Image.fromarray(a).resize((512, 512)), "another scale"),
        (lambda a: a.astype(np.uint16) * 257, "16 bit, the good images had 8 bit"),
        (lambda a: Image.open(io.BytesIO(encoded(a, quality=30))), "JPEG of quality about 30"),
    ],
    ids=["jpeg", "webp", "grey", "equal channels", "shape", "scale", "bits", "pillow"],
)
def test_what_differs_is_told(inspector: Inspector, change: Any, said: str) -> None:
    (note,) = inspector.inspect(change(pixels(99))).notes
    assert said in note
    assert len(note) < 200


@pytest.mark.parametrize(
    "change",
    [
        lambda a: encoded(a, "PNG"),
        lambda a: encoded(a, "BMP"),
        lambda a: encoded(a, "TIFF"),
        lambda a: encoded(a, "WEBP", lossless=True),
        lambda a: a,
        lambda a: a.astype(np.float32) / 255,
        lambda a: Image.fromarray(a).resize((SIZE + 3, SIZE)),
    ],
    ids=["png", "bmp", "tiff", "webp", "array", "floats", "nearly the size"],
)
def test_what_is_alike_is_not_told_of(inspector: Inspector, change: Any) -> None:
    assert inspector.inspect(change(pixels(99))).notes == ()


def test_the_quality_of_jpeg_may_differ_a_little() -> None:
    found, _ = fitted([encoded(pixels(seed), quality=75 + seed % 3) for seed in range(24)])
    for quality, told in ((75, 0), (66, 0), (40, 1), (99, 1)):
        assert len(found.inspect(encoded(pixels(50), quality=quality)).notes) == told


def test_sizes_that_varied_are_no_difference() -> None:
    images = [Image.fromarray(pixels(seed)).resize((64 + 4 * seed, 60 + 3 * seed)) for seed in range(24)]
    found, _ = fitted(images)
    assert found.inspect(Image.fromarray(pixels(50)).resize((100, 90))).notes == ()
    assert len(found.inspect(Image.fromarray(pixels(50)).resize((600, 500))).notes) == 1


def test_a_model_file_keeps_what_the_good_images_were(inspector: Inspector, tmp_path: Path) -> None:
    inspector.save(tmp_path / "a.unmask")
    again = unmask.load(tmp_path / "a.unmask")
    jpeg = encoded(pixels(99), quality=60)
    assert again.inspect(jpeg).notes == inspector.inspect(jpeg).notes != ()
    del again.facts["properties"]
    assert again.inspect(jpeg).notes == (), "a file of an older version says nothing"


def test_a_run_is_one_line_on_the_command_line_and_in_the_report(
    inspector: Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inspector.save(tmp_path / "a.unmask")
    (tmp_path / "new").mkdir()
    for seed in range(4):
        name = f"{seed}.png" if seed == 0 else f"{seed}.jpg"
        kind = {} if seed == 0 else {"quality": 57 + seed}
        Image.fromarray(pixels(seed)).save(tmp_path / "new" / name, **kind)
    arguments = ["unmask", "inspect", str(tmp_path / "a.unmask"), str(tmp_path / "new")]
    monkeypatch.setattr("sys.argv", [*arguments, "--report", str(tmp_path / "report")])
    with pytest.raises(SystemExit):
        command_line.main()
    line = "3 of 4 images: JPEG of quality about 60, the good images were PNG"
    assert capsys.readouterr().err.count(line) == 1
    record = json.loads((tmp_path / "report" / "results.json").read_text())
    assert [note[: len(line)] for note in record["notes"]] == [line]
    assert sorted(len(row["notes"]) for row in record["results"]) == [0, 1, 1, 1]
    assert line in (tmp_path / "report" / "index.html").read_text()


def test_only_the_commonest_notes_have_a_line() -> None:
    lines = lines_of({f"note {number}": number for number in range(1, 9)}, 40)
    assert lines[0] == "8 of 40 images: note 8"
    assert lines[-1] == "3 more kinds of notes, see the results"
    assert len(lines) == 6
    assert lines_of({}, 3) == []


def test_a_folder_called_the_parts_keeps_its_name_in_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("the parts")
    folder.mkdir()
    for number in range(8):
        Image.fromarray(pixels(number)).save(folder / f"{number}.jpg", quality=95)
    content = (folder / "3.jpg").read_bytes()
    (folder / "3.jpg").write_bytes(content[:-300] + bytes(200) + content[-100:])
    said = refused([folder / f"{number}.jpg" for number in range(8)], ImageError)
    assert "the parts/3.jpg: data of this JPEG is lost" in said


def test_properties_of_a_large_image_are_known_and_warn_of_nothing(tmp_path: Path) -> None:
    Image.new("L", (13_500, 13_500)).save(tmp_path / "large.png")
    assert properties_of(tmp_path / "large.png") == Properties("PNG", 100, 8, True)
