"""Figures against scikit-learn's, and what happens where there are no masks, no labels or one class."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from tiny import FEATURES, SIZE, SSM_FEATURES, as_picture, planted, texture, write_dataset, write_textures
from unmask.datasets import load
from unmask.errors import DatasetError
from unmask.evaluation.dataset_metrics import size_groups
from unmask.evaluation.evaluate import evaluate
from unmask.imaging.images import resize_map
from unmask.inspection.inspector import Inspector
from unmask.training.trainer import Training
from unmask.types import Split

REQUIRED = {
    *("detector", "dataset", "n_normal", "n_heldout", "n_test", "image_auroc", "image_ap", "pixel_auroc", "pixel_ap"),
    *("aupro", "f1_max", "threshold", "false_alarm_rate", "recall", "ms_per_image"),
}
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "aupro")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return load(write_dataset(tmp_path_factory.mktemp("set") / "weave", 24))


@pytest.fixture(scope="module")
def inspector(split: Split) -> Inspector:
    return Inspector.fit(
        split,
        detector="isstad",
        settings=FEATURES,
        false_alarm_rate=0.3,
        training=Training(device="cpu"),
    )


def test_the_figures_are_those_of_scikit_learn(inspector: Inspector, split: Split) -> None:
    figures = evaluate(inspector, split)
    results = list(inspector.inspect_many([sample.path for sample in split.test]))
    labels = [sample.anomalous for sample in split.test]
    scores = [result.score for result in results]
    assert figures["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert figures["image_ap"] == pytest.approx(average_precision_score(labels, scores))


def test_rates_are_counted_at_the_model_s_own_threshold(inspector: Inspector, split: Split) -> None:
    scores = np.array([result.score for result in inspector.inspect_many([sample.path for sample in split.test])])
    labels = np.array([sample.anomalous for sample in split.test])
    threshold = (scores.min() + np.sort(scores)[1]) / 2  # all but one are flagged
    figures = evaluate(
        Inspector(
            inspector.backend,
            replace(inspector.calibration, threshold=float(threshold)),
            inspector.reading,
            inspector.facts,
        ),
        split,
    )
    flagged = scores > threshold
    assert figures["threshold"] == threshold
    assert figures["recall"] == flagged[labels].mean()
    assert figures["false_alarm_rate"] == flagged[~labels].mean()
    assert figures["precision"] == labels[flagged].mean()
    assert len({figures[name] for name in ("recall", "false_alarm_rate", "precision")}) == 3


@pytest.mark.parametrize("eval_size", [None, 32])
def test_pixel_figures_are_those_of_scikit_learn(inspector: Inspector, split: Split, eval_size: int | None) -> None:
    figures = evaluate(inspector, split, eval_size=eval_size)
    size = eval_size or SIZE
    values, truth = [], []
    for sample in split.test:
        values.append(resize_map(inspector.inspect(sample.path).map, size, size))
        mask = np.zeros((SIZE, SIZE), np.uint8)
        for path in sample.masks:
            mask = np.asarray(Image.open(path))
        truth.append(np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST)) > 0)
    flat, real = np.stack(values).ravel(), np.stack(truth).ravel()
    assert figures["pixel_auroc"] == pytest.approx(roc_auc_score(real, flat), abs=2e-3)
    assert figures["pixel_ap"] == pytest.approx(average_precision_score(real, flat), abs=5e-3)
    assert 0 <= figures["aupro"] <= 1


def test_all_agreed_figures_are_there(inspector: Inspector, split: Split) -> None:
    figures = evaluate(inspector, split)
    assert set(figures) >= REQUIRED
    assert (figures["detector"], figures["dataset"]) == ("isstad", "weave")
    assert (figures["n_normal"], figures["n_heldout"]) == (len(split.normals), len(split.held_out))
    assert figures["n_test"] == 6
    assert all(math.isfinite(figures[name]) for name in REQUIRED - {"detector", "dataset"})
    assert figures["ms_per_image"] > 0


def test_recall_is_told_by_kind_and_by_size(inspector: Inspector, split: Split) -> None:
    anomalous = [sample for sample in split.test if sample.anomalous]
    renamed = {sample.path: replace(sample, kind=f"kind {i % 2}") for i, sample in enumerate(anomalous)}
    mixed = replace(split, test=tuple(renamed.get(sample.path, sample) for sample in split.test))
    scores = [inspector.inspect(sample.path).score for sample in anomalous]
    threshold = float(np.sort(scores)[:2].mean())  # one defect is missed
    strict = replace(inspector.calibration, threshold=threshold)
    figures = evaluate(Inspector(inspector.backend, strict, inspector.reading, inspector.facts), mixed)
    found = np.array(scores) > threshold
    assert figures["recall_by_kind"] == {"kind 0": found[::2].mean(), "kind 1": found[1::2].mean()}
    assert next(iter(figures["recall_by_size"])).startswith("up to")
    assert 0 < min(figures["recall_by_size"].values()) + max(figures["recall_by_size"].values()) < 2


def test_sizes_come_in_thirds_the_smallest_first() -> None:
    groups = size_groups(np.array([0.5, 0.001, 0.01, 0.4, 0.002, 0.02]))
    assert groups.tolist() == ["larger", "up to 0.73 %", "to 15 %", "larger", "up to 0.73 %", "to 15 %"]
    assert len(set(size_groups(np.array([0.1, 0.1])))) == 1
    assert size_groups(np.array([])).tolist() == []


def test_without_masks_pixel_figures_are_null(inspector: Inspector, split: Split, tmp_path: Path) -> None:
    bare = load(write_dataset(tmp_path / "bare", 4, masks=False))
    figures = evaluate(inspector, bare, tmp_path / "report")
    assert [figures[name] for name in PIXEL_METRICS] == [None] * 3
    assert figures["image_auroc"] == evaluate(inspector, split)["image_auroc"]
    assert "null" in (tmp_path / "report" / "metrics.json").read_text(encoding="utf-8")


def test_one_class_has_no_ranking(inspector: Inspector, split: Split) -> None:
    good = replace(split, test=tuple(sample for sample in split.test if not sample.anomalous))
    figures = evaluate(inspector, good)
    assert (figures["image_auroc"], figures["recall"]) == (None, None)
    assert 0 <= figures["false_alarm_rate"] <= 1


def test_a_set_without_labels_is_refused_before_any_work(inspector: Inspector, tmp_path: Path) -> None:
    write_textures(tmp_path / "flat", 4)

    def progress(*_: Any) -> None:
        raise AssertionError("nothing may be inspected")

    with pytest.raises(DatasetError, match="no labelled test images") as caught:
        evaluate(inspector, load(tmp_path / "flat"), tmp_path / "report", progress=progress)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report").exists()


def test_the_report_holds_what_was_measured(inspector: Inspector, split: Split, tmp_path: Path) -> None:
    figures = evaluate(inspector, split, tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"index.html", "results.json", "results.parquet", "metrics.json"}
    by_kind = ", ".join(f"{kind}: {100 * share:.0f} %" for kind, share in figures["recall_by_kind"].items())
    assert by_kind in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert kept.pop("files") == {"seen": split.seen, "used": split.seen, "skipped": {}}
    assert kept == {"format": "unmask-metrics", "version": 1, **json.loads(json.dumps(figures))}
    results = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))["results"]
    assert [row["group"] for row in results] == [sample.kind for sample in split.test]
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert all(title in page for title in ("Images: ROC", "Pixels: ROC", "Regions: PRO"))
    evaluate(inspector, split, tmp_path / "report")  # a report is replaced by the next


def test_measuring_leaves_the_threshold_alone(inspector: Inspector, split: Split) -> None:
    before = inspector.calibration
    evaluate(inspector, split)
    assert inspector.calibration is before


def test_oct2017_s_protocol(tmp_path: Path) -> None:
    """SSM's: learn from train/NORMAL alone, judge the whole of test, NORMAL against the rest, by image AUROC only."""
    root = tmp_path / "OCT2017"
    for number, kind in enumerate(("NORMAL", "CNV", "DME", "DRUSEN")):
        for part, n in (("train", 24), ("val", 2), ("test", 3)):
            (root / part / kind).mkdir(parents=True)
            for i in range(n if kind == "NORMAL" or part != "train" else 2):
                image = texture(1000 * number + 100 * len(part) + i)
                picture = as_picture(image if kind == "NORMAL" else planted(image, x=16 * number))
                picture.save(root / part / kind / f"{kind}-{i}.jpeg", quality=95)
    split = load(root)
    inspector = Inspector.fit(
        split,
        detector="ssm",
        settings=SSM_FEATURES,
        false_alarm_rate=0.3,
        training=Training(device="cpu"),
    )
    figures = evaluate(inspector, split)
    assert inspector.facts["n_normal"] + inspector.facts["n_held_out"] == 24
    assert figures["n_test"] == 12
    assert figures["image_auroc"] == 1.0
    assert [figures[name] for name in PIXEL_METRICS] == [None] * 3
