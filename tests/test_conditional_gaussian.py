"""What restores hidden features, against the formula of a conditional normal distribution; how features are hidden."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny import SIZE, Textures, texture
from unmask.bottleneck import Subspace
from unmask.conditional_gaussian import ConditionalGaussian, fit_gaussian
from unmask.errors import SettingError
from unmask.feature_restoration import FOLDS, FeatureRestoration
from unmask.masking import disjoint_masks
from unmask.painter import Painter, paint
from unmask.training import Trainer, Training

LAYOUT = [(4, 3), (2, 5)]  # tokens, channels
WIDTH, RANK, NOISE = 22, 3, 0.05
VARIANCES = torch.tensor([4.0, 1.0, 0.3])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def basis() -> Tensor:
    return torch.linalg.qr(normal(WIDTH, RANK, seed=1)).Q.contiguous()


@pytest.fixture(scope="module")
def gaussian(basis: Tensor) -> ConditionalGaussian:
    return ConditionalGaussian(Subspace(normal(WIDTH, seed=2), basis), NOISE / VARIANCES, LAYOUT)


def per_value(visible: Tensor) -> Tensor:
    first, second = visible[:4].repeat_interleave(3), visible[4:].repeat_interleave(5)
    return torch.cat([first, second]).bool()


@pytest.mark.parametrize("visible", [[1, 1, 0, 1, 1, 0], [0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
def test_it_is_the_conditional_mean_of_a_normal_distribution(
    gaussian: ConditionalGaussian, basis: Tensor, visible: list[int]
) -> None:
    """E[x_h | x_v] = mean_h + S_hv S_vv^-1 (x_v - mean_v), S = W diag(variances) W^T + noise I."""
    x, shown = normal(WIDTH, seed=3), torch.tensor(visible, dtype=torch.float32)
    restored = gaussian(x[None], shown[None, None])[0, 0].double().numpy()
    w, v = basis.double().numpy(), per_value(shown).numpy()
    covariance = w @ np.diag(VARIANCES.double().numpy()) @ w.T + NOISE * np.eye(WIDTH)
    mean = gaussian.mean.double().numpy()
    known = np.linalg.solve(covariance[np.ix_(v, v)], x.double().numpy()[v] - mean[v])
    np.testing.assert_allclose(restored[~v], mean[~v] + covariance[np.ix_(~v, v)] @ known, atol=1e-5)


def test_what_is_hidden_has_no_say(gaussian: ConditionalGaussian) -> None:
    shown = torch.tensor([1.0, 0, 0, 1, 1, 0])
    x = normal(WIDTH, seed=4)
    other = torch.where(per_value(shown), x, 100.0)
    torch.testing.assert_close(gaussian(x[None], shown[None, None]), gaussian(other[None], shown[None, None]))


def test_a_batch_under_many_masks_equals_each_alone(gaussian: ConditionalGaussian) -> None:
    x, shown = normal(3, WIDTH, seed=5), (normal(3, 4, 6, seed=6) > 0).float()
    together = gaussian(x, shown)
    for i in range(3):
        for m in range(4):
            alone = gaussian(x[i : i + 1], shown[i : i + 1, m : m + 1])[0, 0]
            torch.testing.assert_close(together[i, m], alone, rtol=1e-4, atol=1e-5)


def test_the_fit_finds_directions_and_their_variances() -> None:
    vectors = normal(400, 2, seed=7) * torch.tensor([3.0, 1.0]) @ torch.linalg.qr(normal(30, 2, seed=8)).Q.T + 5
    subspace, variances = fit_gaussian(vectors, 0.999, 8)
    assert subspace.basis.shape == (30, 2)
    torch.testing.assert_close(variances, ((vectors - vectors.mean(0)) @ subspace.basis).var(0))
    assert fit_gaussian(vectors, 0.999, 1)[0].basis.shape == (30, 1), "no more than asked for"


# --- features --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def space() -> FeatureRestoration:
    made = FeatureRestoration("tiny", SIZE, cells=(16, 32), variance_share=0.97, rank=8)
    made.learn(Textures(13), Trainer(Training(device="cpu")))
    return made


def masks(cell: int, seed: int = 0) -> Tensor:
    return disjoint_masks(4, cell, 3, torch.Generator().manual_seed(seed))


def test_each_normal_image_is_unseen_once_by_a_gaussian_without_it(space: FeatureRestoration) -> None:
    found = list(space.unseen())
    seen = torch.cat([x for _, x in found])
    assert len(seen) == len(space.vectors) == 13
    for k, (gaussian, x) in enumerate(found):
        torch.testing.assert_close(x, space.vectors[k::FOLDS])
        others = space.vectors[torch.arange(13) % FOLDS != k]
        torch.testing.assert_close(gaussian.mean, others.mean(0), atol=1e-5, rtol=1e-4)


def test_everything_visible_is_itself_and_has_no_error(space: FeatureRestoration) -> None:
    model, seen = space.look(texture(500)[None])
    restored = space.restore(model, seen, torch.ones(1, 2, 3, 4, 4, dtype=torch.bool))
    assert torch.equal(restored, seen[:, None].expand_as(restored))
    errors, squares = space.differ(seen, restored, torch.tensor([0.5, 0.5]))
    assert errors.shape == (1, 2, 4, 4)
    assert errors.abs().max() == squares.abs().max() == 0


def test_each_value_is_restored_by_the_mask_that_hides_it(space: FeatureRestoration) -> None:
    model, seen = space.look(torch.stack([texture(500), texture(501)]))
    visible = torch.stack([masks(1), masks(2)])[None].expand(2, -1, -1, -1, -1)
    restored = space.restore(model, seen, visible)
    for i in range(2):
        for k in range(2):
            for mask in visible[i, k]:
                tokens = mask.flatten().float()
                alone = model(seen[i : i + 1], tokens[None, None])[0, 0]
                hidden = (tokens == 0).repeat_interleave(len(seen[i]) // 16)
                torch.testing.assert_close(restored[i, k][hidden], alone[hidden])


def test_a_coarse_token_is_visible_where_all_that_it_spans_is() -> None:
    made = FeatureRestoration("tiny", SIZE, cells=(32,), variance_share=0.97, rank=8)
    made.groups = [(4, [24]), (2, [320])]  # as of a network with a deeper level
    visible = torch.ones(1, 1, 1, 4, 4, dtype=torch.bool)
    visible[..., 0, 1] = False
    shown = made._tokens_shown(visible)[0, 0, 0]
    assert shown[:16].tolist() == [1, 0] + 14 * [1]
    assert shown[16:].tolist() == [0, 1, 1, 1]


def test_errors_count_each_level_by_its_own_variance(space: FeatureRestoration) -> None:
    _, seen = space.look(texture(500)[None])
    restored = seen[:, None].repeat(1, 2, 1) + 0.1 * normal(1, 2, seen.shape[1], seed=3)
    errors, _ = space.differ(seen, restored, torch.tensor([0.25, 0.75]))
    squared = 0.25 * (restored[:, 0] - seen) ** 2 + 0.75 * (restored[:, 1] - seen) ** 2
    per_token = squared.view(16, 24)
    first, second = per_token[:, :8].sum(1) * 16, per_token[:, 8:].sum(1) * 16  # 1 / numel undone, mean of channels
    torch.testing.assert_close(errors[0].flatten(1), torch.stack([first, second]))


@pytest.mark.parametrize(("cells", "image_size"), [((8,), SIZE), ((16, 24), SIZE), ((32,), 72)])
def test_sizes_that_do_not_fit_are_one_line(cells: tuple[int, ...], image_size: int) -> None:
    with pytest.raises(SettingError) as caught:
        FeatureRestoration("tiny", image_size, cells=cells, variance_share=0.97, rank=8)
    assert "\n" not in str(caught.value)


def test_a_painter_finds_a_linear_map() -> None:
    tokens, truth = normal(6, 5, 4, 4), 0.03 * normal(6, 48, seed=1)
    truth[-1] = 0.5
    images = paint(tokens, truth)
    painter = Painter()
    painter.add(tokens[:4], images[:4])
    painter.add(tokens[4:], images[4:])
    assert images.shape == (6, 3, 16, 16)
    torch.testing.assert_close(paint(tokens, painter.solved()), images, atol=0.02, rtol=0)
    assert images.std() > 0.03
