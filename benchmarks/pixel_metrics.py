"""Measure the pixel metrics: 100 maps of 1024 x 1024 with about 1 % defect pixels, made one by one from a seed."""

import json
import resource
import time

import numpy as np

from unmask.metrics import PixelMetrics

N, SIDE, SEED = 100, 1024, 0


def make(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A map of smooth background over many orders of size, and ten defect regions of 32 x 32 that raise it."""
    anomaly_map = generator.standard_exponential((SIDE, SIDE), np.float32) * generator.random(dtype=np.float32)
    mask = np.zeros((SIDE, SIDE), bool)
    for x, y in generator.integers(0, SIDE - 32, (10, 2)):
        mask[y : y + 32, x : x + 32] = True
    anomaly_map[mask] += generator.standard_exponential(int(mask.sum()), np.float32)
    return anomaly_map, mask


def main() -> None:
    generator = np.random.default_rng(SEED)
    measured, making, measuring, defects = PixelMetrics(), 0.0, 0.0, 0
    for _ in range(N):
        start = time.perf_counter()
        anomaly_map, mask = make(generator)
        made = time.perf_counter()
        measured.update(anomaly_map, mask)
        making, measuring = making + made - start, measuring + time.perf_counter() - made
        defects += int(mask.sum())
    start = time.perf_counter()
    found = measured.compute()
    measuring += time.perf_counter() - start
    figures = {
        "pixels": N * SIDE * SIDE,
        "defect_share": defects / (N * SIDE * SIDE),
        "generation_seconds": round(making, 2),
        "metric_seconds": round(measuring, 2),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "auroc": found.auroc,
        "average_precision": found.average_precision,
        "aupro": found.aupro,
        "error": found.error,
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
