"""A model's self-test: its score and map of a built-in picture, kept in its file and compared whenever it is opened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unmask.errors import ModelFileError
from unmask.inspection.calibration import Calibration
from unmask.inspection.scoring import Predict

GRID = 8  # cells along a side of a map's summary


def answers(predict: Predict, size: int) -> dict[str, Any]:
    """The score and a coarse map of the built-in picture, as plain values."""
    prediction = predict(picture(size))
    return {"score": float(prediction.scores[0]), "map": _pooled(prediction.maps[0])}


def check(
    path: str | Path,
    predict: Predict,
    size: int,
    test: Mapping[str, Any],
    calibration: Calibration,
    slack: float = 0.01,
) -> None:
    """Compare with the numbers of the machine that saved it: others differ in the last digits only.

    Args:
        path: of the model file, for the message.
        predict: what the file makes of squares.
        size: of the squares.
        test: its `answers` when it was saved.
        calibration: fixes how much a difference matters.
        slack: the difference that is allowed, a share.

    Raises:
        ModelFileError: the numbers differ.
    """
    now = answers(predict, size)
    here, then = (np.array([one["score"], *one["map"]]) for one in (now, test))
    usual = np.array([calibration.threshold] + GRID**2 * [calibration.pixel_threshold])
    excess = np.abs(here - then) - slack * (np.abs(then) + np.abs(usual))
    if not bool((excess <= 0).all()):
        worst = int(excess.argmax())
        differs = f"{'score' if worst == 0 else 'map value'} of {then[worst]:.4g} came out as {here[worst]:.4g}"
        raise ModelFileError(f"{path} fails its self-test: a {differs}; use the versions it was made with or fit again")


def picture(size: int) -> Float[np.ndarray, "1 3 s s"]:
    """A picture with structure, from a formula: the same in every version and on every machine."""
    y, x = np.meshgrid(np.arange(size) / size, np.arange(size) / size, indexing="ij")
    image = 0.5 + 0.4 * np.stack([np.sin(6.28 * (k * x + (4 - k) * y)) for k in (1, 2, 3)])
    image[:, size // 4 : size // 3, size // 2 : 3 * size // 4] = 0.1
    return image[None].astype(np.float32)


def _pooled(anomaly_map: Float[np.ndarray, "s s"]) -> list[float]:
    """An 8 x 8 summary of a map."""
    side = len(anomaly_map)
    edges = [(i * side // GRID, math.ceil((i + 1) * side / GRID)) for i in range(GRID)]
    return [float(anomaly_map[y0:y1, x0:x1].mean()) for y0, y1 in edges for x0, x1 in edges]
