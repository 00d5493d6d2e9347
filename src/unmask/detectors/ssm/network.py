"""SSM's conditional autoencoder: restores what a mask hides, and says where the mask was.

*Self-Supervised Masking for Unsupervised Anomaly Detection and Localization*, arXiv 2205.06568. A U-Net whose decoder
gets, at each level, a mask of the pixels that were visible.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn

from unmask.errors import SettingError

CHANNELS = (64, 128, 256, 512, 512)
"""Of the encoder's levels at width 1, the finest first; each but the first halves the sides."""

STRIDE = 2 ** (len(CHANNELS) - 1)
"""Pixels along a side of a cell of the coarsest level."""


def conv_pair(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU, twice; the second convolution is 3 x 3 and keeps the size."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class MaskBlock(nn.Module):
    """Add to a feature map what follows from it and the mask, where the mask is 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.change = nn.Sequential(
            nn.Conv2d(channels + 1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c gh gw"], visible: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c gh gw"]:
        """The conditioned map; the mask is resized to it, nearest."""
        mask = F.interpolate(visible, size=x.shape[2:]).to(x)
        changed: Tensor = x + mask * self.change(torch.cat([self.norm(x), mask], dim=1))
        return changed


class ConditionalAutoencoder(nn.Module):
    """An encoder of five levels, a decoder with skips, a mask block before each of its stages and before the output.

    Args:
        width: scales the channels, each rounded to a multiple of 8. 1 is the paper (33.3 M parameters), 1/4 has 2.1 M.

    Raises:
        SettingError: the width is not above 0.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if width <= 0:
            raise SettingError(f"width must be above 0, got {width:g}; 1 is the paper's, 0.25 is light")
        channels = [max(8, 8 * round(width * c / 8)) for c in CHANNELS]
        upwards = channels[::-1]
        self.encoder = nn.ModuleList(
            [conv_pair(3, channels[0]), *(conv_pair(a, b, kernel=4, stride=2) for a, b in pairwise(channels))]
        )
        self.mask_blocks = nn.ModuleList(MaskBlock(c) for c in upwards)
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(upwards))
        self.decoder = nn.ModuleList(conv_pair(2 * c, c) for c in upwards[1:])
        self.output = nn.Conv2d(channels[0], 4, 3, padding=1)

    def forward(
        self, masked: Float[Tensor, "b 3 h w"], visible: Float[Tensor, "b 1 h w"]
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
        """Restore images and predict their masks.

        Args:
            masked: RGB in [0, 1], 0 where hidden; h and w are multiples of 16.
            visible: 1 where a pixel is visible, 0 where it is hidden.

        Returns:
            The restored images, and the predicted masks as they come out: not cut to [0, 1].

        Raises:
            SettingError: h or w is no multiple of 16.
        """
        h, w = masked.shape[2:]
        if h % STRIDE or w % STRIDE:
            raise SettingError(f"images of {w} x {h} pixels do not fit; give sides that are multiples of {STRIDE}")
        levels = [masked]
        for down in self.encoder:
            levels.append(down(levels[-1]))
        x = self.mask_blocks[0](levels.pop(), visible)
        for narrow, restore, condition in zip(self.narrow, self.decoder, self.mask_blocks[1:], strict=True):
            # A 1 x 1 convolution before the enlargement is the same as after it, for a quarter of the work.
            x = F.interpolate(narrow(x), scale_factor=2.0)
            x = condition(restore(torch.cat([x, levels.pop()], dim=1)), visible)
        out = self.output(x)
        return out[:, :3], out[:, 3:]
