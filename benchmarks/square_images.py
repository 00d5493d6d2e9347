"""Image files as a detector takes them, each decoded and squashed into a square when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from unmask.imaging.images import decode, resize


class SquareImages:
    """n images (3, size, size).

    Args:
        paths: of the files.
        size: side of the squares in pixels.
    """

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(resize(decode(self.paths[index]), self.size, self.size))
