"""Random masks hide exactly what was asked for, anywhere, and the same for the same seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.errors import SettingError
from unmask.training.masking import disjoint_masks, random_hidden


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 49), (0.6, 118), (0.75, 147), (1.0, 196)])
def test_each_image_hides_exactly_the_share(share: float, count: int) -> None:
    hidden = random_hidden(16, 196, share, seeded())
    assert hidden.dtype == torch.bool
    assert hidden.sum(1).tolist() == [count] * 16


def test_the_seed_decides() -> None:
    first = random_hidden(8, 64, 0.5, seeded(1))
    assert torch.equal(first, random_hidden(8, 64, 0.5, seeded(1)))
    assert not torch.equal(first, random_hidden(8, 64, 0.5, seeded(2)))


def test_no_global_randomness_is_used() -> None:
    state = torch.get_rng_state()
    random_hidden(4, 16, 0.5, seeded())
    assert torch.equal(state, torch.get_rng_state())


def test_every_cell_is_hidden_equally_often_and_images_differ() -> None:
    n, b, share = 16, 4000, 0.25
    hidden = random_hidden(b, n, share, seeded()).double()
    spread = (share * (1 - share) / b) ** 0.5
    assert ((hidden.mean(0) - share).abs() < 5 * spread).all()
    pairs = hidden.T @ hidden / b
    expected = share * (share * n - 1) / (n - 1)  # drawn without replacement
    off_diagonal = pairs[~torch.eye(n, dtype=torch.bool)]
    assert ((off_diagonal - expected).abs() < 5 * (expected / b) ** 0.5).all()
    assert len(torch.unique(hidden[:100], dim=0)) > 90


@st.composite
def grids(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Size, cell, masks and seed that go together, the size often no multiple of the cell."""
    side, cell = draw(st.integers(2, 9)), draw(st.integers(1, 6))
    size = side * cell - draw(st.integers(0, cell - 1))
    return size, cell, draw(st.integers(2, min(6, side**2))), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=60, deadline=None)
@given(grids())
def test_each_pixel_is_hidden_exactly_once(grid: tuple[int, int, int, int]) -> None:
    size, cell, n, seed = grid
    visible = disjoint_masks(size, cell, n, seeded(seed))
    assert visible.shape == (n, size, size)
    assert visible.dtype == torch.bool
    assert ((~visible).sum(0) == 1).all()


@settings(max_examples=60, deadline=None)
@given(grids())
def test_cells_are_blocks_and_dealt_evenly(grid: tuple[int, int, int, int]) -> None:
    size, cell, n, seed = grid
    visible = disjoint_masks(size, cell, n, seeded(seed))
    corners = visible[:, ::cell, ::cell]
    for y in range(size):
        for x in range(size):
            assert torch.equal(visible[:, y, x], corners[:, y // cell, x // cell])
    hidden = (~corners).sum((1, 2))
    assert hidden.max() - hidden.min() <= 1


@settings(max_examples=30, deadline=None)
@given(grids())
def test_the_seed_decides_disjoint_masks_and_nothing_else(grid: tuple[int, int, int, int]) -> None:
    size, cell, n, seed = grid
    state = torch.get_rng_state()
    first = disjoint_masks(size, cell, n, seeded(seed))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, disjoint_masks(size, cell, n, seeded(seed)))


def test_other_seeds_and_later_draws_give_other_masks() -> None:
    generator = seeded()
    first = disjoint_masks(32, 4, 3, generator)
    assert not torch.equal(first, disjoint_masks(32, 4, 3, generator))
    assert not torch.equal(first, disjoint_masks(32, 4, 3, seeded(1)))


def test_each_mask_hides_each_cell_equally_often() -> None:
    draws, generator = 3000, seeded()
    hidden = sum((~disjoint_masks(3, 1, 3, generator)).double() for _ in range(draws))
    spread = (1 / 3 * 2 / 3 / draws) ** 0.5
    assert ((hidden / draws - 1 / 3).abs() < 5 * spread).all()


def test_as_few_cells_as_masks_are_enough() -> None:
    assert disjoint_masks(4, 2, 4, seeded()).logical_not().sum((1, 2)).tolist() == [4] * 4


@pytest.mark.parametrize(
    ("size", "cell", "n", "says"),
    [
        (8, 2, 1, "n = 1"),
        (8, 2, 0, "n = 0"),
        (8, 2, -3, "n = -3"),
        (0, 2, 3, "got 0 for the image and 2"),
        (8, 0, 3, "got 8 for the image and 0"),
        (-8, -2, 3, "got -8 for the image and -2"),
        (8, 8, 3, "got 1 of 8 in 8 pixels"),
        (4, 2, 5, "got 4 of 2 in 4 pixels"),
    ],
)
def test_impossible_masks_are_refused_in_one_line(size: int, cell: int, n: int, says: str) -> None:
    with pytest.raises(SettingError, match=says) as refusal:
        disjoint_masks(size, cell, n, seeded())
    assert "\n" not in str(refusal.value)
