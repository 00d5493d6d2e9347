"""The terms that stand beside the decoder, against independent oracles: bottleneck, neighbours, fusion."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from unmask.detectors.isstad.fusion import Fusion
from unmask.detectors.isstad.tokens import Terms
from unmask.detectors.scoring import top_mean
from unmask.features.maps import CachedValue
from unmask.features.neighbours import Bank, bank_columns, nearest, sample_rows
from unmask.features.subspace import principal_subspace


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_the_subspace_is_that_of_a_plain_pca(share: float) -> None:
    vectors = normal(20, 50) * torch.linspace(0.1, 3, 50)
    ours = principal_subspace(vectors, share)
    theirs = PCA(n_components=ours.basis.shape[1]).fit(vectors.numpy())
    new = normal(5, 50, seed=1)
    expected = theirs.inverse_transform(theirs.transform(new.numpy()))
    np.testing.assert_allclose(ours.project(new), expected, atol=1e-3)
    kept = np.cumsum(PCA().fit(vectors.numpy()).explained_variance_ratio_)
    assert ours.basis.shape[1] == min(int((kept < share - 1e-7).sum()) + 1, 19)


def test_what_lies_in_the_subspace_is_restored_and_the_rest_is_not() -> None:
    inside = normal(30, 3) @ normal(3, 40, seed=1)
    subspace = principal_subspace(inside, 0.999)
    assert torch.allclose(subspace.project(inside), inside, atol=1e-3)
    assert (subspace.project(inside + 5 * normal(30, 40, seed=2)) - inside).norm() < 5 * 40**0.5 * 30**0.5 / 2


def test_nearest_is_scikit_learn_s() -> None:
    queries, bank = normal(300, 12), normal(70, 12, seed=1)
    expected = NearestNeighbors(n_neighbors=1).fit(bank.numpy()).kneighbors(queries.numpy())[0][:, 0]
    np.testing.assert_allclose(nearest(queries, bank_columns(bank)), expected, rtol=1e-4)


def test_forbidden_rows_do_not_count_and_nothing_is_changed() -> None:
    bank = normal(10, 4)
    columns = bank_columns(bank)
    before = columns.clone()
    assert nearest(bank[3:4], columns).item() == pytest.approx(0, abs=1e-3)
    expected = (bank[[0, 1, 2, 6, 7, 8, 9]] - bank[3]).norm(dim=1).min()
    assert nearest(bank[3:4], columns, (3, 6)).item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.equal(columns, before)


def test_an_image_s_own_vectors_do_not_count_in_a_bank() -> None:
    maps = [normal(4, 3, 8, 8), normal(4, 5, 4, 4, seed=1)]
    bank = Bank([0, 1], grid=8, size=1000)
    bank.fill(torch.arange(4), [(0, [level[:3] for level in maps]), (3, [level[3:] for level in maps])], seed=0)
    assert bank.vectors.shape == (4 * 64, 8)
    as_new = bank.distances(maps)
    as_own = bank.distances(maps, torch.arange(4))
    assert as_new.max() < 0.05  # every vector is in the bank, up to half precision
    assert as_own.min() > 0.05


def test_sampled_rows_are_distinct_and_rise() -> None:
    rows = sample_rows(100, 30, torch.Generator().manual_seed(0))
    assert len(rows) == 30
    assert (rows.diff() > 0).all()
    assert torch.equal(sample_rows(5, 30, torch.Generator()), torch.arange(5))


def test_a_derived_value_follows_its_buffer() -> None:
    made = []
    double = CachedValue(lambda source: made.append(1) or 2 * source)
    buffer = torch.ones(3)
    assert torch.equal(double(buffer), torch.full((3,), 2.0))
    double(buffer)
    assert len(made) == 1
    buffer.copy_(torch.zeros(3))
    assert torch.equal(double(buffer), torch.zeros(3))


def test_fused_terms_have_equal_say_whatever_their_scales() -> None:
    terms = torch.stack([normal(200, 16, 16), 1000 * normal(200, 16, 16, seed=1) + 500], dim=1)
    fusion = Fusion(Terms(repair=("b",), extras=(), local=("damage", "b"), whole=()))
    fusion.fit(terms.split(50))
    maps, scores = fusion(terms)
    standard = (terms - terms.mean((0, 2, 3), keepdim=True)) / terms.std((0, 2, 3), keepdim=True)
    assert torch.allclose(maps, standard.sum(1), atol=0.02)
    assert abs(scores.mean().item()) < 1e-3
    raised = terms[:1].clone()
    raised[:, 0, :4, :4] += 3
    raised[:, 1, :4, :4] += 3000
    for i in range(2):
        one = terms[:1].clone()
        one[:, i] = raised[:, i]
        assert fusion(one)[1].item() > scores[0].item() + 1


def test_only_local_terms_make_the_map_and_whole_ones_count_by_their_mean_too() -> None:
    terms = normal(50, 2, 8, 8).abs()
    fusion = Fusion(Terms(repair=("whole",), extras=(), local=("damage",), whole=("whole",)))
    fusion.fit([terms])
    shifted = terms.clone()
    shifted[:, 1] += 1
    assert torch.equal(fusion(terms)[0], fusion(shifted)[0])
    peak, mean = top_mean(terms[:, 1], 0.01).std(correction=0), terms[:, 1].mean((1, 2)).std(correction=0)
    assert torch.allclose(fusion(shifted)[1] - fusion(terms)[1], 1 / peak + 1 / mean, rtol=1e-3)


def test_top_mean_is_a_sorted_mean() -> None:
    maps = normal(3, 20, 20)
    expected = np.sort(maps.flatten(1).numpy(), axis=1)[:, -8:].mean(1)
    np.testing.assert_allclose(top_mean(maps, 0.02), expected, rtol=1e-5)
