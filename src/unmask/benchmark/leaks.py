"""What a protocol that looks at the test set would have claimed, beside what ours measured; nothing of it is used.

Two leaks are common: the threshold with the best F1 on the test images, and the training step with the best test score.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unmask.detectors import Detector
from unmask.evaluation import metrics
from unmask.imaging.tiling import Tiling
from unmask.inspection.scoring import Reading, score_or_raise
from unmask.inspection.torch_backend import TorchBackend
from unmask.types import Sample


class LeakObserver:
    """Scores the test set whenever a training shows what it has learned so far.

    A fit calls it and gets nothing back, so it cannot learn from it.

    Args:
        samples: the test set.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.paths = [sample.path for sample in samples]
        self.labels = np.array([sample.anomalous for sample in samples])
        self.seen: list[dict[str, Any]] = []
        self.seconds = 0.0  # spent here, in the midst of the fit

    def __call__(self, detector: Detector, step: int, steps: int) -> None:
        """Keep the image AUROC of a detector that is at `step` of `steps`."""
        start = time.monotonic()
        reading = Reading(Tiling(detector.image_size))
        scored = score_or_raise(TorchBackend(detector).predict, reading, self.paths)
        scores = np.array([one.score for one in scored])
        self.seen.append({"step": step, "steps": steps, "image_auroc": metrics.auroc(scores, self.labels)})
        self.seconds += time.monotonic() - start


def claims(
    scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], threshold: float, seen: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What would have been claimed, and the same of ours.

    Args:
        scores: (n,) of the test images, after the last step.
        labels: (n,) True for a defect.
        threshold: ours, from held-out normal images.
        seen: looks during the training, if there were any; the last step counts as one more.

    Returns:
        F1, recall and false-alarm rate at the threshold with the best F1 on the test set and at ours; the best AUROC of
        any look, and the step that had it.
    """
    best = metrics.f1_max(scores, labels)
    if best is None:
        return {}
    last = metrics.auroc(scores, labels)
    looks = [*seen, {"step": None, "image_auroc": last}]
    top = max(looks, key=lambda look: look["image_auroc"])
    return {
        "f1_test_threshold": best[0],
        "f1_ours": _f1(scores, labels, threshold),
        "recall_test_threshold": metrics.at_threshold(scores, labels, best[1]).recall,
        "false_alarm_rate_test_threshold": metrics.at_threshold(scores, labels, best[1]).false_alarm_rate,
        "image_auroc_best_step": top["image_auroc"] if seen else None,
        "best_step": top["step"] if seen else None,
        "looks": list(seen),
    }


def _f1(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    flagged = scores > threshold
    return float(2 * (flagged & labels).sum() / max(1, flagged.sum() + labels.sum()))
