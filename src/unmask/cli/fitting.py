"""The commands that make model files: fit and export."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli import options as opt
from unmask.cli.arguments import (
    check_model_place,
    image_files,
    load_dataset,
    needs_torch,
    settings_in,
)
from unmask.cli.console import megabytes, note, progress_bars
from unmask.errors import SettingError

if TYPE_CHECKING:
    from unmask.inspection.export_comparison import Exported
    from unmask.inspection.inspector import Inspector
    from unmask.training.trainer import Training


def fit(
    source: opt.Source,
    output: opt.Output,
    detector: opt.DetectorName = "fuse",
    preset: opt.Preset = "fast",
    settings: opt.Settings = None,
    tolerate: opt.Tolerate = "mild",
    calibrate: opt.Calibrate = None,
    false_alarm_rate: opt.FalseAlarmRate = None,
    confidence: opt.Confidence = None,
    group: opt.Groups = None,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    devices: opt.Devices = 1,
    nodes: opt.Nodes = 1,
    max_minutes: opt.MaxMinutes = None,
    resume: opt.Resume = False,
    resize: opt.Resize = "squash",
    tile: opt.Tile = None,
    overlap: opt.Overlap = 0.25,
    region: opt.Region = None,
    intensity_range: opt.Intensity = None,
    bands: opt.Bands = None,
    page: opt.Page = None,
    max_pixels: opt.MaxPixels = None,
    max_memory: opt.MaxMemory = None,
    scratch: opt.Scratch = None,
    recursive: opt.Recursive = True,
    align: opt.Align = "none",
) -> None:
    """Learn from good images; write a model file."""
    from unmask.imaging.alignment import check_way
    from unmask.inspection.model_file import check_model_name

    check_model_name(output)
    check_model_place(output)
    reading = _reading({"resize": resize, "tile": tile, "overlap": overlap, "region": region}, intensity_range)
    check_way(align)
    reading |= {"align": align} | _image_options({"bands": bands, "page": page, "max_pixels": max_pixels})
    chosen = {"detector": detector, "preset": preset, "settings": settings_in(settings)}
    promise = _promise(tolerate, calibrate, false_alarm_rate, confidence)
    run = {"device": device, "devices": devices, "nodes": nodes, "max_minutes": max_minutes, "resume": resume}
    run |= {"seed": seed, "max_memory": _bytes(max_memory), "scratch": scratch}
    split = load_dataset(source, seed, group, recursive=recursive)
    with needs_torch(), progress_bars() as progress:
        from unmask.training.devices import is_main_process

        training = _training(output, progress, run)
        inspector = _fitted(split, training, {**chosen, **reading, **promise})
    if is_main_process():
        inspector.facts |= {"folder": _nearby(source, output), "recursive": recursive}
        inspector.save(output)
        shutil.rmtree(training.checkpoints or "", ignore_errors=True)
        _report_fit(inspector, output)


def export(
    model: Annotated[Path, typer.Argument(help="A model file written by: unmask fit.")],
    to: Annotated[str, typer.Option(help="Format of the file: onnx, or openvino.")] = "onnx",
    precision: Annotated[str, typer.Option(help="Precision of the weights: fp32, fp16, or (of onnx) int8.")] = "fp32",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; beside the model, under its name, by default.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of good images to set the thresholds with; by default the folder of the fit, if it is near."
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Keep the file even if more than 0.5 % of the verdicts differ.")
    ] = False,
) -> None:
    """Write a model for machines without torch, and compare its verdicts with the original's."""
    from unmask.inspection.model_file import facts_of

    good = _good_images(model, facts_of(model), images)
    with needs_torch():
        from unmask.inspection.export import export as write

        done = write(model, output, to=to, precision=precision, images=good, accept=accept)
    _report_export(done)


# --- fit --------------------------------------------------------------------------------------------------------------


def _training(output: Path, progress: Any, run: dict[str, Any]) -> Training:
    """How the fit runs, with a folder beside the model file for what can be resumed."""
    from unmask.training.trainer import Training

    folder = output.with_name(f"{output.name}.partial")
    if folder.exists() and not run["resume"]:
        note(f"Note: {folder} is left of an interrupted fit; this one starts afresh, --resume would go on")
    return Training(**run, checkpoints=folder, progress=progress)


def _fitted(split: Any, training: Training, options: dict[str, Any]) -> Inspector:
    from unmask.inspection.inspector import Inspector

    return Inspector.fit(split, training=training, **options)


