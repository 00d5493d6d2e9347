"""The coreset: whatever its rounds and blocks, the choice is the greedy one, made one vector at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unmask.features import coreset
from unmask.features.coreset import greedy_coreset


def normal(n: int, c: int, seed: int = 0) -> Tensor:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed))


def clustered(n: int, c: int, seed: int = 0) -> Tensor:
    """Dense heaps far from each other, as patches of a texture are: many of a round's candidates fall at once."""
    heaps = 5 * normal(6, c, seed)
    return heaps[torch.arange(n) % 6] + 0.2 * normal(n, c, seed + 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def squares(vectors: np.ndarray, chosen: int) -> np.ndarray:
    return np.asarray(((vectors - vectors[chosen]) ** 2).sum(1))


def naive(vectors: Tensor, first: int, size: int) -> list[int]:
    """One choice at a time, all distances exact."""
    exact = vectors.double().numpy()
    chosen, nearest = [first], squares(exact, first)
    while len(chosen) < size and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, squares(exact, chosen[-1]))
    return chosen


def assert_greedy(vectors: Tensor, chosen: list[int]) -> None:
    """Each is the farthest there was when it was chosen, as far as float32 can tell."""
    exact = vectors.double().numpy()
    rounding = 2e-6 * (exact**2).sum(1).max()
    nearest = squares(exact, chosen[0])
    for one in chosen[1:]:
        assert nearest[one] > nearest.max() - rounding
        nearest = np.minimum(nearest, squares(exact, one))


def radius(vectors: Tensor, chosen: Tensor) -> float:
    """How far the worst vector is from the nearest chosen one."""
    return torch.cdist(vectors.double(), vectors[chosen].double()).amin(1).max().item()


# --- the greedy choice ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(1, 1), (2, 2), (40, 39), (300, 60), (1500, 90)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_choice_is_the_greedy_one(n: int, size: int, seed: int) -> None:
    vectors = normal(n, 6, seed)
    chosen = greedy_coreset(vectors, size, generator(seed)).tolist()
    assert chosen == naive(vectors, chosen[0], size)


@pytest.mark.parametrize("size", [5, 60, 300])
def test_of_heaps_too(size: int) -> None:
    """Their vectors are so alike that float32 and float64 may order them differently."""
    for seed in range(3):
        vectors = clustered(300, 6, seed)
        chosen = greedy_coreset(vectors, size, generator(seed)).tolist()
        assert len(set(chosen)) == size
        assert_greedy(vectors, chosen)


@pytest.mark.parametrize("width", [1, 2, 7, 40])
@pytest.mark.parametrize("rows", [4, 13, 1000])
def test_rounds_and_blocks_do_not_change_it(monkeypatch: pytest.MonkeyPatch, width: int, rows: int) -> None:
    monkeypatch.setattr(coreset, "WIDTH", width)
    monkeypatch.setattr(coreset, "ROWS", rows)
    for seed in range(3):
        vectors, heaps = normal(150, 4, seed), clustered(150, 4, seed)
        chosen = greedy_coreset(vectors, 60, generator(seed)).tolist()
        assert chosen == naive(vectors, chosen[0], 60)
        assert_greedy(heaps, greedy_coreset(heaps, 60, generator(seed)).tolist())


def test_a_round_makes_many_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    shrink = coreset._shrink

    def counted(distances: Tensor, vectors: Tensor, squares: Tensor, fresh: list[int]) -> None:
        rounds.append(len(fresh))
        shrink(distances, vectors, squares, fresh)

    monkeypatch.setattr(coreset, "_shrink", counted)
    chosen = greedy_coreset(normal(3000, 8), 300, generator())
    assert len(chosen) == 300
    assert len(rounds) < 300 / 10, "or laziness is lost, and with it the speed"


def test_it_covers_better_than_chance() -> None:
    for seed in range(5):
        vectors = clustered(400, 3, seed)
        random = torch.randperm(400, generator=generator(seed))[:40]
        assert radius(vectors, greedy_coreset(vectors, 40, generator(seed))) < 0.8 * radius(vectors, random)


def test_more_choices_go_on_from_fewer() -> None:
    vectors = normal(200, 5)
    few, many = (greedy_coreset(vectors, size, generator(4)).tolist() for size in (20, 80))
    assert many[:20] == few


