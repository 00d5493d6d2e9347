"""The conditional autoencoder: as large as the paper's, its mask block as written, its parts in the paper's order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import ndimage
from torch import Tensor, nn

from unmask.detectors.ssm.network import ConditionalAutoencoder, MaskBlock
from unmask.errors import SettingError

LIGHT = 1 / 8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=seeded(seed))


def blocks(b: int, h: int, w: int, seed: int = 0) -> Tensor:
    """Masks of 4 x 4 pixel blocks, about half of them visible."""
    return (noise(b, 1, h // 4, w // 4, seed=seed) > 0.5).float().repeat_interleave(4, 2).repeat_interleave(4, 3)


def settled(network: nn.Module) -> nn.Module:
    """In eval mode, with weights of a fixed seed and norms as training might leave them: none is the identity."""
    generator = seeded(7)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            assert isinstance(module.running_mean, Tensor)
            assert isinstance(module.running_var, Tensor)
            nn.init.normal_(module.running_mean, 0, 0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return network.eval().requires_grad_(False)


def parameters(width: float) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in ConditionalAutoencoder(width).parameters())


def test_the_full_width_has_the_papers_parameters() -> None:
    assert parameters(1) == 33_301_188
    with torch.device("meta"):
        assert sum(p.numel() for p in ConditionalAutoencoder().parameters()) == 33_301_188


def test_a_quarter_of_the_width_has_a_sixteenth_of_the_parameters() -> None:
    light = parameters(1 / 4)
    assert light == pytest.approx(2.1e6, rel=0.03)
    assert 15 < parameters(1) / light < 17


@pytest.mark.parametrize("width", [1e-6, LIGHT, 0.3])
@pytest.mark.parametrize(("h", "w"), [(16, 16), (32, 48)])
def test_images_come_out_as_large_as_they_went_in(h: int, w: int, width: float) -> None:
    restored, predicted = ConditionalAutoencoder(width).eval()(noise(2, 3, h, w), blocks(2, h, w))
    assert restored.shape == (2, 3, h, w)
    assert predicted.shape == (2, 1, h, w)


@pytest.mark.parametrize("width", [0, -0.25])
def test_a_width_of_nothing_is_refused(width: float) -> None:
    with pytest.raises(SettingError, match=f"above 0, got {width:g}") as refusal:
        ConditionalAutoencoder(width)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("h", "w"), [(24, 32), (32, 40), (17, 17), (8, 8)])
def test_sides_that_do_not_fit_are_refused(h: int, w: int) -> None:
    with pytest.raises(SettingError, match=rf"{w} x {h} .*multiples of 16") as refusal:
        ConditionalAutoencoder(LIGHT)(noise(1, 3, h, w), torch.ones(1, 1, h, w))
    assert "\n" not in str(refusal.value)


def test_a_mask_block_changes_what_is_visible_and_nothing_else() -> None:
    block = settled(MaskBlock(5))
    x = noise(2, 5, 8, 12)
    visible = (noise(2, 1, 16, 24, seed=1) > 0.5).float()  # of single pixels: the resizing takes every second one
    kept = (visible[:, :, ::2, ::2] == 0).expand_as(x)
    changed = block(x, visible)
    assert torch.equal(changed[kept], x[kept])
    assert (changed[~kept] != x[~kept]).all()


def test_a_mask_block_of_nothing_visible_is_the_identity() -> None:
    x = noise(1, 4, 6, 6)
    assert torch.equal(settled(MaskBlock(4))(x, torch.zeros(1, 1, 12, 12)), x)


def naive_norm(x: np.ndarray, norm: nn.Module) -> np.ndarray:
    assert isinstance(norm, nn.BatchNorm2d)
    scale, shift, mean, var = (
        np.asarray(v).astype(np.float64)[:, None, None]
        for v in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    return np.asarray((x - mean) / np.sqrt(var + 1e-5) * scale + shift)


def naive_conv3(x: np.ndarray, conv: nn.Module) -> np.ndarray:
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    kernels = np.asarray(conv.weight).astype(np.float64)
    assert kernels.shape[2:] == (3, 3)
    return np.stack(
        [
            bias + sum(ndimage.correlate(c, k, mode="constant") for c, k in zip(x, kernel, strict=True))
            for kernel, bias in zip(kernels, np.asarray(conv.bias), strict=True)
        ]
    )


def test_a_mask_block_equals_its_formula() -> None:
    """x + m * conv3(ReLU(BN(conv3(cat(BN(x), m)))))."""
    block = settled(MaskBlock(3))
    assert isinstance(block, MaskBlock)
    x, visible = 4 * noise(2, 3, 8, 12) - 2, (noise(2, 1, 32, 48, seed=1) > 0.4).float()
    first, norm, _, second = block.change
    for image, mask, found in zip(x.double().numpy(), visible.double().numpy(), block(x, visible), strict=True):
        m = mask[:, ::4, ::4]
        inner = naive_conv3(np.concatenate([naive_norm(image, block.norm), m]), first)
        expected = image + m * naive_conv3(np.maximum(naive_norm(inner, norm), 0), second)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def paper_order(network: ConditionalAutoencoder, masked: Tensor, visible: Tensor) -> Tensor:
    """Enlarge, convolve 1 x 1, concatenate the skip, two convolutions: the paper's order, one level after the other."""
    one, two, three, four, five = network.encoder
    fine = one(masked)
    half = two(fine)
    quarter = three(half)
    eighth = four(quarter)
    x = network.mask_blocks[0](five(eighth), visible)
    for i, skip in enumerate((eighth, quarter, half, fine)):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = network.decoder[i](torch.cat([network.narrow[i](x), skip], dim=1))
        x = network.mask_blocks[i + 1](x, visible)
    return F.conv2d(x, network.output.weight, network.output.bias, padding=1)


