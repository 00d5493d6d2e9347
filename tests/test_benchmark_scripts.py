"""The scripts in benchmarks/ run on the detectors as they are: tiny ones, so that a renamed part is noticed."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tiny import FEATURES, FUSE, PIXELS, SIZE, SSM_FEATURES, SSM_PIXELS, write_dataset
from unmask.datasets import load
from unmask.detectors import build, find
from unmask.detectors.isstad import ISSTAD
from unmask.features.maps import CachedImages, CachedMaps
from unmask.training.trainer import Training

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def weave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set") / "weave", 12)


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.mark.parametrize(
    ("preset", "settings", "scores"),
    [("fast", SSM_FEATURES, {"features"}), ("light", {**SSM_PIXELS, "backbone": "tiny"}, {"features"})],
)
def test_refinement_is_measured_for_every_number_of_passes(
    preset: str, settings: dict[str, object], scores: set[str], weave: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import refinement

    given = {name: value for name, value in settings.items() if name not in ("score", "peak")}
    monkeypatch.setattr(refinement, "PIXEL_SCORES", ("features",))  # the others refuse a backbone
    rows = refinement.measured(weave, preset, given, 0, 6)
    assert {(row["score"], row["passes"]) for row in rows} == {(score, t) for score in scores for t in (1, 2, 3)}
    assert all(0 <= row["image_auroc"] <= 1 and 0 <= row["covered_good"] <= 1 for row in rows)
    assert {row["n_test"] for row in rows} == {6}


@pytest.mark.filterwarnings("ignore:no pre-trained weights were given")
@pytest.mark.parametrize("settings", [FEATURES, {**PIXELS, "versions": 2}])
def test_steps_on_cached_features_are_timed(settings: dict[str, object], weave: Path) -> None:
    import feature_cache

    found = feature_cache.measure(ISSTAD(**settings), load(weave).normals, steps=1)
    assert found["encoded_again_s"] >= 0
    assert set(found) == {"kept_s", "encoded_again_s", "ratio"}


def test_a_draw_is_calibrated_in_two_ways_on_maps_that_were_made_once(weave: Path) -> None:
    import kept_rate

    detector = build(find("fuse"), "fast", {"backbone": "tiny", "image_size": SIZE})
    good = kept_rate.encoded(detector, weave)
    assert (good.n_pool, len(good.images)) == (12, 15), "all good images, those of the test part last"
    split, cross = kept_rate.drawn(detector, good, 10, 0)
    assert [(row["calibration"], row["n_scores"], row["promised"]) for row in (split, cross)] == [
        ("split", 2, 0.334),
        ("cross", 10, 0.091),
    ]
    for row in (split, cross):
        assert row["n_good"] == 10
        assert all(0 <= rate <= 1 for rate in (*row["kept"], *row["kept_rest"]))
        assert len(row["kept"]) == len(row["kept_rest"]) == 1
    assert kept_rate.drawn(detector, good, 10, 0) == [split, cross], "a seed draws the same"
    files = good.images.images
    scores = detector.predict(torch.stack([files[i] for i in (3, 14)])).scores
    assert kept_rate.scores_of(detector, good.images.cached.subset(torch.tensor([3, 14]))) == pytest.approx(
        scores.numpy(), abs=2e-2
    ), "as through the network, but for half precision"
    joined = kept_rate._joined(split, {**split, "kept": [0.5]})
    assert joined["kept"] == [*split["kept"], 0.5]


class Rows(CachedMaps):
    """Numbers of images in place of their maps."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def subset(self, rows: Tensor) -> "Rows":
        return Rows(self.rows[rows])

    def maps_of(self, rows: Tensor) -> list[Tensor]:
        return [self.rows[rows]]


class Rote:
    """Knows what it has learned: such images score 10, test images (from 30 on) 5, and other good images 1."""

    def __init__(self) -> None:
        self.maps = SimpleNamespace(forward=None)
        self.learned: list[list[int]] = []

    def fit(self, images: CachedImages, training: Training) -> None:
        self.learned.append(images.cached.rows.tolist())

    def predict(self, images: Tensor) -> SimpleNamespace:
        (rows,) = self.maps.forward(images)
        seen = [10.0 if row in self.learned[-1] else 5.0 if row >= 30 else 1.0 for row in rows.tolist()]
        return SimpleNamespace(scores=torch.tensor(seen))


def test_no_image_is_scored_by_a_fit_that_has_learned_it() -> None:
    import kept_rate

    detector = Rote()
    good = kept_rate.Good(kept_rate.Encoded([], Rows(torch.arange(40))), 30)
    rows = kept_rate.drawn(detector, good, 20, 3)
    assert [row["kept"] for row in rows] == [[1.0], [1.0]], "the threshold is that of images that were not learned"
    assert [row["kept_rest"] for row in rows] == [[0.0], [0.0]], "other good images are none that were drawn"
    assert [len(one) for one in detector.learned] == [16] * 5 + [20]
    aside = [set(detector.learned[-1]) - set(one) for one in detector.learned[:-1]]
    assert set.union(*aside) == set(detector.learned[-1]), "each is in one fold"
    assert max(detector.learned[-1]) < 30, "no test image is learned from"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_are_imported_without_posix_alone(script: Path) -> None:
    assert "import resource" not in script.read_text(encoding="utf-8")


def test_the_settings_of_the_cache_script_are_in_range() -> None:
    import feature_cache

    assert "image_size" in ISSTAD(**feature_cache.SETTINGS["features (EfficientNet-Lite0)"]).params()


def test_cards_are_compared_with_recall(weave: Path) -> None:
    import sensitivity

    with pytest.warns(UserWarning, match="at least 19 held-out"):
        rows = sensitivity.measured(weave, 0, settings=FUSE)
    assert [row["raised"] for row in rows] == [0, 1, 2]
    assert sum(one["n"] for one in rows[0]["bins"]) == 3
    assert all(0 <= one["predicted"] <= 1 for row in rows for one in row["bins"])
    found = sensitivity.agreement(rows)
    assert found["sets"]["n"] == 3
    assert found["bins"]["n"] == sum(len(row["bins"]) for row in rows)


def test_a_defect_is_compared_with_the_marks_that_show_it_best() -> None:
    import sensitivity

    def row(kind: str, contrast: float, found: list[float]) -> dict[str, object]:
        return {"kind": kind, "contrast": contrast, "sizes": [1.0, 10.0, 100.0], "found": found}

    rows = [row(kind, level, [0, 0, 0]) for kind in ("bright spots", "scratches") for level in (0.2, 0.5)]
    card = {"rows": [row("dark spots", 0.2, [0, 0, 0.4]), row("dark spots", 0.5, [0, 1, 1]), *rows]}
    dark = [0.0] * len(sensitivity.LEVELS)
    dark[sensitivity.LEVELS.index(0.5)] = 100.0  # as large as a disc of 11.3 pixels
    defect = {"area": 100, "is_slender": False, "areas": {"dark spots": dark, "bright spots": [0.0] * len(dark)}}
    assert sensitivity.predicted(defect, card) == 1.0
    assert sensitivity.predicted({**defect, "is_slender": True}, card) == 0.0
