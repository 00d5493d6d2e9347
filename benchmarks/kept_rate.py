"""Is the promised false-alarm rate kept with few good images? Split and cross calibration side by side, many draws.

    python benchmarks/kept_rate.py ../shared/data/*/ --seeds 20

The network sees each image once. A draw takes n of a set's good images, and the detector is fitted and calibrated on
them in two ways: a fifth held out (split), or each fold scored by a detector that has learned the others, and all of
them learned in the end (cross). Kept is the share of good test images above the threshold, and likewise of good images
of the same folder that were not drawn: those are alike but for chance, as the guarantee asks. Images are not disturbed,
in the fit or after it. Draws that are there are not made again.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from square_images import SquareImages
from unmask.benchmark.cost import machine
from unmask.benchmark.results import rows_of, write
from unmask.datasets import load
from unmask.detectors import build, find
from unmask.features.maps import CachedImages, CachedMaps
from unmask.inspection.calibration import DEFAULT_RATE, Calibration, best_rate
from unmask.inspection.fitting import HELD_OUT_SHARE
from unmask.training.trainer import Training

RESULTS = Path(__file__).parent / "results" / "kept_rate.json"
COUNTS = (20, 25, 40, 60)  # good images in all
FOLDS = 5
MOST = 250  # good images of a set that draws are taken from
MOST_TESTS = 60
BATCH = 32


class Encoded(CachedImages):
    """Images of which the maps alone are kept; no detector that is measured here asks for pixels."""

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.empty(3, 0, 0)

    def subset(self, rows: torch.Tensor) -> Encoded:
        """The images with these numbers only."""
        return Encoded(self.images, self.cached.subset(rows))


class Good(NamedTuple):
    """Good images of a set, encoded.

    Attributes:
        images: all of them.
        n_pool: how many of them draws are taken from; the others are test images.
    """

    images: Encoded
    n_pool: int


def main() -> None:
    """Measure what is missing, a draw of everything at a time; see the module."""
    asked = _arguments()
    what = {"detector": asked.detector, "preset": "fast", "settings": dict(asked.set)}
    detector: Any = build(find(asked.detector), "fast", what["settings"])
    sets = {folder.name: encoded(detector, folder) for folder in asked.datasets}
    stored = rows_of(RESULTS) if RESULTS.exists() else []
    rows = {_key(row): row for row in stored if what.items() <= row.items()}
    for seed in range(asked.seeds):
        for dataset, good in sets.items():
            for n in COUNTS:
                if all(len(rows.get((dataset, n, way), {"kept": ()})["kept"]) > seed for way in WAYS):
                    continue
                for row in drawn(detector, good, n, seed):
                    fresh = {"dataset": dataset, **what, **row, **machine()}
                    rows[_key(fresh)] = _joined(rows.get(_key(fresh)), fresh)
        write(RESULTS, {"command": " ".join(["python", *sys.argv]), "rows": list(rows.values())})
        print(f"draw {seed + 1} of {asked.seeds}", flush=True)


def encoded(detector: Any, folder: Path) -> Good:
    """The good images to learn from, and the good test images, through the network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        split = load(folder)
    normals = sorted((*split.normals, *split.held_out))
    pool = [normals[int(i)] for i in torch.linspace(0, len(normals) - 1, min(MOST, len(normals)))]
    tests = [sample.path for sample in split.test if not sample.anomalous]
    tests = [tests[i * len(tests) // MOST_TESTS] for i in range(MOST_TESTS)] if len(tests) > MOST_TESTS else tests
    files = SquareImages([*pool, *tests], detector.image_size)
    return Good(Encoded(files, detector.maps.cache(files, Training(device="cpu"))), len(pool))


def drawn(detector: Any, good: Good, n: int, seed: int) -> list[dict[str, Any]]:
    """A row for each way to calibrate, with what one draw kept."""
    used = min(n, good.n_pool)
    order = torch.randperm(good.n_pool, generator=torch.Generator().manual_seed(seed))
    tests, rest = torch.arange(good.n_pool, len(good.images)), order[used : used + MOST_TESTS]
    rows = []
    for way, calibrated in WAYS.items():
        scores = calibrated(detector, good.images.subset(order[:used]), Training(seed=seed, device="cpu"))
        threshold, promised = _threshold(scores)
        kept = [
            [round(float((scores_of(detector, good.images.cached.subset(some)) > threshold).mean()), 4)]
            for some in (tests, rest)
            if len(some)
        ]
        facts = {"n": n, "n_good": used, "calibration": way, "n_scores": len(scores), "promised": promised}
        rows.append({**facts, "kept": kept[0], "kept_rest": [one for more in kept[1:] for one in more]})
    return rows


def split(detector: Any, good: Encoded, training: Training) -> np.ndarray:
    """Fit on four fifths; the scores of the others."""
    n_held_out = max(1, round(HELD_OUT_SHARE * len(good)))
    detector.fit(good.subset(torch.arange(n_held_out, len(good))), training)
    return scores_of(detector, good.cached.subset(torch.arange(n_held_out)))


def cross(detector: Any, good: Encoded, training: Training) -> np.ndarray:
    """Fit without each fold, and on all in the end; the scores of all images, each by a fit that has not seen it."""
    fold = torch.arange(len(good)) % FOLDS  # they come in a random order
    scores = np.empty(len(good))
    for k in range(FOLDS):
        aside = torch.nonzero(fold == k).flatten()
        detector.fit(good.subset(torch.nonzero(fold != k).flatten()), training)
        scores[aside.numpy()] = scores_of(detector, good.cached.subset(aside))
    detector.fit(good, training)
    return scores


def scores_of(detector: Any, cached: CachedMaps) -> np.ndarray:
    """Scores of images whose maps are known: the network is passed by."""
    network = detector.maps.forward
    detector.maps.forward = cached.maps_of
    try:
        return torch.cat([detector.predict(rows).scores for rows in torch.arange(len(cached)).split(BATCH)]).numpy()
    finally:
        detector.maps.forward = network


def _threshold(scores: np.ndarray) -> tuple[float, float]:
    """The threshold of the default rate, or of the best that so many scores can promise; and that rate."""
    rate = max(DEFAULT_RATE, best_rate(len(scores)))
    found = Calibration.from_normals(((float(score), np.full((1, 1), score)) for score in scores), rate)
    return found.threshold, rate


def _key(row: Mapping[str, Any]) -> tuple[str, int, str]:
    return row["dataset"], row["n"], row["calibration"]


def _joined(row: Mapping[str, Any] | None, fresh: dict[str, Any]) -> dict[str, Any]:
    """A row with one draw more."""
    return fresh if row is None else {**fresh, **{key: [*row[key], *fresh[key]] for key in ("kept", "kept_rest")}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--detector", default="fuse")
    parser.add_argument("--set", action="append", default=[], type=lambda text: tuple(text.split("=", 1)))
    parser.add_argument("--seeds", type=int, default=20, help="number of draws")
    return parser.parse_args()


WAYS: dict[str, Callable[[Any, Encoded, Training], np.ndarray]] = {"split": split, "cross": cross}

if __name__ == "__main__":
    main()
