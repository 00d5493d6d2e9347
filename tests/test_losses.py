"""Each loss against an independent oracle: SciPy, PyTorch's own cross-entropy, or the formula written as loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import ndimage

from unmask.training.losses import (
    gaussian_blur,
    gaussian_kernel,
    gradient_similarity,
    median3,
    msgms,
    msgms_map,
    pixel_status,
    ssim,
)


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


def naive_gms(a: np.ndarray, b: np.ndarray, c: float = 0.0026) -> np.ndarray:
    """Of two images (channels, rows, columns): median, Prewitt / 3, (2ab + c) / (a^2 + b^2 + c)."""
    prewitt = np.array([[-1, 0, 1]] * 3) / 3
    magnitudes = []
    for image in (a, b):
        grey = ndimage.median_filter(image.mean(0), size=3, mode="nearest")
        x = ndimage.correlate(grey, prewitt, mode="nearest")
        y = ndimage.correlate(grey, prewitt.T, mode="nearest")
        magnitudes.append(np.hypot(x, y))
    p, q = magnitudes
    return np.asarray((2 * p * q + c) / (p**2 + q**2 + c))


def halved(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; an odd last row or column is dropped."""
    h, w = image.shape[1] // 2, image.shape[2] // 2
    halves = np.zeros((image.shape[0], h, w))
    for y, x in product(range(h), range(w)):
        halves[:, y, x] = image[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2))
    return halves


def enlarged(grid: np.ndarray, h: int, w: int) -> np.ndarray:
    """Bilinear between the middles of the pixels, flat outside the outermost ones."""
    rows = np.clip((np.arange(h) + 0.5) * grid.shape[0] / h - 0.5, 0, grid.shape[0] - 1)
    columns = np.clip((np.arange(w) + 0.5) * grid.shape[1] / w - 0.5, 0, grid.shape[1] - 1)
    wide = np.stack([np.interp(columns, np.arange(grid.shape[1]), row) for row in grid])
    return np.stack([np.interp(rows, np.arange(grid.shape[0]), column) for column in wide.T], axis=1)


def naive_scales(a: np.ndarray, b: np.ndarray, scales: int) -> list[np.ndarray]:
    differences = []
    for _ in range(scales):
        differences.append(1 - naive_gms(a, b))
        a, b = halved(a), halved(b)
    return differences


