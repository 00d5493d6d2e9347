"""A frozen network's feature maps, each channel standardised over the normal images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.features.backbones import Backbone
from unmask.features.maps import CachedMaps, FeatureMaps, Images
from unmask.training.trainer import Training

LEAST_STD = 1e-3  # a channel that never moves on normal images must not decide alone


class StandardMaps(nn.Module):
    """Feature maps, standardised; those of the training images are computed once and cached.

    Args:
        backbone: name for `backbones.load`.
        image_size: pixels along a side, a multiple of the largest stride.
        levels: stages of the network.
        standardise: False leaves the maps as the network gives them.

    Attributes:
        features: what makes the maps.
        shapes: (channels, side) of each level, finest first.

    Raises:
        SettingError: the size does not fit the strides, or there is no such backbone.
    """

    def __init__(
        self, backbone: str, image_size: int, levels: Sequence[int] = (2, 3, 4), *, standardise: bool = True
    ) -> None:
        super().__init__()
        self.standardise = standardise
        self.features = FeatureMaps(backbone, image_size, levels)
        self.shapes = self.features.shapes
        for i, (c, _) in enumerate(self.shapes):
            self.register_buffer(f"mean{i}", torch.zeros(c, 1, 1))
            self.register_buffer(f"std{i}", torch.ones(c, 1, 1))

    @property
    def backbone(self) -> Backbone:
        """The frozen network."""
        return self.features.backbone

    def fit(self, images: Images, training: Training) -> None:
        """Encode all images once, and fit the standardisation."""
        self.cached: CachedMaps = self.features.cache(images, training)
        if not self.standardise:
            return
        moments = [
            [torch.stack([x.mean((0, 2, 3)), (x**2).mean((0, 2, 3))]) * len(x) for x in maps]
            for _, maps in self.cached.chunks()
        ]
        for i, level in enumerate(zip(*moments, strict=True)):
            mean, square = torch.stack(level).sum(0) / len(self.cached)
            setattr(self, f"mean{i}", mean[:, None, None])
            setattr(self, f"std{i}", (square - mean**2).clamp(min=LEAST_STD**2).sqrt()[:, None, None])

    def __len__(self) -> int:
        """How many images are cached."""
        return len(self.cached)

    def standardised(self, maps: list[Tensor]) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Standardised maps, of maps as the network gives them."""
        return [(x - self.get_buffer(f"mean{i}")) / self.get_buffer(f"std{i}") for i, x in enumerate(maps)]

    def maps_of(self, rows: Tensor) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Standardised maps of the cached images with these numbers."""
        return self.standardised(self.cached.maps_of(rows))

    def chunks(self, size: int = 64) -> Iterator[tuple[int, list[Tensor]]]:
        """All cached maps, standardised, with the number of the first image of each chunk."""
        for start, maps in self.cached.chunks(size):
            yield start, self.standardised(maps)

    def release(self) -> None:
        """Release the memory of the cached maps."""
        self.__dict__.pop("cached", None)
