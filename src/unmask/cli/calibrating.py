"""The command that sets new thresholds from new good images, and what a model file says of its thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli import options as opt
from unmask.cli.arguments import check_model_place, image_files
from unmask.cli.console import note, progress_bars, shown
from unmask.errors import ModelFileError, SettingError

if TYPE_CHECKING:
    from unmask.inspection.calibration import Calibration
    from unmask.inspection.inspector import Inspector
    from unmask.inspection.recalibration import GoodImages

HISTORY = ("calibrated", "calibrations")
"""Facts that are told beside the calibration."""


def calibrate(
    model: opt.Model,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Good images as those that will be judged: files, or folders of them.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; MODEL itself is changed by default.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Share of good images that may be flagged; that of the model by default.")
    ] = None,
    confidence: opt.Confidence = None,
    undo: Annotated[bool, typer.Option("--undo", help="Go back to the thresholds before the last one.")] = False,
    recursive: opt.Recursive = True,
    device: opt.Device = "auto",
) -> None:
    """Set new thresholds from new good images, with no new fit."""
    from unmask.inspection import history
    from unmask.inspection.exported import stamp
    from unmask.inspection.guarantee import Wanted
    from unmask.inspection.recalibration import recalibrated
    from unmask.inspection.saving import check_kind, rewrite

    target = output or model
    is_plain = false_alarm_rate is None and confidence is None and recursive and device == "auto"
    _check(images, undo=undo, is_plain=is_plain)
    check_kind(model, target)
    check_model_place(target)
    if undo:
        rewrite(model, target, history.undone)
        note(f"Wrote {target} with the thresholds before its last calibration; see: unmask info {target}")
        _note_exports(target)
        return
    wanted = Wanted(false_alarm_rate, confidence)
    wanted.check()
    opened = stamp(model)
    inspector = _opened(model, device)
    good = _good_images(images or [], recursive=recursive)
    with progress_bars() as progress:
        after = recalibrated(inspector, good, wanted, progress)

    def changed(facts: dict[str, Any]) -> dict[str, Any]:
        if stamp(model) != opened:
            raise ModelFileError(f"{model} has changed since it was opened; calibrate again")
        return history.added(facts, after.calibration, after.facts[history.NOW])

    rewrite(model, target, changed)
    _report(inspector.calibration, after.calibration, target)


def _check(images: list[Path] | None, *, undo: bool, is_plain: bool) -> None:
    if undo and (images or not is_plain):
        raise SettingError("--undo goes back without images or other options than -o; leave them out")
    if not undo and not images:
        raise SettingError("no good images came to calibrate on; give files or folders of them, or --undo")


def _good_images(paths: list[Path], *, recursive: bool) -> GoodImages:
    """Good images alone: of a data set, those that are neither defects nor test images."""
    from unmask.datasets import load
    from unmask.imaging.accounting import sentence
    from unmask.inspection.recalibration import GoodImages, is_data_set

    files = [path for path in paths if not is_data_set(path)]
    found = list(image_files(files).files) if files else []
    names = []
    for path in (path for path in paths if is_data_set(path)):
        split = load(path, recursive=recursive)
        note(f"{split.name}: {split.layout}. {sentence(split.seen, split.skipped)}.")
        for warning in split.warnings:
            note(f"Note: {warning}")
        found += (*split.normals, *split.held_out)
        names.append(split.name)
    source = f"{len(found)} images"
    return GoodImages(found, f"{', '.join(names)} ({source})" if names else source)


def _opened(model: Path, device: str) -> Inspector:
    """The model itself, not the export beside it: thresholds belong to the scores of the file that holds them."""
    from unmask.inspection.exported import SUFFIXES
    from unmask.inspection.loading import load

    return load(model, backend="auto" if model.suffix in SUFFIXES else "torch", device=device)


def _report(before: Calibration, after: Calibration, target: Path) -> None:
    flagged = sum(score > before.threshold for score in after.scores)
    note(
        f"Wrote {target}: images that score above {after.threshold:.3g} are anomalous; before it was "
        f"{before.threshold:.3g}, which flagged {flagged} of these {after.n_held_out} good images."
    )
    note(after.promise)
    _note_exports(target)
    note(f"Go back with: unmask calibrate {target} --undo")


def _note_exports(target: Path) -> None:
    """Say of exports beside a model, or of the model beside an export, that they have other thresholds now."""
    from unmask.inspection.exported import SUFFIXES

    model = target.with_suffix(".unmask")
    if target.suffix in SUFFIXES and model.is_file():
        note(f"Note: {model} keeps its own thresholds; judge with {target} for these.")
    for suffix in SUFFIXES:
        export = target.with_suffix(suffix)
        if target.suffix not in SUFFIXES and export.is_file():
            note(
                f"Note: {export.name} keeps the thresholds that it has, and is not taken in place of {target.name} "
                f"unless they are its own; make a new one with: unmask export {target}"
            )


# --- what a file says of its thresholds -------------------------------------------------------------------------------


def calibration_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What `unmask info` says of the thresholds of a file, what they promise, and those that it had before."""
    from unmask.inspection import history
    from unmask.inspection.calibration import Calibration

    values = facts["calibration"]
    yield "calibration"
    for name, one in values.items():
        if name == "scores":
            one = f"{len(one)}, {shown(one[0])} to {shown(one[-1])}" if one else None
        yield f"  {name:16} {shown(one)}"
    yield f"  {'promise':16} {Calibration.from_dict(values).promise}"
    if history.EARLIER in facts or history.NOW in facts:
        yield "calibrations"
        yield from (f"  {line}" for line in history.lines(facts))
