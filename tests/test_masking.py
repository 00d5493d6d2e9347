"""Random masks hide exactly what was asked for, anywhere, and the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from unmask.masking import random_hidden


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
