"""What a protocol that looks at the test set would have claimed, beside what ours measured; nothing of it is used.

Two leaks are common: the threshold with the best F1 on the test images, and the training step with the best test score.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from unmask.detectors import Detector
from unmask.evaluation import metrics
from unmask.imaging.tiling import Tiling
from unmask.inspection.scoring import Reading, score_or_raise
from unmask.inspection.torch_backend import TorchBackend
from unmask.types import Sample


class Observation(NamedTuple):
    """The test set, scored in the middle of a training.

    Attributes:
        step: how many steps were done.
        steps: of how many.
        image_auroc: of the test set.
    """

    step: int
    steps: int
    image_auroc: float | None


class LeakObserver:
    """Scores the test set whenever a training shows what it has learned so far.

    A fit calls it and gets nothing back, so it cannot learn from it.

    Args:
        samples: the test set.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.paths = [sample.path for sample in samples]
        self.labels = np.array([sample.anomalous for sample in samples])
        self.observations: list[Observation] = []
        self.seconds = 0.0  # spent here, in the midst of the fit

    def __call__(self, detector: Detector, step: int, steps: int) -> None:
        """Note the image AUROC of a detector that is at `step` of `steps`."""
        start = time.monotonic()
        auroc = metrics.auroc(self._scores(detector), self.labels)
        self.observations.append(Observation(step, steps, auroc))
        self.seconds += time.monotonic() - start

    def _scores(self, detector: Detector) -> Float[np.ndarray, " n"]:
        scored = score_or_raise(TorchBackend(detector).predict, Reading(Tiling(detector.image_size)), self.paths)
        return np.array([one.score for one in scored])


def claims(
    scores: Float[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    threshold: float,
    observations: Sequence[Observation],
) -> dict[str, Any]:
    """What would have been claimed, and the same of ours.

    Args:
        scores: (n,) of the test images, after the last step.
        labels: (n,) True for a defect.
        threshold: ours, from held-out normal images.
        observations: during the training, if there were any; the last step counts as one more.

    Returns:
        F1, recall and false-alarm rate at the threshold with the best F1 on the test set and at ours; the best AUROC of
        any observation, and the step that had it. Empty where the test set has only one class.
    """
    best = metrics.f1_max(scores, labels)
    if best is None:
        return {}
    claimed = metrics.at_threshold(scores, labels, best[1])
    found = {
        "f1_test_threshold": best[0],
        "f1_ours": _f1(scores, labels, threshold),
        "recall_test_threshold": claimed.recall,
        "false_alarm_rate_test_threshold": claimed.false_alarm_rate,
    }
    return {**found, **_best_step(metrics.auroc(scores, labels), observations)}


def _best_step(last: float | None, observations: Sequence[Observation]) -> dict[str, Any]:
    """The best AUROC of any observation and of the last step, whose number is None."""
    found: dict[str, Any] = {"image_auroc_best_step": None, "best_step": None}
    if observations:
        known = [(one.image_auroc, one.step) for one in observations] + [(last, None)]
        auroc, step = max(known, key=lambda one: one[0] or 0.0)
        found = {"image_auroc_best_step": auroc, "best_step": step}
    return {**found, "observations": [one._asdict() for one in observations]}


def _f1(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    flagged = scores > threshold
    return float(2 * (flagged & labels).sum() / max(1, flagged.sum() + labels.sum()))
