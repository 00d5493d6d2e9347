"""FINCH against its equations spelt out, clusters known beforehand, and graphs drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, homogeneity_score
from torch import Tensor

from unmask.features import finch as module
from unmask.features.finch import cluster_means, finch, first_neighbours


def normal(n: int, c: int, seed: int = 0) -> Tensor:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed))


def blobs(k: int, seed: int, each: int) -> tuple[Tensor, np.ndarray]:
    """k heaps of so many points, each in a direction of its own."""
    x, y = make_blobs(n_samples=each * k, centers=10 * np.eye(k, 8), cluster_std=0.3, random_state=seed)
    return torch.from_numpy(x).float(), y


def at_angles(*degrees: float) -> Tensor:
    """Points on a circle: the nearest by cosine is the nearest by angle. Their radii differ, which must not matter."""
    radii = [1 + 0.5 * (i % 3) for i in range(len(degrees))]
    turns = [math.radians(angle) for angle in degrees]
    return torch.tensor([[r * math.cos(a), r * math.sin(a)] for r, a in zip(radii, turns, strict=True)])


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found: np.ndarray = unit @ unit.T
    np.fill_diagonal(found, -np.inf)
    return found


def linked(neighbours: np.ndarray) -> np.ndarray:
    """Eq. 1, then components by spreading the smallest number until nothing changes."""
    n = len(neighbours)
    links = np.eye(n, dtype=bool)
    for i in range(n):
        for j in range(n):
            links[i, j] |= neighbours[i] == j or neighbours[j] == i or neighbours[i] == neighbours[j]
    labels = np.arange(n)
    while True:
        spread = np.array([labels[row].min() for row in links])
        if (spread == labels).all():
            return np.unique(labels, return_inverse=True)[1]
        labels = spread


def naive(vectors: Tensor) -> list[np.ndarray]:
    """All partitions of more than one cluster."""
    x = vectors.double().numpy()
    labels, means, found = np.arange(len(x)), x, []
    while len(means) > 1:
        labels = linked(cosines(means).argmax(1))[labels]
        count = labels.max() + 1
        if count == 1:
            break
        found.append(labels)
        means = np.stack([x[labels == k].mean(0) for k in range(count)])
    return found


# --- the partitions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "c"), [(5, 2), (60, 3), (150, 10)])
def test_the_partitions_are_those_of_the_equations(n: int, c: int, seed: int) -> None:
    vectors = normal(n, c, seed) + 0.5
    found, expected = list(finch(vectors)), naive(vectors)
    assert [int(labels.max()) for labels in found] == [labels.max() for labels in expected]
    for mine, right in zip(found, expected, strict=True):
        assert adjusted_rand_score(right, mine.numpy()) == 1


@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_three_points_apart_from_others_are_a_cluster(k: int, seed: int) -> None:
    vectors, truth = blobs(k, seed, each=3)
    assert adjusted_rand_score(truth, next(finch(vectors)).numpy()) == 1


@pytest.mark.parametrize(("k", "seed"), [(2, 0), (2, 1), (2, 2), (3, 1), (3, 2), (3, 4), (6, 2), (6, 4), (6, 5)])
def test_it_finds_well_separated_clusters(k: int, seed: int) -> None:
    vectors, truth = blobs(k, seed, each=15)
    found = [labels.numpy() for labels in finch(vectors)]
    assert homogeneity_score(truth, found[0]) == pytest.approx(1), "first neighbours are of one's own cluster"
    assert max(adjusted_rand_score(truth, labels) for labels in found) == 1


def test_lengths_do_not_matter_to_directions() -> None:
    """By length these are two other heaps."""
    long, short = at_angles(*range(10)), at_angles(*range(80, 90))
    vectors = torch.cat([long * torch.tensor([1.0, 9.0])[torch.arange(10) % 2, None], short])
    assert any(labels.tolist() == [0] * 10 + [1] * 10 for labels in finch(vectors))


@pytest.mark.parametrize("seed", range(3))
def test_partitions_are_nested_and_counted_from_0(seed: int) -> None:
    found = list(finch(normal(400, 4, seed)))
    assert len(found) >= 2
    for labels in found:
        assert labels.shape == (400,)
        assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
    for finer, coarser in zip([torch.arange(400), *found], found, strict=False):
        assert 2 <= coarser.max() + 1 <= (finer.max() + 1) / 2, "each has a neighbour, so a cluster has at least two"
        pairs = torch.stack([finer, coarser]).unique(dim=1)
        assert pairs.shape[1] == finer.max() + 1, "what was together stays together"


@pytest.mark.parametrize(
    ("degrees", "partitions"),
    [
        ([0, 10, 12, 50, 53, 58], [[0, 0, 0, 1, 1, 1]]),
        ([0, 1, 4, 5, 40, 41, 45, 46], [[0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1]]),
        ([41, 0, 46, 4, 40, 1, 45, 5], [[0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 0, 1, 0, 1, 0, 1]]),
        ([0, 3, 5, 6], []),  # a chain: each one's nearest is the next
        ([0, 3, 5, 6, 70, 71], [[0, 0, 0, 0, 1, 1]]),
        ([10, 0, 21], []),  # the outer two have the same nearest
    ],
)
def test_graphs_drawn_by_hand(degrees: list[float], partitions: list[list[int]]) -> None:
    assert [labels.tolist() for labels in finch(at_angles(*degrees))] == partitions


# --- few and equal points ---------------------------------------------------------------------------------------------


def test_one_point_and_two_have_no_partition() -> None:
    assert list(finch(normal(1, 3))) == []
    assert list(finch(normal(2, 3))) == []
    assert list(finch(torch.ones(2, 3))) == []
    assert list(finch(torch.ones(7, 3))) == []


def test_equal_points_are_together_at_once() -> None:
    vectors = normal(40, 6)
    vectors[31] = vectors[4]
    for labels in finch(vectors):
        assert labels[31] == labels[4]


# --- the parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [1, 7, 100, 512])
def test_first_neighbours_are_the_nearest_others(monkeypatch: pytest.MonkeyPatch, queries: int) -> None:
    monkeypatch.setattr(module, "QUERIES", queries)
    for seed in range(3):
        vectors = normal(100, 5, seed) * (1 + normal(100, 1, seed + 9).abs())
        assert first_neighbours(vectors).tolist() == cosines(vectors.double().numpy()).argmax(1).tolist()


def test_a_pair_are_each_other_s_neighbours() -> None:
    assert first_neighbours(torch.tensor([[1.0, 0.0], [-1.0, 0.1]])).tolist() == [1, 0], "however far"


def test_cluster_means_are_means() -> None:
    vectors = normal(50, 4)
    labels = torch.cat([torch.zeros(1), torch.full((9,), 2), torch.full((40,), 1)]).long()
    labels = labels[torch.randperm(50, generator=torch.Generator().manual_seed(0))]
    expected = np.stack([vectors.double().numpy()[labels.numpy() == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(cluster_means(vectors, labels).numpy(), expected, atol=1e-6)
