"""Turned and mirrored copies of images: a bank for few-shot detection sees more than the few."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
import torchvision.transforms.functional as TF  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from unmask.features.maps import Images


class Turned:
    """Each image turned by `angles` equal steps of a full turn, as it is and mirrored; corners show mirrored content.

    Args:
        images: n images.
        angles: a image; 4 = by right angles, 8 = by half of them.
    """

    def __init__(self, images: Images, angles: int) -> None:
        self.images, self.angles = images, angles

    def __len__(self) -> int:
        return len(self.images) * self.angles * 2

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        number, version = divmod(index, 2 * self.angles)
        step, mirrored = divmod(version, 2)
        image = self.images[number]
        side = image.shape[-1]
        margin = -(-side // 4)  # a square turned by 45 degrees looks 0.21 of its side beyond its edge
        padded = F.pad(image[None], (margin,) * 4, mode="reflect")[0]
        turned = TF.rotate(padded, 360.0 * step / self.angles, TF.InterpolationMode.BILINEAR) if step else padded
        cut: Tensor = TF.center_crop(turned, [side, side])
        return cut.flip(2) if mirrored else cut
