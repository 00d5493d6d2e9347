"""What is tolerated: how it is asked for, which copies it makes, and what is learned and promised of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unmask
from tiny import FRE, PATCHCORE, SIZE, Run, write_textures
from unmask.detectors import make
from unmask.errors import CalibrationError, SettingError
from unmask.features.groups import groups_of, set_aside
from unmask.imaging.disturbances import TAUGHT
from unmask.imaging.tiling import Tiling, judged_part, split, square_at
from unmask.imaging.tolerance import LEVELS, LIMITS, Tolerance, working_copy, working_size, written
from unmask.inspection.copies import AS_IT_IS, COPIES_OF_KIND, LEAST_COPIES, Copies, group_of
from unmask.inspection.crossing import FOLDS, ONE_BY_ONE, folds_of
from unmask.inspection.held_out import HeldOut, highest, score_held_out
from unmask.inspection.pooling import UNDISTURBED, alarms_in_words, expected_alarms, pooled, quantile
from unmask.inspection.scoring import Reading
from unmask.training.trainer import Training
from unmask.types import ArrayPrediction

QUICK: dict[str, Any] = {"detector": "fre", "settings": FRE, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tmp_path_factory.mktemp("good")
    write_textures(found, 24)
    return found


# --- asking for it ----------------------------------------------------------------------------------------------------


def test_levels_name_every_kind_or_none() -> None:
    assert set(LEVELS) == {"none", "mild", "strong"}
    assert list(LEVELS["mild"]) == list(LEVELS["strong"]) == list(TAUGHT) == list(LIMITS)
    assert Tolerance.parse("none").kinds == ()
    for kind, amount in LEVELS["mild"].items():
        milder = amount > LEVELS["strong"][kind] if kind == "jpeg" else amount < LEVELS["strong"][kind]
        assert milder, kind


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("blur", {"blur": 0.005}),
        ("shift=6%,blur", {"blur": 0.005, "shift": 0.06}),
        ("shift=0.06", {"shift": 0.06}),
        (" jpeg = 75 , turn=10", {"jpeg": 75, "turn": 10}),
    ],
)
def test_a_list_names_kinds_and_amounts(text: str, amounts: dict[str, float]) -> None:
    found = Tolerance.parse(text)
    assert dict(found.amounts) == pytest.approx(amounts)
    assert Tolerance.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("mildly", "'mildly' is no kind"),
        ("", "'' is no kind"),
        ("blur,blur=1%", "twice"),
        ("shift=far", "'shift=far' has no amount; give one such as shift=4%"),
        ("shift=60%", "shift=60% is out of range; give more than 0%, up to 25%"),
        ("blur=0", "out of range"),
        ("jpeg=96", "jpeg=96 is out of range; give more than 5, up to 95"),
        ("blur=nan", "out of range"),
    ],
)
def test_what_cannot_be_tolerated_is_one_line(text: str, word: str) -> None:
    with pytest.raises(SettingError, match=word) as caught:
        Tolerance.parse(text)
    assert "\n" not in str(caught.value)


def test_levels_print_as_their_names() -> None:
    assert [str(Tolerance.parse(level)) for level in LEVELS] == list(LEVELS)
    assert written("jpeg", 75) == "75"
    assert written("blur", 0.005) == "0.5%"


# --- copies -----------------------------------------------------------------------------------------------------------


def test_kinds_are_equally_frequent_over_images() -> None:
    tolerance = Tolerance.parse("mild")
    counts = dict.fromkeys(tolerance.kinds, 0)
    for number in range(len(tolerance.kinds)):
        kinds = tolerance.kinds_of(number, 4)
        assert len(set(kinds)) == 4
        for kind in kinds:
            counts[kind] += 1
    assert set(counts.values()) == {4}
    assert Tolerance.parse("blur,noise").kinds_of(3, 4) == ("blur", "noise")


def test_grey_images_have_no_copies_of_another_colour() -> None:
    assert "color" not in Tolerance.parse("mild").of_grey().kinds


def test_a_copy_of_a_large_photograph_is_drawn_from_a_reduced_one_and_frames_the_same() -> None:
    image = np.random.default_rng(0).random((3, 300, 420), dtype=np.float32)
    for tiling in (Tiling(32), Tiling(32, resize="fit"), Tiling(32, box=(40, 40, 260, 280))):
        reduced, own = working_copy(image, tiling)
        assert reduced.shape[1:] == working_size(300, 420, tiling)[:2]
        assert min(reduced.shape[1:]) < 150
        small = next(split(reduced, own))
        assert np.abs(small - next(split(image, tiling))).mean() < 0.02
    tiles = Tiling(32, tile=64)
    assert working_copy(image, tiles) == (image, tiles)


def test_edges_of_a_region_show_its_real_surroundings() -> None:
    """A part that moves out of a region comes back from where the photograph goes on, not from a mirror."""
    image = np.zeros((3, 64, 64), np.float32)
    image[:, :, :16] = 1.0  # bright beside the region
    tiling = Tiling(SIZE, box=(16, 0, 64, 64))
    copies = Copies(Tolerance.parse("shift=20%"), False, 8)
    seen = []
    for number in range(8):
        variant = copies.variant(image, tiling, "shift", number)
        seen.append(square_at(judged_part(variant.image, variant.tiling), tiling, (0, 0)).max())
    assert max(seen) > 0.9


def test_images_without_noise_have_copies_with_a_grey_level_of_it() -> None:
    copies = Copies(Tolerance.parse("none"), True, 100)
    assert len(copies.learned(0)) == 2
    assert len(copies.calibrated(0)) == 6
    assert {group_of(kind) for kind in copies.calibrated(0)} == {AS_IT_IS}
    assert Copies.of(copies.to_dict(), 100) == copies
    assert Copies.of({}, 5) == Copies(Tolerance.parse("none"), False, 5)


@pytest.mark.parametrize("n", [1, 9, 20, 54, 200, 1000])
def test_few_images_have_more_copies_so_that_each_kind_is_seen(n: int) -> None:
    copies = Copies(Tolerance.parse("mild"), False, n)
    kinds = [kind for number in range(n) for kind in copies.learned(number)[1:]]
    assert len(kinds) >= LEAST_COPIES * n
    assert all(kinds.count(kind) >= min(n, COPIES_OF_KIND) for kind in TAUGHT)


def test_a_copy_is_the_same_whenever_it_is_drawn() -> None:
    image, copies = (
        np.random.default_rng(0).random((3, 40, 40), dtype=np.float32),
        Copies(Tolerance.parse("mild"), False, 9),
    )
    for kind in copies.learned(0)[1:]:
        one, again = (copies.variant(image, Tiling(32), kind, 0).image for _ in range(2))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, copies.variant(image, Tiling(32), kind, 9).image)


# --- thresholds -------------------------------------------------------------------------------------------------------


def held_out(score: float, kind: str = AS_IT_IS) -> HeldOut:
    return HeldOut(kind, score, 2 * score, 0.1 * score)


def test_without_copies_the_threshold_is_the_order_statistic_of_split_conformal() -> None:
    scores = np.random.default_rng(0).random(39)
    found = pooled([[held_out(score)] for score in scores], 0.05, "split")
    assert found.threshold == np.sort(scores)[38 - 1]  # ceil(40 x 0.95) = 38
    assert found.pixel_threshold == 2 * found.threshold
    assert found.map_low == pytest.approx(0.1 * np.median(scores))
    assert found.scores == pytest.approx(sorted(scores), rel=1e-5)


def test_the_promise_holds_on_average_over_kinds() -> None:
    """Simulated: as they are, images score uniformly; blurred they score twice as high."""
    random = np.random.default_rng(1)
    kept = []
    for _ in range(2000):
        scores = random.random(39)
        found = pooled([[held_out(s), held_out(2 * s, "blur")] for s in scores], 0.1, "cross")
        kept.append(UNDISTURBED * max(0, 1 - found.threshold) + (1 - UNDISTURBED) * max(0, 1 - found.threshold / 2))
    assert 0.07 < np.mean(kept) <= 0.103


def test_expected_alarms_are_told_by_kind() -> None:
    images = [[held_out(s), held_out(s + 0.5, "blur")] for s in (0.1, 0.2, 0.6, 0.9)]
    found = expected_alarms(images, 0.65)
    assert found == {AS_IT_IS: (0.25, 4), "blur": (0.75, 4)}
    words = alarms_in_words({"noise": (0.5, 4), **found})
    assert words == "as it is 25.0 % of 4, blur 75.0 % of 4, noise 50.0 % of 4"


def test_a_weighted_quantile_with_equal_weights_is_an_order_statistic() -> None:
    values = np.random.default_rng(0).random(20)
    for rank in range(1, 21):
        assert quantile(values, np.ones(20), rank / 20) == np.sort(values)[rank - 1]
    assert quantile(np.array([3.0, 1.0]), np.array([1.0, 9.0]), 0.5) == 1.0


def test_scores_that_are_not_finite_set_no_threshold() -> None:
    with pytest.raises(CalibrationError, match="NaN or infinity"):
        pooled([[held_out(0.5)] for _ in range(20)] + [[held_out(float("nan"))]], 0.05, "split")


def test_of_copies_with_a_grey_level_of_noise_the_highest_counts() -> None:
    found = highest(iter([held_out(0.5), held_out(0.7), held_out(0.2, "blur")]))
    assert found == [HeldOut(AS_IT_IS, 0.7, 1.4, 0.05), held_out(0.2, "blur")]


def test_held_out_images_are_scored_as_they_are_and_in_their_copies() -> None:
    """A detector that measures fine structure scores a blurred copy lower, and finds nothing else of it."""

    def predict(squares: np.ndarray) -> ArrayPrediction:
        fine = np.abs(np.diff(squares, axis=-1)).mean(axis=(1, 2, 3))
        return ArrayPrediction(np.broadcast_to(fine[:, None, None], (len(fine), 32, 32)).copy(), fine)

    images = [np.random.default_rng(i).integers(0, 255, (80, 70, 3), dtype=np.uint8) for i in range(3)]
    found = list(score_held_out(predict, Reading(Tiling(32)), images, Copies(Tolerance.parse("blur=5%"), False, 3)))
    assert [[one.kind for one in image] for image in found] == [[AS_IT_IS, "blur"]] * 3
    assert all(image[1].score < 0.8 * image[0].score for image in found)


# --- folds and groups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, ONE_BY_ONE - 1, ONE_BY_ONE, 100])
def test_folds_leave_each_image_out_once_and_keep_scenes_together(n: int) -> None:
    units = [(f"scene {i}", [2 * i, 2 * i + 1], [2 * i]) for i in range(n)]
    folds = folds_of(units, seed=0)
    assert len(folds) == (n if n < ONE_BY_ONE else FOLDS)
    assert sorted(i for fold in folds for i in fold.left_out) == list(range(2 * n))
    assert sorted(i for fold in folds for i in fold.scored) == list(range(0, 2 * n, 2))
    assert all({i // 2 for i in fold.left_out} == {i // 2 for i in fold.scored} for fold in folds)
    assert max(len(fold.scored) for fold in folds) - min(len(fold.scored) for fold in folds) <= 1


class Numbers:
    """Three copies of each of n images."""

    def __init__(self, n: int) -> None:
        self.groups = torch.arange(n).repeat_interleave(3)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((3, SIZE, SIZE), float(index))


def test_what_is_set_aside_shares_no_photograph_with_what_is_learned() -> None:
    images = Numbers(10)
    for generator in (None, torch.Generator().manual_seed(0)):
        fold = set_aside(groups_of(images), 5, generator)
        assert len(fold.scored) == 6
        assert not set(images.groups[fold.scored].tolist()) & set(images.groups[fold.learned].tolist())
    maps = make("patchcore", "fast", PATCHCORE).maps
    assert maps is not None
    part = maps.with_cache(images, Training(device="cpu")).subset(torch.tensor([4, 7, 8]))
    assert groups_of(part).tolist() == [1, 2, 2]
    assert float(part[1].mean()) == 7
    assert groups_of([torch.zeros(3, 4, 4)] * 2).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["fre", "patchcore", "protoad", "fuse"])
def test_a_twin_equals_a_fit_without_its_fold(name: str) -> None:
    """Crossed fits share the network's maps, and nothing else: each is the fit that it claims to be."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, SIZE, SIZE, generator=generator) for _ in range(20)]
    settings = {"fre": FRE, "patchcore": PATCHCORE}.get(name, {"image_size": SIZE, "backbone": "tiny"})
    training = Training(device="cpu")
    detector, alone = make(name, "fast", settings), make(name, "fast", settings)
    scored = torch.arange(0, 20, 4)
    learned = torch.tensor([i for i in range(20) if i % 4])
    crossed = detector.fit_crossed(images, torch.arange(20), [set_aside(torch.arange(20), 4)], training)
    ((twin, rows),) = crossed.twins
    assert rows.tolist() == scored.tolist()
    alone.fit([images[int(i)] for i in learned], training)
    for key in ("bank", "basis", "kernels"):
        if key in dict(twin.named_buffers()):
            assert torch.equal(twin.get_buffer(key), alone.get_buffer(key)), key
    found = twin.score_rows(crossed.images, rows[:3])
    direct = twin.predict(torch.stack([images[int(i)] for i in rows[:3]]))
    torch.testing.assert_close(found.scores, direct.scores, rtol=2e-3, atol=2e-3)
    assert float(twin.predict(images[0][None]).scores) != float(detector.predict(images[0][None]).scores)


