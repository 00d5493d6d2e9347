"""What one row asks for, and the files that its process writes."""

from __future__ import annotations

from typing import Any, NamedTuple

from unmask.benchmark.methods import Method

ROW, PREDICTIONS = "row.json", "predictions.npz"


class Job(NamedTuple):
    """What one row asks for.

    Attributes:
        detector: see `Method`.
        preset: likewise.
        settings: likewise.
        dataset: its folder or manifest.
        seed: of the split and of the method.
        show_leaks: score the test set during the training as well, to say what that would have claimed.
        recursive: whether images in folders inside the data set's own are used.
        tolerate: see `Method`.
        calibrate: likewise.
    """

    detector: str
    preset: str
    settings: dict[str, Any]
    dataset: str
    seed: int
    show_leaks: bool = False
    recursive: bool = True
    tolerate: str = ""
    calibrate: str = ""

    @property
    def method(self) -> Method:
        """What is measured."""
        return Method(self.detector, self.preset, self.settings, self.tolerate, self.calibrate)
