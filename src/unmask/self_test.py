"""A model's self-test: what it says of a built-in picture, kept in its file and asked again whenever it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.calibration import Calibration
from unmask.detectors import Detector
from unmask.errors import ModelFileError


def answers(detector: Detector) -> dict[str, Any]:
    """The score and a coarse map of the built-in picture, as plain values."""
    said = detector.predict(_test_image(detector.image_size))
    return {"score": float(said.scores[0]), "map": _pooled(said.maps[0])}


def check(path: str | Path, detector: Detector, test: Mapping[str, Any], calibration: Calibration) -> None:
    """Compare with the numbers of the machine that saved it, to 1 %: others differ in the last digits only.

    Args:
        path: of the model file, for the message.
        detector: restored from it.
        test: its `answers` when it was saved.
        calibration: fixes how much a difference matters.

    Raises:
        ModelFileError: the numbers differ.
    """
    said = answers(detector)
    here, then = (torch.tensor([one["score"], *one["map"]]) for one in (said, test))
    slack = 0.01 * then.abs() + 0.01 * torch.tensor([calibration.threshold] + 64 * [calibration.pixel_threshold]).abs()
    excess = (here - then).abs() - slack
    if not bool((excess <= 0).all()):
        worst = int(excess.argmax())
        differs = f"{'score' if worst == 0 else 'map value'} of {then[worst]:.4g} came out as {here[worst]:.4g}"
        raise ModelFileError(f"{path} fails its self-test: a {differs}; use the versions it was made with or fit again")


def _test_image(size: int) -> Float[Tensor, "1 3 s s"]:
    """A picture with structure, from a formula: the same in every version and on every machine."""
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    waves = [torch.sin(6.28 * (k * x + (4 - k) * y)) for k in (1, 2, 3)]
    image = 0.5 + 0.4 * torch.stack(waves)
    image[:, size // 4 : size // 3, size // 2 : 3 * size // 4] = 0.1
    return image[None]


def _pooled(anomaly_map: Float[Tensor, "s s"]) -> list[float]:
    """An 8 x 8 summary of a map."""
    return torch.nn.functional.adaptive_avg_pool2d(anomaly_map[None], 8).flatten().tolist()