def test_a_subset_of_cached_images_keeps_its_own_pictures() -> None:
    """A fusion that is given a subset reads the pixels of that subset, not of rows counted twice."""
    images = [torch.full((3, SIZE, SIZE), i / 20) for i in range(20)]
    maps = make("patchcore", "fast", PATCHCORE).maps
    assert maps is not None
    part = maps.with_cache(images, Training(device="cpu")).subset(torch.arange(10, 20))
    again = maps.with_cache(part, Training(device="cpu"))
    assert [round(20 * float(again[i].mean())) for i in range(10)] == list(range(10, 20))


# --- a fit ------------------------------------------------------------------------------------------------------------


def test_a_fit_learns_copies_and_says_what_each_kind_costs(folder: Path) -> None:
    plain, mild = (unmask.fit(folder, tolerate=level, **QUICK) for level in ("none", "mild"))
    assert set(plain.facts["expected_alarms"]) == {AS_IT_IS}
    assert set(mild.facts["expected_alarms"]) == {AS_IT_IS, *Tolerance.parse("mild").kinds}
    assert mild.facts["tolerance"] == dict(LEVELS["mild"])
    assert mild.calibration.threshold != plain.calibration.threshold
    assert mild.calibration.n_held_out == plain.calibration.n_held_out == 24
    assert len(mild.calibration.scores) == 24