def test_narrowing_before_the_enlargement_equals_the_papers_order() -> None:
    network = settled(ConditionalAutoencoder(LIGHT))
    assert isinstance(network, ConditionalAutoencoder)
    masked, visible = noise(2, 3, 32, 48), blocks(2, 32, 48)
    expected = paper_order(network, masked, visible)
    restored, predicted = network(masked, visible)
    torch.testing.assert_close(torch.cat([restored, predicted], dim=1), expected, rtol=1e-4, atol=1e-3)


def test_every_level_is_a_pair_of_convolutions() -> None:
    with torch.device("meta"):
        network = ConditionalAutoencoder()
    encoder = [
        [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs(e)] for e in network.encoder
    ]
    assert encoder == [
        [(3, 64, 3, 1), (64, 64, 3, 1)],
        [(64, 128, 4, 2), (128, 128, 3, 1)],
        [(128, 256, 4, 2), (256, 256, 3, 1)],
        [(256, 512, 4, 2), (512, 512, 3, 1)],
        [(512, 512, 4, 2), (512, 512, 3, 1)],
    ]
    assert [convs(d)[-1].out_channels for d in network.decoder] == [512, 256, 128, 64]
    for pair in (*network.encoder, *network.decoder):
        assert [type(m) for m in pair.children()] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2


def convs(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_the_prediction_depends_on_the_mask() -> None:
    network = settled(ConditionalAutoencoder(LIGHT))
    masked = noise(1, 3, 32, 32)
    restored, predicted = network(masked, blocks(1, 32, 32))
    for other in (blocks(1, 32, 32, seed=1), torch.zeros(1, 1, 32, 32)):
        restored_too, predicted_too = network(masked, other)
        assert (restored - restored_too).abs().mean() > 1e-3
        assert (predicted - predicted_too).abs().mean() > 1e-3


@pytest.mark.parametrize("level", range(5))
def test_each_mask_block_hears_the_mask(level: int) -> None:
    """With the others silenced, the mask still reaches the output through this one."""
    network = settled(ConditionalAutoencoder(LIGHT))
    assert isinstance(network, ConditionalAutoencoder)
    for i, block in enumerate(network.mask_blocks):
        if i != level:
            nn.init.zeros_(convs(block)[-1].weight)
            nn.init.zeros_(convs(block)[-1].bias)
    masked = noise(1, 3, 32, 32)
    restored, _ = network(masked, torch.ones(1, 1, 32, 32))
    assert not torch.allclose(restored, network(masked, torch.zeros(1, 1, 32, 32))[0], atol=1e-3)


def test_a_batch_equals_its_images_one_by_one() -> None:
    network = settled(ConditionalAutoencoder(LIGHT))
    masked, visible = noise(3, 3, 32, 32), blocks(3, 32, 32)
    restored, predicted = network(masked, visible)
    for i in range(3):
        alone = network(masked[i : i + 1], visible[i : i + 1])
        torch.testing.assert_close(restored[i : i + 1], alone[0], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(predicted[i : i + 1], alone[1], rtol=1e-4, atol=1e-3)


def fresh() -> ConditionalAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConditionalAutoencoder(LIGHT)


def trained(network: ConditionalAutoencoder, visible: Tensor, steps: int) -> list[float]:
    """The losses of some steps on one triplet: (masked image, mask, original)."""
    original = noise(1, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        restored, predicted = network(original * visible, visible)
        loss = (restored - original).square().mean() + (predicted - visible).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_it_learns_one_triplet_by_heart() -> None:
    losses = trained(fresh(), blocks(1, 32, 32), steps=30)
    assert losses[-1] < losses[0] / 10


def test_gradients_reach_every_parameter() -> None:
    network = fresh()
    trained(network, torch.ones(1, 1, 32, 32), steps=1)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if parameter.ndim > 1:
            assert parameter.grad.any(), name
