"""The false-alarm promise by simulation, its arithmetic by exact fractions, and regions by counting."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import CalibrationError, SettingError
from unmask.inspection.calibration import Calibration, regions
from unmask.inspection.guarantee import best_rate, images_needed
from unmask.inspection.pooling import without_copies

RATES = st.integers(1, 99_999).map(lambda parts: parts / 100_000)


def calibrated(scores, rate, maps=None):
    scores = np.asarray(scores, dtype=float)
    maps = [np.full((2, 3), score, np.float32) for score in scores] if maps is None else maps
    return without_copies(zip(scores, maps, strict=True), rate)


@pytest.mark.parametrize(
    ("n", "rate", "rank"),
    [(19, 0.05, 19), (20, 0.05, 20), (39, 0.05, 38), (99, 0.01, 99), (199, 0.01, 198), (999, 0.001, 999), (9, 0.7, 3)],
)
def test_the_threshold_is_the_conformal_rank(n, rate, rank):
    scores = np.random.default_rng(0).permutation(n) + 1.0
    found = calibrated(scores, rate)
    assert (found.threshold, found.pixel_threshold, found.n_held_out) == (rank, rank, n)


@given(st.integers(1, 99_999), st.integers(1, 300))
def test_the_threshold_is_the_least_that_keeps_the_promise(parts, n):
    """By counting: of n + 1 equally likely ranks, those above the k-th must be at most a share of a; k is the least."""
    rate = parts / 100_000
    kept = [k for k in range(1, n + 1) if (n + 1 - k) * 100_000 <= parts * (n + 1)]
    if not kept:
        with pytest.raises(CalibrationError, match="held-out"):
            calibrated(np.arange(1, n + 1), rate)
        return
    assert calibrated(np.arange(1, n + 1), rate).threshold == kept[0]


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (50, 0.1), (33, 0.25)])
def test_fresh_normal_images_raise_false_alarms_no_oftener_than_promised(n, rate):
    generator, alarms, trials = np.random.default_rng(0), [], 1500
    for _ in range(trials):
        drawn = generator.lognormal(0, 1, n + 20)
        found = calibrated(drawn[:n], rate, [np.array([[score, 0]]) for score in drawn[:n]])
        alarms.append(((drawn[n:] > found.threshold).mean(), (drawn[n:] > found.pixel_threshold).mean()))
    noise = 3 * np.std(alarms, axis=0) / np.sqrt(trials)
    assert (np.mean(alarms, axis=0) <= rate + noise).all()
    assert (np.mean(alarms, axis=0) >= rate - 1 / (n + 1) - noise).all()  # and it is no more timid than it must be


def test_ties_raise_fewer_alarms_never_more():
    generator, alarms = np.random.default_rng(0), []
    for _ in range(500):
        drawn = generator.integers(0, 4, 39).astype(float)
        alarms.append((drawn[19:] > calibrated(drawn[:19], 0.1).threshold).mean())
    assert np.mean(alarms) < 0.1


@given(RATES, RATES)
def test_a_lower_rate_never_lowers_the_threshold(one, other):
    low, high = sorted((one, other))
    scores = np.random.default_rng(0).normal(size=200)
    needed = images_needed(low)
    if needed <= 200:
        assert calibrated(scores, low).threshold >= calibrated(scores, high).threshold


@given(st.integers(1, 50_000))
def test_the_best_rate_can_be_promised_and_hardly_a_smaller_one(n):
    assert images_needed(best_rate(n)) <= n
    assert best_rate(n) <= max(1.1 / (n + 1), 1 / (n + 1) + 0.001)


@given(RATES)
def test_images_needed_are_enough_and_one_fewer_is_not(rate):
    needed = images_needed(rate)
    if 1 < needed < 2000:
        calibrated(np.arange(needed), rate)
        with pytest.raises(CalibrationError):
            calibrated(np.arange(needed - 1), rate)


def test_too_few_images_say_what_to_do():
    wanted = (
        "a false-alarm rate of 0.01 needs at least 99 held-out normal images, got 20; "
        "give more images or ask for a rate of 0.048 or more"
    )
    with pytest.raises(CalibrationError) as raised:
        calibrated(np.arange(20), 0.01)
    assert str(raised.value) == wanted
    assert calibrated(np.arange(20), 0.048).threshold == 19


def test_inputs_that_cannot_calibrate_are_refused():
    with pytest.raises(CalibrationError, match="got none; give at least 19"):
        calibrated([], 0.05)
    for rate in (0.0, 1.0, -0.1, 5.0):
        with pytest.raises(SettingError, match="between 0 and 1"):
            calibrated(np.arange(200), rate)
    with pytest.raises(CalibrationError, match="NaN"):
        calibrated([*range(30), np.nan], 0.05)
    with pytest.raises(CalibrationError, match="NaN"):
        calibrated(np.arange(30), 0.05, [np.zeros((2, 2))] * 29 + [np.full((2, 2), np.inf)])


def test_maps_are_read_once_and_set_the_scale():
    generator = np.random.default_rng(0)
    maps = [generator.random((5 + index % 3, 7)) for index in range(19)]
    found = calibrated(np.arange(19), 0.05, iter(maps))
    assert found.pixel_threshold == max(one.max() for one in maps)
    assert found.map_low == np.median([np.median(one) for one in maps])
    scale = found.scaled(np.array([[found.map_low - 1, found.map_low, found.pixel_threshold, found.map_high, 1e9]]))
    np.testing.assert_allclose(scale, [[0, 0, 0.5, 1, 1]], atol=1e-6)


def test_constant_maps_have_a_scale_too():
    scale = calibrated(np.ones(19), 0.05).scaled(np.array([[0.5, 1.0, 2.0]]))
    assert scale.tolist() == [[0, 0, 1]]


def test_a_calibration_survives_json():
    found = calibrated(np.random.default_rng(0).random(19), 0.05)
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(CalibrationError, match="calibrate again"):
        Calibration.from_dict({"threshold": 1.0})


def test_regions_touch_at_corners_and_come_with_the_highest_peak_first():
    anomaly_map = np.zeros((6, 8), np.float32)
    anomaly_map[0, 0], anomaly_map[1, 1], anomaly_map[1, 2] = 2, 3, 3
    anomaly_map[4:6, 5] = 1, 7
    anomaly_map[3, 0] = 0.5
    mask, found = regions(anomaly_map, 0.5)
    assert mask.sum() == 5  # a value at the threshold is not above it
    assert [(one.box, one.area, one.peak, one.peak_at) for one in found] == [
        ((5, 4, 6, 6), 2, 7.0, (5, 5)),
        ((0, 0, 3, 2), 3, 3.0, (1, 1)),
    ]


@given(st.integers(0, 10_000))
def test_regions_cover_the_mask_once(seed):
    anomaly_map = np.random.default_rng(seed).random((9, 11)).astype(np.float32)
    mask, found = regions(anomaly_map, 0.7)
    assert (mask == (anomaly_map > 0.7)).all()
    assert sum(one.area for one in found) == mask.sum()
    peaks = [one.peak for one in found]
    assert peaks == sorted(peaks, reverse=True)
    for one in found:
        x0, y0, x1, y1 = one.box
        x, y = one.peak_at
        assert x0 <= x < x1
        assert y0 <= y < y1
        assert anomaly_map[y, x] == one.peak


def test_a_map_below_its_threshold_has_no_region():
    mask, found = regions(np.zeros((4, 4), np.float32), 0.0)
    assert not mask.any()
    assert found == ()


def test_a_noisy_map_with_thousands_of_regions_is_fast():
    anomaly_map = np.random.default_rng(0).random((1024, 1024)).astype(np.float32)
    start = time.perf_counter()
    _, found = regions(anomaly_map, 0.97)
    assert len(found) > 20_000
    assert time.perf_counter() - start < 2


def test_scores_are_kept_sorted_with_six_digits():
    scores = np.random.default_rng(0).random(19)
    assert list(calibrated(scores, 0.05).scores) == [float(f"{score:.6g}") for score in np.sort(scores)]


def test_files_of_older_versions_hold_five_values():
    old = {"threshold": 1.0, "pixel_threshold": 2.0, "false_alarm_rate": 0.05, "n_held_out": 19, "map_low": 0.5}
    found = Calibration.from_dict(old)
    assert (found.scores, found.protocol, found.confidence) == ((), "split", None)
    for wrong in ({**old, "treshold": 1.0}, {**old, "protocol": "guess"}, {"scores": [], "protocol": "split"}):
        with pytest.raises(CalibrationError):
            Calibration.from_dict(wrong)
