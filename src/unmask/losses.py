"""Losses that the papers name: pure functions of tensors, each with an oracle in the tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor


def gaussian_kernel(sigma: float, radius: int | None = None) -> Float[Tensor, " k"]:
    """A normalised one-dimensional gaussian of 2 * radius + 1 taps; radius 3 sigma unless given."""
    radius = max(1, round(3 * sigma)) if radius is None else radius
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.sum()


def gaussian_blur(maps: Float[Tensor, "b h w"], sigma: float) -> Float[Tensor, "b h w"]:
    """Smooth each map with a gaussian, its edges replicated.

    Args:
        maps: (b, h, w).
        sigma: in pixels; 0 leaves the maps as they are.
    """
    if sigma <= 0:
        return maps
    kernel = gaussian_kernel(sigma).to(maps)
    radius = len(kernel) // 2
    rows = F.pad(maps[:, None], (radius, radius, 0, 0), mode="replicate")
    rows = F.conv2d(rows, kernel.view(1, 1, 1, -1))
    columns = F.pad(rows, (0, 0, radius, radius), mode="replicate")
    return F.conv2d(columns, kernel.view(1, 1, -1, 1))[:, 0]


def ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], sigma: float = 1.5) -> Float[Tensor, ""]:
    """Structural similarity (Wang et al. 2004), 11 x 11 gaussian window, mean over valid positions; 1 = equal.

    Args:
        a: images in [0, 1], at least 11 x 11 pixels.
        b: images of the same shape.
        sigma: of the window, in pixels.
    """
    c1, c2 = 0.01**2, 0.03**2
    kernel = gaussian_kernel(sigma, radius=5).to(a)
    window = torch.outer(kernel, kernel).expand(a.shape[1], 1, 11, 11)

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(x, window, groups=a.shape[1])

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a**2
    var_b = local_mean(b * b) - mean_b**2
    cov = local_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean()


def pixel_status(
    logits: Float[Tensor, "b h w"], damaged: Float[Tensor, "b h w"], normal_weight: float = 3.0
) -> Float[Tensor, ""]:
    """Weighted cross-entropy of "this pixel is damaged" (ISSTAD: weights normal 3, damaged 1).

    Args:
        logits: log odds of damage.
        damaged: 1 where the image was damaged, 0 elsewhere.
        normal_weight: weight of an undamaged pixel; a damaged one weighs 1.
    """
    weight = torch.where(damaged > 0.5, 1.0, normal_weight)
    return F.binary_cross_entropy_with_logits(logits, damaged, weight=weight, reduction="sum") / weight.sum()