def test_the_seed_decides() -> None:
    vectors = normal(300, 200)
    first, again, other = (greedy_coreset(vectors, 30, generator(seed), projected=16) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_vectors_are_left_alone() -> None:
    for projected in (4, 128):
        vectors = normal(100, 12)
        before = vectors.clone()
        greedy_coreset(vectors, 20, generator(), projected=projected)
        assert torch.equal(vectors, before)


# --- equal vectors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1024, 3])
def test_none_is_chosen_twice(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(coreset, "WIDTH", width)
    vectors = normal(60, 5)
    for size in (60, 61, 1000):
        assert sorted(greedy_coreset(vectors, size, generator()).tolist()) == list(range(60))


def test_copies_are_not_chosen() -> None:
    """Whole numbers: their distances are exact in float32."""
    distinct = torch.tensor([[x, y, 3] for x in range(5) for y in range(4)]).float()
    vectors = distinct.repeat(9, 1)[torch.randperm(180, generator=generator())]
    for size, expected in [(7, 7), (20, 20), (180, 20)]:
        chosen = greedy_coreset(vectors, size, generator())
        assert len(chosen) == expected == len(vectors[chosen].unique(dim=0))


@pytest.mark.parametrize("c", [16, 128, 152])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_copies_are_not_chosen_though_products_are_rounded(c: int, offset: float) -> None:
    distinct = (normal(50, c) + offset).half().float()
    vectors = distinct.repeat(20, 1)[torch.randperm(1000, generator=generator())]
    chosen = greedy_coreset(vectors, 1000, generator())
    assert len(vectors[chosen].unique(dim=0)) == 50
    assert len(chosen) == 50


def test_all_equal_vectors_need_one() -> None:
    assert len(greedy_coreset(torch.ones(30, 4), 5, generator())) == 1


def test_many_equally_far_vectors_do_not_end_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "WIDTH", 8)
    for seed in range(3):
        assert len(greedy_coreset(torch.eye(30), 12, generator(seed))) == 12
        two = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat_interleave(20, dim=0)
        assert len(greedy_coreset(two, 10, generator(seed))) == 2, "a plain background gives thousands of equal patches"


# --- the projection ---------------------------------------------------------------------------------------------------


@pytest.fixture
def projections(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The random matrices that are drawn."""
    drawn: list[Tensor] = []
    randn = torch.randn

    def recorded(*shape: Any, **more: Any) -> Tensor:
        drawn.append(randn(*shape, **more))
        return drawn[-1]

    monkeypatch.setattr(torch, "randn", recorded)
    return drawn


@pytest.mark.parametrize("c", [3, 9, 10])
def test_few_dimensions_are_left_as_they_are(c: int, projections: list[Tensor]) -> None:
    vectors = torch.rand(200, c, generator=generator())
    chosen = greedy_coreset(vectors, 50, generator(), projected=10).tolist()
    assert projections == []
    assert chosen == naive(vectors, chosen[0], 50)


@pytest.mark.parametrize("c", [11, 40])
def test_distances_of_more_are_taken_in_a_projection(c: int, projections: list[Tensor]) -> None:
    vectors = torch.rand(200, c, generator=generator())
    chosen = greedy_coreset(vectors, 50, generator(), projected=10).tolist()
    (matrix,) = projections
    assert matrix.shape == (c, 10)
    assert chosen == naive(vectors.double() @ matrix.double(), chosen[0], 50)
    assert chosen != naive(vectors, chosen[0], 50)


def test_the_projection_keeps_the_cover() -> None:
    vectors = clustered(400, 300)
    chosen = greedy_coreset(vectors, 40, generator(), projected=64)
    exact = torch.tensor(naive(vectors, int(chosen[0]), 40))
    assert radius(vectors, chosen) < 1.2 * radius(vectors, exact)


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(200, 50), (30, 100)])
def test_progress_rises(monkeypatch: pytest.MonkeyPatch, n: int, size: int) -> None:
    monkeypatch.setattr(coreset, "WIDTH", 8)
    told: list[tuple[str, int, int, float]] = []

    def progress(stage: str, done: int, total: int, seconds_left: float) -> None:
        told.append((stage, done, total, seconds_left))

    chosen = greedy_coreset(normal(n, 5), size, generator(), progress=progress)
    done = [number for _, number, _, _ in told]
    assert {(stage, total) for stage, _, total, _ in told} == {("coreset", size)}
    assert done == sorted(done)
    assert len(set(done)) > 2, "after each round"
    assert done[-1] == len(chosen) == min(n, size)
    assert all(seconds >= 0 for *_, seconds in told)
