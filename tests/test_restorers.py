"""What restores the hidden: the Gaussian of feature maps, the autoencoder of pixels, and how an image is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tiny import SIZE, Textures, planted, texture
from unmask.detectors.ssm import feature_restorer, pixel_restorer
from unmask.detectors.ssm.feature_restorer import FOLDS, FeatureRestorer
from unmask.detectors.ssm.gaussian import ConditionalGaussian, fit_gaussian
from unmask.detectors.ssm.network import ConditionalAutoencoder
from unmask.detectors.ssm.pixel_restorer import PixelRestorer, RestorationLoss, Schedule, feature_distance
from unmask.detectors.ssm.restorer import Encoded, Restorer
from unmask.errors import SettingError
from unmask.features import backbones
from unmask.features.subspace import Subspace, principal_subspace
from unmask.training import losses
from unmask.training.masking import MASKS, disjoint_masks
from unmask.training.trainer import Trainer, Training

LAYOUT = [(6, 3), (4, 2), (1, 5)]  # tokens, channels of each group
VALUES = sum(n * c for n, c in LAYOUT)
TOKENS = sum(n for n, _ in LAYOUT)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shown(*shape: int, share: float = 0.5, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def partition(side: int, cells: tuple[int, ...], seed: int = 0) -> Tensor:
    """Three masks of each scale: (k, 3, side, side), True = visible."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([disjoint_masks(side, cell, 3, generator) for cell in cells])


def trainer(seed: int = 0) -> Trainer:
    return Trainer(Training(seed=seed, device="cpu"), precise=True)


def not_observed(step: int, steps: int, validation: Sequence[Encoded]) -> None:
    raise AssertionError("nobody observes this training")


def gaussian_of(restore: Any) -> ConditionalGaussian:
    """What restores encoded images."""
    (gaussian,) = restore.args
    assert isinstance(gaussian, ConditionalGaussian)
    return gaussian


# --- the Gaussian -----------------------------------------------------------------------------------------------------


def gaussian(ridge: float | None = None, rank: int = 4) -> ConditionalGaussian:
    """Of a basis that need not be orthonormal."""
    ridges = torch.linspace(0.1, 2, rank) if ridge is None else torch.full((rank,), ridge)
    return ConditionalGaussian(Subspace(normal(VALUES), normal(VALUES, rank, seed=1)), ridges, LAYOUT)


def values_shown(tokens: np.ndarray) -> np.ndarray:
    """A group's values are stored token by token."""
    owners = []
    first = 0
    for n, channels in LAYOUT:
        owners += [first + token for token in range(n) for _ in range(channels)]
        first += n
    return np.asarray(tokens[owners])


