"""The command that judges images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli import options as opt
from unmask.cli.arguments import check_writable, image_files
from unmask.cli.console import note
from unmask.errors import SettingError

if TYPE_CHECKING:
    from unmask.inspection.inspector import Inspector
    from unmask.types import AnomalyResult, FailedImage

ANOMALOUS, NOT_JUDGED = 1, 3
"""Exit codes: with --fail-on-anomaly, and when an image has no verdict."""


def inspect(
    model: opt.Model,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    report: opt.Report = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show the steps that led to each verdict, in the report and as animations."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each image, nothing else.")] = False,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 1 if any image is anomalous.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop at the first image that cannot be judged, with exit code 2 and no report."),
    ] = False,
    backend: opt.Backend = "auto",
    device: opt.Device = "auto",
) -> None:
    """Judge new images."""
    if explain and report is None:
        raise SettingError("--explain came without --report, which its pictures go to; add --report FOLDER")
    paths = image_files(images)
    check_writable(report)
    from unmask import load
    from unmask.inspection.notes import lines_of

    inspector = load(model, backend="torch" if explain and backend == "auto" else backend, device=device)
    counts: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    on_error = "raise" if strict else "record"
    results = _printed(inspector.inspect_many(paths, on_error=on_error, explain=explain), counts, notes, as_json)
    if report is None:
        for _ in results:
            pass
    else:
        _write_report(report, results, model.stem, inspector, explain)
    if not as_json:
        typer.echo(_summary(counts))
    for line in lines_of(notes, counts.total()):
        note(f"Note: {line}")
    if counts["failed"]:
        note(f"Note: {counts['failed']} of {counts.total()} images could not be judged; they have no verdict")
        raise typer.Exit(NOT_JUDGED)
    if fail_on_anomaly and counts["anomalous"]:
        raise typer.Exit(ANOMALOUS)


def _printed(
    results: Iterable[AnomalyResult | FailedImage], counts: Counter[str], notes: Counter[str], as_json: bool
) -> Iterator[AnomalyResult | FailedImage]:
    """Print each result when it is there, and count it and its notes."""
    for result in results:
        failed = result.error is not None
        counts["failed" if failed else "anomalous" if result.is_anomalous else "good"] += 1  # type: ignore[union-attr]
        notes.update(getattr(result, "notes", ()))
        typer.echo(json.dumps(result.to_dict()) if as_json else _line(result))
        yield result


def _line(result: AnomalyResult | FailedImage) -> str:
    from unmask.types import FailedImage

    if isinstance(result, FailedImage):
        return f"{'NOT JUDGED':10} {result.error}"
    verdict = "ANOMALOUS" if result.is_anomalous else "good"
    place = f"  at {result.regions[0].box}" if result.is_anomalous and result.regions else ""
    return f"{verdict:10} {result.score:8.2f} (threshold {result.threshold:.2f})  {result.path}{place}"


def _summary(counts: Counter[str]) -> str:
    judged = counts["anomalous"] + counts["good"]
    return f"{counts['anomalous']} of {judged} images anomalous" + (
        f", {counts['failed']} not judged" if counts["failed"] else ""
    )


def _write_report(
    folder: Path,
    results: Iterable[AnomalyResult | FailedImage],
    title: str,
    inspector: Inspector,
    explain: bool,
) -> None:
    from unmask.inspection.explanation import ANIMATIONS
    from unmask.report.page import write_report

    page = write_report(
        folder,
        results,
        title=title,
        calibration=inspector.calibration,
        model=inspector.facts,
        photo=inspector.photograph,
    )
    note(f"Report: {page}")
    if explain and not page.with_name(ANIMATIONS).exists():
        note(f"Note: {inspector.facts['detector']} has no steps to show, so the report explains nothing")
