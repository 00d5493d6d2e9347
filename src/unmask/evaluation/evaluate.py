"""A fitted inspector against a labelled test set: the only place that opens a ground-truth mask, and opens it once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from unmask.datasets import read_mask, read_masks
from unmask.errors import DatasetError
from unmask.evaluation import metrics
from unmask.imaging import images
from unmask.inspection.calibration import Calibration
from unmask.inspection.inspector import Inspector
from unmask.report.charts import Chart
from unmask.report.page import Summary, write_report
from unmask.types import AnomalyResult, Sample, Split


class Measurement:
    """Takes results one by one, in the order of the samples, and keeps what the metrics need.

    Args:
        split: with a test set.
        eval_size: pixel metrics at eval_size x eval_size, to compare with papers; None = at the masks' own size.
    """

    def __init__(self, split: Split, eval_size: int | None = None) -> None:
        if not split.test:
            raise DatasetError(f"{split.name} ({split.layout}) has no labelled test images; evaluate needs some")
        self.split, self.eval_size = split, eval_size
        self.pixels = metrics.PixelMetrics() if split.has_masks else None
        self.results: list[tuple[float, bool, float]] = []
        self.areas: list[float] = []  # of each sample's defects, as a share of its image; 0 = no mask

    def watch(self, results: Iterable[AnomalyResult]) -> Iterator[AnomalyResult]:
        """Pass results on, measuring each."""
        for sample, result in zip(self.split.test, results, strict=True):
            self.results.append((result.score, result.is_anomalous, result.milliseconds["total"]))
            self.areas.append(0.0 if self.pixels is None else self._measure_pixels(self.pixels, sample, result))
            yield result

    def _measure_pixels(self, pixels: metrics.PixelMetrics, sample: Sample, result: AnomalyResult) -> float:
        """Count an image's pixels; the share of them that is a defect."""
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
        scores = np.array([score for score, _, _ in self.results])
        labels = np.array([sample.anomalous for sample in self.split.test])
        at_ours = metrics.at_threshold(scores, labels, calibration.threshold)
        f1 = metrics.f1_max(scores, labels)
        found = None if self.pixels is None else self.pixels.compute()
        return {
            "detector": detector,
            "dataset": self.split.name,
            "n_normal": n_normal,
            "n_heldout": calibration.n_held_out,
            "n_test": len(scores),
            "image_auroc": metrics.auroc(scores, labels),
            "image_auroc_interval": metrics.bootstrap_interval(scores, labels),
            "image_ap": metrics.average_precision(scores, labels),
            "pixel_auroc": found and found.auroc,
            "pixel_ap": found and found.average_precision,
            "aupro": found and found.aupro,
            "spro": found and found.spro,
            "f1_max": f1 and f1[0],
            "threshold": calibration.threshold,
            "promised_false_alarm_rate": calibration.false_alarm_rate,
            "false_alarm_rate": at_ours.false_alarm_rate,
            "recall": at_ours.recall,
            "precision": at_ours.precision,
            **self._recalls(labels),
            "ms_per_image": float(np.mean([ms for _, _, ms in self.results])),
        }

    def _recalls(self, labels: np.ndarray) -> dict[str, dict[str, float] | None]:
        """Recall at the calibrated threshold for each kind of defect, and for small, middle and large ones."""
        flagged = np.array([is_anomalous for _, is_anomalous, _ in self.results])
        kinds = np.array([sample.kind for sample in self.split.test])
        areas = np.array(self.areas)
        marked = np.argsort(areas, kind="stable")  # the smallest first
        marked = marked[(labels & (areas > 0))[marked]]
        return {
            "recall_by_kind": metrics.share_by_group(flagged[labels], kinds[labels]) or None,
            "recall_by_size": metrics.share_by_group(flagged[marked], size_groups(areas[marked])) or None,
        }

    def curves(self) -> list[Chart]:
        """ROC of images, and ROC and PRO of pixels where there are masks."""
        scores = np.array([score for score, _, _ in self.results])
        labels = np.array([sample.anomalous for sample in self.split.test])
        roc = metrics.roc_curve(scores, labels)
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


def evaluate(
    inspector: Inspector,
    split: Split,
    report: Path | None = None,
    *,
    eval_size: int | None = None,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> dict[str, Any]:
    """Score the test set once and measure.

    Args:
        inspector: fitted and calibrated without this test set.
        split: whose test set to use.
        report: a folder for index.html, results.json, results.parquet and metrics.json; None = write nothing.
        eval_size: see `Measurement`.
        progress: wraps the paths as they are taken.

    Raises:
        DatasetError: there is no test set, or a mask does not fit its image.
    """
    measurement = Measurement(split, eval_size)
    results = measurement.watch(inspector.inspect_many(progress([sample.path for sample in split.test])))

    def figures() -> dict[str, Any]:
        return measurement.figures(inspector.facts["detector"], inspector.facts["n_normal"], inspector.calibration)

    if report is None:
        for _ in results:
            pass
        return figures()

    def summary() -> Summary:
        found = figures()
        shown: dict[str, float | int | str | None] = {
            name: value for name, value in found.items() if isinstance(value, float | int | None)
        }
        shown |= {name: _in_words(value) for name, value in found.items() if isinstance(value, dict)}
        return Summary(shown, measurement.curves(), [sample.kind for sample in split.test])

    facts = {**inspector.facts, "test set": f"{split.name} ({split.layout})"}
    page = write_report(
        report, results, title=split.name, calibration=inspector.calibration, model=facts, summary=summary
    )
    found = figures()
    _write_json(page.with_name("metrics.json"), found)
    return found


def _in_words(shares: dict[str, float]) -> str:
    return ", ".join(f"{name}: {100 * share:.0f} %" for name, share in shares.items())


def _write_json(path: Path, values: dict[str, Any]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
