"""A frozen network's feature maps, each channel standardised over the normal images; kept, so each is computed once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask import backbones
from unmask.errors import SettingError
from unmask.features import Images, encode
from unmask.training import Progress


class StandardMaps(nn.Module):
    """The maps of new images at once; those of the training images from memory.

    Args:
        backbone: name for `backbones.load`.
        image_size: pixels along a side, a multiple of the largest stride.

    Attributes:
        shapes: (channels, side) of each level, finest first.

    Raises:
        SettingError: the size does not fit the strides, or there is no such backbone.
    """

    def __init__(self, backbone: str, image_size: int) -> None:
        super().__init__()
        self.backbone = backbones.load(backbone, levels=(2, 3, 4))
        if image_size % max(self.backbone.strides):
            raise SettingError(f"image_size {image_size} is no multiple of {max(self.backbone.strides)}, the stride")
        self.shapes = [(c, image_size // s) for c, s in zip(self.backbone.channels, self.backbone.strides, strict=True)]
        for i, (c, _) in enumerate(self.shapes):
            self.register_buffer(f"mean{i}", torch.zeros(c, 1, 1))
            self.register_buffer(f"std{i}", torch.ones(c, 1, 1))

    def learn(self, images: Images, progress: Progress) -> None:
        """Encode all images once, and fit the standardisation."""
        self.kept = encode(images, self._encode, stage="encode", progress=progress)
        for i, (c, _) in enumerate(self.shapes):
            setattr(self, f"mean{i}", torch.zeros(c, 1, 1))
            setattr(self, f"std{i}", torch.ones(c, 1, 1))
        moments = [
            [torch.stack([x.mean((0, 2, 3)), (x**2).mean((0, 2, 3))]) * len(x) for x in maps]
            for _, maps in self.chunks()
        ]
        for i, level in enumerate(zip(*moments, strict=True)):
            mean, square = torch.stack(level).sum(0) / len(self.kept)
            setattr(self, f"mean{i}", mean[:, None, None])
            setattr(self, f"std{i}", (square - mean**2).clamp(min=1e-6).sqrt()[:, None, None])

    def __len__(self) -> int:
        """Images that are kept."""
        return len(self.kept)

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Standardised maps of new images, finest first."""
        return self._levels(self._encode(images))

    def of(self, rows: Tensor) -> list[Float[Tensor, "b _c _gh _gw"]]:
        """Standardised maps of the kept images with these numbers."""
        return self._levels(self.kept[rows])

    def chunks(self, size: int = 64) -> Iterator[tuple[int, list[Tensor]]]:
        """All kept maps, with the number of the first image of each chunk."""
        for start in range(0, len(self.kept), size):
            yield start, self._levels(self.kept[start : start + size])

    def forget(self) -> None:
        """Let go of the training images."""
        self.__dict__.pop("kept", None)

    def _encode(self, images: Tensor) -> Float[Tensor, "b values"]:
        device = next(self.backbone.parameters()).device
        return torch.cat([level.flatten(1) for level in self.backbone(images.to(device))], dim=1)

    def _levels(self, flat: Float[Tensor, "b values"]) -> list[Tensor]:
        parts = flat.float().split([c * side * side for c, side in self.shapes], dim=1)
        return [
            (part.unflatten(1, (c, side, side)) - self.get_buffer(f"mean{i}")) / self.get_buffer(f"std{i}")
            for i, (part, (c, side)) in enumerate(zip(parts, self.shapes, strict=True))
        ]
