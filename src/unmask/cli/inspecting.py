"""The command that judges images."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli import options as opt
from unmask.cli.arguments import check_writable, image_files
from unmask.cli.console import note, out
from unmask.cli.signals import Signals
from unmask.errors import SettingError

if TYPE_CHECKING:
    from unmask.imaging.listing import Listing
    from unmask.inspection.inspector import Inspector
    from unmask.inspection.watch import StreamWatch
    from unmask.types import AnomalyResult, FailedImage

ANOMALOUS, NOT_JUDGED = 1, 3
"""Exit codes: with --fail-on-anomaly, and when an image has no verdict."""


def inspect(
    context: opt.Context,
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
    strict: opt.Strict = False,
    page: opt.Page = None,
    max_pixels: opt.MaxPixels = None,
    recursive: opt.Recursive = True,
    refuse: opt.Refuse = True,
    backend: opt.Backend = "auto",
    device: opt.Device = "auto",
) -> None:
    """Judge new images."""
    if explain and report is None:
        raise SettingError("--explain came without --report, which its pictures go to; add --report FOLDER")
    listing = image_files(images, recursive=recursive)
    check_writable(report)
    from unmask import load

    chosen = "torch" if explain and backend == "auto" else backend
    inspector = load(model, backend=chosen, device=device, page=page, max_pixels=max_pixels)
    counts: Counter[str] = Counter()
    signals: Signals = context.obj
    watch, on_error = inspector.watch(), "raise" if strict else "record"
    judged = inspector.inspect_many(listing.files, on_error=on_error, explain=explain, watch=watch, refuse=refuse)
    with signals.awaited():
        results = _printed(judged, counts, as_json, signals)
        if report is None:
            deque(results, maxlen=0)
        else:
            words = model.stem, partial(_told, counts, listing.files, signals, watch)
            _write_report(report, results, words, inspector, explain, listing)
    if as_json:
        _print_skipped(listing, images)
    else:
        out(_summary(counts))
    if signals:
        raise KeyboardInterrupt(_interruption(counts, listing.files, report))
    if code := _exit_code(counts, listing, fail_on_anomaly=fail_on_anomaly):
        raise typer.Exit(code)


def _exit_code(counts: Counter[str], listing: Listing, *, fail_on_anomaly: bool) -> int:
    """The exit code, after a line about all files that were seen, and a note where something has no verdict."""
    from unmask.imaging.accounting import sentence
    from unmask.types import Skip

    note(f"{sentence(listing.seen, listing.skipped)}.")
    unreadable = [one.path for one in listing.skipped if one.reason == Skip.UNREADABLE]
    if unreadable:
        note(f"Note: {len(unreadable)} files or folders cannot be opened, such as {unreadable[0]}; they are not judged")
    if counts["failed"]:
        note(f"Note: {counts['failed']} of {counts.total()} images could not be judged; they have no verdict")
    if counts["failed"] or unreadable:
        return NOT_JUDGED
    return ANOMALOUS if fail_on_anomaly and counts["anomalous"] else 0


def _printed(
    results: Iterable[AnomalyResult | FailedImage], counts: Counter[str], as_json: bool, signals: Signals
) -> Iterator[AnomalyResult | FailedImage]:
    """Print and count each result when it is there, then the notes on all; a signal ends them after the present one."""
    from unmask.inspection.notes import lines_of

    notes: Counter[str] = Counter()
    told = False
    for result in results:
        failed = result.error is not None
        counts["failed" if failed else "anomalous" if result.is_anomalous else "good"] += 1  # type: ignore[union-attr]
        notes.update(getattr(result, "notes", ()))
        out(json.dumps(result.to_dict()) if as_json else _line(result))
        if result.change and not told:
            note(f"Note: {result.change}; look at the camera, or calibrate again if that is how pictures are now")
            told = True
        yield result
        if signals:
            break
    for line in lines_of(notes, counts.total()):
        note(f"Note: {line}")


def _interruption(counts: Counter[str], paths: Collection[Path], report: Path | None) -> str:
    kept = "" if report is None else f"; {report} holds those"
    return f"interrupted after {counts.total()} of {len(paths)} images{kept}"


def _told(counts: Counter[str], paths: Collection[Path], signals: Signals, watch: StreamWatch) -> dict[str, Any]:
    """What a report says of all results."""
    return {"left_out": _left_out(counts, paths, signals), "change": watch.change}


def _left_out(counts: Counter[str], paths: Collection[Path], signals: Signals) -> str | None:
    """What a report lacks because of a signal."""
    return f"Interrupted: {counts.total()} of {len(paths)} images are in this report." if signals else None


def _print_skipped(listing: Listing, given: Collection[Path]) -> None:
    """Print skipped files as results without a verdict: those that were named, and those that are named like images."""
    from unmask.imaging.listing import IMAGE_SUFFIXES

    for one in listing.skipped:
        if one.path in given or one.path.suffix.lower() in IMAGE_SUFFIXES:
            out(json.dumps(one.to_dict()))


def _line(result: AnomalyResult | FailedImage) -> str:
    from unmask.types import FailedImage

    if isinstance(result, FailedImage):
        page = "" if result.page is None else f" (page {result.page})"
        reason = result.error if result.not_judged is None else f"{result.path}: {result.not_judged}"
        return f"{'NOT JUDGED':10} {reason}{page}"
    page = "" if result.page is None else f", page {result.page}"
    verdict = "ANOMALOUS" if result.is_anomalous else "good"
    place = f"  at {result.regions[0].box}" if result.is_anomalous and result.regions else ""
    return f"{verdict:10} {result.score:8.2f} (threshold {result.threshold:.2f})  {result.path}{page}{place}"


def _summary(counts: Counter[str]) -> str:
    judged = counts["anomalous"] + counts["good"]
    return f"{counts['anomalous']} of {judged} images anomalous" + (
        f", {counts['failed']} not judged" if counts["failed"] else ""
    )


def _write_report(
    folder: Path,
    results: Iterable[AnomalyResult | FailedImage],
    words: tuple[str, Callable[[], dict[str, Any]]],
    inspector: Inspector,
    explain: bool,
    listing: Listing,
) -> None:
    from unmask.inspection.explanation import ANIMATIONS
    from unmask.report.page import Summary, write_report

    title, told = words
    page = write_report(
        folder,
        results,
        title=title,
        calibration=inspector.calibration,
        model=inspector.facts,
        summary=lambda: Summary(**told()),
        photo=inspector.photograph,
        files=(listing.seen, listing.skipped),
    )
    note(f"Report: {page}")
    if explain and not page.with_name(ANIMATIONS).exists():
        note(f"Note: {inspector.facts['detector']} has no steps to show, so the report explains nothing")
