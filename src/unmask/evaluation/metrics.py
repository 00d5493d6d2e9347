"""Metrics of image scores: pure functions on NumPy arrays.

A score above the threshold is anomalous, and a label that is True is a defect. A metric that needs both classes is None
where one is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from unmask.errors import UnmaskError
from unmask.evaluation.curves import Curve, area, mean_precision, refuse_nan, summed


class AtThreshold(NamedTuple):
    """Rates at one threshold; None where there is nothing to divide by."""

    false_alarm_rate: float | None
    recall: float | None
    precision: float | None


def auroc(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float | None:
    """Area under the ROC curve: the chance that a defect scores above a normal, ties counting half."""
    _, false, true = _cumulated(scores, labels)
    return area(false / false[-1], true / true[-1]) if false[-1] and true[-1] else None


def average_precision(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float | None:
    """Precision at each threshold, weighted by the recall gained there; tied scores make one threshold."""
    _, false, true = _cumulated(scores, labels)
    return mean_precision(false, true) if false[-1] and true[-1] else None


def f1_max(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> tuple[float, float] | None:
    """The best F1 that any threshold gives, and the largest such threshold (score > threshold is anomalous)."""
    thresholds, false, true = _cumulated(scores, labels)
    if not (false[-1] and true[-1]):
        return None
    f1 = 2 * true / (true + false + true[-1])
    best = int(np.argmax(f1))
    return float(f1[best]), float(thresholds[best])


def roc_curve(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> Curve | None:
    """Recall over false-alarm rate at every threshold, from (0, 0) to (1, 1)."""
    _, false, true = _cumulated(scores, labels)
    return Curve(false / false[-1], true / true[-1]) if false[-1] and true[-1] else None


def at_threshold(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], threshold: float) -> AtThreshold:
    """Count at a threshold that was chosen elsewhere, from normal images alone."""
    refuse_nan(scores)
    alarms, defects = int((scores > threshold).sum()), int(labels.sum())
    found = int((scores[labels] > threshold).sum())
    normals = len(labels) - defects
    return AtThreshold(
        false_alarm_rate=(alarms - found) / normals if normals else None,
        recall=found / defects if defects else None,
        precision=found / alarms if alarms else None,
    )


def share_by_group(flags: Bool[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"]) -> dict[str, float]:
    """The share of each group that is flagged, groups in the order in which they first come."""
    return {str(group): float(flags[groups == group].mean()) for group in dict.fromkeys(groups.tolist())}


def bootstrap_interval(
    scores: Float[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    metric: Callable[[np.ndarray, np.ndarray], float | None] = auroc,
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The 95 % percentile interval of a metric over test images.

    Stratified: normal and defective images are drawn separately, as many of each as there are, so that no resample
    lacks a class. It shows how much the choice of test images matters, not the choice of training seed.

    Args:
        scores: (n,) image scores.
        labels: (n,) True for a defect.
        metric: a function of (scores, labels).
        n: how many resamples.
        seed: of the local generator.

    Returns:
        (low, high), or None where the metric is None.
    """
    if metric(scores, labels) is None:
        return None
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(~labels), np.flatnonzero(labels)]
    draws = [generator.choice(members, (n, len(members))) for members in classes if len(members)]
    values = [metric(scores[drawn], labels[drawn]) for drawn in np.concatenate(draws, axis=1)]
    low, high = np.quantile(np.array(values, dtype=float), [0.025, 0.975])
    return float(low), float(high)


def _cumulated(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds (k + 1,) from above all scores to below them, and the false and true alarms that each lets through."""
    if len(scores) != len(labels) or len(scores) == 0:
        raise UnmaskError(
            f"metrics got {len(scores)} scores and {len(labels)} labels; give one label a score, at least one"
        )
    refuse_nan(scores)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last of each run of tied scores
    true = summed(labels[order].astype(float))[np.append(0, ends + 1)]
    # just below a score, so that "above the threshold" lets that score through
    return np.append(np.inf, np.nextafter(ranked[ends], -np.inf)), np.append(0.0, ends + 1.0) - true, true
