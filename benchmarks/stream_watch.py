"""The watch over a stream: how often it warns for nothing, and how soon it warns of each disturbance.

Run from a checkout with the real images beside it; it needs no model and takes some minutes:

    python benchmarks/stream_watch.py ../shared/data -o benchmarks/results/stream_watch.json

1. Exchangeable numbers, as many normal ones as a fit may have, and streams of 10,000: warnings are counted.
2. The same with the measures of real good images (learned and tested on, in one heap), drawn with replacement.
3. Real streams in the order of the files: a model's good images, then the good test images as they come. Nothing is
   disturbed on purpose, but these images need not be like those that were learned.
4. Good images as in 2, then, from image 101 on, good test images disturbed all alike.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask.benchmark.cost import machine
from unmask.imaging.disturbances import drawn
from unmask.imaging.images import decode
from unmask.imaging.listing import list_images
from unmask.imaging.measures import View, view_of
from unmask.inspection.usual import Usual
from unmask.inspection.watch import WORDINGS, StreamWatch

MILD = {"blur": 0.0025, "jpeg": 80, "noise": 0.0075, "motion": 0.0075, "light": 0.1}
MILD |= {"color": 0.03, "shift": 0.02, "turn": 2, "zoom": 0.015}
STRONG = {kind: 65 if kind == "jpeg" else 2 * amount for kind, amount in MILD.items()}
LENGTH = 10_000
NORMALS = (20, 50, 200)
BEFORE, AFTER = 100, 300  # images before and after a disturbance begins
MOST = 200  # images of a part of a data set that are measured

Numbers = list[dict[str, float]]


def first_warning(normals: Numbers, stream: Numbers, is_raw: bool = False) -> StreamWatch:
    """A watch that has seen a stream, up to its warning."""
    watch = StreamWatch({name: [row[name] for row in normals] for name in normals[0]}, np.inf)
    for row in stream:
        score = row.get("score") if is_raw else None
        if watch.add({name: value for name, value in row.items() if name != "score"}, score):
            break
    return watch


def exchangeable(n: int, streams: int) -> dict[str, int]:
    """Warnings on numbers that are all alike, the score among them."""
    warned, images = 0, 0
    for seed in range(streams):
        random = np.random.default_rng([n, seed])
        rows = [dict(zip(WORDINGS, row, strict=True)) for row in random.standard_normal((n + LENGTH, len(WORDINGS)))]
        watch = first_warning(rows[:n], rows[n:], is_raw=True)
        warned, images = warned + (watch.change is not None), images + watch.seen
    return {"n_normal": n, "streams": streams, "images": images, "warnings": warned}


def resampled(heap: Numbers, n: int, streams: int) -> dict[str, int]:
    """Warnings on real good images in a random order, normal ones and new ones from one heap."""
    warned, images = 0, 0
    for seed in range(streams):
        random = np.random.default_rng([n, seed])
        rows = [heap[i] for i in random.integers(0, len(heap), n + LENGTH)]
        watch = first_warning(rows[:n], rows[n:])
        warned, images = warned + (watch.change is not None), images + watch.seen
    return {"n_normal": n, "streams": streams, "images": images, "warnings": warned}


def views(paths: Sequence[Path]) -> list[View]:
    step = max(1, len(paths) // MOST)
    return [view_of(decode(path)) for path in paths[::step][:MOST]]


def disturbed(usual: Usual, paths: Sequence[Path], kind: str, amount: float, seed: int) -> Numbers:
    """Test images disturbed all alike, as many as there are up to 20."""
    some = paths[:: max(1, len(paths) // 20)][:20]
    return [usual.numbers(view_of(drawn(decode(path), kind, amount, np.random.default_rng(seed)))) for path in some]


def delays(usual: Usual, heap: Numbers, tests: Sequence[Path], level: dict[str, float]) -> dict[str, Any]:
    """Of each kind, for three seeds: images until the warning, the error of its beginning, and the line."""
    found: dict[str, Any] = {}
    for kind, amount in level.items():
        found[kind] = []
        for seed in range(3):
            random = np.random.default_rng(seed)
            after = disturbed(usual, tests, kind, amount, seed)
            rows = [heap[i] for i in random.integers(0, len(heap), 100 + BEFORE)]
            stream = rows[100:] + [after[i] for i in random.integers(0, len(after), AFTER)]
            change = first_warning(rows[:100], stream).change
            if change is None:
                found[kind].append(None)
                continue
            off = change.since - BEFORE - 1
            found[kind].append({"delay": change.noticed - BEFORE, "since_off": off, "line": str(change)})
    return found


def real(folder: Path) -> dict[str, Any]:
    """All of one data set."""
    learned, tests = list_images(folder / "train" / "good"), list_images(folder / "test" / "good")
    normal, new = views(learned), views(tests)
    usual = Usual.of(normal, [])
    first, later = [usual.numbers(view) for view in normal], [usual.numbers(view) for view in new]
    heap = [*first, *later]
    in_order = first_warning(first, later).change
    return {
        "dataset": folder.name,
        "resampled": [resampled(heap, n, 2) for n in NORMALS],
        "in_file_order": None if in_order is None else str(in_order),
        "n_in_file_order": len(later),
        "mild": delays(usual, heap, tests, MILD),
        "twice_mild": delays(usual, heap, tests, STRONG),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=20)
    given = parser.parse_args()
    start = time.monotonic()
    found: dict[str, Any] = {"exchangeable": [exchangeable(n, given.streams) for n in NORMALS], "real": []}
    print(found["exchangeable"], flush=True)
    for folder in sorted(path for path in given.root.iterdir() if path.is_dir()):
        found["real"].append(real(folder))
        print(json.dumps(found["real"][-1]), flush=True)
    found |= {"seconds": round(time.monotonic() - start), **machine(1)}
    given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
