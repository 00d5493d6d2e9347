"""The scripts in benchmarks/ run on the detectors as they are: tiny ones, so that a renamed part is noticed."""

from pathlib import Path

import pytest

from tiny import FEATURES, FRE, PIXELS, SSM_FEATURES, SSM_PIXELS, write_dataset
from unmask.datasets import load
from unmask.detectors.isstad import ISSTAD

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


@pytest.mark.filterwarnings("ignore:a false-alarm rate")
def test_what_calibrate_mends_is_measured(weave: Path) -> None:
    import recalibration

    rows = recalibration.measured(weave, detector="fre", settings=FRE, false_alarm_rate=0.4, calibrate="split")
    assert [row["change"] for row in rows] == list(recalibration.CHANGES)
    assert {(row["n_false_alarms"], row["n_recall"], row["promised"]) for row in rows} == {(3, 3, 0.4)}
    shares = [
        row[f"{name}_{when}"] for row in rows for name in ("false_alarms", "recall") for when in ("before", "after")
    ]
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_are_imported_without_posix_alone(script: Path) -> None:
    assert "import resource" not in script.read_text(encoding="utf-8")


def test_the_settings_of_the_cache_script_are_in_range() -> None:
    import feature_cache

    assert "image_size" in ISSTAD(**feature_cache.SETTINGS["features (EfficientNet-Lite0)"]).params()
