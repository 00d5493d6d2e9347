"""What n held-out scores promise: ranks and intervals by SciPy's beta distribution, and by simulated fits."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from unmask.errors import CalibrationError, SettingError
from unmask.inspection.calibration import Calibration
from unmask.inspection.guarantee import (
    Wanted,
    best_rate,
    confidence_of,
    images_needed,
    rank_for,
    rate_for,
    rate_interval,
)
from unmask.inspection.pooling import without_copies

CONFIDENCES = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.9999])


@settings(deadline=None)
@given(st.data(), st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_interval_is_that_of_the_beta_distribution(data: st.DataObject, n: int, share: float) -> None:
    rank = data.draw(st.integers(1, n))
    wanted = beta.ppf([(1 - share) / 2, (1 + share) / 2], n + 1 - rank, rank)
    np.testing.assert_allclose(rate_interval(n, rank, share), wanted, rtol=1e-9)
    assert confidence_of(n, rank, 0.05) == pytest.approx(beta.cdf(0.05, n + 1 - rank, rank), abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 400), st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.7]), CONFIDENCES)
def test_the_rank_is_the_least_that_keeps_both_promises(n: int, rate: float, confidence: float) -> None:
    """By SciPy: with the k-th smallest score the rate of a fit follows Beta(n + 1 - k, k)."""
    k = np.arange(1, n + 1)
    keeping = k[((n + 1 - k) / (n + 1) <= rate + 1e-12) & (beta.cdf(rate, n + 1 - k, k) >= confidence - 1e-12)]
    if len(keeping):
        assert rank_for(n, rate, confidence) == keeping[0]
        assert images_needed(rate, confidence) <= n
    else:
        assert images_needed(rate, confidence) > n
        with pytest.raises(CalibrationError, match="% confidence needs at least"):
            rank_for(n, rate, confidence)


@settings(deadline=None)
@given(st.integers(1, 20_000), CONFIDENCES)
def test_the_best_rate_with_confidence_can_be_promised_and_hardly_a_smaller_one(n: int, confidence: float) -> None:
    best = best_rate(n, confidence)
    assert 0 < best < 1
    assert rank_for(n, best, confidence) == n
    least = max(1 - (1 - confidence) ** (1 / n), 1 / (n + 1))
    assert best <= max(1.1 * least, least + 0.001)


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"),
    [(0.05, None, 19), (0.05, 0.95, 59), (0.01, 0.95, 299), (0.1, 0.9, 22), (0.5, 0.5, 1)],
)
def test_so_many_images_are_needed(rate: float, confidence: float | None, needed: int) -> None:
    assert images_needed(rate, confidence) == needed
    assert rank_for(needed, rate, confidence) == needed


def simulated(n: int, rate: float, confidence: float | None, fits: int = 4000) -> tuple[np.ndarray, Calibration]:
    """The share of uniform scores above the threshold of each of many fits, which is known exactly; the first fit."""
    scores = np.random.default_rng(0).random((fits, n))
    thresholds = np.sort(scores)[:, rank_for(n, rate, confidence) - 1]
    point = np.zeros((1, 1), np.float32)
    first = without_copies(((score, point) for score in scores[0]), rate, confidence)
    assert first.threshold == thresholds[0]
    return 1 - thresholds, first


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (41, 0.05), (100, 0.1)])
def test_the_kept_rate_averages_below_the_promise_and_nine_of_ten_fits_lie_in_the_interval(n: int, rate: float) -> None:
    kept, calibration = simulated(n, rate, None)
    assert calibration.interval is not None
    noise = 3 * kept.std() / np.sqrt(len(kept))
    assert rate - 1 / (n + 1) - noise <= kept.mean() <= rate + noise
    low, high = calibration.interval
    below, above = (kept < low).mean(), (kept > high).mean()
    assert below == pytest.approx(0.05, abs=0.011), "three standard deviations of 4000 fits"
    assert above == pytest.approx(0.05, abs=0.011)


@pytest.mark.parametrize(("n", "rate", "confidence"), [(59, 0.05, 0.95), (150, 0.05, 0.95), (100, 0.1, 0.8)])
def test_so_many_fits_keep_the_rate_as_the_confidence_says(n: int, rate: float, confidence: float) -> None:
    kept, calibration = simulated(n, rate, confidence)
    share = (kept <= rate).mean()
    assert share >= confidence - 3 * np.sqrt(confidence * (1 - confidence) / len(kept))
    rank = rank_for(n, rate, confidence)
    assert share == pytest.approx(confidence_of(n, rank, rate), abs=0.02)
    one_less = confidence_of(n, rank - 1, rate)
    assert one_less < confidence, "a lower threshold would not"
    assert calibration.confidence == confidence


def test_without_confidence_a_third_of_fits_break_a_promise_that_holds_on_average() -> None:
    """What the interval is told for: 41 images keep 5 % on average, and every third fit does not."""
    kept, _ = simulated(41, 0.05, None)
    assert (kept > 0.05).mean() > 0.3


def test_promises_are_sentences() -> None:
    made = Calibration(1.0, 2.0, 0.05, 41, 0.5)
    assert made.promise == (
        "Of good images, it flags at most 5 % on average; one threshold from 41 held-out images flags 0.87 to 11 % of "
        "them (9 times in 10)."
    )
    sure = Calibration(1.0, 2.0, 0.05, 59, 0.5, confidence=0.95)
    assert sure.promise.startswith("Of good images, it flags at most 5 % with 95 % confidence; one threshold from 59 ")
    assert "flags 0.087 to 5 % of them" in sure.promise
    cross = Calibration(1.0, 2.0, 0.05, 41, 0.5, protocol="cross")
    assert cross.interval is None
    assert "about 5 % on average (41 good images set it, each scored by a fit that did not" in cross.promise
    few = Calibration(1.0, 2.0, 0.05, 3, 0.5)
    assert few.promise == "Of good images, it flags at most 5 % on average (3 held-out images set it)."


def test_too_few_images_for_a_confidence_say_what_to_do() -> None:
    wanted = (
        "a false-alarm rate of 0.05 with 95 % confidence needs at least 59 held-out normal images, got 41; give more "
        "images or ask for a rate of 0.071 or more"
    )
    with pytest.raises(CalibrationError) as caught:
        rate_for(41, 0.05, 0.95)
    assert str(caught.value) == wanted
    with pytest.warns(UserWarning, match=r"needs at least 59 .* got 41; the best that can be promised is 0\.071"):
        assert rate_for(41, None, 0.95) == 0.071
    with pytest.warns(UserWarning, match=r"a false-alarm rate of 0\.01 needs at least 99"):
        assert Wanted().of(41, 0.01) == 0.024
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Wanted(None, 0.95).of(59) == 0.05
        assert Wanted(None, 0.95).of(41, 0.1) == 0.1


@pytest.mark.parametrize("confidence", [0.0, 0.3, 1.0, 0.99999, 95.0, float("nan"), -1.0])
def test_a_confidence_out_of_range_is_refused(confidence: float) -> None:
    for refused in (
        lambda: rank_for(100, 0.1, confidence),
        lambda: images_needed(0.1, confidence),
        lambda: best_rate(10, confidence),
        lambda: Wanted(None, confidence).check(),
    ):
        with pytest.raises(SettingError, match=r"is not between 0\.5 and 0\.9999; ask for one such as 0\.95"):
            refused()
