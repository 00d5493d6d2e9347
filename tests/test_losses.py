"""Each loss against an independent oracle: SciPy, PyTorch's own cross-entropy, or the formula written as loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import ndimage

from unmask.losses import gaussian_blur, gaussian_kernel, pixel_status, ssim


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("sigma", "radius", "taps"), [(1.5, None, 9), (1.5, 5, 11), (0.2, None, 3), (4.0, None, 25)])
def test_kernel_is_a_normalised_gaussian(sigma: float, radius: int | None, taps: int) -> None:
    kernel = gaussian_kernel(sigma, radius).double()
    assert len(kernel) == taps
    assert kernel.sum().item() == pytest.approx(1, abs=1e-6)
    middle = taps // 2
    for i in range(taps):
        ratio = np.exp(-((i - middle) ** 2) / (2 * sigma**2))
        assert (kernel[i] / kernel[middle]).item() == pytest.approx(ratio, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(3, 20, 31), (1, 5, 5)])
def test_blur_equals_scipy(sigma: float, shape: tuple[int, int, int]) -> None:
    maps = noise(*shape)
    blurred = gaussian_blur(maps, sigma)
    for before, after in zip(maps.numpy(), blurred.numpy(), strict=True):
        expected = ndimage.gaussian_filter(before.astype(np.float64), sigma, mode="nearest", radius=round(3 * sigma))
        np.testing.assert_allclose(after, expected, atol=1e-6)


def test_blur_of_zero_changes_nothing() -> None:
    maps = noise(2, 6, 6)
    assert torch.equal(gaussian_blur(maps, 0), maps)


def naive_ssim(a: np.ndarray, b: np.ndarray, sigma: float) -> float:
    """Equation 13 of Wang et al., one window after the other."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / sigma) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for image_a, image_b in zip(a.reshape(-1, *a.shape[2:]), b.reshape(-1, *b.shape[2:]), strict=True):
        for y in range(a.shape[2] - 10):
            for x in range(a.shape[3] - 10):
                p, q = image_a[y : y + 11, x : x + 11], image_b[y : y + 11, x : x + 11]
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
                cov = (window * (p - mean_p) * (q - mean_q)).sum()
                values.append(
                    (2 * mean_p * mean_q + c1) * (2 * cov + c2) / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2))
                )
    return float(np.mean(values))


@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_ssim_equals_the_formula(sigma: float) -> None:
    a = noise(2, 3, 13, 15)
    b = (0.7 * a + 0.3 * noise(2, 3, 13, 15, seed=1)).clamp(0, 1)
    expected = naive_ssim(a.double().numpy(), b.double().numpy(), sigma)
    assert ssim(a, b, sigma).item() == pytest.approx(expected, abs=1e-4)


def test_ssim_of_equal_images_is_one_and_of_opposite_ones_is_negative() -> None:
    a = noise(1, 3, 16, 16)
    assert ssim(a, a).item() == pytest.approx(1, abs=1e-5)
    assert ssim(a, 1 - a).item() < 0


def test_ssim_of_flat_images_is_their_luminance_term() -> None:
    a, b = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_pixel_status_is_the_weighted_two_class_cross_entropy(weight: float) -> None:
    logits = 6 * noise(2, 5, 7) - 3
    damaged = (noise(2, 5, 7, seed=1) > 0.7).float()
    two_classes = torch.stack([torch.zeros_like(logits), logits], dim=1)
    expected = F.cross_entropy(two_classes, damaged.long(), weight=torch.tensor([weight, 1.0]))
    assert pixel_status(logits, damaged, weight).item() == pytest.approx(expected.item(), rel=1e-5)


def test_pixel_status_weighs_normal_pixels_three_to_one() -> None:
    logits = torch.tensor([[[2.0, 2.0]]])  # sure of damage: right on the second pixel only
    wrong, right = np.log1p(np.exp(2)), np.log1p(np.exp(-2))
    loss = pixel_status(logits, torch.tensor([[[0.0, 1.0]]]))
    assert loss.item() == pytest.approx((3 * wrong + right) / 4, rel=1e-6)


def test_gradients_reach_every_pixel() -> None:
    a = noise(1, 3, 16, 16).requires_grad_()
    (1 - ssim(a, noise(1, 3, 16, 16, seed=1)) + gaussian_blur(a[0], 1.5).square().mean()).backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    assert (a.grad != 0).all()
