"""Start-up, first image and steady state of a model without torch, each measured apart, and the fit before it.

    python benchmarks/runtime.py ../shared/data/mvtec_bottle --base BASE/bin/unmask

BASE is an environment of the base install alone. Results go to benchmarks/results/runtime.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import unmask
from unmask.benchmark.cost import machine
from unmask.benchmark.results import write
from unmask.datasets import load
from unmask.imaging.images import decode

RESULTS = Path(__file__).parent / "results"
ROUNDS = 5


def main() -> None:
    """Fit, export, inspect; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    asked = parser.parse_args()
    ours = Path(sys.executable).with_name("unmask")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.unmask"
        fit = _seconds([ours, "fit", asked.dataset, "-o", model])
        inside = json.loads(subprocess.check_output([sys.executable, "-c", _FACTS, model], text=True))
        export = _seconds([ours, "export", model, "--images", asked.dataset])
        paths = [sample.path for sample in load(asked.dataset, seed=0).test]
        exported = model.with_suffix(".onnx")
        verdicts = [_seconds([asked.base, "inspect", exported, paths[0]]) for _ in range(ROUNDS)]
        found = {
            "fit_command_s": fit,
            "fit_s": inside,
            "export_command_s": export,
            "first_verdict_s": _middle(verdicts),
        }
        write(
            RESULTS / "runtime.json",
            {
                "command": " ".join(["python", *("BASE" if word == str(asked.base) else word for word in sys.argv)]),
                "dataset": asked.dataset.name,
                **found,
                **_steady(exported, paths),
                "model_mb": model.stat().st_size / 1e6,
                "exported_mb": exported.stat().st_size / 1e6,
                **machine(),
            },
        )


def _steady(exported: Path, paths: list[Path]) -> dict[str, Any]:
    """Milliseconds: to open, the first image, then medians an image, alone and in batches of 8, decoding too."""
    start = time.perf_counter()
    inspector = unmask.load(exported)
    opened = time.perf_counter()
    inspector.inspect(paths[0])
    first = time.perf_counter()
    alone, batches = [], []
    for path in paths:
        before = time.perf_counter()
        inspector.inspect(path)
        alone.append(1000 * (time.perf_counter() - before))
    for i in range(0, len(paths) - 7, 8):
        before = time.perf_counter()
        list(inspector.inspect_many(paths[i : i + 8]))
        batches.append(1000 * (time.perf_counter() - before) / 8)
    decoding = []
    for path in paths:
        before = time.perf_counter()
        decode(path)
        decoding.append(1000 * (time.perf_counter() - before))
    return {
        "open_ms": 1000 * (opened - start),
        "first_ms": 1000 * (first - opened),
        "alone_ms": _middle(alone),
        "alone_p95_ms": sorted(alone)[int(0.95 * len(alone))],
        "batch_8_ms": _middle(batches),
        "decode_ms": _middle(decoding),
    }


_FACTS = """
import json, sys
from unmask.inspection.model_file import facts_of
print(json.dumps(facts_of(sys.argv[1])["fit_seconds"]))
"""


def _seconds(command: list[Any]) -> float:
    start = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return time.perf_counter() - start


def _middle(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
