"""The command line: parse, call one function, print. Heavy imports happen inside a command."""

from __future__ import annotations

import json
import re
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from unmask.cli import measure as measuring
from unmask.cli.arguments import check_writable, loaded, needs_torch, opened, pairs_of
from unmask.cli.console import fail, note, progress_bars, shown, warn
from unmask.cli.measure import Report
from unmask.errors import DatasetError, SettingError, UnmaskError
from unmask.inspection.allocator import reuse_freed_memory

if TYPE_CHECKING:
    from unmask.inspection.inspector import Inspector
    from unmask.types import AnomalyResult

app = typer.Typer(
    help="Learn what good images look like, then show what does not belong in a new one.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

INTERRUPTED = 130  # what a shell expects after Ctrl-C
UsageError = cast("type[Exception]", typer.BadParameter.__base__)  # of click, or of the copy of it inside typer

Seed = Annotated[int, typer.Option(help="Of every random choice.")]


@app.command()
def fit(
    source: Annotated[Path, typer.Argument(help="A folder of good images, or a data set (MVTec AD, VisA, CSV, ...).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model file to write.")],
    detector: Annotated[
        str, typer.Option(help="Which method, or several: patchcore+fre. See: unmask detectors.")
    ] = "fuse",
    preset: Annotated[str, typer.Option(help="Its named settings: fast (for a CPU), paper, and others.")] = "fast",
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of one setting; repeatable.")] = None,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Share of good images that may be flagged. Default: 0.05.")
    ] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    max_minutes: Annotated[float | None, typer.Option(help="Time limit of the training.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted fit stopped.")] = False,
    resize: Annotated[
        str, typer.Option(help="Images that are not square: squash, fit (add a margin) or crop (judge the middle).")
    ] = "squash",
    tile: Annotated[
        int | None, typer.Option(help="Cut images into tiles of so many pixels: for small defects.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Of neighbouring tiles, a share of their side.")] = 0.25,
    region: Annotated[
        str | None, typer.Option(help="Judge only x0,y0,x1,y1 (pixels), or the white part of this picture.")
    ] = None,
    max_memory: Annotated[str | None, typer.Option(help="Of the whole program, such as 1GB or 800MB.")] = None,
) -> None:
    """Learn from good images; write a model file."""
    if output.is_dir():
        raise SettingError(f"{output} is a folder; give a file name such as {output / 'model.unmask'}")
    check_writable(output)
    split = loaded(source, seed)
    with needs_torch(), progress_bars() as progress:
        from unmask.inspection.inspector import Inspector
        from unmask.training.devices import is_main_process
        from unmask.training.trainer import Training

        checkpoints, limit = _checkpoints(output, resume), _bytes(max_memory)
        training = Training(
            seed, device, devices, nodes, max_minutes, checkpoints, resume, max_memory=limit, progress=progress
        )
        inspector = Inspector.train(
            split.normals,
            split.held_out,
            detector=detector,
            preset=preset,
            settings=pairs_of(settings),
            false_alarm_rate=false_alarm_rate,
            training=training,
            source=f"{split.name} ({split.layout})",
            folder=source,
            resize=resize,
            tile=tile,
            overlap=overlap,
            region=region,
        )
    if is_main_process():
        inspector.save(output)
        shutil.rmtree(checkpoints, ignore_errors=True)
        _say_fitted(inspector, output)


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="A model file written by: unmask fit, or unmask export.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    report: Report = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show how each verdict came about: in the report, and as an animation an image."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line an image, nothing else.")] = False,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 1 if any is anomalous.")
    ] = False,
) -> None:
    """Judge new images."""
    if explain and report is None:
        raise SettingError("--explain came without --report, which its pictures go to; add --report FOLDER")
    paths = _image_files(images)
    check_writable(report)
    inspector = opened(model, explain=explain)
    seen: list[bool] = []
    results = _printed(inspector.inspect_many(paths, explain=explain), seen, as_json)
    if report is None:
        for _ in results:
            pass
    else:
        from unmask.inspection.explanation import ANIMATIONS
        from unmask.report.page import write_report

        page = write_report(report, results, title=model.stem, calibration=inspector.calibration, model=inspector.facts)
        note(f"Report: {page}")
        if explain and not page.with_name(ANIMATIONS).exists():
            note(f"Note: {inspector.facts['detector']} tells no steps, so the report explains nothing")
    if not as_json:
        typer.echo(f"{sum(seen)} of {len(seen)} images anomalous")
    if fail_on_anomaly and any(seen):
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model file written by: unmask fit.")],
    to: Annotated[str, typer.Option(help="onnx, or openvino.")] = "onnx",
    precision: Annotated[str, typer.Option(help="Of the weights: fp32, fp16, or (of onnx) int8.")] = "fp32",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: beside the model, under its name.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Good images to compare on; default: those held out of the folder it was fitted on."),
    ] = None,
) -> None:
    """Write a model for machines without torch, and compare it with the original."""
    from unmask.inspection.model_file import facts_of

    facts = facts_of(model)
    held_out = _held_out(facts) if images is None else tuple(_image_files([images]))
    if not held_out:
        note(
            "Note: the images it was fitted on are not there any more; only a built-in picture is compared. "
            "Give --images GOOD to compare on real ones."
        )
    with needs_torch():
        from unmask.inspection.export import export as write

        done = write(model, output, to=to, precision=precision, images=held_out)
    note(
        f"Wrote {done.path} ({_megabytes(done.path):.1f} MB). On {done.compared} images its scores differ by at most "
        f"{done.difference:.2g} and its maps by {done.map_difference:.2g}: of the threshold, or of themselves where "
        f"they are larger.\nJudge images with: unmask inspect {done.path} IMAGES"
    )


