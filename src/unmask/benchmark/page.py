"""A benchmark as one page for people: sortable tables, two plots, and what the methods get most wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unmask.benchmark import galleries, plots, robustness, scaling, summary
from unmask.benchmark.comparison import compare_all
from unmask.benchmark.methods import method_of
from unmask.benchmark.results import Row, by_method, mean, rows_of
from unmask.imaging.writing import written_whole

PAGE = "index.html"
DISTURBED = {"image_auroc": "image AUROC", "false_alarm_rate": "false alarms", "recall": "recall"}
"""The figures of disturbed images that have a table each."""


class Cell(NamedTuple):
    """What a table shows, and the number that it is sorted by."""

    text: str
    value: float | str | None


class Table(NamedTuple):
    """Titles, and lines of cells; the first of each is a name."""

    title: str
    note: str
    head: list[str]
    lines: list[list[Cell]]


def write_page(folder: Path, rows: Sequence[Row], *, pictures: bool = True, side_by_side: str | None = None) -> Path:
    """Write index.html beside the results; one file, no network.

    Args:
        folder: of the results.
        rows: all of them.
        pictures: put test images into it; without, the page holds no picture of the data.
        side_by_side: two methods for the galleries, joined by a comma; None = the best two.

    Raises:
        SettingError: see `galleries.two_of`.
    """
    import jinja2

    templates = jinja2.ChoiceLoader([jinja2.PackageLoader(f"unmask.{room}") for room in ("benchmark", "report")])
    environment = jinja2.Environment(loader=templates, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    names = [name for name, _ in summary.ranked(rows)]
    shown = galleries.two_of(rows, side_by_side, names)
    page = environment.get_template("bench.html.jinja").render(
        written=time.strftime("%Y-%m-%d %H:%M"),
        tables=[table for table in _tables(folder, rows) if table.lines],
        ranks=plots.ranks(rows),
        plane=plots.plane(rows),
        sentences=[one.sentence() for one in compare_all(rows)],
        left_out=[*summary.left_out(rows), *summary.accounts(rows)],
        leaks=list(summary.leaks(rows)),
        failed=[(row["dataset"], method_of(row), row["seed"], row["failed"]) for row in rows if row.get("failed")],
        shown=shown,
        galleries=list(galleries.galleries(folder, rows, shown)) if pictures and shown else [],
        provenance=_provenance(rows),
        n_datasets=len({row["dataset"] for row in rows}),
        n_methods=len(names),
        n_seeds=len({row["seed"] for row in rows}),
    )
    with written_whole(folder / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return folder / PAGE


def _tables(folder: Path, rows: Sequence[Row]) -> list[Table]:
    ranked = summary.ranked(rows)
    robust = [_robustness(ranked, key, title) for key, title in DISTURBED.items()]
    return [_means(ranked), _each(rows), _recalls(rows), *robust, _cost(rows), _scaling(folder)]


def _means(ranked: Sequence[tuple[str, Sequence[Row]]]) -> Table:
    keys = [key for key, (_, factor) in summary.COLUMNS.items() if factor == 100]
    lines = [[_name(name), _count(some), *(_percent(some, key) for key in keys)] for name, some in ranked]
    note = "Means over data sets, in %. Behind ± the deviation between seeds. Rates at the calibrated threshold."
    return Table("All data sets", note, ["method", "sets", *(summary.COLUMNS[key][0] for key in keys)], lines)


def _each(rows: Sequence[Row]) -> Table:
    keys = ("image_auroc", "pixel_auroc", "aupro", "recall", "false_alarm_rate", "promised_false_alarm_rate")
    lines = []
    for name, some in by_method(rows).items():
        for dataset in dict.fromkeys(row["dataset"] for row in some):
            mine = [row for row in some if row["dataset"] == dataset]
            found = [_percent(mine, key) for key in keys]
            lines.append([_name(dataset), _name(name), found[0], _interval(mine), *found[1:]])
    head = ["data set", "method", "image AUROC", "95 % interval"]
    note = "The interval is over test images (bootstrap), the mean of those of the seeds."
    more = [summary.COLUMNS[key][0] for key in keys[1:]]
    return Table("Each data set", note, [*head, *more], sorted(lines, key=lambda line: str(line[0].value)))


def _recalls(rows: Sequence[Row]) -> Table:
    """A line a group of defects, a column a method."""
    methods = by_method(rows)
    groups = [
        (row["dataset"], key.removeprefix("recall_by_"), group)
        for row in rows
        for key in ("recall_by_kind", "recall_by_size")
        for group in row.get(key) or {}
    ]
    lines = []
    for dataset, what, group in sorted(dict.fromkeys(groups), key=lambda one: one[:2]):  # groups as they came
        mine = {name: [row for row in some if row["dataset"] == dataset] for name, some in methods.items()}
        found = [_group(some, f"recall_by_{what}", group) for some in mine.values()]
        lines.append([_name(dataset), _name(f"{what}: {group}"), *found])
    note = "At the calibrated threshold, in %, means over seeds. A size is the share of the image that is defect."
    return Table("Recall by kind and size of defect", note, ["data set", "defects", *methods], lines)


def _group(rows: Sequence[Row], key: str, group: str) -> Cell:
    found = [{**row, "recall": (row.get(key) or {}).get(group)} for row in rows]
    return Cell(summary.figure(found, "recall", 100), mean(found, "recall"))


def _robustness(ranked: Sequence[tuple[str, Sequence[Row]]], key: str, title: str) -> Table:
    """What disturbed images change in one figure: a line a kind of disturbance, a column a method."""
    lines = []
    for group, kinds in robustness.GROUPS.items():
        named = {kind: [kind] for kind in kinds} | ({"mean of all": list(kinds)} if kinds[1:] else {})
        for kind, of in named.items():
            lines.append([_name(kind), _name(group), *(_disturbed(some, of, key) for _, some in ranked)])
    note = (
        "The same model and threshold on a part of the test images, in %. A fit with default options learns from "
        "copies of the kinds that are taught; of the others no fit does. Data sets without colour lack kinds of colour."
    )
    return Table(f"Mildly disturbed images: {title}", note, ["kind", "group", *(name for name, _ in ranked)], lines)


def _cost(rows: Sequence[Row]) -> Table:
    keys = {
        "fit_seconds": "fit, s",
        "ms_p50": "ms, median",
        "ms_p95": "ms, 95th percentile",
        "ms_per_image": "ms in batches of 8",
        "fit_peak_mb": "MB to fit",
        "peak_mb": "MB in all",
        "model_mb": "model, MB",
        "fit_joules": "J to fit",
    }
    lines = [[_name(name), *(_number(some, key) for key in keys)] for name, some in summary.ranked(rows)]
    note = "Means over data sets. Milliseconds of one image at a time, decoding included. - means: not measured."
    return Table("What it costs", note, ["method", *keys.values()], lines)


def _scaling(folder: Path) -> Table:
    """The table of the run with --scaling beside this one, if there was one."""
    found = rows_of(folder / scaling.FOLDER) if (folder / scaling.FOLDER).exists() else []
    head, lines = scaling.table(found)
    note = "Drawn parts. Fits by number of good images, and an image by the pixels that the network sees along a side."
    cells = [[_name(str(name)), *(_plain(value) for value in values)] for name, *values in lines]
    return Table("How it grows", note, head, cells)


def _plain(value: Any) -> Cell:
    return Cell("-", None) if value is None else Cell(f"{value:,.0f}" if value >= 100 else f"{value:.1f}", value)


def _count(rows: Sequence[Row]) -> Cell:
    """The number of data sets: means over different data sets cannot be compared."""
    n = len({row["dataset"] for row in rows})
    return Cell(str(n), n)


def _name(text: str) -> Cell:
    return Cell(text, text)


def _percent(rows: Sequence[Row], key: str) -> Cell:
    return Cell(summary.figure(rows, key, 100), mean(rows, key))


def _number(rows: Sequence[Row], key: str) -> Cell:
    return Cell(summary.figure(rows, key, 1), mean(rows, key))


def _interval(rows: Sequence[Row]) -> Cell:
    known = [row["image_auroc_interval"] for row in rows if row.get("image_auroc_interval")]
    if not known:
        return Cell("-", None)
    low, high = (sum(ends) / len(known) for ends in zip(*known, strict=True))
    return Cell(f"{100 * low:.1f} to {100 * high:.1f}", low)


def _disturbed(rows: Sequence[Row], kinds: Sequence[str], key: str) -> Cell:
    value = robustness.mean_under(rows, kinds, key)
    return Cell("-", None) if value is None else Cell(f"{100 * value:.1f}", value)


def _provenance(rows: Sequence[Row]) -> list[str]:
    """How the rows were made, each way once."""
    ways = [
        f"{row['command']} at commit {row['commit']} on {row['cores']} cores of {row['processor']}, "
        f"{row['threads']} threads a row, {row['date']}"
        for row in rows
        if not row.get("failed")
    ]
    return list(dict.fromkeys(ways))
