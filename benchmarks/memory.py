"""Peak memory of `unmask fit` and `unmask inspect` where it could grow: with the number of images, and with their size.

    python benchmarks/memory.py

Made-up images, the tiny random backbone, `--max-memory 1GB`; then 20 megapixels in tiles of 512 through the real
network. Results go to benchmarks/results/memory.json.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from unmask.benchmark.cost import machine
from unmask.benchmark.results import write

RESULTS = Path(__file__).parent / "results"
LIMIT = "1GB"
TINY = ["--set", "backbone=tiny", "--set", "image_size=64", "--set", "fre.levels=2,3"]


def main() -> None:
    """Measure each in a process of its own; see the module."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n in (20, 20_000):
            images = _pictures(Path(folder) / f"of{n}", n, (64, 64))
            model = Path(folder) / f"{n}.unmask"
            rows.append({"n": n, "size": [64, 64], **_peak("fit", images, "-o", model, "--max-memory", LIMIT, *TINY)})
        small = _pictures(Path(folder) / "photos", 30, (1024, 1024))
        large = _pictures(Path(folder) / "large", 1, (4000, 5000))
        model = Path(folder) / "tiles.unmask"
        fit = _peak("fit", small, "-o", model, "--tile", "512", "--max-memory", "2GB")
        rows.append({"n": 30, "size": [1024, 1024], "tile": 512, **fit})
        rows.append({"n": 1, "size": [4000, 5000], "tile": 512, **_peak("inspect", model, large)})
        report = Path(folder) / "report"
        rows.append({"n": 1, "size": [4000, 5000], "report": True, **_peak("inspect", model, large, "-o", report)})
    write(RESULTS / "memory.json", {"command": "python benchmarks/memory.py", "runs": rows, **machine()})


def _pictures(folder: Path, n: int, size: tuple[int, int]) -> Path:
    """N files of noise, no two of them equal."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(n):
        path = folder / f"{i:05d}.png"
        Image.fromarray(random.integers(100, 140, (*size, 3), np.uint8)).save(path)
    return folder


def _peak(*arguments: Any) -> dict[str, Any]:
    """Run unmask in a process of its own that also tells its peak."""
    code = (
        "import os, sys\nfrom unmask.benchmark.cost import peak_megabytes\nfrom unmask.cli import main\n"
        "sys.argv = ['unmask', *sys.argv[1:]]\ntry: main()\n"
        "finally: print('peak', peak_megabytes(), sum(os.times()[:2]), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    child, own = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True), 0
    with suppress(psutil.NoSuchProcess):
        while child.poll() is None:
            memory = psutil.Process(child.pid).memory_info()
            own = max(own, memory.rss - getattr(memory, "shared", 0))
            time.sleep(0.02)
    _, printed = child.communicate()
    if child.returncode:
        sys.exit(printed)
    peak, spent = printed.rsplit("peak ", 1)[1].split()[:2]
    row = {
        "command": arguments[0],
        "own_peak_mb": own // 1_000_000,
        "peak_mb": int(peak),
        "cpu_s": round(float(spent), 1),
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
