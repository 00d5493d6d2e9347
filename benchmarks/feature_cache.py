"""What caching the frozen encoder's features saves in stage 2: seconds a step with and without, in one run, as a ratio.

    python benchmarks/feature_cache.py ../shared/data/mvtec_bottle

Steps alternate: one on cached features, one that encodes its images first, as a loop without a cache must. Written to
benchmarks/results/feature_cache.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from square_images import SquareImages
from unmask.datasets import load
from unmask.detectors.isstad import ISSTAD
from unmask.detectors.isstad.decoder import RepairLoss
from unmask.detectors.isstad.tokens import Stage
from unmask.training.trainer import Trainer, Training

RESULTS = Path(__file__).parent / "results" / "feature_cache.json"
SETTINGS: dict[str, dict[str, Any]] = {
    "features (EfficientNet-Lite0)": {},
    "pixels (ViT-B, random weights)": {
        **ISSTAD.presets["base"],
        "versions": 2,
    },
}


def main() -> None:
    """Measure both spaces; see the module."""
    paths = load(sys.argv[1]).normals[:32]
    rows = {name: measure(ISSTAD(**settings), paths) for name, settings in SETTINGS.items()}
    RESULTS.write_text(json.dumps({"command": " ".join(["python", *sys.argv]), **rows}, indent=1) + "\n")
    print(RESULTS.read_text())


def measure(detector: ISSTAD, paths: tuple[Path, ...], steps: int = 7) -> dict[str, float]:
    """Median seconds of a stage-2 step, on cached features and with images encoded again."""
    images, trainer = SquareImages(paths, detector.image_size), Trainer(Training())
    tokens: Any = detector.tokens
    normals = tokens.fit(images, detector.decoder, trainer, Stage(1, detector.batch, detector.lr, detector.mask_ratio))
    encode: Callable[[torch.Tensor], Any] = detector.maps or tokens.latents
    loss = RepairLoss(detector.decoder, tokens.channel_weights, tokens.more_loss)

    def step(number: int) -> None:
        batch = normals.damaged_batch(number, detector.batch, "clean")
        with trainer.fabric.autocast():
            loss(*batch).backward()

    def encoded_step(number: int) -> None:
        with trainer.fabric.autocast():
            encode(torch.stack([images[i] for i in range(detector.batch)]))
        step(number)

    pairs = [(_seconds(step, i), _seconds(encoded_step, i)) for i in range(steps)]
    cached, again = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {"kept_s": round(cached, 3), "encoded_again_s": round(again, 3), "ratio": round(again / cached, 2)}


def _seconds(step: Callable[[int], None], number: int) -> float:
    start = time.perf_counter()
    step(number)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
