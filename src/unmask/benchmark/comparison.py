"""Two runs of a benchmark side by side: which differences are more than chance.

Rows are paired by data set and seed. A data set counts as a whole: seeds of one set are no independent witnesses.

- The interval: data sets are drawn with replacement, and in each its seeds (percentile bootstrap, Efron 1979).
- The p-value: Wilcoxon's signed-rank test over the data sets' means (Demšar, JMLR 2006), corrected over all that is
  compared at once (Holm 1979).

A difference is significant if the interval leaves out 0 and p is below 0.05. Five data sets can never reach that p.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.benchmark.methods import method_of
from unmask.benchmark.results import same_files
from unmask.errors import DatasetError

METRICS = {"image_auroc": "image AUROC", "image_ap": "image AP", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
LEVEL = 0.05
DRAWS = 2000

Rows = Sequence[Mapping[str, Any]]
ByDataset = Mapping[str, Float[np.ndarray, " seeds"]]


class Difference(NamedTuple):
    """What the second run has more than the first.

    Attributes:
        methods: of the first and of the second.
        metric: a name in `METRICS`.
        datasets, pairs: how many data sets, and rows of each run.
        mean: of the data sets' mean differences.
        low, high: the 95 % interval of that mean.
        p: of Wilcoxon's test, two-sided, corrected.
    """

    methods: tuple[str, str]
    metric: str
    datasets: int
    pairs: int
    mean: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether it is more than chance."""
        return self.p < LEVEL and (self.low > 0 or self.high < 0)

    def sentence(self) -> str:
        """The difference as a sentence."""
        first, second = self.methods
        whose = first if first == second else f"{second} against {first}"
        found = f"{METRICS[self.metric]} {100 * self.mean:+.2f} ({100 * self.low:+.2f} to {100 * self.high:+.2f})"
        sets, pairs = (
            f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((self.datasets, "data set"), (self.pairs, "pair"))
        )
        on = f"on {sets}, {pairs}, p = {self.p:.2g}"
        if self.significant:
            return f"{whose}: {found} {on}: significantly {'better' if self.mean > 0 else 'worse'}"
        return f"{whose}: {found} {on}: no difference that these data sets can show"


def compare(first: Rows, second: Rows) -> list[Difference]:
    """Compare the methods that both runs hold; or the only one of each, whatever they are called.

    Args:
        first: rows as `unmask bench` writes them: dataset, fingerprint, seed, detector, preset, settings, figures.
        second: likewise.

    Returns:
        A difference for each method and metric that can be paired, p-values corrected over all of them.

    Raises:
        DatasetError: nothing can be paired, or a data set is not the same in both.
    """
    alone = len({method_of(row) for row in first}) == len({method_of(row) for row in second}) == 1
    found = [
        _difference(methods, metric, by_dataset)
        for methods, ours, theirs in _pairs(_by_method(first), _by_method(second), alone=alone)
        for metric in METRICS
        if (by_dataset := _differences(ours, theirs, metric))
    ]
    if not found:
        raise DatasetError("the two runs share no method, data set and seed; give runs of the same data sets and seeds")
    return _corrected(found)


def lost(first: Rows, second: Rows) -> list[str]:
    """A line for each row of the first run that the second did not measure, of the methods that both hold."""
    known = {method_of(row) for row in second}
    reasons = {(method_of(row), row["dataset"], row["seed"]): row.get("failed") for row in second}
    found = []
    for row in first:
        key = (method_of(row), row["dataset"], row["seed"])
        if not row.get("failed") and key[0] in known and reasons.get(key, "not measured"):
            found.append(f"{key[0]} on {key[1]}, seed {key[2]}: {reasons.get(key, 'not measured')}")
    return found


def compare_all(rows: Rows, metric: str = "image_auroc") -> list[Difference]:
    """Compare every two methods of one run.

    Args:
        rows: as for `compare`.
        metric: a name in `METRICS`.

    Returns:
        A difference for each pair that shares data sets and seeds with that metric, p-values corrected over all pairs.
    """
    return _within(rows, [metric])


