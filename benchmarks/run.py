"""Fit, calibrate and score once: detectors x data sets x seeds -> rows in benchmarks/results, one process a row.

    python benchmarks/run.py ../shared/data/mvtec_bottle ../shared/data/ksdd_crops --seeds 0 1 2

Each row is written as soon as it is measured; rows that are there with the same settings and seed are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what is missing; see the module."""
    asked = _arguments()
    if asked.one:
        print(json.dumps(row(asked.datasets[0], asked.detector, asked.preset, dict(asked.set), asked.seeds[0])))
        return
    file = RESULTS / f"{asked.name or f'{asked.detector}_{asked.preset}'}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    for seed in asked.seeds:
        for dataset in asked.datasets:
            if any(_same(one, dataset, seed, dict(asked.set)) for one in rows):
                continue
            rows.append(_in_own_process(asked, dataset, seed))
            write(file, {"command": " ".join(["python", *sys.argv]), "rows": rows})
            done = rows[-1]
            pixels = "-" if done["pixel_auroc"] is None else f"{done['pixel_auroc']:.4f}"
            print(f"{dataset.name} seed {seed}: image AUROC {done['image_auroc']:.4f}, pixel {pixels}", flush=True)


def row(dataset: Path, detector: str, preset: str, settings: dict[str, str], seed: int) -> dict[str, Any]:
    """One fit and one look at the test set, with all that a reader needs to repeat it."""
    from unmask.benchmark import evaluate
    from unmask.datasets import fingerprint, load
    from unmask.inspector import Inspector
    from unmask.training import Training

    split = load(dataset, seed=seed)
    inspector = Inspector.train(
        split.normals,
        split.held_out,
        detector=detector,
        preset=preset,
        settings=settings,
        training=Training(seed=seed),
        source=split.name,
    )
    fit_memory = _peak_megabytes()
    model = Path(os.environ.get("TMPDIR", "/tmp")) / f"bench-{os.getpid()}.unmask"  # noqa: S108
    inspector.save(model)
    size = model.stat().st_size / 1e6
    inspector = Inspector.load(model)
    model.unlink()
    figures = evaluate(inspector, split)
    return {
        **figures,
        "seed": seed,
        "preset": preset,
        "settings": settings,
        "params": inspector.detector.params(),
        "fingerprint": fingerprint(split),
        "fit_seconds": inspector.facts["fit_seconds"],
        "fit_peak_mb": fit_memory,
        "peak_mb": _peak_megabytes(),
        "model_mb": round(size, 1),
        "ms_alone": _milliseconds_alone(inspector, [sample.path for sample in split.test[:30]]),
        "versions": inspector.facts["versions"],
        **machine(),
    }


def _same(row: dict[str, Any], dataset: Path, seed: int, settings: dict[str, str]) -> bool:
    return bool(row["dataset"] == dataset.name and row["seed"] == seed and row["settings"] == settings)


def _milliseconds_alone(inspector: Any, paths: list[Path]) -> float:
    """Median time of one image at a time, as at a line."""
    times = []
    for path in paths:
        start = time.perf_counter()
        inspector.inspect(path)
        times.append(1000 * (time.perf_counter() - start))
    return round(sorted(times)[len(times) // 2], 1)


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _in_own_process(asked: argparse.Namespace, dataset: Path, seed: int) -> dict[str, Any]:
    """Peak memory is of one fit alone."""
    settings = [word for name, value in asked.set for word in ("--set", f"{name}={value}")]
    command = [sys.executable, __file__, "--one", str(dataset), "--detector", asked.detector, "--preset", asked.preset]
    done = subprocess.run([*command, "--seeds", str(seed), *settings], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def write(file: Path, content: dict[str, Any]) -> None:
    """Write a file of results, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(file)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--detector", default="fuse")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--set", action="append", default=[], type=lambda text: tuple(text.split("=", 1)))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--name", help="of the file in benchmarks/results; default: detector_preset")
    parser.add_argument("--one", action="store_true", help="measure one row and print it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
