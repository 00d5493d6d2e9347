"""The sensitivity card, by detectors that find what they are told to: it says exactly that, in the same words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unmask
from tiny import FUSE, Run, texture, write_textures
from unmask.imaging.options import ImageOptions
from unmask.imaging.planted import DARK, MOVED, SCRATCH
from unmask.imaging.tiling import Tiling
from unmask.inspection.calibration import Calibration
from unmask.inspection.planting import view_of
from unmask.inspection.scoring import Reading
from unmask.inspection.sensitivity import FAINT, MOST_PLACES, N_SIZES, PREDICTIONS, STEP, STRONG, card, sizes_of
from unmask.inspection.sensitivity_text import introduction, lines, remarks, sentences, table
from unmask.training.trainer import Training
from unmask.types import ArrayPrediction

SIZE = 128
CALIBRATION = Calibration(threshold=100.0, pixel_threshold=0.5, false_alarm_rate=0.05, n_held_out=20, map_low=0.0)


class AreaDetector:
    """Scores a square by how many of its pixels are off the grey of good images by more than 0.1."""

    def __init__(self, delay: float = 0.0) -> None:
        self.predictions = 0

    def __call__(self, squares: np.ndarray) -> ArrayPrediction:
        self.predictions += len(squares)
        maps = (np.abs(squares - 0.5).max(axis=1) > 0.1).astype(np.float32)
        return ArrayPrediction(maps, maps.sum((1, 2)))


def constant(score: float) -> Any:
    def predict(squares: np.ndarray) -> ArrayPrediction:
        is_good = np.abs(squares - 0.5).max(axis=(1, 2, 3)) < 0.01
        return ArrayPrediction(np.zeros((len(squares), SIZE, SIZE), np.float32), np.where(is_good, 0.0, score))

    return predict


def flat(n: int = 12, h: int = SIZE, w: int = SIZE) -> list[np.ndarray]:
    return [np.full((h, w, 3), 0.5, np.float32) for _ in range(n)]


def made(predict: Any, images: Any = None, reading: Reading | None = None, seed: int = 0, **options: Any) -> Any:
    return card(
        predict, reading or Reading(Tiling(SIZE)), images or flat(), CALIBRATION, Training(seed=seed), **options
    )


def row_of(found: dict[str, Any], kind: str, contrast: float | None) -> dict[str, Any]:
    (row,) = [row for row in found["rows"] if (row["kind"], row["contrast"]) == (kind, contrast)]
    return row


def test_a_detector_of_areas_is_told_by_the_diameter_from_which_it_finds() -> None:
    """100 pixels are a disc of 11.3; the sizes tried around it are 10.7 and 18.2 pixels."""
    detector = AreaDetector()
    found = made(detector)
    row = row_of(found, "dark spots", STRONG)
    assert row["sizes"] == pytest.approx([1.28, 2.18, 3.70, 6.29, 10.7, 18.2, 30.9], rel=0.01)
    assert row["found"] == [0, 0, 0, 0, 0, 1, 1]
    assert row["marked"] == 1.0
    assert "finds 90 % of strong dark spots from 18 px (14 % of the shorter side)" in sentences(found)
    assert "does not find faint dark spots up to 31 px" in sentences(found)
    assert detector.predictions <= 10 + PREDICTIONS * MOST_PLACES


def test_what_finds_everything_and_nothing_is_told() -> None:
    everything, nothing = made(constant(1e6)), made(constant(0.0))
    assert all(set(row["found"]) == {1.0} for row in everything["rows"] if row["contrast"])
    assert (
        "finds 90 % of faint scratches from 2.6 px (2 % of the shorter side, the smallest that was tried)"
        in sentences(everything)
    )
    assert all(set(row["found"]) == {0.0} and row["marked"] is None for row in nothing["rows"])
    assert all(sentence.startswith("does not find") for sentence in sentences(nothing))
    assert {line.half for line in table(nothing)} >= {"not up to 31 px", "not up to 37 px", "not up to 62 px"}
    assert all(row["marked"] == 0.0 for row in everything["rows"] if row["contrast"]), "its maps mark nothing"


def test_sizes_are_pixels_of_the_photograph_and_planted_at_its_size() -> None:
    found = made(AreaDetector(), flat(h=2 * SIZE, w=2 * SIZE))
    row = row_of(found, "dark spots", STRONG)
    assert found["side"] == 2 * SIZE
    assert row["sizes"][5] == pytest.approx(36.4, rel=0.01)
    assert row["found"] == [0, 0, 0, 0, 0, 1, 1]


def test_a_card_depends_on_the_seed_and_on_contents_but_not_on_their_order() -> None:
    images = [np.asarray(texture(number, SIZE)).transpose(1, 2, 0) for number in range(20)]

    def sees_more_on_the_right(squares: np.ndarray) -> ArrayPrediction:
        maps = np.abs(squares - 0.5).max(axis=1) * np.linspace(0, 1, SIZE, dtype=np.float32)
        return ArrayPrediction(maps, 420 * maps.max((1, 2)))

    first, again = made(sees_more_on_the_right, images), made(sees_more_on_the_right, images)
    turned = made(sees_more_on_the_right, images[::-1])
    other = made(sees_more_on_the_right, images, seed=1)
    assert first == again == turned
    assert first != other
    assert json.loads(json.dumps(first)) == first


def test_images_that_are_flagged_as_they_are_tell_nothing() -> None:
    images = flat(4)
    images[2] = np.zeros((SIZE, SIZE, 3), np.float32)
    found = made(AreaDetector(), images)
    assert (found["n_images"], found["n_places"]) == (3, MOST_PLACES)
    assert row_of(found, "dark spots", STRONG)["found"][0] == 0
    assert made(AreaDetector(), images[2:3]) is None


def test_a_slow_detector_is_tried_at_fewer_places_and_that_is_told() -> None:
    found = made(AreaDetector(), seconds=0.0)
    assert (found["n_images"], found["n_places"]) == (4, 4)
    assert "4 good images (4 places for each kind and contrast)" in introduction(found)


def test_progress_ends_with_all_steps() -> None:
    calls: list[tuple[str, int, int]] = []
    run = Training(progress=lambda stage, done, total, left: calls.append((stage, done, total)))
    card(AreaDetector(), Reading(Tiling(SIZE)), flat(), CALIBRATION, run)
    assert {stage for stage, _, _ in calls} == {"sensitivity"}
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert calls[-1][1] == calls[-1][2]


@pytest.mark.parametrize(
    ("tiling", "side"),
    [
        (Tiling(SIZE, tile=64), 64),
        (Tiling(SIZE, tile=400), 400),
        (Tiling(SIZE, "crop"), 200),
        (Tiling(SIZE, "fit"), 200),
        (Tiling(SIZE, box=(10, 20, 110, 180)), 100),
    ],
)
def test_marks_lie_in_what_the_network_sees(tiling: Tiling, side: int) -> None:
    image = np.random.default_rng(0).uniform(0, 1, (200, 300, 3)).astype(np.float32)
    view = view_of(Reading(tiling), image, np.random.default_rng(0))
    assert view.side == pytest.approx(side, rel=0.02)
    assert view.photograph == 200
    assert view.square().shape == (3, SIZE, SIZE)
    found = made(constant(1e6), [np.full((200, 300, 3), 0.5, np.float32)], Reading(tiling))
    assert row_of(found, "dark spots", STRONG)["sizes"][-1] == pytest.approx(side * 0.2414, rel=0.02)


def test_marks_lie_in_the_region_of_interest(tmp_path: Path) -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[40:90, 40:90] = 255
    mask[60:70, 60:70] = 0
    Image.fromarray(mask).save(tmp_path / "region.png")
    from unmask.imaging.region import region_of

    view = view_of(
        Reading(Tiling(SIZE, **region_of(str(tmp_path / "region.png"))), ImageOptions()),
        np.full((100, 100, 3), 0.25, np.float32),
        np.random.default_rng(0),
    )
    shown = view.picture[0]
    assert (shown[view.on] == 0.25).all(), "not where the mask leaves the picture out, which is grey"
    assert view.on.any()


def test_a_threshold_that_has_moved_is_told() -> None:
    found = made(AreaDetector())
    assert not any("made at a threshold" in line for line in remarks(found, 101.0))
    assert any("made at a threshold of 100; it is 150 now" in line for line in remarks(found, 150.0))


def test_words_for_each_outcome() -> None:
    row = {"kind": "dark spots", "contrast": STRONG, "sizes": [2.6, 10.5, 43.0], "marked": 0.5}
    found = {
        "n_images": 1,
        "n_places": 10,
        "side": 100,
        "threshold": 1.0,
        "rows": [
            {**row, "found": [0.0, 0.5, 0.9]},
            {**row, "found": [0.1, 0.5, 0.8]},
            {**row, "found": [0.0, 0.1, 0.3], "contrast": FAINT},
            {**row, "found": [0.0, 0.0, 0.0], "kind": "moved pieces", "contrast": None, "marked": None},
        ],
    }
    assert sentences(found) == [
        "finds 90 % of strong dark spots from 43 px (43 % of the shorter side), half of them from 10 px",
        "finds half of strong dark spots from 10 px (10 % of the shorter side), and less than 90 % up to 43 px",
        "finds only 30 % of faint dark spots of 43 px, the largest that were tried",
        "does not find moved pieces up to 43 px",
    ]
    assert "1 good image (" in introduction(found)
    assert any("the map marks the place of 50 %" in line for line in lines(found, 1.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sensitivity")
    write_textures(folder / "good", 40)
    inspector = unmask.fit(folder / "good", settings=FUSE, false_alarm_rate=0.2)
    assert inspector.facts["sensitivity"]["n_places"] == MOST_PLACES
    inspector.save(folder / "weave.unmask")
    return folder / "weave.unmask"


def test_a_fit_makes_a_card_that_info_prints(model: Path, run: Run) -> None:
    done = run("info", model)
    assert done.code == 0
    assert "an estimate, from marks planted on" in done.out
    assert "real defects differ" in done.out
    assert sum("strong dark spots" in line for line in done.out.splitlines()) == 1


def test_the_report_shows_the_card(model: Path, run: Run) -> None:
    done = run("inspect", model, model.parent / "good", "--report", model.parent / "report")
    assert done.code == 0
    page = (model.parent / "report" / "index.html").read_text(encoding="utf-8")
    assert "What it would find" in page
    assert "This is an estimate, from marks planted on" in page
    assert page.count("strong dark spots") == 1, "once, and not among the facts as well"
    results = json.loads((model.parent / "report" / "results.json").read_text(encoding="utf-8"))
    assert len(results["model"]["sensitivity"]["rows"]) == 8


def test_the_card_survives_an_export(model: Path, run: Run) -> None:
    done = run("export", model)
    assert done.code == 0, done.err
    card_of_model = unmask.load(model, backend="torch").facts["sensitivity"]
    assert unmask.load(model.with_suffix(".onnx")).facts["sensitivity"] == card_of_model
    assert all(row["found"] == sorted(row["found"]) and len(row["found"]) == N_SIZES for row in card_of_model["rows"])


def test_models_of_older_versions_have_no_card(model: Path, tmp_path: Path) -> None:
    inspector = unmask.load(model, backend="torch")
    inspector.facts.pop("sensitivity")
    from unmask.report.page import write_report

    page = write_report(
        tmp_path / "report",
        inspector.inspect_many(sorted((model.parent / "good").iterdir())[:2]),
        title="old",
        calibration=inspector.calibration,
        model=inspector.facts,
    )
    assert "What it would find" not in page.read_text(encoding="utf-8")


def test_the_documentation_says_what_is_planted() -> None:
    text = " ".join((Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8").split())
    spots, scratches, pieces = ([f"{100 * sizes_of(kind)[n]:.2g}" for n in (0, -1)] for kind in (DARK, SCRATCH, MOVED))
    assert f"{N_SIZES} sizes from {' to '.join(spots)} % of the shorter side are tried" in text
    assert f"scratches from {' to '.join(scratches)} %, of pieces from {' to '.join(pieces)} %" in text
    assert f"each {STEP} times the one before, at {MOST_PLACES} places" in text
    assert f"at most {MOST_PLACES * (PREDICTIONS + 1)} predictions" in text
    assert (STRONG, FAINT) == (0.5, 0.2)
    assert "half of the way from what is there to black or white, faint ones a fifth" in text
