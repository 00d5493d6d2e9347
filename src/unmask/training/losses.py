"""Losses that the papers name: pure functions of tensors, each with an oracle in the tests."""

from __future__ import annotations

from collections.abc import Iterator

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


def gradient_similarity(
    a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], c: float = 0.0026
) -> Float[Tensor, "b h w"]:
    """Gradient magnitude similarity (Xue et al. 2014) of the channels' mean, after a 3 x 3 median; 1 = equal.

    Args:
        a: images in [0, 1].
        b: images of the same shape.
        c: keeps weak gradients, which are noise, from counting as differences; 0.0026 is 170 of grey levels up to 255.
    """
    grad_a, grad_b = _gradient(median3(a.mean(1))), _gradient(median3(b.mean(1)))
    # The same as (2 ab + c) / (a^2 + b^2 + c), and never above 1 by a rounding error.
    return 1 - (grad_a - grad_b) ** 2 / (grad_a**2 + grad_b**2 + c)


def msgms_map(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], scales: int = 4) -> Float[Tensor, "b h w"]:
    """Where images differ: 1 - GMS, mean over the scales, in [0, 1].

    Args:
        a: images in [0, 1], at least 2 ** (scales - 1) pixels along a side.
        b: images of the same shape.
        scales: each is half as large as the one before; all are enlarged to h x w.
    """
    maps = [
        F.interpolate(difference[:, None], size=a.shape[2:], mode="bilinear")[:, 0]
        for difference in _differences(a, b, scales)
    ]
    return torch.stack(maps).mean(0)


def msgms(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], scales: int = 4) -> Float[Tensor, ""]:
    """Multi-scale gradient magnitude similarity as a loss (RIAD): mean over the scales of the mean of 1 - GMS.

    Args:
        a: images in [0, 1], at least 2 ** (scales - 1) pixels along a side.
        b: images of the same shape.
        scales: each is half as large as the one before.
    """
    return torch.stack([difference.mean() for difference in _differences(a, b, scales)]).mean()


def median3(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """The 3 x 3 median of each map, its edges replicated."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    # Sort each column of three; the median of nine is that of the largest low, the middle middle and the smallest high.
    low, middle, high = _sorted3(padded[:, :-2], padded[:, 1:-1], padded[:, 2:])
    largest_low = torch.maximum(torch.maximum(low[..., :-2], low[..., 1:-1]), low[..., 2:])
    smallest_high = torch.minimum(torch.minimum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
    return _middle3(largest_low, _middle3(middle[..., :-2], middle[..., 1:-1], middle[..., 2:]), smallest_high)


def _sorted3(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    lower, upper = torch.minimum(x, y), torch.maximum(x, y)
    below = torch.minimum(upper, z)
    return torch.minimum(lower, below), torch.maximum(lower, below), torch.maximum(upper, z)


def _middle3(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(x, y), torch.minimum(torch.maximum(x, y), z))


def _gradient(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Magnitude of the Prewitt gradient, divided by 3, edges replicated."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    across, down = padded[..., 2:] - padded[..., :-2], padded[:, 2:] - padded[:, :-2]
    x = (across[:, :-2] + across[:, 1:-1] + across[:, 2:]) / 3
    y = (down[..., :-2] + down[..., 1:-1] + down[..., 2:]) / 3
    return (x**2 + y**2 + 1e-12).sqrt()  # a root has no slope at 0


def _differences(a: Tensor, b: Tensor, scales: int) -> Iterator[Float[Tensor, "b _h _w"]]:
    """1 - GMS of each scale, the finest first."""
    for scale in range(scales):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        yield 1 - gradient_similarity(a, b)


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
