"""Does the sensitivity card agree with recall on real defects? One fit of the default a data set and seed.

    python benchmarks/sensitivity.py ../shared/data/* --seeds 0

Each defect that has a mask is compared with planted marks: how much of it is how much darker or brighter than what
surrounds it, and long or round. The card gives the share of such marks that is found; its mean over small, middle and
large defects stands beside recall. So that there is something to tell apart, that is done at the model's own threshold,
with the card of the fit, and at two higher ones, with cards made on the good test images. Labels are used here alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

import unmask
from unmask.benchmark.cost import machine
from unmask.benchmark.results import write
from unmask.datasets import load, read_mask
from unmask.imaging.images import decode
from unmask.imaging.planted import BRIGHT, DARK, SCRATCH
from unmask.inspection.inspector import Inspector
from unmask.inspection.sensitivity import FAINT, STRONG, card
from unmask.training.trainer import Training
from unmask.types import Sample, Split

RESULTS = Path(__file__).parent / "results" / "sensitivity.json"
RAISED = (0, 1, 2)
"""Thresholds: so many times further above the median of good test images than the model's own, plus one."""
LEVELS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)  # contrasts at which the area of a defect is measured
SLENDER = 6  # times as long as wide: a scratch
SIZES = ("small", "middle", "large")


def main() -> None:
    """Measure what is missing; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    asked = parser.parse_args()
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    for seed in asked.seeds:
        for dataset in (path for path in asked.datasets if path.is_dir()):
            if not any((row["dataset"], row["seed"]) == (dataset.name, seed) for row in rows):
                rows += measured(dataset, seed)
                write(RESULTS, {"command": " ".join(["python", *sys.argv]), "agreement": agreement(rows), "rows": rows})
                print(dataset.name, seed, agreement(rows), flush=True)


def measured(dataset: Path, seed: int, **options: Any) -> list[dict[str, Any]]:
    """Fit once, judge the test images once, and compare at each threshold."""
    split = load(dataset, seed=seed)
    inspector = unmask.fit(dataset, seed=seed, **options)
    scores = np.array([one.score for one in inspector.inspect_many([sample.path for sample in split.test])])
    bad = np.array([sample.anomalous for sample in split.test])
    defects = [visible(sample) if sample.masks else None for sample in split.test]
    own = inspector.calibration.threshold
    rows = []
    for raised in RAISED:
        threshold = own + raised * (own - float(np.median(scores[~bad])))
        found = inspector.facts["sensitivity"] if raised == 0 else _card(inspector, split, threshold)
        if found is None:
            continue
        row = {
            "dataset": dataset.name,
            "seed": seed,
            "raised": raised,
            "recall": round(float((scores > threshold)[bad].mean()), 4),
            "false_alarm_rate": round(float((scores > threshold)[~bad].mean()), 4),
            "share_of_marks": round(float(np.mean([one["found"] for one in found["rows"]])), 4),
            "bins": _bins(defects, scores > threshold, found),
        }
        rows.append({**row, "card": found, **machine()})
    return rows


def agreement(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How well cards and recall agree: over bins of defects with masks, and over whole data sets by the card alone."""
    bins = np.array([(one["predicted"], one["recall"]) for row in rows for one in row["bins"]]).reshape(-1, 2)
    sets = np.array([(row["share_of_marks"], row["recall"]) for row in rows]).reshape(-1, 2)
    plain = [row for row in rows if row["raised"] == 0]
    own = np.array([(one["predicted"], one["recall"]) for row in plain for one in row["bins"]])
    own_sets = np.array([(row["share_of_marks"], row["recall"]) for row in plain]).reshape(-1, 2)
    return {
        "bins": {**_compared(bins), "own_threshold": _compared(own.reshape(-1, 2))},
        "sets": {
            "n": len(sets),
            "rank_correlation": _rank_correlation(sets),
            "own_threshold": {"n": len(own_sets), "rank_correlation": _rank_correlation(own_sets)},
        },
    }


