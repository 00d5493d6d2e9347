"""A frozen network's maps of all images, computed once, in memory or in a file.

A frozen network gives the same maps in every epoch and to every detector, so nothing runs it twice over an image. Where
several detectors learn from the same images, the first pass serves all of them (`CachedImages`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unmask.errors import SettingError
from unmask.features import backbones
from unmask.features.store import FeatureStore, memory_left, scratch_folder
from unmask.training.trainer import Training

Made = TypeVar("Made")
BATCH = 8
MOST_PIXELS = 4096
"""The largest side of an image that a network is given; a larger image is cut into tiles."""
MOST_LEVEL = 9
"""No network has more stages."""


@runtime_checkable
class Images(Protocol):
    """A sequence of (3, s, s) RGB images in [0, 1], each made when it is asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]: ...


class CachedValue(Generic[Made]):
    """Something made from a buffer once, and anew only when the buffer has changed.

    Large buffers are kept in half precision, as the file has them; this holds what arithmetic needs of them.
    Several threads may ask at once: what is cached is replaced whole.
    """

    def __init__(self, make: Callable[[Tensor], Made]) -> None:
        self.make = make
        self.cached: tuple[Tensor, int, Made] | None = None  # the buffer, its version, the value

    def __call__(self, source: Tensor) -> Made:
        """The value for `source` as it is now; an export gets the making itself, so that its file stays small."""
        if torch.compiler.is_exporting():
            return self.make(source)
        cached = self.cached
        if cached is None or cached[0] is not source or cached[1] != source._version:
            self.cached = cached = (source, source._version, self.make(source))
        return cached[2]


class FeatureMaps(nn.Module):
    """A frozen network's maps of square images.

    Args:
        backbone: name for `backbones.load`.
        image_size: pixels along a side, a multiple of the largest stride.
        levels: stages of the network; stage i has stride 2 ** (i + 1).

    Attributes:
        levels: those of them that the network has.
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

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.backbone.parameters()).device

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Maps of new images on any device, finest first."""
        maps = self.backbone(images.to(self.device))
        return [maps[self.backbone.levels.index(level)] for level in self.levels]

    def share(self, other: FeatureMaps) -> None:
        """Use another's network, which has these levels and perhaps more: one in memory serves several detectors."""
        self.backbone = other.backbone

    def cache(self, images: Images, training: Training) -> CachedMaps:
        """Compute the maps of all training images, each once."""
        if isinstance(images, CachedImages) and images.cached.serves(self):
            return images.cached.with_levels(self.levels)
        flat = encode(images, self._flat, stage="encode", training=training)
        return CachedMaps(flat, self, self.levels, torch.arange(len(images)))

    def with_cache(self, images: Images, training: Training) -> CachedImages:
        """The training images with their maps, computed unless they are there already."""
        cached = self.cache(images, training)
        return CachedImages(images.images if isinstance(images, CachedImages) else images, cached)

    def _flat(self, images: Tensor) -> Float[Tensor, "b values"]:
        return torch.cat([level.flatten(1) for level in self(images)], 1)


class CachedMaps:
    """Maps of n training images, in half precision: some of the levels of some of the images that were encoded.

    Args:
        flat: all levels of an image, one after the other.
        maps: what made them; they are given on its device.
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
        """The same images at other levels."""
        return CachedMaps(self.flat, self.maps, levels, self.rows)

    def subset(self, rows: Int[Tensor, " k"]) -> CachedMaps:
        """The images with these numbers only."""
        return CachedMaps(self.flat, self.maps, self.levels, self.rows[rows])

    def maps_of(self, rows: Int[Tensor, " b"]) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Maps of the images with these numbers, in float32, on the device of the network."""
        sizes = [c * side * side for c, side in self.maps.shapes]
        flat = self.flat[self.rows[rows]].to(self.maps.device)
        parts = dict(zip(self.maps.levels, flat.split(sizes, dim=1), strict=True))
        shapes = dict(zip(self.maps.levels, self.maps.shapes, strict=True))
        return [parts[i].float().unflatten(1, (shapes[i][0], shapes[i][1], shapes[i][1])) for i in self.levels]

    def chunks(self, size: int = 64) -> Iterator[tuple[int, list[Tensor]]]:
        """All maps, with the number of the first image of each chunk."""
        for start in range(0, len(self), size):
            yield start, self.maps_of(torch.arange(start, min(start + size, len(self))))


class CachedImages:
    """Images with maps that are cached already; a detector that asks for those maps does not compute them again."""

    def __init__(self, images: Images, cached: CachedMaps) -> None:
        self.images, self.cached = images, cached

    def __len__(self) -> int:
        return len(self.cached)

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        return self.images[int(self.cached.rows[index])]

    def subset(self, rows: Int[Tensor, " k"]) -> CachedImages:
        """The images with these numbers only."""
        return CachedImages(self.images, self.cached.subset(rows))


def batches(images: Images, size: int) -> Iterator[Float[Tensor, "b 3 s s"]]:
    """The images in order, stacked `size` at a time."""
    for start in range(0, len(images), size):
        yield torch.stack([images[i] for i in range(start, min(start + size, len(images)))])


@torch.no_grad()
def encode(
    images: Images, encoder: Callable[[Tensor], Tensor], *, stage: str = "features", training: Training
) -> FeatureStore:
    """Run `encoder` once over all images.

    Args:
        images: n >= 1 images.
        encoder: (b, 3, s, s) on the CPU -> (b, ...) on any device.
        stage: name for the progress line.
        training: its `progress` is called after each batch, and its `max_memory` and `scratch` hold.

    Returns:
        What comes out, on the CPU or in a file.
    """
    store: FeatureStore | None = None
    done, start = 0, time.monotonic()
    for stack in batches(images, BATCH):
        arrays = encoder(stack).half().cpu()
        store = store or FeatureStore((len(images), *arrays.shape[1:]), memory_left(training), scratch_folder(training))
        store.put(done, arrays)
        done += len(arrays)
        training.progress(stage, done, len(images), (time.monotonic() - start) / done * (len(images) - done))
    assert store is not None, "a fit needs images; datasets.load has checked it"  # noqa: S101
    return store
