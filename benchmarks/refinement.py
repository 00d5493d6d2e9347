"""What does SSM's refinement add? One fit, then every number of passes and every score, on the same test images.

    python benchmarks/refinement.py ../shared/data/mvtec_bottle ../shared/data/ksdd_crops --preset fast --seeds 0 1 2

A row is one (data set, seed, score, passes). Rows that are there with the same settings are not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from square_images import SquareImages
from unmask.benchmark.cost import machine
from unmask.benchmark.results import write
from unmask.datasets import load
from unmask.detectors import build, find
from unmask.evaluation.metrics import auroc
from unmask.training.trainer import Training
from unmask.types import Sample

RESULTS = Path(__file__).parent / "results"
PASSES = (1, 2, 3)
PIXEL_SCORES = ("pixels", "features", "both")


def main() -> None:
    """Measure what is missing; see the module."""
    asked = _arguments()
    file = RESULTS / f"ssm_refinement_{asked.preset}.json"
    rows = json.loads(file.read_text())["refinement"] if file.exists() else []
    settings = dict(asked.set)
    for seed in asked.seeds:
        for dataset in asked.datasets:
            wanted = {"dataset": dataset.name, "seed": seed, "preset": asked.preset, "settings": settings}
            if any(wanted.items() <= row.items() for row in rows):
                continue
            fresh = [{**wanted, **row} for row in measured(dataset, asked.preset, settings, seed, asked.most)]
            rows += fresh
            write(file, {"command": " ".join(["python", *sys.argv]), "refinement": rows})
            for row in fresh:
                print(row["dataset"], row["seed"], row["score"], row["passes"], f"{row['image_auroc']:.4f}", flush=True)


def measured(dataset: Path, preset: str, settings: dict[str, str], seed: int, most: int) -> list[dict[str, Any]]:
    """Fit once on the normal images, then score the test images in every way."""
    split = load(dataset, seed=seed)
    fitted: Any = build(find("ssm"), preset, settings)
    start = time.perf_counter()
    validation = fitted.fit_restorer(SquareImages(split.normals, fitted.image_size), Training(seed=seed))
    seconds = round(time.perf_counter() - start, 1)
    samples = _some(split.test, most)
    scores = ("features",) if fitted.space == "features" else PIXEL_SCORES
    rows = []
    for score in scores:
        ssm = _with_score(fitted, preset, settings, score)
        ssm.fit_scores(validation)
        found = _rows(ssm, validation, samples)
        rows += [{"score": score, "fit_seconds": seconds, **row, **machine()} for row in found]
    return rows


def _with_score(fitted: Any, preset: str, settings: dict[str, Any], score: str) -> Any:
    """A detector with the same restorer, another score, and as many passes as are measured."""
    compared = {} if fitted.space == "features" else {"score": score}
    ssm: Any = build(find("ssm"), preset, {**settings, **compared, "passes": max(PASSES)})
    if ssm.space == "features":
        ssm.restorer = fitted.restorer
    else:
        ssm.restorer.net = fitted.restorer.net
    ssm.refinement.mask_seed = fitted.refinement.mask_seed
    return ssm.to(fitted.fitted.device).eval()


@torch.inference_mode()
def _rows(ssm: Any, validation: list[Any], samples: list[Sample]) -> list[dict[str, Any]]:
    """The first T of the most passes are those of a detector with T passes."""
    files = SquareImages([sample.path for sample in samples], ssm.image_size)
    stacks = [torch.stack([files[int(i)] for i in some]) for some in torch.arange(len(files)).split(8)]
    normal = [ssm.refinement(ssm.restorer, batch) for batch in validation]
    new = [ssm.refinement(ssm.restorer, ssm.restorer.encode(stack)) for stack in stacks]
    labels = torch.tensor([sample.anomalous for sample in samples]).numpy()
    rows = []
    for passes in PASSES:
        ssm.refinement.passes = passes
        ssm.fit_spread([found[:passes][-1] for found in normal])
        scores = torch.cat([ssm.scores(found[:passes][-1]) for found in new])
        covered = torch.cat([1 - found[:passes][-1].confirmed.float().mean((1, 2)) for found in new]).cpu().numpy()
        rows.append(
            {
                "passes": passes,
                "image_auroc": auroc(scores.double().cpu().numpy(), labels),
                "covered_good": round(float(covered[~labels].mean()), 4),
                "covered_anomalous": round(float(covered[labels].mean()), 4),
                "ms": _milliseconds(ssm, files),
                "n_test": len(files),
                "torch": torch.__version__,
            }
        )
    return rows


def _milliseconds(ssm: Any, files: SquareImages) -> float:
    """Of one image at a time, median of ten spread over the test set."""
    spent = []
    for i in torch.linspace(0, len(files) - 1, 10).long().tolist():
        image = files[i][None]
        start = time.perf_counter()
        ssm.predict(image)
        spent.append(1000 * (time.perf_counter() - start))
    return round(sorted(spent)[5], 1)


def _some(samples: list[Sample] | tuple[Sample, ...], most: int) -> list[Sample]:
    """Evenly spread over the sorted test images, so that good ones and each kind of defect keep their shares."""
    step = max(1.0, len(samples) / most)
    return [samples[int(i * step)] for i in range(min(most, len(samples)))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--set", action="append", default=[], type=lambda text: tuple(text.split("=", 1)))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--most", type=int, default=10**9, help="number of test images of a data set, at most")
    return parser.parse_args()


if __name__ == "__main__":
    main()