def test_split_holds_out_and_calibrates_on_copies_too(folder: Path) -> None:
    found = unmask.fit(folder, calibrate="split", false_alarm_rate=0.4, **QUICK)
    assert found.calibration.protocol == "split"
    assert found.facts["n_held_out"] == found.calibration.n_held_out > 0
    assert "blur" in found.facts["expected_alarms"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"calibrate": "crossed"}, "calibrate=crossed is unknown"),
        ({"calibrate": "cross", "held_out_share": 0.3}, "held_out_share has no effect"),
        ({"tolerate": "wild"}, "'wild' is no kind"),
        ({"calibrate": "cross", "detector": "isstad"}, "several times"),
    ],
)
def test_options_that_contradict_are_one_line(folder: Path, options: dict[str, Any], word: str) -> None:
    chosen = {**QUICK, **options}
    if "detector" in options:
        chosen["settings"] = {}
    with pytest.raises(SettingError, match=word):
        unmask.fit(folder, **chosen)


def test_cross_is_refused_where_images_are_held_out_already(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    with pytest.raises(SettingError, match="held out by the data set, a group or the caller"):
        unmask.fit(paths[:20], held_out=paths[20:], calibrate="cross", **QUICK)
    assert unmask.fit(paths[:4], held_out=paths[4:], **QUICK).calibration.protocol == "split"


def test_the_command_takes_both_options(run: Run, folder: Path, tmp_path: Path) -> None:
    tiny = ["--detector", "fre", "--set", "backbone=tiny", "--set", f"image_size={SIZE}", "--device", "cpu"]
    done = run("fit", folder, "-o", tmp_path / "a.unmask", *tiny, "--tolerate", "blur,shift=6%")
    assert done.code == 0
    assert "blur" in done.err
    assert "shift" in done.err
    told = run("info", tmp_path / "a.unmask").out
    assert "tolerance          blur=0.5%,shift=6%" in told
    assert "expected_alarms    as it is" in told
    for option, value in (("--tolerate", "shift=99%"), ("--calibrate", "both")):
        bad = run("fit", folder, "-o", tmp_path / "b.unmask", *tiny, option, value)
        assert bad.code == 2
        assert "good images" not in bad.err, "refused before any image is looked at"
        assert not (tmp_path / "b.unmask").exists()
