"""What many tests share: tiny images, tiny settings, and the command line as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

TESTS = Path(__file__).parent


class Finished(NamedTuple):
    """What a command left: its exit code, and what it printed on either stream."""

    code: int
    out: str
    err: str


Run = Callable[..., Finished]
"""`unmask` with these words; the fixture `run` of conftest.py."""

SOURCE = TESTS.parent / "src"
SIZE = 64
FEATURES = {
    "backbone": "tiny",
    "image_size": SIZE,
    "decoder_dim": 32,
    "decoder_heads": 2,
    "stage1_steps": 2,
    "stage2_steps": 2,
    "batch": 4,
    "bank_size": 200,
}
PIXELS = {
    "space": "pixels",
    "encoder": "vit_nano",
    "image_size": SIZE,
    "decoder_dim": 32,
    "decoder_heads": 2,
    "first_blocks": 1,
    "fresh_blocks": 1,
    "stage1_steps": 2,
    "stage2_steps": 2,
    "batch": 4,
    "versions": 3,
}
SSM_FEATURES = {"backbone": "tiny", "image_size": SIZE, "cells": (16, 32), "rank": 8}
SSM_PIXELS = {
    "space": "pixels",
    "score": "pixels",
    "image_size": SIZE,
    "cells": (4, 8),
    "width": 1 / 16,
    "steps": 3,
    "batch": 4,
    "smoothing": 2.0,
    "peak": 0.0,
}
PATCHCORE = {"backbone": "tiny", "image_size": SIZE, "bank_size": 100, "candidates": 400}
FRE = {"backbone": "tiny", "image_size": SIZE, "levels": (2, 3)}
PROTOAD = {"backbone": "tiny", "image_size": SIZE, "candidates": 400, "prototypes": 100}
FUSE = {
    "backbone": "tiny",
    "image_size": SIZE,
    "patchcore.bank_size": 100,
    "fre.levels": (2, 3),
}


def texture(seed: int, size: int = SIZE) -> Tensor:
    """A weave with its own phase and noise: (3, size, size) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    phase = 6.28 * torch.rand(2, generator=generator)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    weave = torch.sin(0.8 * x + phase[0]) * torch.sin(0.8 * y + phase[1])
    return (0.5 + 0.15 * weave + 0.02 * torch.randn(3, size, size, generator=generator)).clamp(0, 1)


def planted(image: Tensor, x: int = 32, y: int = 16, side: int = 16) -> Tensor:
    """A copy with a bright square."""
    damaged = image.clone()
    damaged[:, y : y + side, x : x + side] = 1.0
    return damaged


class Textures:
    """n images in memory, as a detector wants them."""

    def __init__(self, n: int = 16, first: int = 0, size: int = SIZE) -> None:
        self.images = [texture(seed, size) for seed in range(first, first + n)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def as_picture(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def write_textures(folder: Path, n: int, first: int = 0) -> list[Path]:
    """PNG files 00.png, 01.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:02d}.png" for i in range(n)]
    for i, path in enumerate(paths):
        as_picture(texture(first + i)).save(path)
    return paths


def write_dataset(root: Path, n: int = 24, *, masks: bool = True) -> Path:
    """A data set in the layout of MVTec AD: 3 good and 3 bad test images."""
    write_textures(root / "train" / "good", n)
    write_textures(root / "test" / "good", 3, first=1000)
    for i in range(3):
        for folder in ("test/bright", *(["ground_truth/bright"] if masks else [])):
            (root / folder).mkdir(parents=True, exist_ok=True)
        as_picture(planted(texture(2000 + i))).save(root / "test" / "bright" / f"{i:02d}.png")
        if masks:
            mask = planted(torch.zeros(1, SIZE, SIZE))[0].numpy()
            Image.fromarray((255 * mask).astype(np.uint8)).save(root / "ground_truth" / "bright" / f"{i:02d}_mask.png")
    return root


def environment() -> dict[str, str]:
    """Of a process that finds this source and these tests first."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(TESTS)]), "OMP_NUM_THREADS": "1"}


def run_python(*arguments: object, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env=environment(), cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )
