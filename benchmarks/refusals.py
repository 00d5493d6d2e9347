"""Refusals: how many test images are not judged (none should be), and how many images of other products are.

Run from a checkout with the real images beside it; it fits the default on each set:

    python benchmarks/refusals.py ../shared/data -o benchmarks/results/refusals.json
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import unmask
from unmask.benchmark.cost import machine
from unmask.imaging.disturbances import drawn
from unmask.imaging.images import decode
from unmask.imaging.listing import list_images
from unmask.inspection.inspector import Inspector

TWICE_MILD = {"blur": 0.005, "jpeg": 65, "noise": 0.015, "motion": 0.015, "light": 0.2}
TWICE_MILD |= {"color": 0.06, "shift": 0.04, "turn": 4, "zoom": 0.03}
FEW = 6  # images of a class that are disturbed, spoilt or judged by other models


def refused(inspector: Inspector, images: Iterable[Any]) -> dict[str, Any]:
    """How many of some images are not judged."""
    results = list(inspector.inspect_many(images, on_error="record"))
    return {"images": len(results), "refused": sum(one.not_judged is not None for one in results)}


def few(paths: Sequence[Path], n: int = FEW) -> list[Path]:
    """Up to n of some paths, evenly spread."""
    return list(paths[:: max(1, len(paths) // n)][:n])


def array(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def spoilt(image: np.ndarray) -> dict[str, np.ndarray]:
    """An image that shows nothing, or not all."""
    random, h = np.random.default_rng(0), image.shape[1]
    noise = 0.01 * random.standard_normal(image.shape).astype(np.float32)
    cut = image.copy()
    cut[:, h // 2 :] = 0.5
    black = image.copy()
    black[:, h * 3 // 4 :] = 0
    lens_cap = np.clip(0.02 + noise, 0, 1)
    return {
        "black": np.zeros_like(image),
        "white": np.ones_like(image),
        "lens cap": lens_cap,
        "lower half grey": cut,
        "lower quarter black": black,
    }


def measured(folder: Path, tests: dict[str, tuple[list[Path], list[Path]]], models: Path | None) -> dict[str, Any]:
    """All of the model of one data set."""
    model = None if models is None else models / f"{folder.name}.unmask"
    inspector = unmask.fit(folder) if model is None else unmask.load(model, backend="torch")
    good, bad = tests[folder.name]
    found: dict[str, Any] = {"dataset": folder.name}
    found["good"], found["defective"] = refused(inspector, good), refused(inspector, bad)
    found["disturbed"] = {
        kind: refused(
            inspector,
            [
                array(drawn(decode(path), kind, amount, np.random.default_rng(i)))
                for i, path in enumerate([*few(good), *few(bad)])
            ],
        )
        for kind, amount in TWICE_MILD.items()
    }
    changed = [spoilt(decode(path)) for path in few(good)[:4]]
    found["spoilt"] = {kind: refused(inspector, [array(one[kind]) for one in changed]) for kind in changed[0]}
    found["others"] = {
        name: refused(inspector, [*few(others[0]), *few(others[1])])
        for name, others in tests.items()
        if name != folder.name
    }
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--most", type=int, default=10_000, help="good and defective test images of a set, each")
    parser.add_argument("--models", type=Path, help="folder of SET.unmask that unmask fit wrote, to save the time")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    start, folders = time.monotonic(), sorted(path for path in given.root.iterdir() if path.is_dir())
    tests = {}
    for folder in folders:
        kinds = sorted(path for path in (folder / "test").iterdir() if path.name != "good")
        tests[folder.name] = (
            few(list_images(folder / "test" / "good"), given.most),
            few([path for kind in kinds for path in list_images(kind)], given.most),
        )
    rows = []
    for folder in folders:
        rows.append(measured(folder, tests, given.models))
        print(json.dumps(rows[-1]), flush=True)
    found = {"rows": rows, "seconds": round(time.monotonic() - start), **machine(1)}
    given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
