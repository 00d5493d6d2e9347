"""Do parts that do not lie still keep their verdicts? Test images are shifted and turned by a program, and aligned.

    python benchmarks/align.py ../shared/data/mvtec_bottle ../shared/data/mvtec_transistor_nomask --seeds 0

One model is fitted without an alignment, and one with each. The same test images are judged as they are, and displaced:
shifted by up to a quarter of their sides, and with "turn" by any angle; what comes into view is the image mirrored.
"known" is the alignment by the displacement itself: what it misses has left the photograph. Rows that are there are
not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import unmask
from unmask.benchmark.cost import machine
from unmask.benchmark.results import write
from unmask.evaluation.metrics import at_threshold, auroc
from unmask.imaging.alignment import Posed
from unmask.imaging.disturbances import moved
from unmask.imaging.images import decode, resize_map
from unmask.imaging.poses import Pose, brought
from unmask.inspection.inspector import Inspector
from unmask.inspection.scoring import Reading
from unmask.types import AnomalyResult, Sample, Split

RESULTS = Path(__file__).parent / "results" / "align.json"
WAYS = ("shift", "turn")
REACH = 0.25


class Move(NamedTuple):
    """How a test image is displaced: shares of the sides, and degrees."""

    right: float
    down: float
    degrees: float


class Known(Reading):
    """A reading that is told where the part lies."""

    pose: Pose = Pose()

    def posed(self, image: np.ndarray) -> Posed:
        """The image in the usual pose, by the pose that it is told."""
        assert self.alignment is not None
        view = resize_map(self.alignment.judged, *image.shape[1:])
        return Posed(brought(image, self.pose, view, self.alignment.good_parts), self.pose)


def main() -> None:
    """Measure what is missing; see the module."""
    asked = _arguments()
    rows = json.loads(RESULTS.read_text())["align"] if RESULTS.exists() else []
    for seed in asked.seeds:
        for folder in asked.datasets:
            if any((row["dataset"], row["seed"]) == (folder.name, seed) for row in rows):
                continue
            for row in measured(folder, seed):
                rows.append({"dataset": folder.name, "seed": seed, **row, **machine()})
                print(*list(rows[-1].items())[:9], flush=True)
            write(RESULTS, {"command": " ".join(["python", *sys.argv]), "align": rows})


def measured(folder: Path, seed: int) -> list[dict[str, Any]]:
    """All rows of one data set and seed."""
    split = unmask.load_dataset(folder, seed=seed)
    plain = _fitted(split, seed, "none")
    rows = [{"displaced": "no", "align": "none", **_figures(split.test, _judged(plain, split.test))}]
    for way in WAYS:
        moves = _moves(len(split.test), way, seed)
        aligned = _fitted(split, seed, way)
        resting = _judged(aligned, split.test)
        rows += [
            {"displaced": way, "align": "none", **_figures(split.test, _judged(plain, split.test, moves))},
            {"displaced": "no", "align": way, **_figures(split.test, resting)},
            {"displaced": way, "align": way, **_figures(split.test, _judged(aligned, split.test, moves))},
            {"displaced": way, "align": "known", **_figures(split.test, _known(aligned, split.test, moves, resting))},
        ]
    return rows


def _fitted(split: Split, seed: int, way: str) -> Inspector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return unmask.fit(split, seed=seed, align=way)


def _moves(n: int, way: str, seed: int) -> list[Move]:
    random = np.random.default_rng(seed)
    turns = random.uniform(-180, 180, n) if way == "turn" else np.zeros(n)
    return [
        Move(float(x), float(y), float(turn))
        for (x, y), turn in zip(random.uniform(-REACH, REACH, (n, 2)), turns, strict=True)
    ]


def _judged(inspector: Inspector, samples: Sequence[Sample], moves: Sequence[Move] = ()) -> list[AnomalyResult]:
    return [inspector.inspect(_displaced(sample, i, moves)) for i, sample in enumerate(samples)]


def _displaced(sample: Sample, number: int, moves: Sequence[Move]) -> np.ndarray:
    image = decode(sample.path)
    image = moved(image, *moves[number]) if moves else image
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def _known(
    inspector: Inspector, samples: Sequence[Sample], moves: Sequence[Move], resting: Sequence[AnomalyResult]
) -> list[AnomalyResult]:
    """Judged in the pose that follows from the displacement, and from the pose of the image before it."""
    found = []
    for i, (sample, move, before) in enumerate(zip(samples, moves, resting, strict=True)):
        old = before.pose or Pose().to_dict()
        cos, sin = math.cos(math.radians(move.degrees)), math.sin(math.radians(move.degrees))
        right, down = cos * old["right"] + sin * old["down"], cos * old["down"] - sin * old["right"]
        reading = Known(**{name: getattr(inspector.reading, name) for name in ("tiling", "options", "alignment")})
        object.__setattr__(
            reading, "pose", Pose(move.right + right, move.down + down, move.degrees + old["degrees"] or 0.0)
        )
        told = Inspector(inspector.backend, inspector.calibration, reading, inspector.facts)
        found.append(told.inspect(_displaced(sample, i, moves)))
    return found


def _figures(samples: Sequence[Sample], results: Sequence[AnomalyResult]) -> dict[str, Any]:
    labels = np.array([sample.anomalous for sample in samples])
    scores = np.array([result.score for result in results])
    rates = at_threshold(scores, labels, results[0].threshold)
    aligned = [result.pose for result in results if result.pose is not None]
    return {
        "image_auroc": auroc(scores, labels),
        "false_alarm_rate": rates.false_alarm_rate,
        "recall": rates.recall,
        "found": len(aligned),
        "seen": round(float(np.mean([pose["seen"] for pose in aligned])), 3) if aligned else None,
        "n_test": len(samples),
        "decode_ms": round(float(np.median([result.milliseconds["decode"] for result in results])), 1),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    return parser.parse_args()


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
