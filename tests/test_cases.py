"""Inputs as people really have them (../shared/cases): what each must give, and one line wherever a command refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny import TESTS, Finished, Run
from unmask import samples
from unmask.datasets import load, read_mask
from unmask.errors import ImageError
from unmask.imaging.images import decode
from unmask.imaging.options import ImageOptions
from unmask.types import Sample

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("default")]
CASES = TESTS.parents[1] / "shared" / "cases"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, drawn anew; `part` is the data set that some of them copy photographs from."""
    if not CASES.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have the cases beside the checkout, at {CASES}")
        pytest.skip("the cases (../shared/cases) are not on this machine")
    folder = tmp_path_factory.mktemp("cases")
    samples.render("part", folder / "part", seed=0)
    made = [sys.executable, CASES / "make_cases.py", folder, folder / "part"]
    subprocess.run(list(map(str, made)), check=True, capture_output=True)
    return folder


def refusal(said: Finished) -> str:
    """The one line of a refusal."""
    code, _, err = said
    lines = [line for line in err.splitlines() if line.startswith("unmask: ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert len(lines[0]) <= 300, lines[0]
    return lines[0]


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v4.bmp", "unused_alpha.png"])
def test_an_alpha_that_is_zero_everywhere_is_unused(cases: Path, name: str) -> None:
    np.testing.assert_array_equal(decode(cases / "alpha_zero" / name), decode(cases / "alpha_zero" / "wanted.png"))


def test_the_largest_page_is_the_image(cases: Path) -> None:
    assert decode(cases / "tiff_pages" / "thumb_first.tif").shape == (3, 256, 256)


@pytest.mark.parametrize(
    ("name", "words"),
    [("defect_on_page_2.tif", ("2 pictures", "--page")), ("eight_bands_16bit.tif", ("8 bands", "--bands"))],
)
def test_what_holds_more_than_one_picture_is_refused_with_the_option_that_helps(
    cases: Path, name: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ImageError) as caught:
        decode(cases / "tiff_pages" / name)
    assert all(word in str(caught.value) for word in words), caught.value


def test_packed_values_are_a_ramp_of_full_scale(cases: Path) -> None:
    ramp = decode(cases / "packed_tiff" / "gray12_packed.tif")
    assert ramp.min() == 0
    assert ramp.max() == 1
    steps = np.unique(ramp)
    assert np.diff(steps).max() < 0.1


def test_a_large_image_is_refused_with_the_option_and_read_with_it(cases: Path) -> None:
    large = cases / "over_100_megapixels" / "large.jpg"
    with pytest.raises(ImageError, match="--max-pixels"):
        decode(large)
    assert decode(large, ImageOptions(max_pixels=200_000_000)).shape == (3, 10240, 10240)


@pytest.mark.parametrize("bits", [10, 12])
def test_camera_values_of_few_bits_measure_as_those_of_16(cases: Path, run: Run, tmp_path: Path, bits: int) -> None:
    whole = tmp_path / "camera_16_bit"
    shutil.copytree(cases / f"camera_{bits}_bit", whole)
    for path in whole.rglob("*.png"):
        if "ground_truth" not in path.parts:
            grey = np.asarray(Image.open(cases / "part" / path.relative_to(whole)).convert("L")).astype(np.uint16)
            Image.fromarray(grey * 257).save(path)

    def measured(dataset: Path) -> float:
        model, out = tmp_path / f"{dataset.name}.unmask", tmp_path / f"{dataset.name}-report"
        quick = ("--tolerate", "none", "--set", "image_size=128")
        assert run("fit", dataset, "-o", model, "--detector", "patchcore", *quick)[0] == 0
        assert run("evaluate", model, dataset, "-o", out)[0] == 0
        return float(json.loads((out / "metrics.json").read_text())["image_auroc"])

    assert abs(measured(cases / f"camera_{bits}_bit") - measured(whole)) <= 0.01


# --- ground truth -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shape_in_alpha.png", "palette_white_first.png", "lossy.webp", "antialiased.png"])
def test_a_mask_marks_its_400_pixels(cases: Path, name: str) -> None:
    mask = read_mask(Sample(cases / "photograph.png", True, "scratch", (cases / "masks" / name,)), 256, 256)
    assert abs(int(mask.sum()) - 400) <= 4


def test_masks_turn_with_their_photographs(cases: Path) -> None:
    (bad,) = [sample for sample in load(cases / "turned_by_exif").test if sample.anomalous]
    image = decode(bad.path)
    white = image.min(axis=0) > 0.99
    np.testing.assert_array_equal(read_mask(bad, *white.shape), white)


@pytest.mark.parametrize("name", ["pass_fail", "false_true", "floats"])
def test_labels_in_words_and_numbers(cases: Path, name: str) -> None:
    split = load(cases / "csv" / f"{name}.csv")
    assert [sample.anomalous for sample in split.test] == [False] * 4 + [True] * 4


def test_a_contradiction_is_refused(cases: Path, run: Run) -> None:
    assert "contradiction.csv" in refusal(run("data", cases / "csv" / "contradiction.csv"))


# --- promises ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["identical", "black"])
def test_images_without_variation_are_refused(cases: Path, run: Run, tmp_path: Path, name: str) -> None:
    refusal(run("fit", cases / name, "-o", tmp_path / "model.unmask"))
    assert list(tmp_path.iterdir()) == []


def test_copies_in_bursts_count_once_and_the_promise_is_that_of_twelve(cases: Path, run: Run, tmp_path: Path) -> None:
    small = ("--set", "image_size=64", "--tolerate", "none")
    code, _, err = run("fit", cases / "bursts", "-o", tmp_path / "model.unmask", *small)
    assert code == 0, err
    assert "48 of 60 good images are copies" in err
    _, out, _ = run("info", tmp_path / "model.unmask")
    counts = {line.split()[0]: int(line.split()[1]) for line in out.splitlines() if line.startswith("n_")}
    assert counts["n_normal"] + counts["n_held_out"] == 12
    assert "can be promised is 0.077" in err, "every one of the twelve calibrates"


# --- left out ---------------------------------------------------------------------------------------------------------


def test_every_photograph_is_used_or_told(cases: Path, run: Run) -> None:
    code, out, _ = run("data", cases / "left_out", "--json")
    assert code == 0
    counts = json.loads(out)
    used = counts["normals"] + counts["held_out"] + counts["test_good"] + sum(counts["test_anomalous"].values())
    assert used == 45
    assert counts["files"] == {"seen": 45, "used": 45, "skipped": {}}


# --- every command, every case ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "part.unmask"
    words = ["fit", cases / "part", "-o", path, "--detector", "fre", "--set", "image_size=64"]
    subprocess.run([sys.executable, "-m", "unmask", *map(str, words)], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("command", ["fit", "inspect", "evaluate", "bench", "export", "data"])
def test_no_case_ends_a_command_in_a_traceback(
    cases: Path, model: Path, run: Run, tmp_path: Path, command: str
) -> None:
    inputs = [path for path in sorted(cases.iterdir()) if path.name not in ("part", "bursts", "camera_10_bit")]
    folders = len(inputs)
    inputs += sorted(path for path in cases.glob("*/*") if path.is_file() and path.parent.name not in ("bursts",))[::9]
    for number, path in enumerate(inputs[:folders:3] if command == "export" else inputs):  # each export takes seconds
        out = tmp_path / str(number)
        small = ("--set", "image_size=64", "--tolerate", "none")
        words: dict[str, tuple[object, ...]] = {
            "fit": ("fit", path, "-o", f"{out}.unmask", "--detector", "fre", *small),
            "inspect": ("inspect", model, path, "--report", out),
            "evaluate": ("evaluate", model, path, "-o", out),
            "bench": ("bench", path, "--detectors", "fre", "--seeds", "1", "--no-pictures", "-o", out, *small),
            "export": ("export", model, "--images", path, "-o", f"{out}.onnx"),
            "data": ("data", path),
        }
        said = run(*words[command])
        assert said[0] in (0, 1, 2, 3), (path, said)
        assert "Traceback" not in said[2], (path, said)
        if said[0] == 2:
            assert len(refusal(said)) > len("unmask: "), (path, said)
