"""The engine behind the detectors that look at a frozen network: its maps, computed once, in memory or in a file.

A frozen network gives the same maps in every epoch and to every detector, so nothing runs it twice over an image. Where
several detectors learn from the same images, the first pass serves all of them (`CachedImages`).
"""

from __future__ import annotations

import math
import mmap
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

import psutil
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unmask.errors import SettingError
from unmask.features import backbones
from unmask.training.trainer import Training

Made = TypeVar("Made")
BATCH = 8
MEMORY_LIMIT = 1_000_000_000
"""Bytes of features that are kept in memory; more go to a file. A laptop of 8 GB must get through."""
WORKING_MEMORY = 200_000_000
"""Bytes that a batch through the network and the arithmetic of a fast detector take beside the features."""


@runtime_checkable
class Images(Protocol):
    """A sequence of (3, s, s) RGB images in [0, 1], each made when it is asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]: ...


class CachedValue(Generic[Made]):
    """Something made from a buffer once, and anew only when the buffer has changed.

    Large buffers are kept in half precision, as the file has them; this holds what arithmetic needs of them.
    """

    def __init__(self, make: Callable[[Tensor], Made]) -> None:
        self.make = make
        self.source: Tensor | None = None
        self.version = -1
        self.value: Made | None = None

    def __call__(self, source: Tensor) -> Made:
        """The value for `source` as it is now; an export gets the making itself, so that its file stays small."""
        if torch.compiler.is_exporting():
            return self.make(source)
        if self.value is None or source is not self.source or source._version != self.version:
            self.source, self.version, self.value = source, source._version, self.make(source)
        return self.value


class FeatureMaps(nn.Module):
    """A frozen network's maps of square images.

    Args:
        backbone: name for `backbones.load`.
        image_size: pixels along a side, a multiple of the largest stride.
        levels: stages of the network; stage i has stride 2 ** (i + 1).

    Attributes:
        levels: those of them that it has.
        shapes: (channels, side) of each level, finest first.

    Raises:
        SettingError: the size does not fit the strides, the levels do not rise, or there is no such backbone.
    """

    def __init__(self, backbone: str, image_size: int, levels: Sequence[int] = (2, 3, 4)) -> None:
        super().__init__()
        if not levels or list(levels) != sorted(set(levels)) or levels[0] < 0:
            raise SettingError(f"levels={','.join(map(str, levels))} do not rise from 0 or more; give such as 2,3")
        self.backbone = backbones.load(backbone, tuple(levels))
        self.image_size, self.levels = image_size, self.backbone.levels
        if image_size % max(self.backbone.strides):
            raise SettingError(f"image_size {image_size} is no multiple of {max(self.backbone.strides)}, the stride")
        self.shapes = [(c, image_size // s) for c, s in zip(self.backbone.channels, self.backbone.strides, strict=True)]

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Maps of new images, finest first."""
        maps = self.backbone(images.to(next(self.backbone.parameters()).device))
        return [maps[self.backbone.levels.index(level)] for level in self.levels]

    def share(self, other: FeatureMaps) -> None:
        """Use another's network, which has these levels and perhaps more: one in memory serves several detectors."""
        self.backbone = other.backbone

    def cache(self, images: Images, training: Training) -> CachedMaps:
        """Maps of all training images, each computed once."""
        if isinstance(images, CachedImages) and images.cached.serves(self):
            return images.cached.with_levels(self.levels)
        flat = encode(images, self._flat, stage="encode", training=training)
        return CachedMaps(flat, self, self.levels, torch.arange(len(images)))

    def _flat(self, images: Tensor) -> Float[Tensor, "b values"]:
        return torch.cat([level.flatten(1) for level in self(images.contiguous(memory_format=torch.channels_last))], 1)