app.command()(measuring.evaluate)
app.command()(measuring.bench)
app.command()(measuring.compare)


@app.command()
def info(model: Annotated[Path, typer.Argument(help="A model file.")]) -> None:
    """Print everything that a model file says about itself."""
    from unmask.inspection.exported import facts_of

    for key, value in facts_of(model).items():
        if key == "self_test":
            typer.echo(f"{key:18} a score of {value['score']:.4g} on a built-in picture, checked whenever it is loaded")
        elif isinstance(value, dict):
            typer.echo(key)
            for name, one in value.items():
                typer.echo(f"  {name:16} {shown(one)}")
        else:
            typer.echo(f"{key:18} {shown(value)}")
    typer.echo(f"{'file size':18} {_megabytes(model):.1f} MB")


@app.command()
def detectors() -> None:
    """List the detectors, their presets and settings."""
    with needs_torch():
        from unmask.detectors import DETECTORS, settings_of
        from unmask.detectors.settings import text_of
    for detector in DETECTORS:
        typer.echo(f"{detector.name}: {detector.paper}")
        typer.echo(f"  presets: {', '.join(detector.presets)}")
        for name, parameter in settings_of(detector).items():
            typer.echo(f"  --set {name}={text_of(parameter.default)}  ({parameter.wanted()})")


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="Folder to make: OUT/fabric and OUT/part.")],
    seed: Seed = 0,
) -> None:
    """Write the embedded sample data sets (a woven fabric, a machined part) in MVTec layout."""
    from unmask.samples import write

    write(out, seed=seed)
    note(f"Wrote {out / 'fabric'} and {out / 'part'}.")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo"),
    seed: Seed = 0,
) -> None:
    """Draw the sample part, learn from it, measure, and write a report."""
    from unmask.samples import render

    render("part", out / "part", seed=seed, n_train=100)
    note(f"Drew {out / 'part'}: 100 good parts to learn from, 35 to judge.")
    model = out / "part.unmask"
    fit(out / "part", model, seed=seed)
    measuring.evaluate(model, out / "part", out / "report")


def main() -> None:
    """Run the command line: a user's mistake is one line and exit code 2."""
    warnings.showwarning = warn
    reuse_freed_memory()
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="unmask", standalone_mode=False)
    except UnmaskError as error:
        fail(str(error))
    except UsageError as error:
        fail(_usage(error))
    if code == INTERRUPTED:
        typer.echo("unmask: interrupted", err=True)
    sys.exit(code)


def _usage(error: Any) -> str:
    """What is wrong with the words of a command, and where to read on."""
    command = "unmask" if error.ctx is None else error.ctx.command_path
    return f"{error.format_message()} See: {command} --help"


def _held_out(facts: Mapping[str, Any]) -> tuple[Path, ...]:
    """The held-out images of the fit, if its folder is still as it was."""
    from unmask.datasets import load

    folder = facts.get("folder")
    if folder is None or not Path(folder).exists():
        return ()
    split = load(Path(folder), seed=facts["seed"])
    return split.held_out if len(split.held_out) == facts["n_held_out"] else ()


def _megabytes(path: Path) -> float:
    """A model's size on the disk, with the weights that lie beside an .xml file."""
    files = {path, path.with_suffix(".bin") if path.suffix == ".xml" else path}
    return sum(file.stat().st_size for file in files) / 1e6


def _checkpoints(output: Path, resume: bool) -> Path:
    """The folder that lives beside a model file until it is finished."""
    folder = output.with_name(f"{output.name}.partial")
    if folder.exists() and not resume:
        note(f"Note: {folder} is left of an interrupted fit; this one starts afresh, --resume would go on")
    return folder


def _bytes(text: str | None) -> int | None:
    """What 1GB, 800MB or 1.5 GB mean, in bytes."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG])i?B?\s*", text, re.IGNORECASE)
    if found is None:
        raise SettingError(f"max-memory {text} is no amount of memory; give one such as 1GB or 800MB")
    return int(float(found[1]) * {"M": 1e6, "G": 1e9}[found[2].upper()])


def _image_files(given: list[Path]) -> list[Path]:
    from unmask.imaging.images import list_images

    found: list[Path] = []
    for path in given:
        found += list_images(path, recursive=True) if path.is_dir() else [path]
    if not found:
        raise DatasetError(f"no images in {given[0]}; give image files or folders of them")
    return found


def _printed(results: Iterable[AnomalyResult], seen: list[bool], as_json: bool) -> Iterator[AnomalyResult]:
    from unmask.report.page import record

    for result in results:
        seen.append(result.is_anomalous)
        if as_json:
            typer.echo(json.dumps(record(result)))
        else:
            verdict = "ANOMALOUS" if result.is_anomalous else "good"
            place = f"  at {result.regions[0].box}" if result.is_anomalous and result.regions else ""
            typer.echo(f"{verdict:10} {result.score:8.2f} (threshold {result.threshold:.2f})  {result.path}{place}")
        yield result


def _say_fitted(inspector: Inspector, output: Path) -> None:
    calibration = inspector.calibration
    note(
        f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB) after {inspector.facts['fit_seconds']:.0f} s. "
        f"Images that score above {calibration.threshold:.3g} are anomalous; on average, at most "
        f"{calibration.false_alarm_rate:.1%} of good images will ({calibration.n_held_out} were held out to know).\n"
        f"Judge images with: unmask inspect {output} IMAGES"
    )
