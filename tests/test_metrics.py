"""Metrics against scikit-learn, against loops over thresholds, and against their own stated error."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn import metrics as oracle

from unmask.errors import UnmaskError
from unmask.evaluation import histogram
from unmask.evaluation.curves import Curve
from unmask.evaluation.metrics import (
    at_threshold,
    auroc,
    average_precision,
    bootstrap_interval,
    f1_max,
    roc_curve,
)
from unmask.evaluation.pixel_metrics import PixelMetrics


@st.composite
def scored(draw):
    """Scores with many ties, and labels of both classes."""
    n = draw(st.integers(2, 40))
    scores = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    labels = [True, False, *draw(st.lists(st.booleans(), min_size=n - 2, max_size=n - 2))]
    return np.array(scores) / 3, np.array(labels)


@given(scored())
@settings(deadline=None)
def test_image_metrics_equal_scikit_learn(case):
    scores, labels = case
    assert auroc(scores, labels) == pytest.approx(oracle.roc_auc_score(labels, scores))
    assert average_precision(scores, labels) == pytest.approx(oracle.average_precision_score(labels, scores))
    false, true, _ = oracle.roc_curve(labels, scores, drop_intermediate=False)
    curve = roc_curve(scores, labels)
    np.testing.assert_allclose(curve.x, false)
    np.testing.assert_allclose(curve.y, true)


@given(scored())
@settings(deadline=None, max_examples=30)
def test_f1_max_is_reached_at_its_threshold_and_never_exceeded(case):
    scores, labels = case
    f1, threshold = f1_max(scores, labels)
    assert f1 == pytest.approx(oracle.f1_score(labels, scores > threshold))
    for other in np.append(scores, scores.min() - 1):
        assert oracle.f1_score(labels, scores > other, zero_division=0) <= f1 + 1e-12


def test_one_class_alone_has_no_metric():
    scores, labels = np.array([0.1, 0.2]), np.array([True, True])
    assert auroc(scores, labels) is None
    assert average_precision(scores, ~labels) is None
    assert f1_max(scores, labels) is None
    assert roc_curve(scores, ~labels) is None
    assert bootstrap_interval(scores, labels) is None
    assert at_threshold(scores, labels, 0.1) == (None, 0.5, 1.0)


def test_at_threshold_counts_what_is_above_it():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    labels = np.array([False, True, False, True, True])
    assert at_threshold(scores, labels, 0.3) == (0.0, pytest.approx(2 / 3), 1.0)
    assert at_threshold(scores, labels, 0.25) == (0.5, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert at_threshold(scores, labels, 9.0) == (0.0, 0.0, None)


def test_nan_and_unpaired_inputs_are_refused():
    with pytest.raises(UnmaskError, match="NaN"):
        auroc(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(UnmaskError, match="NaN"):
        PixelMetrics().update(np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), bool))
    with pytest.raises(UnmaskError, match="resize"):
        PixelMetrics().update(np.zeros((2, 2), np.float32), np.zeros((2, 3), bool))
    with pytest.raises(UnmaskError, match="saturation"):
        PixelMetrics().update(np.zeros((2, 2), np.float32), [np.ones((2, 2), bool)], [1.0, 2.0])
    with pytest.raises(UnmaskError, match="at least one"):
        auroc(np.array([]), np.array([], bool))


def test_bootstrap_covers_the_true_value_about_95_times_in_100():
    """Normal N(0, 1) against N(1, 1): the true AUROC is Phi(1 / sqrt 2) = 0.7602."""
    generator, inside = np.random.default_rng(1), 0
    for trial in range(100):
        scores = np.concatenate([generator.normal(0, 1, 80), generator.normal(1, 1, 80)])
        low, high = bootstrap_interval(scores, np.arange(160) >= 80, n=200, seed=trial)
        inside += low <= 0.7602 <= high
    assert 87 <= inside <= 100


def test_bootstrap_is_seeded_and_takes_any_metric():
    generator = np.random.default_rng(0)
    scores, labels = generator.random(60), generator.random(60) > 0.5
    first = bootstrap_interval(scores, labels, average_precision, n=50, seed=3)
    assert first == bootstrap_interval(scores, labels, average_precision, n=50, seed=3)
    assert first != bootstrap_interval(scores, labels, average_precision, n=50, seed=4)
    assert first[0] < average_precision(scores, labels) < first[1]


def test_bootstrap_of_a_thousand_images_takes_under_two_seconds():
    generator = np.random.default_rng(0)
    start = time.perf_counter()
    bootstrap_interval(generator.random(1000), generator.random(1000) > 0.3)
    assert time.perf_counter() - start < 2


def images(seed, make, n=6):
    """Maps of different sizes with masks of several regions, some touching only at a corner, and normal images."""
    generator = np.random.default_rng(seed)
    for index in range(n):
        h, w = generator.integers(12, 24, 2)
        mask = np.zeros((h, w), bool)
        if index % 3:
            mask[2:5, 2:6] = mask[5, 6] = mask[8:10, 1:3] = True
        yield make(generator, (h, w), mask).astype(np.float32), mask


def smooth(generator, size, mask):
    return generator.gamma(2, 1, size) + mask * generator.random(size) * 3


def tied(generator, size, mask):
    return np.maximum(generator.integers(-3, 5, size) + mask, 0) / 7


def signed(generator, size, mask):
    return generator.normal(0, 1, size) + mask


def tiny(generator, size, mask):
    return 1e-9 * smooth(generator, size, mask)


def huge(generator, size, mask):
    return 1e6 + smooth(generator, size, mask)


def infinite(generator, size, mask):
    values = smooth(generator, size, mask)
    values[0, 0], values[0, 1], values[2, 2] = np.inf, -np.inf, np.inf
    return values


MAKERS = [smooth, tied, signed, tiny, huge, infinite]


def area_by_loop(points, limit):
    """Trapezoids over (x, y) points, one by one, cut at the limit."""
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def overlap_by_loop(cases, limit):
    """Mean of min(overlap / saturation, 1) at every threshold; a case is (map, mask, [(region, saturation)])."""
    normals = np.concatenate([values[~mask] for values, mask, _ in cases])
    regions = [(values[region], area) for values, _, regions in cases for region, area in regions]
    points = [(0.0, 0.0)]
    for threshold in sorted({float(value) for values, _, _ in cases for value in values.ravel()}, reverse=True):
        overlaps = [min((inside >= threshold).sum() / area, 1.0) for inside, area in regions]
        points.append((float((normals >= threshold).mean()), float(np.mean(overlaps))))
    return area_by_loop(points, limit)


def connected(mask):
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    return [(labels == index, (labels == index).sum()) for index in range(1, n + 1)]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("bins", [1 << 22, 1 << 6, 1 << 3])
def test_pixel_metrics_stay_within_their_stated_error(make, bins, monkeypatch):
    monkeypatch.setattr(histogram, "BINS", bins)
    cases = list(images(0, make))
    measured = PixelMetrics()
    for values, mask in cases:
        measured.update(values, mask)
    found = measured.compute()
    labels = np.concatenate([mask.ravel() for _, mask in cases])
    values = np.concatenate([values.ravel() for values, _ in cases])
    ranks = np.unique(values, return_inverse=True)[1]  # infinities, which scikit-learn refuses, keep their place
    assert abs(found.auroc - oracle.roc_auc_score(labels, ranks)) <= found.error["auroc"] + 1e-9
    gap = abs(found.average_precision - oracle.average_precision_score(labels, ranks))
    assert gap <= found.error["average_precision"] + 1e-9
    aupro = overlap_by_loop([(values, mask, connected(mask)) for values, mask in cases], 0.3)
    assert abs(found.aupro - aupro) <= found.error["aupro"] + 1e-9
    assert found.spro is None


@pytest.mark.parametrize("make", [tied, huge])
def test_values_that_fit_the_bins_are_exact(make):
    """Ties are no rounding: the stated error is 0 where no bin holds two values."""
    measured = PixelMetrics()
    for values, mask in images(1, make):
        measured.update(values, mask)
    assert measured.compute().error == {"auroc": 0.0, "average_precision": 0.0, "aupro": 0.0}


def test_the_error_is_small_at_the_usual_number_of_bins_and_grows_with_fewer(monkeypatch):
    errors = []
    for bins in (1 << 22, 1 << 6):
        monkeypatch.setattr(histogram, "BINS", bins)
        measured = PixelMetrics()
        for values, mask in images(0, smooth, n=30):
            measured.update(values, mask)
        errors.append(measured.compute().error["auroc"])
    assert errors[0] < 1e-5 < 1e-3 < errors[1] < 0.5


def test_the_order_of_images_changes_nothing():
    forward, backward = PixelMetrics(), PixelMetrics()
    cases = [*images(0, smooth), *images(1, tiny), *images(2, signed)]
    for values, mask in cases:
        forward.update(values, mask)
    for values, mask in reversed(cases):
        backward.update(values, mask)
    ours, theirs = forward.compute(), backward.compute()
    assert ours.auroc == theirs.auroc
    assert ours.error["auroc"] == theirs.error["auroc"]
    assert ours.aupro == pytest.approx(theirs.aupro, abs=1e-12)


@pytest.mark.parametrize("make", [smooth, tied])
@pytest.mark.parametrize("bins", [1 << 22, 1 << 6])
def test_spro_equals_a_loop_with_overlapping_and_normal_masks(make, bins, monkeypatch):
    monkeypatch.setattr(histogram, "BINS", bins)
    generator, measured, cases = np.random.default_rng(5), PixelMetrics(saturated_limit=0.2), []
    for values, mask in images(2, make):
        if not mask.any():
            measured.update(values, [])
            cases.append((values, mask, []))
            continue
        second = np.zeros_like(mask)
        second[4:9, 4:8] = True
        areas = [float(generator.integers(2, 10)), 50.0]  # the second saturates above its own 20 pixels: at all of them
        measured.update(values, [mask, second], areas)
        cases.append((values, mask | second, [(mask, areas[0]), (second, 20.0)]))
    found = measured.compute()
    assert abs(found.spro - overlap_by_loop(cases, 0.2)) <= found.error["spro"] + 1e-9
    assert found.spro != pytest.approx(found.aupro)


def test_pixel_metrics_without_a_class_are_none():
    measured = PixelMetrics()
    measured.update(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))
    found = measured.compute()
    assert (found.auroc, found.aupro, found.roc) == (None, None, None)


def test_a_perfect_map_scores_one_and_a_reversed_one_nothing():
    perfect, reversed_ = PixelMetrics(), PixelMetrics()
    for values, mask in images(0, lambda _, size, mask: mask + np.linspace(0, 0.5, size[0] * size[1]).reshape(size)):
        perfect.update(values, mask)
        reversed_.update(-values, mask)
    best, worst = perfect.compute(), reversed_.compute()
    assert (best.auroc, best.average_precision, best.aupro) == pytest.approx((1, 1, 1))
    assert (worst.auroc, worst.aupro) == pytest.approx((0, 0))


def test_a_thinned_curve_keeps_points_of_the_curve_and_its_ends():
    generator = np.random.default_rng(0)
    curve = roc_curve(np.append(generator.normal(0, 1, 5000), generator.normal(2, 1, 5000)), np.arange(10_000) >= 5000)
    thin = curve.thinned(100)
    assert 50 < len(thin.x) <= 100
    assert (thin.x[0], thin.y[0], thin.x[-1], thin.y[-1]) == (0, 0, 1, 1)
    assert set(zip(thin.x, thin.y, strict=True)) <= set(zip(curve.x, curve.y, strict=True))
    assert max(np.diff(thin.x).max(), np.diff(thin.y).max()) < 0.03
    assert Curve(thin.x, thin.y).thinned(1000).x is thin.x


@pytest.mark.parametrize(("defects", "normals"), [(1.0, 1.01), (1.01, 1.0)])
def test_the_error_holds_when_a_bin_hides_the_worst_or_the_best_order(defects, normals, monkeypatch):
    monkeypatch.setattr(histogram, "BINS", 8)
    values = np.array([[*np.linspace(defects, defects + 0.005, 100), *[normals] * 10, -1e9]], np.float32)
    measured = PixelMetrics()
    measured.update(values, np.arange(111)[None] < 100)
    found = measured.compute()
    for name, metric in (("auroc", oracle.roc_auc_score), ("average_precision", oracle.average_precision_score)):
        gap = abs(getattr(found, name) - metric(np.arange(111) < 100, values[0]))
        assert 0.04 < gap <= found.error[name] + 1e-9