def conditional_mean(mean: np.ndarray, cov: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """mu_h + S_hv S_vv^-1 (x_v - mu_v) where ~v."""
    known = np.linalg.solve(cov[np.ix_(v, v)], (x - mean)[v])
    return np.asarray(mean[~v] + cov[np.ix_(~v, v)] @ known)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_hidden_values_are_the_conditional_mean_of_a_normal_distribution(share: float) -> None:
    rank, noise = 4, 0.3
    mean, basis = normal(VALUES), normal(VALUES, rank, seed=1)
    variances = torch.tensor([3.0, 1.5, 0.5, 0.1])
    vectors, visible = normal(3, VALUES, seed=2), shown(3, 5, TOKENS, share=share)
    found = ConditionalGaussian(Subspace(mean, basis), noise / variances, LAYOUT)(vectors, visible.float())
    w = basis.double().numpy()
    cov = w @ np.diag(variances.double().numpy()) @ w.T + noise * np.eye(VALUES)
    for x, masks, restored in zip(vectors.double().numpy(), visible.numpy(), found.numpy(), strict=True):
        for mask, one in zip(masks, restored, strict=True):
            v = values_shown(mask)
            np.testing.assert_allclose(one[~v], conditional_mean(mean.double().numpy(), cov, x, v), atol=1e-3)


def test_where_nothing_is_visible_the_mean_is_restored() -> None:
    model = gaussian()
    restored = model(normal(2, VALUES, seed=2), torch.zeros(2, 1, TOKENS))
    torch.testing.assert_close(restored, model.mean.expand(2, 1, VALUES))


def test_the_hidden_does_not_shape_what_is_restored() -> None:
    model, visible = gaussian(), shown(2, 4, TOKENS)
    vectors = normal(2, VALUES, seed=2)
    for b in range(2):
        for m in range(4):
            hidden = torch.from_numpy(~values_shown(visible[b, m].numpy()))
            other = torch.where(hidden, 100 * normal(VALUES, seed=3), vectors[b])
            mask = visible[b : b + 1, m : m + 1].float()
            torch.testing.assert_close(model(other[None], mask), model(vectors[b : b + 1], mask))
            assert not torch.allclose(model(other[None], 1 - mask), model(vectors[b : b + 1], 1 - mask))


def test_a_batch_of_vectors_equals_them_one_by_one() -> None:
    model, vectors, visible = gaussian(), normal(3, VALUES, seed=2), shown(3, 4, TOKENS).float()
    together = model(vectors, visible)
    for b in range(3):
        for m in range(4):
            alone = model(vectors[b : b + 1], visible[b : b + 1, m : m + 1])[0, 0]
            torch.testing.assert_close(together[b, m], alone, rtol=1e-4, atol=1e-5)


def test_what_lies_in_the_subspace_comes_back_from_a_part_of_it() -> None:
    model = gaussian(ridge=1e-4)
    vectors = model.mean + normal(4, 4, seed=2) @ normal(VALUES, 4, seed=1).T
    visible = torch.zeros(4, 1, TOKENS)
    visible[..., [0, 3, 8]] = 1
    torch.testing.assert_close(model(vectors, visible)[:, 0], vectors, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("most", "rank"), [(3, 3), (100, 9)])
def test_a_gaussian_keeps_no_more_directions_than_allowed(most: int, rank: int) -> None:
    vectors = normal(10, 40) * torch.linspace(0.1, 3, 40)
    subspace, variances = fit_gaussian(vectors, 1.0, most)
    assert subspace.basis.shape == (40, rank)
    assert variances.shape == (rank,)
    torch.testing.assert_close(subspace.basis, principal_subspace(vectors, 1.0).basis[:, :rank])


def test_variances_are_those_along_the_directions() -> None:
    vectors = normal(30, 20) * torch.linspace(0.1, 3, 20) + 5
    subspace, variances = fit_gaussian(vectors, 0.9, 100)
    coordinates = vectors.double().numpy() @ subspace.basis.double().numpy()
    np.testing.assert_allclose(variances, coordinates.var(0, ddof=1), rtol=1e-4)
    assert (variances.diff() <= 0).all()  # the largest first, so that the cap cuts the smallest


# --- feature maps -----------------------------------------------------------------------------------------------------


class ThreeLevels(nn.Module):
    """Fixed random features at strides 8, 16 and 32: the deepest is coarser than the masks' grid."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.ParameterList(normal(c, 3, s, s, seed=s) / s for c, s in ((4, 8), (6, 16), (5, 32)))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [F.conv2d(images, kernel, stride=kernel.shape[-1]) for kernel in self.kernels]


def in_three_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, levels: tuple[int, ...]) -> backbones.Backbone:
        return backbones.Backbone(name, ThreeLevels(), (4, 6, 5), (8, 16, 32))

    monkeypatch.setattr(backbones, "load", load)


def features(size: int = SIZE, cells: tuple[int, ...] = (16, 32), n: int = 13) -> FeatureRestorer:
    restorer = FeatureRestorer("tiny", size, cells=cells, variance_share=0.97, rank=8)
    restorer.fit(Textures(n, size=size), trainer(), not_observed)
    return restorer


@pytest.fixture(scope="module")
def restorer() -> FeatureRestorer:
    return features()


def new_images(n: int = 2, size: int = SIZE) -> Tensor:
    return torch.stack([planted(texture(500 + i, size)) for i in range(n)])


def partly_shown(restorer: FeatureRestorer, b: int = 2) -> tuple[Tensor, Tensor]:
    """Masks of each image, and what none of them hides."""
    side = restorer.side
    uncovered = shown(b, side // 2, side // 2, share=0.4).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return partition(side, restorer.cells) | uncovered[:, None, None], uncovered


def test_masks_live_on_tokens_of_16_pixels(restorer: FeatureRestorer) -> None:
    assert (restorer.side, restorer.cells) == (4, (1, 2))
    assert restorer.names == ("stride 8", "stride 16")


def test_features_that_nothing_hides_are_the_images_own(restorer: FeatureRestorer) -> None:
    values, restore = restorer.encode(new_images())
    visible, uncovered = partly_shown(restorer)
    apart = restore(values, visible) - values[:, None]  # b k d
    values = uncovered.flatten(1).repeat_interleave(8 + 16, 1)[:, None].expand_as(apart)
    assert (apart[values] == 0).all()
    assert (apart[~values].abs() > 0).float().mean() > 0.9


def test_everything_visible_is_no_error(restorer: FeatureRestorer) -> None:
    values, restore = restorer.encode(new_images())
    restored = restore(values, torch.ones(2, 2, 3, 4, 4, dtype=torch.bool))
    errors, squares = restorer.compare(values, restored, torch.tensor([0.5, 0.5]))
    assert torch.equal(errors, torch.zeros(2, 2, 4, 4))
    assert torch.equal(squares, torch.zeros(2, 2, 4, 4))


def test_a_token_is_restored_without_looking_at_it(restorer: FeatureRestorer) -> None:
    values, restore = restorer.encode(new_images(1))
    visible = partition(4, (1, 2))[None]
    before = restore(values, visible)
    for token in range(16):
        own = slice(24 * token, 24 * token + 24)
        other = values.clone()
        other[:, own] += 1
        after = restore(other, visible)
        torch.testing.assert_close(after[..., own], before[..., own])
        assert not torch.allclose(after, before)  # it is evidence for the others


def test_masks_hide_every_token_of_every_level_once(monkeypatch: pytest.MonkeyPatch) -> None:
    in_three_levels(monkeypatch)
    restorer = features(128, (32, 64))
    values, restore = restorer.encode(new_images(1, 128))
    asked, call = [], ConditionalGaussian.__call__

    def spy(self: ConditionalGaussian, vectors: Tensor, visible: Tensor) -> Tensor:
        asked.append(visible)
        restored: Tensor = call(self, vectors, visible)
        return restored

    monkeypatch.setattr(ConditionalGaussian, "__call__", spy)
    restored = restore(values, partition(8, (2, 4))[None])
    monkeypatch.undo()
    hidden = 1 - torch.cat(asked).reshape(2, 3, 8 * 8 + 4 * 4)
    assert torch.equal(hidden.sum(1), torch.ones(2, 80))
    assert (restored != values[:, None]).all()


def test_every_value_is_restored_under_the_mask_that_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coarse token of 2 x 2 tokens counts as hidden where any of these is."""
    in_three_levels(monkeypatch)
    restorer = features(128, (32, 64))
    values, restore = restorer.encode(new_images(2, 128))
    uncovered = shown(2, 8, 8, share=0.6)  # of single tokens: most coarse ones are visible in part
    visible = partition(8, (2, 4)) | uncovered[:, None, None]
    found = restore(values, visible)
    for b in range(2):
        for k in range(2):
            expected = values[b].clone()
            for mask in visible[b, k]:
                coarse = mask.unflatten(0, (4, 2)).unflatten(2, (4, 2)).all(3).all(1)
                tokens = torch.cat([mask.flatten(), coarse.flatten()])
                out = gaussian_of(restore)(values[b : b + 1], tokens[None, None].float())[0, 0]
                shown_values = torch.cat([tokens[:64].repeat_interleave(10), tokens[64:].repeat_interleave(5)])
                expected = torch.where(shown_values, expected, out)
            torch.testing.assert_close(found[b, k], expected, rtol=1e-4, atol=1e-5)


def enlarged(grid: np.ndarray, side: int) -> np.ndarray:
    """Bilinear between the middles of the cells, flat outside the outermost ones."""
    at = np.clip((np.arange(side) + 0.5) * len(grid) / side - 0.5, 0, len(grid) - 1)
    wide = np.stack([np.interp(at, np.arange(len(grid)), row) for row in grid])
    return np.stack([np.interp(at, np.arange(len(grid)), column) for column in wide.T], axis=1)


def test_errors_are_the_mean_square_of_standard_features(monkeypatch: pytest.MonkeyPatch) -> None:
    in_three_levels(monkeypatch)
    restorer = features(128, (32, 64))
    images, again = new_images(2, 128), torch.stack([texture(600 + i, 128) for i in range(4)])
    weights = torch.tensor([0.3, 0.7])
    own, other = (
        [F.avg_pool2d(x, x.shape[-1] // side).double().numpy() for x, side in zip(levels, (8, 8, 4), strict=True)]
        for levels in (restorer.maps.standardised(restorer.maps.features(some)) for some in (images, again))
    )
    values, _ = restorer.encode(images)
    errors, squares = restorer.compare(values, restorer.encode(again).values.unflatten(0, (2, 2)), weights)
    assert torch.equal(errors, squares)
    for level in range(3):
        for b in range(2):
            apart = [((other[level][2 * b + k] - own[level][b]) ** 2).mean(0) for k in range(2)]
            expected = enlarged(0.3 * apart[0] + 0.7 * apart[1], 8)
            np.testing.assert_allclose(errors[b, level], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cells", [(24,), (16, 8), (100, 32)])
def test_cells_that_cut_a_feature_are_refused(cells: tuple[int, ...]) -> None:
    wrong = next(cell for cell in cells if cell % 16)
    with pytest.raises(SettingError, match=rf"cell of {wrong} pixels .*multiples of 16") as refusal:
        FeatureRestorer("tiny", SIZE, cells=cells, variance_share=0.9, rank=8)
    assert "\n" not in str(refusal.value)


def test_cells_must_hold_the_coarsest_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    in_three_levels(monkeypatch)
    with pytest.raises(SettingError, match=r"cell of 16 pixels .*multiples of 32"):
        FeatureRestorer("tiny", 128, cells=(16, 32), variance_share=0.9, rank=8)


def test_each_normal_image_is_validated_once_by_a_gaussian_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[tuple[Tensor, Tensor]] = []  # mean, and the vectors it was fitted to

    def spy(vectors: Tensor, share: float, most: int) -> tuple[Subspace, Tensor]:
        fitted: tuple[Subspace, Tensor] = fit_gaussian(vectors, share, most)
        fits.append((fitted[0].mean, vectors))
        return fitted

    monkeypatch.setattr(feature_restorer, "fit_gaussian", spy)
    restorer = FeatureRestorer("tiny", SIZE, cells=(16, 32), variance_share=0.97, rank=8)
    validation = restorer.fit(Textures(13), trainer(), not_observed)
    everything = restorer.encode(torch.stack(Textures(13).images)).values
    all_values = []
    for values, restore in validation:
        trained = next(vectors for mean, vectors in fits if mean is gaussian_of(restore).mean)
        assert len(trained) in (13 - 4, 13 - 3)
        assert torch.cdist(values, trained).min() > 0.1
        all_values.append(values)
    nearest = torch.cdist(torch.cat(all_values), everything).min(1)
    assert nearest.values.max() < 0.01  # cached in half precision
    assert sorted(nearest.indices.tolist()) == list(range(13))
    assert len(fits) == FOLDS + 1
    assert fits[-1][1].shape == everything.shape  # new images are restored by what all images taught


def test_no_more_normal_images_are_validated_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_restorer, "VALIDATION_IMAGES", 8)
    restorer = FeatureRestorer("tiny", SIZE, cells=(16, 32), variance_share=0.97, rank=8)
    assert sum(len(values) for values, _ in restorer.fit(Textures(13), trainer(), not_observed)) == 8


@pytest.mark.parametrize("kind", ["features", "pixels"])
def test_a_fit_leaves_nothing_behind_but_what_it_learned(kind: str) -> None:
    """No images, no maps and no folds stay in the restorer; a second fit needs nothing of the first."""
    restorer: Restorer = features(n=8) if kind == "features" else pixels()
    before = {*vars(restorer), *restorer._buffers}
    restorer.train().requires_grad_(True)
    restorer.fit(Textures(9), trainer(), not_observed)
    assert {*vars(restorer), *restorer._buffers} == before
    assert "cached" not in {name for module in restorer.modules() for name in vars(module)}


# --- pixels -----------------------------------------------------------------------------------------------------------


def pixels(score: str = "pixels", **more: Any) -> PixelRestorer:
    """In eval mode; its norms are not the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options: dict[str, Any] = {
            "cells": (4, 8),
            "width": 0.0625,
            "mask_weight": 1.0,
            "backbone": "tiny",
            "schedule": Schedule(steps=2, epochs=0.0, batch=2, lr=0.01),
            **more,
        }
        restorer = PixelRestorer(SIZE, score=score, **options)
    for module in restorer.net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1.5)
            nn.init.constant_(module.bias, 0.2)
    return restorer.eval().requires_grad_(False)


def naive_restoration(net: ConditionalAutoencoder, image: Tensor, masks: Tensor) -> tuple[Tensor, list[Tensor]]:
    """R = sum_i out_i (1 - M_i), one mask after the other, and the predicted masks."""
    restored, predicted = torch.zeros_like(image), []
    for mask in masks.float():
        out, p = net((image * mask)[None], mask[None, None])
        restored += out[0] * (1 - mask)
        predicted.append(p[0, 0])
    return restored, predicted


def counted(net: ConditionalAutoencoder) -> list[int]:
    """The batch size of each call from now on."""
    sizes: list[int] = []

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        sizes.append(len(given[0]))

    net.register_forward_pre_hook(count)
    return sizes


def test_a_pixel_is_restored_under_the_mask_that_hides_it() -> None:
    restorer, images, masks = pixels(), new_images(), partition(SIZE, (4, 8, 16))
    values, restore = restorer.encode(images)
    found = restore(values, masks.expand(2, -1, -1, -1, -1))
    for b in range(2):
        for k in range(3):
            expected, _ = naive_restoration(restorer.net, images[b], masks[k])
            torch.testing.assert_close(found[b, k], expected, rtol=1e-4, atol=1e-4)


def test_pixels_that_nothing_hides_are_the_images_own() -> None:
    restorer, images = pixels(), new_images()
    values, restore = restorer.encode(images)
    uncovered = shown(2, 4, 4).repeat_interleave(16, 1).repeat_interleave(16, 2)
    visible = partition(SIZE, (4, 8)) | uncovered[:, None, None]
    found = restore(values, visible)
    for b in range(2):
        for k in range(2):
            expected = naive_restoration(restorer.net, images[b], visible[b, k])[0] + images[b] * uncovered[b]
            torch.testing.assert_close(found[b, k], expected, rtol=1e-4, atol=1e-4)
            assert torch.equal(found[b, k][:, uncovered[b]], images[b][:, uncovered[b]])


def test_all_masks_of_an_image_go_through_the_network_at_once() -> None:
    restorer = pixels()
    sizes = counted(restorer.net)
    restorer.restore(new_images(2), partition(SIZE, (4, 8, 16)).expand(2, -1, -1, -1, -1))
    assert sizes == [9, 9]


@pytest.mark.parametrize("mask_weight", [0.0, 0.01, 1.0])
def test_the_loss_is_the_sum_of_its_four_parts(mask_weight: float) -> None:
    net, images = pixels().net, new_images()
    masks = torch.stack([partition(SIZE, (8,), seed)[0] for seed in range(2)])  # other masks for each image
    both = [naive_restoration(net, image, one) for image, one in zip(images, masks, strict=True)]
    restored = torch.stack([one for one, _ in both])
    mask_part = sum(
        torch.stack([(both[b][1][i] - masks[b, i].float()).square().mean() for b in range(2)]).mean() for i in range(3)
    )
    expected = (
        (restored - images).square().mean()
        + losses.msgms(images, restored)
        + (1 - losses.ssim(images, restored))
        + mask_weight * mask_part
    )
    sizes = counted(net)
    assert RestorationLoss(net, mask_weight)(images, masks).item() == pytest.approx(expected.item(), rel=1e-4)
    assert sizes == [6]


def test_every_fifth_image_is_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Textures(12)
    for i in range(12):
        images.images[i] = torch.full((3, SIZE, SIZE), i / 16)  # exact in half precision
    shown_images, said, sides = [], {}, []

    def run(
        self: Trainer, stage: str, module: nn.Module, batch_at: Callable[[int], tuple[Tensor, ...]], **how: Any
    ) -> None:
        said.update(how, weight=module.mask_weight)
        for step in range(how["steps"]):
            batch, masks = batch_at(step)
            assert all(torch.equal(again, one) for again, one in zip(batch_at(step), (batch, masks), strict=True))
            assert masks.shape == (3, MASKS, SIZE, SIZE)
            assert ((~masks).sum(1) == 1).all(), "disjoint, and together everything"
            assert torch.equal(masks, masks[:1].expand_as(masks)), "one scale and one deal a step"
            shown_images.append(batch)
            whole = F.avg_pool2d(masks[0].float(), 8)
            sides.append(8 if bool(((whole == 0) | (whole == 1)).all()) else 4)

    monkeypatch.setattr(Trainer, "run", run)
    restorer = pixels(mask_weight=0.5, schedule=Schedule(steps=40, epochs=0.0, batch=3, lr=0.01))
    validation = restorer.fit(images, trainer(), not_observed)
    trained = {round(16 * image.mean().item()) for image in torch.cat(shown_images)}
    aside = {round(16 * image.mean().item()) for part, _ in validation for image in part}
    assert aside == {0, 5, 10}
    assert trained == set(range(12)) - aside
    assert min(sides.count(4), sides.count(8)) > 8, "each scale has its turn"
    assert (said["steps"], said["lr"], said["weight_decay"], said["weight"]) == (40, 0.01, 1e-5, 0.5)


def test_validation_images_are_drawn_by_the_seed_and_not_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_restorer, "VALIDATION_IMAGES", 2)
    images = Textures(31)
    for i in range(31):
        images.images[i] = torch.full((3, SIZE, SIZE), i / 32)

    def drawn(seed: int) -> set[int]:
        validation = pixels().requires_grad_(True).fit(images, trainer(seed), not_observed)
        return {round(32 * image.mean().item()) for values, _ in validation for image in values}

    sets = [drawn(seed) for seed in range(4)]
    assert all(len(one) == 2 and all(i % 5 == 0 for i in one) for one in sets)
    assert drawn(0) == sets[0]
    assert len({tuple(sorted(one)) for one in sets}) > 1


def test_pixels_are_compared_by_msgms_and_by_squares() -> None:
    restorer, images = pixels(), new_images()
    restored = (images[:, None] + 0.1 * normal(2, 2, 3, SIZE, SIZE)).clamp(0, 1)
    errors, squares = restorer.compare(images, restored, torch.tensor([0.2, 0.8]))
    for b in range(2):
        apart = [losses.msgms_map(images[b : b + 1], restored[b, k][None])[0] for k in range(2)]
        torch.testing.assert_close(errors[b, 0], 0.2 * apart[0] + 0.8 * apart[1], rtol=1e-4, atol=1e-5)
        expected = ((restored[b] - images[b]) ** 2).sum((0, 1)) / 6  # mean over scales and channels
        torch.testing.assert_close(squares[b, 0], expected)


def test_both_terms_are_those_of_either_alone() -> None:
    images, restored = new_images(), normal(2, 2, 3, SIZE, SIZE).abs().clamp(0, 1)
    weights = torch.tensor([0.2, 0.8])
    both, grey, deep = (pixels(score).compare(images, restored, weights) for score in ("both", "pixels", "features"))
    for two, one, other in zip(both, grey, deep, strict=True):
        assert torch.equal(two, torch.cat([one, other], dim=1))
    assert pixels("both").names == pixels("pixels").names + pixels("features").names
    mean = 0.2 * restored[:, 0] + 0.8 * restored[:, 1]
    backbone = backbones.load("tiny")
    torch.testing.assert_close(deep[0][:, 0], feature_distance(backbone(images), backbone(mean), SIZE))


def test_feature_distance_is_one_less_the_cosine() -> None:
    a = [normal(2, 5, 8, 8), normal(2, 7, 4, 4, seed=1)]
    b = [normal(2, 5, 8, 8, seed=2), normal(2, 7, 4, 4, seed=3)]
    torch.testing.assert_close(feature_distance(a, a, 16), torch.zeros(2, 16, 16), atol=1e-6, rtol=0)
    torch.testing.assert_close(feature_distance(a, [3 * x for x in a], 16), torch.zeros(2, 16, 16), atol=1e-6, rtol=0)
    torch.testing.assert_close(feature_distance(a, [-x for x in a], 16), torch.full((2, 16, 16), 2.0))
    between = feature_distance(a, b, 16)
    assert 0 <= between.min() <= between.max() <= 2
    for i in range(2):
        expected = np.zeros((16, 16))
        for x, y in zip(a, b, strict=True):
            p, q = x[i].double().numpy(), y[i].double().numpy()
            cosine = (p * q).sum(0) / np.sqrt((p**2).sum(0) * (q**2).sum(0))
            expected += enlarged(1 - cosine, 16) / 2
        np.testing.assert_allclose(between[i], expected, atol=1e-4)


def test_a_size_that_does_not_fit_the_network_is_refused() -> None:
    schedule = Schedule(steps=1, epochs=0.0, batch=1, lr=0.1)
    with pytest.raises(SettingError, match=r"image_size 40 .*multiple of 16") as refusal:
        PixelRestorer(40, cells=(4,), width=0.0625, mask_weight=1.0, score="pixels", backbone="tiny", schedule=schedule)
    assert "\n" not in str(refusal.value)
