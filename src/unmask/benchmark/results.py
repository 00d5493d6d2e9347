"""Rows to files and back, and to means: results.json for every reader, results.parquet for tables."""

from __future__ import annotations

import importlib.util
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unmask.benchmark.methods import method_of
from unmask.datasets import contents, fingerprint
from unmask.errors import DatasetError, DependencyError, printable
from unmask.imaging.listing import check_can_be_read
from unmask.imaging.writing import written_whole
from unmask.types import Split

JSON, PARQUET = "results.json", "results.parquet"
FORMAT, VERSION = "unmask-bench", 1
"""Of results.json; the version rises when a name or a meaning changes. Files without one are of version 1."""

NAMES = (
    "detector",
    "preset",
    "tolerate",
    "calibrate",
    "dataset",
    "folder",
    "layout",
    "fingerprint",
    "contents",
    "failed",
)
COUNTS = ("seed", "n_normal", "n_heldout", "n_test", "n_left_out", "n_robustness")
FIGURES = (
    *("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro", "spro", "f1_max", "threshold"),
    *("promised_false_alarm_rate", "false_alarm_rate", "recall", "precision"),
)
COSTS = (
    *("fit_seconds", "ms_p50", "ms_p95", "ms_per_image", "fit_peak_mb", "peak_mb", "model_mb"),
    *("fit_joules", "timed_joules", "total_joules", "busy_cores"),
)
MACHINE = ("commit", "processor", "date")

Row = Mapping[str, Any]


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with written_whole(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Write results.json and results.parquet, each whole or not at all."""
    write(folder / JSON, {"format": FORMAT, "version": VERSION, "rows": rows})
    write_table(folder / PARQUET, rows)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of results, or of the folder that `unmask bench` wrote.

    Raises:
        DatasetError: it cannot be read, holds none, or was written by a newer version.
    """
    check_can_be_read(path)
    file = path / JSON if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version, rows = int(content.get("version", 1)), list(content["rows"])
        for row in rows:
            method_of(row)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{file} is no file of results ({error}); give one that unmask bench wrote") from error
    if version > VERSION:
        raise DatasetError(f"{file} has version {version}, this unmask reads up to {VERSION}; update unmask")
    return rows


def prints_of(split: Split) -> dict[str, str]:
    """What a row keeps to know its data set again: hashes of its files' names and sizes, and of contents and split.

    Raises:
        DatasetError: a file has gone since the split was loaded.
    """
    return {"fingerprint": fingerprint(split), "contents": contents(split)}


def same_files(first: Row, second: Row) -> bool:
    """Whether two rows, or a row and what `prints_of` gives, are of the same files.

    Rows of older versions know the names and sizes of their files alone; those are compared then.
    """
    known = {first.get("contents"), second.get("contents")} - {None}
    return first.get("fingerprint") == second.get("fingerprint") and len(known) < 2


def need_pyarrow() -> None:
    """Raise DependencyError where it is not installed, before hours of work."""
    if importlib.util.find_spec("pyarrow") is None:
        raise DependencyError("results.parquet needs pyarrow; run: pip install 'unmask[train]'")


def write_table(file: Path, rows: Sequence[Row]) -> None:
    """Write results.parquet: a column a figure, nested ones as one column each ("jpeg_image_auroc")."""
    import pyarrow as pa
    from pyarrow import parquet

    from unmask.benchmark.robustness import DISTURBANCES

    disturbed = [f"{kind}_{name}" for kind in DISTURBANCES for name in ("image_auroc", "false_alarm_rate", "recall")]
    numbers = [*FIGURES, "image_auroc_low", "image_auroc_high", *COSTS, *disturbed]
    shares = pa.map_(pa.string(), pa.float64())
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("method", *NAMES, "settings", "params", "versions", *MACHINE)),
            *((name, pa.int64()) for name in (*COUNTS, "cores", "threads")),
            *((name, pa.float64()) for name in numbers),
            *((name, shares) for name in ("recall_by_kind", "recall_by_size")),
        ]
    )
    flat = [{name: one for name, one in _flat(row).items() if name in schema.names} for row in rows]
    flat = [{name: printable(one) if isinstance(one, str) else one for name, one in row.items()} for row in flat]
    with written_whole(file) as temporary:
        parquet.write_table(pa.Table.from_pylist(flat, schema), temporary)


def _flat(row: Row) -> dict[str, Any]:
    nested = {name: json.dumps(row.get(name, {})) for name in ("settings", "params", "versions")}
    low, high = row.get("image_auroc_interval") or (None, None)
    disturbed = {f"{kind}_{k}": v for kind, some in row.get("robustness", {}).items() for k, v in some.items()}
    shares = {name: list((row.get(name) or {}).items()) for name in ("recall_by_kind", "recall_by_size")}
    more = {"method": method_of(row), "image_auroc_low": low, "image_auroc_high": high}
    return {**row, **nested, **disturbed, **shares, **more}


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows that were measured, by method."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if not row.get("failed"):
            groups[method_of(row)].append(row)
    return groups


def mean(rows: Iterable[Row], name: str) -> float | None:
    """Over data sets of means over seeds, so that a set with more seeds counts no more; None = not measured."""
    by_dataset: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.get(name) is not None:
            by_dataset[row["dataset"]].append(row[name])
    return statistics.mean(map(statistics.mean, by_dataset.values())) if by_dataset else None


def spread(rows: Sequence[Row], name: str) -> float | None:
    """Standard deviation between seeds of the mean over data sets, of seeds that have them all; None = one seed."""
    means = whole_seeds(rows, name)
    return statistics.stdev(means) if len(means) > 1 else None


def whole_seeds(rows: Sequence[Row], name: str) -> list[float]:
    """The mean over data sets of each seed that has all of them."""
    known = [row for row in rows if row.get(name) is not None]
    datasets = {row["dataset"] for row in known}
    seeds = [{row["dataset"]: row[name] for row in known if row["seed"] == seed} for seed in {r["seed"] for r in known}]
    return [statistics.mean(one.values()) for one in seeds if set(one) == datasets]
