"""What an inspector needs of whatever computes: maps and scores of squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from unmask.types import ArrayPrediction, Step


@runtime_checkable
class Backend(Protocol):
    """What computes maps and scores."""

    @property
    def name(self) -> str:
        """One of "torch", "onnx" and "openvino"."""

    @property
    def device(self) -> str:
        """Where it computes, such as "cpu" or "cuda"."""

    def predict(self, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        """Score squares, RGB in [0, 1]."""

    def explain(self, square: Float[np.ndarray, "3 s s"]) -> Sequence[Step]:
        """The steps that led to a square's map.

        Raises:
            SettingError: the backend cannot explain.
        """
