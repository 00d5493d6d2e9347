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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from square_images import SquareImages
from unmask.benchmark.cost import machine
from unmask.benchmark.results import rows_of, write
from unmask.datasets import load
from unmask.detectors import build, find
from unmask.features.maps import CachedImages, CachedMaps
from unmask.inspection.guarantee import DEFAULT_RATE, best_rate
from unmask.inspection.pooling import without_copies
from unmask.training.trainer import Training

RESULTS = Path(__file__).parent / "results" / "kept_rate.json"
COUNTS = (20, 25, 40, 60)  # good images in all
FOLDS = 5
MOST = 250  # good images of a set that draws are taken from
MOST_TESTS = 40  # of a draw, and as many good images that were not drawn
BATCH = 32


class Encoded(CachedImages):
    """Images of which the maps alone are kept; no detector that is measured here asks for pixels."""

    def __getitem__(self, index: int) -> Tensor:
        return torch.empty(3, 0, 0)

    def subset(self, rows: Tensor) -> Encoded:
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
                if all(len(rows.get((dataset, n, way), {"kept": ()})["kept"]) > seed for way in ("split", "cross")):
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
    files = SquareImages([*pool, *tests], detector.image_size)
    return Good(Encoded(files, detector.maps.cache(files, Training(device="cpu"))), len(pool))


def drawn(detector: Any, good: Good, n: int, seed: int) -> list[dict[str, Any]]:
    """A row for each way to calibrate, with what one draw kept.

    A fit without the first fold, and the scores of that fold, are a split: a fifth is held out.
    """
    generator = torch.Generator().manual_seed(seed)
    order, cached = torch.randperm(good.n_pool, generator=generator), good.images.cached
    tests = torch.randperm(len(cached) - good.n_pool, generator=generator)[:MOST_TESTS] + good.n_pool
    used, rest = order[:n], order[n : n + MOST_TESTS]
    fold, training = torch.arange(len(used)) % FOLDS, Training(seed=seed, device="cpu")
    scores = np.empty(len(used))
    rows = []
    for k in range(FOLDS):
        detector.fit(good.images.subset(used[fold != k]), training)
        scores[fold == k] = scores_of(detector, cached.subset(used[fold == k]))
        if k == 0:
            rows.append({"calibration": "split", **_kept(detector, cached, scores[fold == 0], tests, rest)})
    detector.fit(good.images.subset(used), training)
    rows.append({"calibration": "cross", **_kept(detector, cached, scores, tests, rest)})
    return [{"n": n, "n_good": len(used), **row} for row in rows]


def _kept(detector: Any, cached: CachedMaps, scores: np.ndarray, tests: Tensor, rest: Tensor) -> dict[str, Any]:
    """The shares of good test images, and of other good images, above the threshold that scores give."""
    threshold, promised = _threshold(scores)
    kept, kept_rest = (
        [round(float((scores_of(detector, cached.subset(some)) > threshold).mean()), 4)] if len(some) else []
        for some in (tests, rest)
    )
    return {"n_scores": len(scores), "promised": promised, "kept": kept, "kept_rest": kept_rest}


def scores_of(detector: Any, cached: CachedMaps) -> np.ndarray:
    """Scores of images whose maps are known: the network is passed by."""
    network, found = detector.maps.forward, []
    try:
        for rows in torch.arange(len(cached)).split(BATCH):
            maps = cached.maps_of(rows)
            detector.maps.forward = lambda _, maps=maps: maps
            found.append(detector.predict(torch.empty(len(rows), 3, 1, 1)).scores)
    finally:
        detector.maps.forward = network
    return torch.cat(found).numpy()


def _threshold(scores: np.ndarray) -> tuple[float, float]:
    """The threshold of the default rate, or of the best that so many scores can promise; and that rate."""
    rate = max(DEFAULT_RATE, best_rate(len(scores)))
    found = without_copies(((float(score), np.full((1, 1), score)) for score in scores), rate)
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


if __name__ == "__main__":
    main()
