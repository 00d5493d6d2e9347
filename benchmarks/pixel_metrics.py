"""Pixel metrics of 100 maps of 1024 x 1024 from the disk: ours beside adeval and scikit-learn, in one run.

    python benchmarks/pixel_metrics.py

Run it in an environment of its own that holds benchmarks/adeval-requirements.txt, with src on PYTHONPATH. Each tool
reads the same files in a process of its own, on one thread. scikit-learn sorts all pixels at once: its figures are
exact and are what the others are compared with. AUPRO is, for it, a ROC in which a defect pixel weighs 1 / (area of its
region). Results go to benchmarks/results/pixel_metrics.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

N, SIDE, SEED, LIMIT = 100, 1024, 0, 0.3
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Write the maps once, then let each tool read them; see the module."""
    if len(sys.argv) == 3:
        print(json.dumps(measured(TOOLS[sys.argv[1]], Path(sys.argv[2]))))
        return
    from unmask.benchmark.cost import machine
    from unmask.benchmark.results import write

    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        found = {name: _in_own_process(name, folder) for name in TOOLS}
    exact = found["scikit-learn"]
    for row in found.values():
        row["off"] = {name: abs(row[name] - exact[name]) for name in ("auroc", "average_precision", "aupro")}
    versions = {name: version(name) for name in ("ADEval", "scikit-learn", "numpy", "scipy")}
    made = {"command": "python benchmarks/pixel_metrics.py", "maps": N, "side": SIDE, "versions": versions}
    write(RESULTS / "pixel_metrics.json", {**made, **machine(threads=1), "tools": found})


def make(folder: Path) -> None:
    """Maps of smooth background over many orders of size, and ten defect regions of 32 x 32 that raise it."""
    generator = np.random.default_rng(SEED)
    for i in range(N):
        anomaly_map = generator.standard_exponential((SIDE, SIDE), np.float32) * generator.random(dtype=np.float32)
        mask = np.zeros((SIDE, SIDE), bool)
        for x, y in generator.integers(0, SIDE - 32, (10, 2)):
            mask[y : y + 32, x : x + 32] = True
        anomaly_map[mask] += generator.standard_exponential(int(mask.sum()), np.float32)
        np.save(folder / f"{i:03d}_map.npy", anomaly_map)
        np.save(folder / f"{i:03d}_mask.npy", mask)


def read(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps and masks, one pair at a time."""
    for path in sorted(folder.glob("*_map.npy")):
        yield np.load(path), np.load(path.with_name(path.name.replace("map", "mask")))


def measured(tool: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Seconds with reading, and the peak memory of the process."""
    start = time.perf_counter()
    found = tool(folder)
    seconds = time.perf_counter() - start
    from unmask.benchmark.cost import peak_megabytes  # after the measurement, so that its own imports do not count

    return {"seconds": round(seconds, 2), "peak_mb": peak_megabytes(), **found}


def ours(folder: Path) -> dict[str, Any]:
    """In one pass."""
    from unmask.evaluation.pixel_metrics import PixelMetrics

    counted = PixelMetrics(LIMIT)
    for anomaly_map, mask in read(folder):
        counted.update(anomaly_map, mask)
    found = counted.compute()
    figures = {"auroc": found.auroc, "average_precision": found.average_precision, "aupro": found.aupro}
    return {**figures, "stated_bound": found.error}


def adeval(folder: Path) -> dict[str, Any]:
    """In one pass that counts, after one that finds the range, which it wants to be told."""
    from adeval import EvalAccumulator

    ends = np.array([(anomaly_map.min(), anomaly_map.max()) for anomaly_map, _ in read(folder)])
    counted = EvalAccumulator(float(ends[:, 0].min()), float(ends[:, 1].max()))
    for anomaly_map, mask in read(folder):
        counted.add_anomap(anomaly_map, mask.astype(np.uint8))
    found = counted.summary()
    return {"auroc": found["p_auroc"], "average_precision": found["p_aupr"], "aupro": found["p_aupro"]}


def scikit_learn(folder: Path) -> dict[str, Any]:
    """All pixels at once."""
    from scipy import ndimage
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    values = np.empty(N * SIDE * SIDE, np.float32)
    labels, weights = np.empty(len(values), bool), np.ones(len(values), np.float64)
    for i, (anomaly_map, mask) in enumerate(read(folder)):
        part = slice(i * SIDE * SIDE, (i + 1) * SIDE * SIDE)
        region = ndimage.label(mask, np.ones((3, 3)))[0]
        shares = np.ones(mask.shape)
        shares[mask] = 1 / np.bincount(region[mask])[region[mask]]
        values[part], labels[part], weights[part] = anomaly_map.ravel(), mask.ravel(), shares.ravel()
    rate, overlap, _ = roc_curve(labels, values, sample_weight=weights, drop_intermediate=False)
    inside = rate <= LIMIT
    x, y = np.append(rate[inside], LIMIT), np.append(overlap[inside], np.interp(LIMIT, rate, overlap))
    return {
        "auroc": float(roc_auc_score(labels, values)),
        "average_precision": float(average_precision_score(labels, values)),
        "aupro": float(np.trapezoid(y, x) / LIMIT),
    }


def _in_own_process(tool: str, folder: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, tool, folder], stdout=subprocess.PIPE, text=True, check=True)
    print(tool, done.stdout.strip(), flush=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


TOOLS: dict[str, Callable[[Path], dict[str, Any]]] = {"unmask": ours, "adeval": adeval, "scikit-learn": scikit_learn}

if __name__ == "__main__":
    main()
