"""Images that are nothing like the good ones are refused with the reason; good ones and defects never are."""

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import unmask
from tiny import PATCHCORE, Run, as_picture, planted, texture, write_dataset, write_textures
from unmask.errors import ImageError
from unmask.imaging.disturbances import TAUGHT, drawn
from unmask.imaging.measures import view_of
from unmask.inspection.inspector import Inspector
from unmask.inspection.usual import AMOUNTS, MOST_COPIED, Usual, copied_at, disturbed_textures
from unmask.types import AnomalyResult, FailedImage

SIDE = 64


def array(image: np.ndarray) -> np.ndarray:
    return np.asarray(as_picture(torch.from_numpy(np.array(image, np.float32))))


def cut_off(value: float) -> np.ndarray:
    image = texture(700).numpy().copy()
    image[:, 32:] = value
    return array(image)


def stripes() -> np.ndarray:
    """Another product: coarse, bright, coloured bars."""
    y, x = np.mgrid[:SIDE, :SIDE]
    bars = ((x + y) // 16 % 2).astype(np.float32)
    return array(np.stack([bars, 0.2 * bars, 1 - bars]))


NOTHING_LIKE = {
    "black": (array(np.zeros((3, SIDE, SIDE))), "all black"),
    "white": (array(np.ones((3, SIDE, SIDE))), "all white"),
    "grey": (array(np.full((3, SIDE, SIDE), 0.5)), "all of one colour"),
    "lens cap": (
        array(np.clip(0.02 + 0.005 * np.random.default_rng(0).standard_normal((3, SIDE, SIDE)), 0, 1)),
        "all black",
    ),
    "half grey": (cut_off(0.5), "its lower 50 % are of one colour"),
    "half black": (cut_off(0.0), "its lower 50 % are of one colour"),
    "another product": (stripes(), "nothing like the good images"),
}


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    paths = write_textures(tmp_path_factory.mktemp("good"), 40)
    return unmask.fit(paths, detector="patchcore", settings=PATCHCORE, false_alarm_rate=0.2)


@pytest.fixture(scope="module")
def model(inspector: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "weave.unmask"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inspector.save(path)
    return path


@pytest.mark.parametrize("kind", NOTHING_LIKE)
def test_what_is_nothing_like_the_good_images_is_not_judged(inspector: Inspector, kind: str) -> None:
    image, reason = NOTHING_LIKE[kind]
    (found,) = inspector.inspect_many([image], on_error="record")
    assert isinstance(found, FailedImage)
    assert found.not_judged is not None
    assert reason in found.not_judged
    assert found.to_dict()["not_judged"] == found.not_judged
    assert found.to_dict()["is_anomalous"] is None
    with pytest.raises(ImageError, match=f"not judged: .*{reason}.*refuse=False") as caught:
        inspector.inspect(image)
    assert caught.value.not_judged == found.not_judged
    assert "\n" not in str(caught.value)
    assert copy.copy(caught.value).not_judged == found.not_judged


@pytest.mark.parametrize("kind", NOTHING_LIKE)
def test_it_can_be_judged_all_the_same(inspector: Inspector, kind: str) -> None:
    image, reason = NOTHING_LIKE[kind]
    found = inspector.inspect(image, refuse=False)
    assert isinstance(found, AnomalyResult)
    assert reason in str(found.not_judged)
    assert found.to_dict()["not_judged"] == found.not_judged


def test_good_images_and_defects_are_judged(inspector: Inspector) -> None:
    images = [array(texture(seed).numpy()) for seed in range(300, 330)]
    images += [array(planted(texture(seed), side=24).numpy()) for seed in range(400, 410)]
    results = list(inspector.inspect_many(images))
    assert all(one.not_judged is None for one in results)
    assert all(one.is_anomalous for one in results[30:])


@pytest.mark.parametrize("kind", TAUGHT)
def test_disturbed_good_images_and_defects_are_judged(inspector: Inspector, kind: str) -> None:
    amount = 0.06 if kind == "color" else AMOUNTS[kind]
    images = [texture(seed).numpy() for seed in range(300, 310)]
    images += [planted(texture(seed)).numpy() for seed in range(400, 404)]
    disturbed = [array(drawn(one, kind, amount, np.random.default_rng(i))) for i, one in enumerate(images)]
    assert {one.not_judged for one in inspector.inspect_many(disturbed)} == {None}


def test_a_score_below_the_threshold_is_never_strange(inspector: Inspector) -> None:
    """Whatever a picture looks like, one that the detector finds good is judged."""
    assert inspector.usual is not None
    view = view_of(stripes().astype(np.float32).transpose(2, 0, 1) / 255)
    calm = np.full((SIDE, SIDE), 10 * inspector.calibration.pixel_threshold, np.float32)
    threshold = inspector.calibration.threshold
    assert inspector.usual.strangeness(view, threshold, calm, inspector.calibration) == 0
    assert inspector.usual.strangeness(view, threshold + 1, calm, inspector.calibration) > 4


def test_only_a_map_without_a_calm_tenth_is_strange(inspector: Inspector) -> None:
    assert inspector.usual is not None
    view = view_of(stripes().astype(np.float32).transpose(2, 0, 1) / 255)
    half = np.full((SIDE, SIDE), 10 * inspector.calibration.pixel_threshold, np.float32)
    half[:16] = inspector.calibration.map_low
    threshold = inspector.calibration.threshold
    assert inspector.usual.strangeness(view, threshold + 1, half, inspector.calibration) == 0


def test_what_is_usual_survives_the_file(inspector: Inspector, model: Path) -> None:
    kept = unmask.load(model).usual
    assert kept is not None
    assert inspector.usual is not None
    assert kept.measures == inspector.usual.measures
    assert kept.distance(view_of(texture(0).numpy()).texture) == pytest.approx(
        inspector.usual.distance(view_of(texture(0).numpy()).texture), rel=0.02
    )


def test_copies_are_made_of_a_few_evenly_spread_images() -> None:
    for total in (1, 10, 24, 30, 500):
        chosen = [number for number in range(total) if copied_at(number, total) is not None]
        assert len(chosen) == min(total, MOST_COPIED)
    assert disturbed_textures(texture(0).numpy(), 3).shape == (len(AMOUNTS), 18)
    assert set(AMOUNTS) == set(TAUGHT)


def test_good_images_with_a_constant_ground_are_not_cut_off() -> None:
    images = [texture(seed).numpy().copy() for seed in range(10)]
    for image in images:
        image[:, 32:] = 1.0
    usual = Usual.of([view_of(image) for image in images], [])
    assert usual.emptiness(view_of(images[0])) is None


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    write_textures(folder, 3, first=900)
    as_picture(torch.zeros(3, SIDE, SIDE)).save(folder / "black.png")
    return folder


def test_inspect_gives_no_verdict_on_it(run: Run, model: Path, mixed: Path, tmp_path: Path) -> None:
    said = run("inspect", model, mixed, "--report", tmp_path / "report")
    assert said.code == 3
    assert f"NOT JUDGED {mixed / 'black.png'}: it is all black and shows nothing\n" in said.out
    assert "1 not judged" in said.out
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "it is all black and shows nothing" in page
    rows = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))["results"]
    assert [row["not_judged"] is None for row in sorted(rows, key=lambda row: row["name"])] == [True, True, True, False]
    printed = [json.loads(line) for line in run("inspect", model, mixed, "--json").out.splitlines()]
    assert [one["not_judged"] for one in printed if one["not_judged"]] == ["it is all black and shows nothing"]


def test_no_refuse_judges_it(run: Run, model: Path, mixed: Path, tmp_path: Path) -> None:
    said = run("inspect", model, mixed, "--no-refuse", "--report", tmp_path / "report")
    assert said.code == 0
    assert "NOT JUDGED" not in said.out
    assert "Judged all the same: it is all black" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_strict_stops_at_it(run: Run, model: Path, mixed: Path) -> None:
    said = run("inspect", model, mixed, "--strict")
    assert said.code == 2
    assert "black.png: not judged: it is all black" in said.err


@pytest.mark.filterwarnings("ignore:1 of 7 images")
def test_evaluation_scores_it_as_it_is_and_counts_it(inspector: Inspector, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", masks=False)
    as_picture(torch.zeros(3, SIDE, SIDE)).save(root / "test" / "bright" / "black.png")
    found = unmask.evaluate(inspector, root)
    assert found["n_not_judged"] == 1
    assert found["n_test"] == 7


def test_info_counts_the_measures(run: Run, model: Path) -> None:
    assert "usual              13 measures of the good images" in run("info", model).out