def visible(sample: Sample) -> dict[str, Any] | None:
    """How much of a defect is how much darker or brighter than what surrounds it; None where its mask is empty.

    Returns:
        `area` in pixels, `is_slender`, and `areas`: for each kind of spot and contrast the pixels that differ at least
        so much, less those that would by the look of the surroundings.
    """
    brightness = decode(sample.path).mean(axis=0)
    mask = read_mask(sample, *brightness.shape)
    area = int(mask.sum())
    if area == 0:
        return None
    ring = _grown(mask, int(np.clip(area**0.5 / 3, 3, 24))) & ~_grown(mask, 1)
    around = brightness[ring if ring.any() else ~mask]
    level = float(np.median(around))
    areas = {}
    for kind, sign, room in ((DARK, 1, level), (BRIGHT, -1, 1 - level)):
        inside, outside = (sign * (level - one) / max(room, 0.02) for one in (brightness[mask], around))
        areas[kind] = [float((inside >= at).sum() - area * (outside >= at).mean()) for at in LEVELS]
    spread = np.cov(np.stack(np.nonzero(mask))) + np.eye(2) / 12 if area > 1 else np.eye(2) / 12
    length = float(np.sqrt(12 * np.linalg.eigvalsh(spread)[1]))
    return {"area": area, "is_slender": length * length / area >= SLENDER, "areas": areas}


def predicted(defect: dict[str, Any], found: dict[str, Any]) -> float:
    """The share of marks like a defect that a card says are found: by the kind and contrast that show it best."""
    rows = {(row["kind"], row["contrast"]): row for row in found["rows"]}
    best = 0.0
    for spot, areas in defect["areas"].items():
        kind = SCRATCH if defect["is_slender"] else spot
        for contrast, area in zip(LEVELS, areas, strict=True):
            if area > 1:
                size = 4 * area**0.5 if kind == SCRATCH else (4 * area / np.pi) ** 0.5  # of the mark of that area
                shares = [0.0, *(_share(rows[kind, level], size) for level in (FAINT, STRONG))]
                best = max(best, float(np.interp(contrast, [0, FAINT, STRONG], shares)))
    return best


def _share(row: dict[str, Any], size: float) -> float:
    return float(np.interp(np.log(size), np.log(row["sizes"]), row["found"]))


def _card(inspector: Inspector, split: Split, threshold: float) -> dict[str, Any] | None:
    """A card for another threshold, on good test images."""
    good = [sample.path for sample in split.test if not sample.anomalous]
    calibration = replace(inspector.calibration, threshold=threshold)
    return card(inspector.backend.predict, inspector.reading, good, calibration, Training())


def _bins(defects: list[dict[str, Any] | None], is_flagged: np.ndarray, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Thirds of the defects with masks, by area: how many, the share that the card predicts, and recall."""
    there = [(one["area"], predicted(one, found), flag) for one, flag in zip(defects, is_flagged, strict=True) if one]
    if not there:
        return []
    areas, expected, flagged = (np.array(column, float) for column in zip(*there, strict=True))
    third = np.searchsorted(np.quantile(areas, [1 / 3, 2 / 3]), areas)
    return [
        {
            "size": name,
            "n": int((third == number).sum()),
            "predicted": round(float(expected[third == number].mean()), 4),
            "recall": round(float(flagged[third == number].mean()), 4),
        }
        for number, name in enumerate(SIZES)
        if (third == number).any()
    ]


def _compared(pairs: np.ndarray) -> dict[str, Any]:
    if not len(pairs):
        return {"n": 0}
    off = pairs[:, 0] - pairs[:, 1]
    return {
        "n": len(pairs),
        "rank_correlation": _rank_correlation(pairs),
        "mean_difference": round(float(off.mean()), 3),
        "mean_distance": round(float(np.abs(off).mean()), 3),
    }


def _rank_correlation(pairs: np.ndarray) -> float | None:
    """Spearman's; None where one side has only one value."""
    if len(pairs) < 3 or (np.ptp(pairs, axis=0) == 0).any():
        return None
    return round(float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic), 3)


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


if __name__ == "__main__":
    main()