def image_pair(h: int, w: int, b: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are alike on the left and unlike on the right."""
    a = noise(b, 3, h, w)
    other = noise(b, 3, h, w, seed=1)
    return a, torch.where(torch.arange(w) < w // 2, 0.9 * a + 0.1 * other, other)


def doubles(images: torch.Tensor) -> list[np.ndarray]:
    return list(images.double().numpy())


@pytest.mark.parametrize("levels", [3, 1000], ids=["ties", "no ties"])
@pytest.mark.parametrize("shape", [(3, 20, 31), (1, 2, 5), (2, 1, 1)])
def test_median_equals_scipy(shape: tuple[int, int, int], levels: int) -> None:
    maps = (noise(*shape) * levels).floor()
    for before, after in zip(maps.numpy(), median3(maps).numpy(), strict=True):
        np.testing.assert_array_equal(after, ndimage.median_filter(before, size=3, mode="nearest"))


@pytest.mark.parametrize("c", [0.0026, 0.1])
@pytest.mark.parametrize(("h", "w"), [(12, 17), (3, 3)])
def test_gradient_similarity_equals_the_formula(h: int, w: int, c: float) -> None:
    a, b = image_pair(h, w)
    similarity = gradient_similarity(a, b, c).numpy()
    for p, q, found in zip(doubles(a), doubles(b), similarity, strict=True):
        np.testing.assert_allclose(found, naive_gms(p, q, c), atol=1e-4)


def test_the_default_constant_is_the_papers() -> None:
    a, b = image_pair(9, 9)
    assert torch.equal(gradient_similarity(a, b), gradient_similarity(a, b, 0.0026))


def test_gradient_similarity_of_a_ramp_and_a_flat_image() -> None:
    ramp = (0.1 * torch.arange(8)).expand(1, 3, 8, 8)
    similarity = gradient_similarity(ramp, torch.zeros_like(ramp))
    expected = 0.0026 / (0.2**2 + 0.0026)  # two steps of 0.1 from the left neighbour to the right one
    assert similarity[0, 2:-2, 2:-2].flatten().tolist() == pytest.approx([expected] * 16, rel=1e-3)


@pytest.mark.parametrize(("h", "w", "scales"), [(32, 48, 4), (19, 26, 4), (13, 8, 1), (16, 16, 3)])
def test_msgms_and_its_map_equal_the_formula(h: int, w: int, scales: int) -> None:
    a, b = image_pair(h, w)
    naive = [naive_scales(p, q, scales) for p, q in zip(doubles(a), doubles(b), strict=True)]
    expected = np.mean([[difference.mean() for difference in image] for image in naive])
    assert msgms(a, b, scales).item() == pytest.approx(expected, abs=1e-5)
    for image, found in zip(naive, msgms_map(a, b, scales).numpy(), strict=True):
        whole = np.mean([enlarged(difference, h, w) for difference in image], axis=0)
        np.testing.assert_allclose(found, whole, atol=1e-4)


def test_msgms_takes_four_scales() -> None:
    a, b = image_pair(16, 24)
    assert torch.equal(msgms(a, b), msgms(a, b, 4))
    assert torch.equal(msgms_map(a, b), msgms_map(a, b, 4))


def test_msgms_of_equal_images_is_zero() -> None:
    a = noise(2, 3, 16, 24)
    assert msgms(a, a).item() == 0
    assert torch.equal(msgms_map(a, a), torch.zeros(2, 16, 24))
    assert torch.equal(gradient_similarity(a, a), torch.ones(2, 16, 24))


def test_msgms_is_symmetric_and_stays_within_zero_and_one() -> None:
    a = (noise(2, 3, 24, 32) > 0.5).float()  # the steepest edges there are
    for b in (1 - a, torch.zeros_like(a), noise(2, 3, 24, 32, seed=1)):
        there = msgms_map(a, b)
        assert there.min() >= 0
        assert there.max() <= 1
        assert torch.equal(there, msgms_map(b, a))


def test_msgms_points_at_the_difference() -> None:
    a = 0.5 + 0.05 * noise(1, 1, 64, 64).expand(1, 3, 64, 64)
    b = a.clone()
    b[..., 16:32, 32:48] = (noise(1, 1, 16, 16, seed=1) > 0.5).float()
    there = msgms_map(a, b)[0]
    assert there[16:32, 32:48].mean() > 10 * there[48:, :16].mean()
    assert there.argmax() // 64 in range(14, 34)
    assert there.argmax() % 64 in range(30, 50)


@pytest.mark.parametrize("kind", ["noise", "equal", "flat", "black"])
def test_msgms_has_finite_gradients_everywhere(kind: str) -> None:
    image = noise(1, 3, 16, 16)
    a, b = {
        "noise": (image, noise(1, 3, 16, 16, seed=1)),
        "equal": (image, image),
        "flat": (torch.full_like(image, 0.3), image),
        "black": (torch.zeros_like(image), torch.zeros_like(image)),
    }[kind]
    a = a.clone().requires_grad_()
    (msgms(a, b) + msgms_map(a, b).mean()).backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    assert bool(a.grad.any()) == (kind == "noise")  # a flat image has no slope: all directions are equally good


def test_a_step_down_the_slope_lowers_msgms() -> None:
    a, b = noise(1, 3, 16, 16).double().requires_grad_(), noise(1, 3, 16, 16, seed=1).double()
    before = msgms(a, b)
    before.backward()
    assert a.grad is not None
    step = 1e-4 * a.grad / a.grad.norm()
    predicted = (step * a.grad).sum().item()
    assert before.item() - msgms(a.detach() - step, b).item() == pytest.approx(predicted, rel=0.1)