def within(rows: Rows) -> list[Difference]:
    """Compare every two methods of one run by every metric.

    Args:
        rows: as for `compare`.

    Returns:
        As of `compare_all`, p-values corrected over all pairs and metrics.

    Raises:
        DatasetError: no two methods share data sets and seeds.
    """
    found = _within(rows, list(METRICS))
    if not found:
        raise DatasetError("the run holds no two methods of the same data sets and seeds; give a second run")
    return found


def _within(rows: Rows, metrics: Sequence[str]) -> list[Difference]:
    methods = _by_method(rows)
    return _corrected(
        [
            _difference((a, b), metric, by_dataset)
            for a, b in combinations(methods, 2)
            for metric in metrics
            if (by_dataset := _differences(methods[a], methods[b], metric))
        ]
    )


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    corrected = holm([one.p for one in found])
    return [one._replace(p=p) for one, p in zip(found, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for being many: the smallest times n, the next times n - 1, and so on, never falling."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def _by_method(rows: Rows) -> dict[str, dict[tuple[str, int], Mapping[str, Any]]]:
    """Method -> (data set, seed) -> row."""
    methods: dict[str, dict[tuple[str, int], Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        if not row.get("failed"):
            methods[method_of(row)][row["dataset"], row["seed"]] = row
    return methods


def _pairs(
    first: Mapping[str, Any], second: Mapping[str, Any], *, alone: bool
) -> Iterator[tuple[tuple[str, str], Any, Any]]:
    if alone and first and second:
        (a, ours), (b, theirs) = *first.items(), *second.items()
        yield (a, b), ours, theirs
        return
    for name in first:
        if name in second:
            yield (name, name), first[name], second[name]


def _differences(first: Mapping[Any, Any], second: Mapping[Any, Any], metric: str) -> ByDataset:
    """Data set -> second minus first, a value a seed."""
    found: dict[str, list[float]] = defaultdict(list)
    for (dataset, seed), row in first.items():
        other = second.get((dataset, seed))
        if other is None or row[metric] is None or other[metric] is None:
            continue
        if not same_files(row, other):
            raise DatasetError(f"{dataset}, seed {seed}: its files differ between the two runs; run one of them again")
        found[dataset].append(other[metric] - row[metric])
    return {dataset: np.array(values) for dataset, values in found.items()}


def _difference(methods: tuple[str, str], metric: str, by_dataset: ByDataset) -> Difference:
    means = np.array([values.mean() for values in by_dataset.values()])
    low, high = np.quantile(_drawn(by_dataset), [LEVEL / 2, 1 - LEVEL / 2])
    pairs = sum(len(values) for values in by_dataset.values())
    return Difference(
        methods, metric, len(means), pairs, float(means.mean()), float(low), float(high), _wilcoxon(means)
    )


def _drawn(by_dataset: ByDataset, seed: int = 0) -> Float[np.ndarray, " draws"]:
    """Means over data sets of means over seeds, both drawn with replacement."""
    generator = np.random.default_rng(seed)
    redrawn = [generator.choice(values, (DRAWS, len(values), len(by_dataset))) for values in by_dataset.values()]
    means = np.stack([one.mean(1) for one in redrawn])  # data set, draw, place
    chosen = generator.integers(len(means), size=(DRAWS, len(means)))
    drawn: Float[np.ndarray, " draws"] = means[chosen, np.arange(DRAWS)[:, None], np.arange(len(means))].mean(1)
    return drawn


def _wilcoxon(differences: Float[np.ndarray, " n"]) -> float:
    """Of the differences that are not 0; 1 if there are none."""
    from scipy.stats import wilcoxon

    moved = differences[differences != 0]
    return float(wilcoxon(moved).pvalue) if len(moved) else 1.0
