"""Results to a folder that explains itself: index.html for people, results.json and results.parquet for programs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.errors import UnmaskError, printable
from unmask.imaging import accounting
from unmask.imaging.images import HEAT_ANCHORS, decode
from unmask.imaging.writing import failing_as, temporary_name
from unmask.inspection import history
from unmask.inspection.calibration import Calibration
from unmask.inspection.explanation import ANIMATIONS, holds_animations
from unmask.inspection.notes import lines_of
from unmask.inspection.pooling import alarms_in_words
from unmask.inspection.sensitivity_text import introduction, remarks, table
from unmask.inspection.watch import Change
from unmask.report.cards import Card, card_of, failed_card
from unmask.report.charts import Chart, stacked_bars
from unmask.types import AnomalyResult, FailedImage, SkippedFile

FORMAT, VERSION = "unmask-report", 2
"""Of results.json; the version rises when a name or a meaning changes."""

FILES = frozenset({"index.html", "results.json"})
NOT_SHOWN = frozenset({"images", "usual", "expected_alarms", history.NOW, history.EARLIER})
"""Facts that are long: hashes of each image, numbers of each, and earlier thresholds."""
MORE_FILES = frozenset({"results.parquet", "metrics.json", ANIMATIONS})


class Summary(NamedTuple):
    """What is known of results as a whole.

    Attributes:
        metrics: names and values to print; None says "not measured".
        curves: to draw.
        groups: a name for each result, in order, that colours the score chart; opaque to the report.
        left_out: what the report lacks, in one sentence; None = it is whole.
        change: what has changed in the stream of images; None = nothing that was noticed.
    """

    metrics: Mapping[str, float | int | str | None] = MappingProxyType({})
    curves: Sequence[Chart] = ()
    groups: Sequence[str] | None = None
    left_out: str | None = None
    change: Change | None = None


def original(result: AnomalyResult) -> Float[np.ndarray, "3 h w"] | None:
    """The photograph behind a result, decoded from its path; None where it has none."""
    return None if result.path is None else decode(result.path)


Photograph = Callable[[AnomalyResult], Float[np.ndarray, "3 h w"] | None]
"""Gives the image behind a result, RGB in [0, 1], or None."""


def write_report(
    folder: str | Path,
    results: Iterable[AnomalyResult | FailedImage],
    *,
    title: str,
    calibration: Calibration,
    model: Mapping[str, object],
    summary: Callable[[], Summary] | None = None,
    photo: Photograph = original,
    files: tuple[int, Sequence[SkippedFile]] | None = None,
) -> Path:
    """Write index.html (one file, no network), results.json, and an animation an explained result.

    Where pyarrow is installed, results.parquet holds the rows as well. Results are read one by one, animated and
    reduced to thumbnails at once. The folder appears whole or not at all.

    Args:
        folder: where to write. A previous report there is replaced; anything else is refused.
        results: at least one; images that could not be judged among them have a card and a row with the reason.
        title: the page's heading.
        calibration: fixes the threshold on the page and one colour scale for all heat maps.
        model: facts to print, such as {"detector": "patchcore"}.
        summary: asked once all results have been read, for what only then is known.
        photo: gives a result's image, (3, h, w) in [0, 1], or None.
        files: how many were seen where the images come from, and those that were skipped; None = not known.

    Returns the path of index.html.

    Raises:
        UnmaskError: the folder holds something else, there are no results, a score is not finite, or groups are amiss.
        ImageError: a photograph cannot be read any more.
    """
    folder = Path(folder).resolve()
    _check_replaceable(folder)
    fresh = next(parent for parent in folder.parents if parent.exists()) / temporary_name()
    with failing_as(folder):
        fresh.mkdir()
    try:
        cards = [_card(fresh, index, one, calibration, photo) for index, one in enumerate(results)]
        found, facts = (summary or Summary)(), _facts(title, calibration, model, files)
        with failing_as(folder):
            _write_files(fresh, cards, found, facts)
            _swap(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder / "index.html"


def _card(
    folder: Path, index: int, one: AnomalyResult | FailedImage, calibration: Calibration, photo: Photograph
) -> Card:
    if isinstance(one, FailedImage):
        return failed_card(index, one)
    return card_of(folder, index, one, calibration, photo(one))


def _facts(
    title: str, calibration: Calibration, model: Mapping[str, object], files: tuple[int, Sequence[SkippedFile]] | None
) -> dict[str, Any]:
    return {
        "title": printable(title),
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "calibration": {**calibration.to_dict(), "promise": calibration.promise},
        "expected": alarms_in_words(history.current(model, "expected_alarms") or {}),
        "model": {name: value for name, value in history.renewed(model).items() if name not in NOT_SHOWN}
        | ({history.NOW: made} if (made := history.sources(model)) else {}),
        "files": None if files is None else accounting.listed(*files),
    }


def _write_files(folder: Path, cards: list[Card], summary: Summary, facts: dict[str, Any]) -> None:
    if not cards:
        raise UnmaskError("there are no results to report; inspect at least one image")
    _sort_in(cards, summary.groups)
    facts["notes"] = lines_of(Counter(note for card in cards for note in card.row["notes"]), len(cards))
    facts |= {"metrics": dict(summary.metrics), "left_out": summary.left_out}
    facts["change"] = None if summary.change is None else summary.change.to_dict()
    _write_tables(folder, facts, [card.row for card in cards])
    _write_page(folder / "index.html", facts, cards, summary.curves)


def _sort_in(cards: list[Card], groups: Sequence[str] | None) -> None:
    """Give each card its group, if there are any."""
    if groups is not None and len(groups) != len(cards):
        raise UnmaskError(f"{len(cards)} results came with {len(groups)} groups; give one group a result")
    for index, card in enumerate(cards):
        card.row["group"] = None if groups is None else groups[index]


def _write_tables(folder: Path, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    text = json.dumps({"format": FORMAT, "version": VERSION, **facts, "results": rows}, indent=1, default=str)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:  # results.json holds the same; machines at a line need not install 170 MB for it
        return
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("page", pa.int64()),
            ("name", pa.string()),
            ("group", pa.string()),
            ("error", pa.string()),
            ("not_judged", pa.string()),
            ("score", pa.float64()),
            ("threshold", pa.float64()),
            ("is_anomalous", pa.bool_()),
            ("n_regions", pa.int64()),
            ("largest_box", pa.list_(pa.int64(), 4)),
            ("largest_area", pa.int64()),
            ("milliseconds", pa.float64()),
            ("notes", pa.list_(pa.string())),
        ]
    )
    texts = [{name: printable(one) if isinstance(one, str) else one for name, one in row.items()} for row in rows]
    parquet.write_table(pa.Table.from_pylist(texts, schema), folder / "results.parquet")


def _write_page(path: Path, facts: dict[str, Any], cards: list[Card], curves: Sequence[Chart]) -> None:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unmask.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["rate"] = lambda rate: f"{100 * rate:.4g} %"
    environment.filters["number"] = _shown
    environment.filters["printable"] = printable
    failed = [card for card in cards if card.row["error"] is not None]
    ranked = sorted((card for card in cards if card.row["error"] is None), key=lambda card: -card.row["score"])
    scores = np.array([card.row["score"] for card in ranked])
    threshold = facts["calibration"]["threshold"]
    groups = [card.row["group"] or ("anomalous" if card.row["is_anomalous"] else "good") for card in ranked]
    page = environment.get_template("report.html.jinja").generate(
        **facts,
        cards=ranked,
        failed=failed,
        names=_short_names([card.row for card in (*ranked, *failed)]),
        n_anomalous=sum(card.row["is_anomalous"] for card in ranked),
        span=(
            float(min(scores.min(initial=threshold), threshold)),
            float(max(scores.max(initial=threshold), threshold)),
        ),
        bars=stacked_bars(scores, groups, threshold) if len(scores) else None,
        curves=curves,
        accounted=_accounted(facts["files"]),
        sensitivity=_sensitivity(facts["model"].get("sensitivity"), threshold),
        heat_stops=["#{:02x}{:02x}{:02x}".format(*colour) for colour in HEAT_ANCHORS.tolist()],
    )
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(page)


def _accounted(files: Mapping[str, Any] | None) -> str | None:
    """A sentence about files that were seen, used and skipped."""
    if files is None:
        return None
    skipped = [SkippedFile(Path(one["path"]), one["reason"]) for one in files["skipped"]]
    return accounting.sentence(files["seen"], skipped)


def _sensitivity(card: Mapping[str, Any] | None, threshold: float) -> dict[str, Any] | None:
    """The sensitivity card as the page shows it; models of older versions have none."""
    if card is None:
        return None
    return {"introduction": introduction(card), "lines": table(card), "remarks": remarks(card, threshold)}


def _shown(value: object) -> str:
    """A fact as people read it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_shown(one)}" for name, one in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _short_names(rows: list[dict[str, Any]]) -> list[str]:
    """File names with the folders in which they differ: test sets repeat 000.png in each folder."""
    folders = [str(Path(row["path"]).parent) for row in rows if row["path"]]
    shared = os.path.commonpath(folders) if len({Path(one).is_absolute() for one in folders}) == 1 else ""
    names = [os.path.relpath(row["path"], shared) if row["path"] and shared else row["name"] for row in rows]
    pages = [
        "" if row["page"] is None or name == row["name"] else f", page {row['page']}"
        for name, row in zip(names, rows, strict=True)
    ]
    return [printable(name + page) for name, page in zip(names, pages, strict=True)]


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace anything but an empty folder or a whole report of ours, with no file added by hand."""
    if not folder.exists():
        return
    found = {one.name for one in folder.iterdir()} if folder.is_dir() else {folder.name}
    ours = found - MORE_FILES == FILES and _is_report(folder / "results.json")
    if found and not (ours and (ANIMATIONS not in found or holds_animations(folder / ANIMATIONS))):
        raise UnmaskError(f"{folder} exists and is not a report of unmask; give another folder, or empty it")


def _is_report(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["format"] == FORMAT)
    except (ValueError, KeyError, TypeError):
        return False


def _swap(fresh: Path, folder: Path) -> None:
    """Put the fresh folder in place; a reader sees the old report or the new one."""
    old = folder.with_name(temporary_name())
    if folder.exists():
        folder.replace(old)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