def _reading(options: dict[str, Any], intensity_range: str | None) -> dict[str, Any]:
    """How images are read; wrong options are refused before any image is looked at."""
    from unmask.imaging.intensity import IntensityRange
    from unmask.imaging.region import region_of
    from unmask.imaging.tiling import Tiling

    place = {} if options["region"] is None else region_of(options["region"])
    Tiling(256, resize=options["resize"], tile=options["tile"], overlap=options["overlap"], **place)
    if intensity_range is None:
        return options
    given = IntensityRange.parse(intensity_range)
    return {**options, "intensity_range": (given.low, given.high)}


def _image_options(options: dict[str, Any]) -> dict[str, Any]:
    """How files of several bands or pictures are read; wrong options are refused before any image is looked at."""
    from unmask.imaging.options import ImageOptions

    ImageOptions.of(**options)
    return options


def _promise(tolerate: str, calibrate: str | None, rate: float | None, confidence: float | None) -> dict[str, Any]:
    """What is promised; wrong options are refused before any image is looked at."""
    from unmask.imaging.tolerance import Tolerance
    from unmask.inspection.guarantee import Wanted
    from unmask.inspection.plan import check_protocol, with_confidence

    Tolerance.parse(tolerate)
    check_protocol(with_confidence(calibrate, confidence))
    Wanted(rate, confidence).check()
    return {"tolerate": tolerate, "calibrate": calibrate, "false_alarm_rate": rate, "confidence": confidence}


def _nearby(source: Path, output: Path) -> str | None:
    """The way from the model file to the folder of the fit, if that lies beside or below it; never a whole path."""
    try:
        way = Path(os.path.relpath(source.resolve(), output.resolve().parent))
    except ValueError:  # another drive
        return None
    return way.as_posix() if way.parts[:2] != ("..", "..") else None


def _report_fit(inspector: Inspector, output: Path) -> None:
    from unmask.inspection.pooling import alarms_in_words

    calibration, intensity = inspector.calibration, inspector.reading.intensity
    if intensity is not None and not intensity.given:
        note(f"The 16-bit images hold values up to {intensity.high:.0f} at most: that counts as white.")
    note(f"Wrote {output} ({megabytes(output):.1f} MB) after {inspector.facts['fit_seconds']:.0f} s.")
    note(f"Images that score above {calibration.threshold:.3g} are anomalous. {calibration.promise}")
    note(f"False alarms to expect: {alarms_in_words(inspector.facts['expected_alarms'])}.")
    note(f"Judge images with: unmask inspect {output} IMAGES")


def _bytes(text: str | None) -> int | None:
    """What 1GB, 800MB or 1.5 GB mean, in bytes."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG])i?B?\s*", text, re.IGNORECASE)
    if found is None:
        raise SettingError(f"max-memory {text} is no amount of memory; give one such as 1GB or 800MB")
    amount = float(found[1]) * {"M": 1e6, "G": 1e9}[found[2].upper()]
    if not amount < 1e18:
        raise SettingError("max-memory is more than any machine has; give an amount such as 1GB or 800MB")
    return int(amount)


# --- export -----------------------------------------------------------------------------------------------------------


def _good_images(model: Path, facts: dict[str, Any], images: Path | None) -> Sequence[Path]:
    """The good images of a folder, by default of the fit's own if it is still near the model file."""
    if images is not None:
        return _normals(images)
    near = facts.get("folder")
    if near is not None and (model.parent / near).exists():
        return _normals(model.parent / near, recursive=facts.get("recursive", True))
    note(
        "Note: the folder of the fit is not near the model file, so no verdicts are compared, and the export is not "
        "taken in place of the model. Give --images GOOD to compare them."
    )
    return ()


def _normals(folder: Path, *, recursive: bool = True) -> Sequence[Path]:
    """Good images alone: of a data set, those that are neither defects nor test images."""
    from unmask.datasets import load

    if folder.is_file() and folder.suffix.lower() != ".csv":
        return image_files([folder]).files
    split = load(folder, recursive=recursive)
    return (*split.normals, *split.held_out)


def _report_export(done: Exported) -> None:
    compared = (
        f"{done.verdicts} verdicts were compared with the model's, {done.differing} differ. " if done.verdicts else ""
    )
    calibrated = f"Its thresholds come from {done.calibrated_on} good images. " if done.calibrated_on else ""
    note(f"Wrote {done.path} ({megabytes(done.path):.1f} MB). {calibrated}{compared}".rstrip())
    note(
        f"Its scores differ by at most {done.difference:.2g} and its maps by {done.map_difference:.2g}, as shares of "
        "the threshold or of themselves."
    )
    note(f"Judge images with: unmask inspect {done.path} IMAGES")
