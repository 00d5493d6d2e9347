"""A run as text: means over data sets, significant differences, failures, and what leaks would have claimed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unmask.benchmark import robustness
from unmask.benchmark.comparison import compare_all
from unmask.benchmark.methods import method_of
from unmask.benchmark.results import Row, by_method, mean, spread, whole_seeds
from unmask.imaging.accounting import in_words

COLUMNS = {
    "image_auroc": ("image AUROC", 100),
    "pixel_auroc": ("pixel AUROC", 100),
    "aupro": ("AUPRO", 100),
    "recall": ("recall", 100),
    "false_alarm_rate": ("false alarms", 100),
    "promised_false_alarm_rate": ("promised", 100),
    "fit_seconds": ("fit s", 1),
    "ms_p50": ("ms", 1),
    "peak_mb": ("MB", 1),
    "model_mb": ("model MB", 1),
}
"""The columns of the table of means: title and factor."""


def lines(rows: Sequence[Row], *, show_leaks: bool = False) -> Iterator[str]:
    """A table of means, then sentences."""
    yield from _table([[*_head()], *(_line(name, some) for name, some in ranked(rows))])
    yield "Areas and rates in %, means over data sets; ± is the standard deviation between seeds."
    yield from disturbed(rows)
    for difference in compare_all(rows):
        yield difference.sentence()
    if show_leaks:
        yield from leaks(rows)
    yield from left_out(rows)
    yield from accounts(rows)
    yield from failures(rows)


def disturbed(rows: Sequence[Row]) -> Iterator[str]:
    """A sentence for each method: false alarms and recall when the test images are disturbed."""
    for name, some in ranked(rows):
        parts = []
        for group, kinds in robustness.GROUPS.items():
            alarms, found = (robustness.mean_under(some, kinds, key) for key in ("false_alarm_rate", "recall"))
            if alarms is not None and found is not None:
                where = group if group == "undisturbed" else f"under kinds of disturbance that are {group}"
                parts.append(f"{100 * alarms:.1f} / {100 * found:.1f} {where}")
        if parts:
            yield f"{name}: false alarms / recall {', '.join(parts)}"


def failures(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each row that failed."""
    for row in rows:
        if row.get("failed"):
            yield f"FAILED: {row['dataset']}, {method_of(row)}, seed {row['seed']}: {row['failed']}"


def left_out(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each data set of which test images were left out."""
    counts = {row["dataset"]: row["n_left_out"] for row in rows if row.get("n_left_out")}
    for dataset, count in counts.items():
        yield f"{dataset}: {count} test images are also good images to learn from; they are left out of all figures"


def accounts(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each data set: how many files were seen, used and skipped."""
    counted = {row["dataset"]: row["files"] for row in rows if row.get("files")}
    for dataset, files in counted.items():
        yield f"{dataset}: {in_words(files)}"


def ranked(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Methods with their rows, the best mean image AUROC first."""
    return sorted(by_method(rows).items(), key=lambda one: -(mean(one[1], "image_auroc") or 0.0))


def leaks(rows: Sequence[Row]) -> Iterator[str]:
    """Sentences for each method: what looking at the test set would have claimed."""
    for name, some in ranked(rows):
        claimed = [{**row, **row["leaks"]} for row in some if row.get("leaks")]
        f1, ours = mean(claimed, "f1_test_threshold"), mean(claimed, "f1_ours")
        if f1 is None or ours is None:
            continue
        yield f"{name}: a threshold chosen on the test images would claim F1 {100 * f1:.1f}; ours has {100 * ours:.1f}"
        stepped = [row for row in claimed if row["image_auroc_best_step"] is not None]
        best, last = mean(stepped, "image_auroc_best_step"), mean(stepped, "image_auroc")
        if best is not None and last is not None:
            claim = f"the step with the best test score would claim image AUROC {100 * best:.2f}"
            yield f"{name}: {claim}; the last step has {100 * last:.2f}"
        means = whole_seeds(some, "image_auroc")
        if len(means) > 1:
            yield f"{name}: the best of {len(means)} seeds would claim image AUROC {100 * max(means):.2f}"


def _head() -> Iterator[str]:
    yield from ("detector", "sets", "seeds")
    yield from (title for title, _ in COLUMNS.values())


def _line(name: str, rows: Sequence[Row]) -> list[str]:
    counts = [str(len({row[key] for row in rows})) for key in ("dataset", "seed")]
    return [name, *counts, *(figure(rows, key, factor) for key, (_, factor) in COLUMNS.items())]


def figure(rows: Sequence[Row], key: str, factor: int) -> str:
    """A mean over data sets, with the deviation between seeds where it is a share; "-" where nothing was measured.

    Args:
        rows: of a method.
        key: of a column.
        factor: 100 for shares, which are given in %; 1 for all else.
    """
    value, deviation = mean(rows, key), spread(rows, key)
    if value is None:
        return "-"
    if factor == 1:
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
    return f"{100 * value:.1f}" if deviation is None else f"{100 * value:.1f} ± {100 * deviation:.1f}"


def _table(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *rest in cells:
        yield "  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))])
