"""Fit and score anomalib's PatchCore on our splits with our backbone: one row a data set and seed.

    python benchmarks/anomalib/patchcore.py ../shared/data/mvtec_bottle --seeds 0 1 2 -o rows.json

Run it in the environment of requirements.txt. A row takes two processes, because the fit needs a setting of malloc that
is not wanted at inspection: see `_in_own_process`. Rows that are in the file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent)]

from run import machine, write  # noqa: E402
from unmask.datasets import fingerprint, load, read_mask  # noqa: E402

if TYPE_CHECKING:
    from anomalib.models.image.patchcore import Patchcore

    from unmask.types import Split

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536"}
TIMED, WARM_UP, BATCH = 32, 4, 8
PACKAGES = ("anomalib", "torch", "torchvision", "timm", "lightning", "scikit-learn", "numpy", "pillow")


def main() -> None:
    """Run what is missing; see the module."""
    asked = _arguments()
    if asked.stage:
        stage = fit if asked.stage == "fit" else inspect
        print(json.dumps(stage(asked, load(asked.datasets[0], seed=asked.seeds[0]))))
        return
    rows = json.loads(asked.output.read_text())["rows"] if asked.output.exists() else []
    for seed in asked.seeds:
        for dataset in asked.datasets:
            key = {"dataset": dataset.resolve().name, "seed": seed, "coreset": asked.coreset}
            if any(key.items() <= row.items() for row in rows):
                continue
            rows.append({**key, **_row(asked, dataset, seed)})
            write(asked.output, {"command": " ".join(["python", *sys.argv]), "rows": rows})
            print(json.dumps(rows[-1]), flush=True)


def fit(asked: argparse.Namespace, split: Split) -> dict[str, Any]:
    """Fit on the normals as a user does, with the Engine, and leave its checkpoint in the folder."""
    from anomalib.data.datasets.image.folder import FolderDataset
    from anomalib.engine import Engine
    from lightning import seed_everything
    from model import build
    from torch.utils.data import DataLoader

    limit = int(asked.limit_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # should memory explode all the same, end the fit alone
    seed_everything(asked.seeds[0])
    normals = asked.folder / "good"
    normals.mkdir()
    for index, path in enumerate(split.normals):  # anomalib takes folders, not lists
        (normals / f"{index:06d}{path.suffix}").symlink_to(path.resolve())
    patchcore = build(asked.coreset)
    # Kinder than the defaults of its data modules: no workers to start, no validation (on half of the test set).
    engine = Engine(default_root_dir=asked.folder, accelerator="cpu", enable_progress_bar=False)
    start = time.perf_counter()
    dataset = FolderDataset(split.name, normal_dir=normals, split="train")
    engine.fit(patchcore, DataLoader(dataset, batch_size=32, collate_fn=dataset.collate_fn))
    seconds = time.perf_counter() - start
    return {
        "n_normal": len(dataset),
        "bank_rows": len(patchcore.model.memory_bank),
        "fit_seconds": round(seconds, 1),
        "fit_peak_mb": _peak_megabytes(),
        "fit_environment": {name: os.environ.get(name) for name in MALLOC},
    }


def inspect(asked: argparse.Namespace, split: Split) -> dict[str, Any]:
    """Time the fitted model on single images and on batches, then score the test set."""
    from anomalib.models.image.patchcore import Patchcore
    from torch import inference_mode

    checkpoint = next(asked.folder.rglob("*.ckpt"))
    patchcore = Patchcore.load_from_checkpoint(checkpoint, map_location="cpu", evaluator=False, visualizer=False).eval()
    with inference_mode():
        times = _timed(patchcore, [sample.path for sample in split.test])
        peak = _peak_megabytes()
        scored = _accuracy(patchcore, split)
    return {
        **scored,
        **times,
        "inspect_peak_mb": peak,
        "model_mb": round(checkpoint.stat().st_size / 1e6, 1),
        "fingerprint": fingerprint(split),
        "n_test": len(split.test),
        "versions": {name: version(name) for name in PACKAGES},
        **machine(),
    }


def _timed(patchcore: Patchcore, paths: list[Path]) -> dict[str, float]:
    """Median milliseconds an image: one at a time, as at a line, and in batches."""
    for path in paths[:WARM_UP]:
        _milliseconds(patchcore, [path])
    alone = np.array([_milliseconds(patchcore, [path]) for path in paths[:TIMED]])
    _milliseconds(patchcore, paths[:BATCH])
    batches = [_milliseconds(patchcore, paths[first : first + BATCH])[0] for first in range(0, TIMED, BATCH)]
    medians = (*np.median(alone, axis=0), np.median(batches) / BATCH)
    names = ("ms_alone", "ms_alone_predict", f"ms_batch_{BATCH}")
    return {name: round(float(ms), 2) for name, ms in zip(names, medians, strict=True)}


def _milliseconds(patchcore: Patchcore, paths: list[Path]) -> tuple[float, float]:
    """Take one batch: decode and predict, predict alone."""
    from model import decoded

    start = time.perf_counter()
    images = decoded(patchcore, paths)
    middle = time.perf_counter()
    patchcore.model(images)
    end = time.perf_counter()
    return 1000 * (end - start), 1000 * (end - middle)


def _accuracy(patchcore: Patchcore, split: Split) -> dict[str, float | None]:
    from model import SIZE, decoded
    from sklearn.metrics import roc_auc_score

    paths = [sample.path for sample in split.test]
    batches = [paths[first : first + BATCH] for first in range(0, len(paths), BATCH)]
    found = [patchcore.model(decoded(patchcore, batch)) for batch in batches]
    scores = np.concatenate([one.pred_score.numpy() for one in found])
    figures = {"image_auroc": float(roc_auc_score([sample.anomalous for sample in split.test], scores))}
    if not split.has_masks:
        return {**figures, "pixel_auroc": None}
    maps = np.concatenate([one.anomaly_map.numpy()[:, 0] for one in found])
    masks = np.stack([read_mask(sample, SIZE, SIZE) for sample in split.test])
    return {**figures, "pixel_auroc": float(roc_auc_score(masks.ravel(), maps.ravel()))}


def _row(asked: argparse.Namespace, dataset: Path, seed: int) -> dict[str, Any]:
    """Fit, then inspect: the two meet in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--seeds", str(seed), "--coreset", str(asked.coreset), "--limit-gb", str(asked.limit_gb)]
        command = [sys.executable, __file__, str(dataset), *settings, "--folder", folder]
        fitted = _in_own_process([*command, "--stage", "fit"], MALLOC)
        return {**fitted, **_in_own_process([*command, "--stage", "inspect"], {})}


def _in_own_process(command: list[str], malloc: dict[str, str]) -> dict[str, Any]:
    """Run one stage, so that its peak memory is its own, and malloc's setting too.

    The loop of anomalib's coreset frees and allocates a tensor of all patches again and again. Where it is smaller than
    32 MB, malloc takes it from the heap, which fragments; blocks from 64 KB on that are mapped keep memory flat.
    """
    kept = {name: value for name, value in os.environ.items() if name not in MALLOC}
    environment = {**kept, **malloc, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("-o", "--output", type=Path, default=Path("patchcore.json"))
    parser.add_argument("--coreset", type=float, default=0.01, help="share of the patches that the bank keeps")
    parser.add_argument("--limit-gb", type=float, default=16, help="address space that a fit may take")
    parser.add_argument("--stage", choices=("fit", "inspect"), help="do half of one row and print it")
    parser.add_argument("--folder", type=Path, help="where the two stages of a row meet")
    return parser.parse_args()


if __name__ == "__main__":
    main()
