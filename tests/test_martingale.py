"""The evidence that a number has changed: what its bets pay, Ville's bound, and how soon a change is certain."""

import numpy as np
import pytest

from unmask.inspection.martingale import POWERS, ChangeTest, Direction, paid


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("n", [1, 2, 21, 500])
def test_a_bet_pays_one_on_average_over_all_ranks(direction: Direction, power: float, n: int) -> None:
    assert np.mean([paid(rank, n, direction, power) for rank in range(n)]) == pytest.approx(1)


def test_bets_pay_at_the_end_that_they_are_on() -> None:
    assert paid(0, 20, Direction.LOWER, 0.25) > 5 > 1 > paid(19, 20, Direction.LOWER, 0.25)
    assert paid(19, 20, Direction.HIGHER, 0.25) == pytest.approx(paid(0, 20, Direction.LOWER, 0.25))
    assert paid(0, 20, Direction.APART, 0.25) == pytest.approx(paid(19, 20, Direction.APART, 0.25))
    assert paid(10, 20, Direction.APART, 0.25) < 1


def evidence(usual: np.ndarray, values: np.ndarray, seed: int = 0) -> np.ndarray:
    test = ChangeTest(usual.tolist(), list(Direction), seed)
    found = []
    for value in values.tolist():
        test.update(value)
        found.append(test.evidence)
    return np.array(found)


@pytest.mark.parametrize("n", [5, 20, 200])
@pytest.mark.parametrize("levels", [None, 3], ids=["all different", "many ties"])
def test_the_bound_on_false_warnings_holds_however_few_normal_values(n: int, levels: int | None) -> None:
    """P(the statistic reaches A within m values) <= m / A, and its mean after m values is m: both by simulation."""
    m, limit, streams = 60, 300.0, 300
    runs = []
    for seed in range(streams):
        random = np.random.default_rng([n, seed])
        values = random.standard_normal(n + m)
        values = values if levels is None else np.round(values * levels / 3)
        runs.append(evidence(values[:n], values[n:], seed))
    reached = np.mean([run.max() >= limit for run in runs])
    assert reached <= m / limit + 2 * np.sqrt(m / limit / streams)
    assert np.median([run[-1] for run in runs]) < m, "the mean is m, and few runs are far above it"


@pytest.mark.parametrize(("n", "most"), [(20, 14), (50, 9), (200, 7)])
def test_a_large_change_is_certain_after_a_few_values(n: int, most: int) -> None:
    random = np.random.default_rng(n)
    usual, stream = random.standard_normal(n), np.append(random.standard_normal(30), 6 + random.standard_normal(40))
    found = evidence(usual, stream)
    assert found[:30].max() < 10_000
    assert int(np.argmax(found >= 10_000)) - 29 <= most


def test_values_without_any_difference_are_no_evidence() -> None:
    assert evidence(np.ones(30), np.ones(500)).max() < 10_000
