"""Feature maps computed once and kept: in memory, or memory-mapped past a limit.

A frozen encoder gives the same maps in every epoch, so the detectors that train on them never run it inside their loop.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.training import Progress, silent

Made = TypeVar("Made")
MEMORY_LIMIT = 1_000_000_000
"""Bytes of features that are kept in memory; more go to a file. A laptop of 8 GB must get through."""


@runtime_checkable
class Images(Protocol):
    """A sequence of (3, s, s) RGB images in [0, 1], each made when it is asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]: ...


class Derived(Generic[Made]):
    """Something made from a buffer once, and anew only when the buffer has changed.

    Large buffers are kept in half precision, as the file has them; this holds what arithmetic needs of them.
    """

    def __init__(self, make: Callable[[Tensor], Made]) -> None:
        self.make = make
        self.key: tuple[object, ...] = ()
        self.value: Made | None = None

    def __call__(self, source: Tensor) -> Made:
        """The value for `source` as it is now."""
        key = (source.data_ptr(), source._version, source.shape)
        if self.value is None or key != self.key:
            self.key, self.value = key, self.make(source)
        return self.value


def batches(images: Images, size: int) -> Iterator[Float[Tensor, "b 3 s s"]]:
    """The images in order, stacked `size` at a time."""
    for start in range(0, len(images), size):
        yield torch.stack([images[i] for i in range(start, min(start + size, len(images)))])


@torch.no_grad()
def encode(
    images: Images,
    encoder: Callable[[Tensor], Tensor],
    *,
    batch: int = 8,
    stage: str = "features",
    progress: Progress = silent,
    memory_limit: int = MEMORY_LIMIT,
) -> Tensor:
    """Run `encoder` once over all images.

    Args:
        images: n images.
        encoder: (b, 3, s, s) -> (b, ...).
        batch: images at a time.
        stage: name for the progress line.
        progress: told after each batch.
        memory_limit: bytes; a larger result lies in an unnamed file that goes with the tensor.

    Returns:
        (n, ...) float16.
    """
    kept: Tensor | None = None
    done, start = 0, time.monotonic()
    for stack in batches(images, batch):
        maps = encoder(stack).half().cpu()
        if kept is None:
            kept = _room((len(images), *maps.shape[1:]), memory_limit)
        kept[done : done + len(maps)] = maps
        done += len(maps)
        progress(stage, done, len(images), (time.monotonic() - start) / done * (len(images) - done))
    assert kept is not None, "a fit needs images; datasets.load has checked it"  # noqa: S101
    return kept


def _room(shape: tuple[int, ...], memory_limit: int) -> Tensor:
    count = math.prod(shape)
    if 2 * count <= memory_limit:
        return torch.empty(shape, dtype=torch.float16)
    with tempfile.NamedTemporaryFile(suffix=".features") as file:  # mapped, then unlinked: nothing is left behind
        Path(file.name).touch()
        return torch.from_file(file.name, shared=True, size=count, dtype=torch.float16).view(shape)
