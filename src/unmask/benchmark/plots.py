"""The two pictures of a benchmark as coordinates, for a template to draw: critical differences, accuracy against speed.

The first is Demšar's (JMLR 2006): methods at their average rank over data sets, and a bar over those that cannot be
distinguished. Which can, `comparison` says (Wilcoxon, Holm, and an interval), in place of his Nemenyi test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from unmask.benchmark.comparison import compare_all
from unmask.benchmark.results import Row, by_method, mean

WIDE, HIGH = 0.35, 0.065  # of a name, as shares of the plane


class Mark(NamedTuple):
    """A method on a line of ranks: its name, rank, place from 0 (best) to 1, and the lane of its label below."""

    name: str
    rank: float
    x: float
    lane: int


class Ranks(NamedTuple):
    """A diagram of critical differences.

    Attributes:
        marks: methods, the best first.
        bars: (from, to) as places in [0, 1]: methods below one bar cannot be distinguished.
        ticks: (place, rank).
        datasets: how many, each with all methods.
    """

    marks: list[Mark]
    bars: list[tuple[float, float]]
    ticks: list[tuple[float, int]]
    datasets: int


class Dot(NamedTuple):
    """A method in a plane.

    Attributes:
        name: of the method.
        x: place to the right, in [0, 1].
        y: place upwards.
        text: what to say of it.
        label: place of its name upwards, clear of its neighbours'.
    """

    name: str
    x: float
    y: float
    text: str
    label: float


class Plane(NamedTuple):
    """Accuracy upwards against milliseconds to the right, on a scale of powers."""

    dots: list[Dot]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def ranks(rows: Sequence[Row], metric: str = "image_auroc") -> Ranks | None:
    """Average ranks over the data sets that all methods have; None for fewer than two methods or data sets."""
    methods = by_method(rows)
    figures = {name: _by_dataset(some, metric) for name, some in methods.items()}
    shared = set.intersection(*(set(one) for one in figures.values())) if figures else set()
    if len(figures) < 2 or len(shared) < 2:
        return None
    names, datasets = list(figures), sorted(shared)
    values = np.array([[figures[name][dataset] for dataset in datasets] for name in names])  # method, data set
    average = np.array([_ranked(-column) for column in values.T]).mean(0)
    span = len(names) - 1
    order = np.argsort(average, kind="stable")
    marks = [Mark(names[i], float(average[i]), float(average[i] - 1) / span, lane) for lane, i in enumerate(order)]
    compared = [row for row in rows if row["dataset"] in shared]
    apart = {frozenset(one.methods) for one in compare_all(compared, metric) if one.significant}
    return Ranks(marks, _bars(marks, apart), [(i / span, i + 1) for i in range(span + 1)], len(datasets))


def plane(rows: Sequence[Row], metric: str = "image_auroc") -> Plane | None:
    """Mean accuracy against the median of one image at a time; None without two methods that were timed."""
    found = [(name, mean(some, metric), mean(some, "ms_p50")) for name, some in by_method(rows).items()]
    known = [(name, value, ms) for name, value, ms in found if value is not None and ms]
    if len(known) < 2:
        return None
    low_x, high_x = (math.log10(f(ms for _, _, ms in known)) for f in (min, max))
    low_x, high_x = math.floor(10 * low_x - 1) / 10, math.ceil(10 * high_x + 1) / 10
    low_y = math.floor(100 * min(value for _, value, _ in known) - 0.5) / 100
    high_y = min(1.0, math.ceil(100 * max(value for _, value, _ in known) + 0.5) / 100)

    def across(ms: float) -> float:
        return (math.log10(ms) - low_x) / (high_x - low_x)

    def up(value: float) -> float:
        return (value - low_y) / (high_y - low_y)

    dots: list[Dot] = []
    for name, value, ms in sorted(known, key=lambda one: -one[1]):  # the best first, the others make way downwards
        near = [dot.label for dot in dots if abs(dot.x - across(ms)) < WIDE]
        label = min([up(value), *(one - HIGH for one in near if one < up(value) + HIGH)])
        dots.append(Dot(name, across(ms), up(value), f"{name}: {100 * value:.2f} %, {ms:.1f} ms", label))
    marks = [digit * 10**power for power in range(-1, 6) for digit in (1, 2, 5)]
    x_ticks = [(across(ms), f"{ms:g}") for ms in marks if 0 <= across(ms) <= 1]
    steps = round(100 * (high_y - low_y))
    every = max(1, math.ceil(steps / 6))
    y_ticks = [(up(low_y + i / 100), f"{100 * low_y + i:.0f}") for i in range(0, steps + 1, every)]
    return Plane(sorted(dots, key=lambda dot: dot.x), x_ticks, y_ticks)


def _by_dataset(rows: Sequence[Row], metric: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row[metric] is not None:
            found.setdefault(row["dataset"], []).append(row[metric])
    return {dataset: float(np.mean(values)) for dataset, values in found.items()}


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, the smallest first; ties share their mean rank."""
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    shared: np.ndarray = below + (equal + 1) / 2
    return shared


def _bars(marks: Sequence[Mark], apart: set[frozenset[str]]) -> list[tuple[float, float]]:
    """The longest runs of neighbours of which no two differ significantly."""
    runs: list[tuple[int, int]] = []
    for first in range(len(marks)):
        last = first
        while last + 1 < len(marks) and not any(
            frozenset((a.name, b.name)) in apart for a, b in combinations(marks[first : last + 2], 2)
        ):
            last += 1
        if last > first and not (runs and runs[-1][1] >= last):
            runs.append((first, last))
    return [(marks[first].x, marks[last].x) for first, last in runs]
