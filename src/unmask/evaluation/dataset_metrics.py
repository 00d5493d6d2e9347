"""The figures of a labelled test set, gathered one result at a time; ground-truth masks are opened here."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from unmask.datasets import read_mask, read_masks
from unmask.errors import SettingError
from unmask.evaluation import metrics
from unmask.evaluation.pixel_metrics import PixelMetrics
from unmask.imaging import images
from unmask.inspection.calibration import Calibration
from unmask.report.charts import Chart
from unmask.types import AnomalyResult, Sample


class DatasetMetrics:
    """Gathers what the metrics need of each result.

    Args:
        name: of the data set.
        has_masks: whether there are masks, so that pixels can be measured.
        eval_size: pixel metrics at eval_size x eval_size, to compare with papers; None = at the masks' own size.

    Raises:
        SettingError: eval_size is below 1.
    """

    def __init__(self, name: str, *, has_masks: bool, eval_size: int | None = None) -> None:
        if eval_size is not None and eval_size < 1:
            raise SettingError(f"an eval size of {eval_size} pixels is out of range; give 1 or more, such as 256")
        self.name, self.eval_size = name, eval_size
        self.pixels = PixelMetrics() if has_masks else None
        self.samples: list[Sample] = []
        self.results: list[tuple[float, bool, float]] = []  # score, verdict, milliseconds
        self.n_not_judged = 0  # that `inspect` would refuse: nothing like the good images
        self.areas: list[float] = []  # of each sample's defects, as a share of its image; 0 = no mask

    @property
    def scores(self) -> Float[np.ndarray, " n"]:
        """The image scores so far."""
        return np.array([score for score, _, _ in self.results])

    @property
    def labels(self) -> Bool[np.ndarray, " n"]:
        """True where a sample is a defect."""
        return np.array([sample.anomalous for sample in self.samples])

    def update(self, sample: Sample, result: AnomalyResult) -> None:
        """Take in one result.

        Raises:
            DatasetError: a mask of the sample cannot be read.
            UnmaskError: its size is not that of the map, or the map holds NaN.
        """
        self.samples.append(sample)
        self.results.append((result.score, result.is_anomalous, result.milliseconds["total"]))
        self.n_not_judged += result.not_judged is not None
        self.areas.append(0.0 if self.pixels is None else self._count_pixels(self.pixels, sample, result))

    def _count_pixels(self, pixels: PixelMetrics, sample: Sample, result: AnomalyResult) -> float:
        """Count an image's pixels; return the share of them that is a defect."""
        h, w = result.map.shape if self.eval_size is None else (self.eval_size, self.eval_size)
        anomaly_map = result.map if self.eval_size is None else images.resize_map(result.map, h, w)
        if sample.saturation and self.eval_size is None:
            masks = read_masks(sample)
            pixels.update(anomaly_map, masks, sample.saturation)
            return float(np.logical_or.reduce(masks).mean())
        mask = read_mask(sample, h, w)
        pixels.update(anomaly_map, mask)
        return float(mask.mean())

    def figures(self, detector: str, n_normal: int, calibration: Calibration) -> dict[str, Any]:
        """The figures of `metrics.json`; None where there are no masks or only one class.

        Args:
            detector: its name.
            n_normal: how many images it learned from.
            calibration: whose threshold counts.
        """
        at_ours = metrics.at_threshold(self.scores, self.labels, calibration.threshold)
        return {
            "detector": detector,
            "dataset": self.name,
            "n_normal": n_normal,
            "n_heldout": calibration.n_held_out,
            "n_test": len(self.results),
            "n_not_judged": self.n_not_judged,
            **self._areas_under_curves(),
            "threshold": calibration.threshold,
            "promised_false_alarm_rate": calibration.false_alarm_rate,
            "false_alarm_rate": at_ours.false_alarm_rate,
            "recall": at_ours.recall,
            "precision": at_ours.precision,
            **self._recalls(),
            "ms_per_image": float(np.mean([ms for _, _, ms in self.results])),
        }

    def _areas_under_curves(self) -> dict[str, Any]:
        """What depends on the order of scores only, of images and of pixels."""
        scores, labels = self.scores, self.labels
        f1 = metrics.f1_max(scores, labels)
        found = None if self.pixels is None else self.pixels.compute()
        return {
            "image_auroc": metrics.auroc(scores, labels),
            "image_auroc_interval": metrics.bootstrap_interval(scores, labels),
            "image_ap": metrics.average_precision(scores, labels),
            "pixel_auroc": found and found.auroc,
            "pixel_ap": found and found.average_precision,
            "aupro": found and found.aupro,
            "spro": found and found.spro,
            "f1_max": f1 and f1[0],
        }

    def _recalls(self) -> dict[str, dict[str, float] | None]:
        """Recall at the calibrated threshold for each kind of defect, and for small, middle and large ones."""
        labels = self.labels
        flagged = np.array([is_anomalous for _, is_anomalous, _ in self.results])
        kinds = np.array([sample.kind for sample in self.samples])
        areas = np.array(self.areas)
        marked = np.argsort(areas, kind="stable")  # the smallest first
        marked = marked[(labels & (areas > 0))[marked]]
        return {
            "recall_by_kind": metrics.share_by_group(flagged[labels], kinds[labels]) or None,
            "recall_by_size": metrics.share_by_group(flagged[marked], size_groups(areas[marked])) or None,
        }

    def curves(self) -> list[Chart]:
        """ROC of images, and ROC and PRO of pixels where there are masks."""
        roc = metrics.roc_curve(self.scores, self.labels)
        charts = [] if roc is None else [Chart("Images: ROC", "false-alarm rate", "recall", *roc)]
        found = None if self.pixels is None else self.pixels.compute()
        if found and found.roc and found.pro:
            charts.append(Chart("Pixels: ROC", "false-positive rate of pixels", "recall of pixels", *found.roc))
            charts.append(Chart("Regions: PRO", "false-positive rate of pixels", "overlap of regions", *found.pro, 0.3))
        return charts


def size_groups(areas: Float[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Names for defects by the share of the image that they cover: three groups of about as many images each."""
    low, high = np.quantile(areas, [1 / 3, 2 / 3]) if len(areas) else (0.0, 0.0)
    names = [f"up to {100 * low:.2g} %", f"to {100 * high:.2g} %", "larger"]
    return np.array(names)[np.searchsorted([low, high], areas)]