class CachedMaps:
    """Maps of n training images, in half precision: some of the levels of some of the images that were encoded.

    Args:
        flat: all levels of an image, one after the other.
        maps: what made them.
        levels: those to give.
        rows: the images to give.
    """

    def __init__(self, flat: FeatureStore, maps: FeatureMaps, levels: tuple[int, ...], rows: Int[Tensor, " n"]) -> None:
        self.flat, self.maps, self.levels, self.rows = flat, maps, levels, rows

    def __len__(self) -> int:
        return len(self.rows)

    def serves(self, wanted: FeatureMaps) -> bool:
        """Whether these are maps that `wanted` would make."""
        same = (self.maps.backbone.name, self.maps.image_size) == (wanted.backbone.name, wanted.image_size)
        return same and set(wanted.levels) <= set(self.maps.levels)

    def with_levels(self, levels: tuple[int, ...]) -> CachedMaps:
        """Other levels."""
        return CachedMaps(self.flat, self.maps, levels, self.rows)

    def subset(self, rows: Int[Tensor, " k"]) -> CachedMaps:
        """Some of the images."""
        return CachedMaps(self.flat, self.maps, self.levels, self.rows[rows])

    def maps_of(self, rows: Int[Tensor, " b"]) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Maps of the images with these numbers, in float32."""
        sizes = [c * side * side for c, side in self.maps.shapes]
        parts = dict(zip(self.maps.levels, self.flat[self.rows[rows]].split(sizes, dim=1), strict=True))
        shapes = dict(zip(self.maps.levels, self.maps.shapes, strict=True))
        return [parts[i].float().unflatten(1, (shapes[i][0], shapes[i][1], shapes[i][1])) for i in self.levels]

    def chunks(self, size: int = 64) -> Iterator[tuple[int, list[Tensor]]]:
        """All maps, with the number of the first image of each chunk."""
        for start in range(0, len(self), size):
            yield start, self.maps_of(torch.arange(start, min(start + size, len(self))))


class CachedImages:
    """Images whose maps are known already; a detector that asks for those maps does not compute them again."""

    def __init__(self, images: Images, cached: CachedMaps) -> None:
        self.images, self.cached = images, cached

    def __len__(self) -> int:
        return len(self.cached)

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        return self.images[int(self.cached.rows[index])]

    def subset(self, rows: Int[Tensor, " k"]) -> CachedImages:
        """Some of them."""
        return CachedImages(self.images, self.cached.subset(rows))


def batches(images: Images, size: int) -> Iterator[Float[Tensor, "b 3 s s"]]:
    """The images in order, stacked `size` at a time."""
    for start in range(0, len(images), size):
        yield torch.stack([images[i] for i in range(start, min(start + size, len(images)))])


class FeatureStore:
    """n arrays of one shape in half precision: in memory, or past a limit in an unnamed file that goes with them.

    Pages of the file leave the process's memory as soon as they have been used; the system may still cache them.

    Args:
        shape: of all arrays together, (n, ...).
        limit: bytes that may stay in memory.
    """

    def __init__(self, shape: tuple[int, ...], limit: int) -> None:
        self.mapped: mmap.mmap | None = None
        if 2 * math.prod(shape) <= limit:
            self.values = torch.empty(shape, dtype=torch.float16)
            return
        with tempfile.TemporaryFile(suffix=".features") as file:
            file.truncate(2 * math.prod(shape))
            self.mapped = mmap.mmap(file.fileno(), 0)
        self.values = torch.frombuffer(self.mapped, dtype=torch.float16).view(shape)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        found = self.values[rows]
        self._release()
        return found

    def put(self, start: int, arrays: Float[Tensor, "b ..."]) -> None:
        """Set the arrays from number `start` on."""
        self.values[start : start + len(arrays)] = arrays
        self._release()

    def _release(self) -> None:
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


def check_memory(training: Training) -> None:
    """Raise SettingError if `max_memory` is less than the program takes before it has seen an image."""
    least = own_memory() + WORKING_MEMORY
    if training.max_memory is not None and training.max_memory < least:
        raise SettingError(
            f"max-memory {training.max_memory / 1e6:.0f} MB is less than the program and a batch of images take; "
            f"give {math.ceil(least / 1e8) * 100} MB or more"
        )


def memory_left(training: Training) -> int:
    """Bytes of features that a fit may keep in memory: what `max_memory` leaves, less what the work itself takes."""
    if training.max_memory is None:
        return MEMORY_LIMIT
    return max(0, training.max_memory - own_memory() - WORKING_MEMORY)


def own_memory() -> int:
    """Bytes of the program's own: without the pages of files, such as torch's libraries, which the system can drop.

    How much of those is resident differs by half a gigabyte between two Linux kernels. Where the system does not tell
    them apart, they count.
    """
    told = psutil.Process().memory_info()
    return int(told.rss - getattr(told, "shared", 0))


@torch.no_grad()
def encode(
    images: Images, encoder: Callable[[Tensor], Tensor], *, stage: str = "features", training: Training
) -> FeatureStore:
    """Run `encoder` once over all images.

    Args:
        images: n >= 1 images.
        encoder: (b, 3, s, s) -> (b, ...).
        stage: name for the progress line.
        training: whose `progress` is told after each batch, and whose `max_memory` holds.
    """
    kept: FeatureStore | None = None
    done, start = 0, time.monotonic()
    for stack in batches(images, BATCH):
        maps = encoder(stack).half().cpu()
        kept = kept or FeatureStore((len(images), *maps.shape[1:]), memory_left(training))
        kept.put(done, maps)
        done += len(maps)
        training.progress(stage, done, len(images), (time.monotonic() - start) / done * (len(images) - done))
    assert kept is not None, "a fit needs images; datasets.load has checked it"  # noqa: S101
    return kept
