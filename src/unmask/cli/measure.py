"""The commands that measure: evaluate, bench, compare."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from unmask.cli import options as opt
from unmask.cli.arguments import check_writable, load_dataset, needs_torch, settings_in
from unmask.cli.console import note, out, progress_bars, shown
from unmask.errors import SettingError

Dataset = Annotated[Path, typer.Argument(help="A data set with a labelled test part.")]
EvalSize = Annotated[
    int | None, typer.Option(help="Side in pixels at which pixels are measured. Default: the size of the masks.")
]
IncludeSeen = Annotated[
    bool, typer.Option("--include-seen", help="Also measure test images that the model was fitted on.")
]
Datasets = Annotated[list[Path], typer.Argument(help="Data sets with a labelled test part.")]
Results = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Detectors = Annotated[
    list[str] | None,
    typer.Option(
        help="What to measure: NAME or NAME@PRESET as `unmask detectors` lists them, MODULE:CLASS of a detector of "
        "your own, anomalib:MODEL, or 'command:PROGRAM'. Several are joined by commas; the option is repeatable. "
        "Default: all detectors of unmask."
    ),
]
Seeds = Annotated[int, typer.Option(help="Number of seeds: 0, 1, ... are used.")]
Preset = Annotated[str, typer.Option(help="Preset of the detectors that are named without one.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="NAME=VALUE of one setting of a single detector; repeatable.")
]
Tolerate = Annotated[
    str | None,
    typer.Option(help="What the fits tolerate: mild, none, strong, or a list such as blur,shift=6%. Default: mild."),
]
Calibrate = Annotated[
    str | None, typer.Option(help="How the fits calibrate: cross or split. Default: as `unmask fit` does.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the rows that the folder already holds.")]
Jobs = Annotated[int, typer.Option(help="Number of rows that are measured at once; they share the cores.")]
On = Annotated[str, typer.Option(help="Where to measure: here, or ray (the cluster that RAY_ADDRESS names).")]
MaxMinutes = Annotated[float | None, typer.Option(help="Minutes after which a row is given up.")]
ShowLeaks = Annotated[
    bool, typer.Option("--show-leaks", help="Also say what looking at the test set would have claimed.")
]
Scaling = Annotated[
    bool, typer.Option("--scaling", help="Also measure 10 to 10,000 drawn images, and 128 to 1024 pixels.")
]
Pictures = Annotated[
    bool, typer.Option("--pictures/--no-pictures", help="Put test images into the page's galleries, or leave them out.")
]
SideBySide = Annotated[
    str | None, typer.Option(help="Two detectors for the galleries, joined by a comma. Default: the best two.")
]
First = Annotated[Path, typer.Argument(help="A folder or file of results that unmask bench wrote.")]
Second = Annotated[
    Path | None,
    typer.Argument(
        help="Another, of the same data sets and seeds. Without it the detectors of the first are compared."
    ),
]
FailOnRegression = Annotated[
    bool,
    typer.Option("--fail-on-regression", help="Exit with 1 if the second is significantly worse, or lacks rows."),
]


MOST_SEEDS = 1000


def evaluate(
    model: opt.Model,
    dataset: Dataset,
    report: opt.Report = None,
    eval_size: EvalSize = None,
    include_seen: IncludeSeen = False,
    recursive: opt.Recursive = True,
    page: opt.Page = None,
    max_pixels: opt.MaxPixels = None,
) -> None:
    """Measure a model on labelled test images, once, at the threshold it already has."""
    check_writable(report)
    from unmask import evaluate as evaluate_model
    from unmask import load

    inspector = load(model, page=page, max_pixels=max_pixels)
    split = load_dataset(dataset, inspector.facts["seed"], recursive=recursive)
    with progress_bars() as progress:
        figures = evaluate_model(
            inspector, split, report, eval_size=eval_size, include_seen=include_seen, progress=progress
        )
    for key, value in figures.items():
        out(f"{key:26} {shown(value)}")
    if figures["n_left_out"] is None:
        note(
            f"Note: {model} does not say which images it was fitted on, so test images that are among them cannot be "
            "found; fit again to have them left out"
        )
    if not split.has_masks:
        note(f"{split.name} has no ground-truth masks, so there are no pixel metrics.")
    if report is not None:
        note(f"Report: {report / 'index.html'}")


def bench(
    datasets: Datasets,
    output: Results,
    detectors: Detectors = None,
    seeds: Seeds = 3,
    preset: Preset = "fast",
    settings: Settings = None,
    tolerate: Tolerate = None,
    calibrate: Calibrate = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    on: On = "here",
    max_minutes: MaxMinutes = None,
    show_leaks: ShowLeaks = False,
    with_scaling: Scaling = False,
    pictures: Pictures = True,
    side_by_side: SideBySide = None,
    recursive: opt.Recursive = True,
) -> None:
    """Measure detectors on data sets by one protocol, and write tables and a page."""
    if not 1 <= seeds <= MOST_SEEDS:
        raise SettingError(f"seeds={seeds} is out of range; give 1 to {MOST_SEEDS}")
    check_writable(output)
    with needs_torch():
        from unmask.benchmark import galleries, methods, page, scaling, summary
        from unmask.benchmark.running import bench as run_bench
        from unmask.detectors import DETECTORS

        with methods.current_folder_importable(), _resumable(output):
            texts = detectors or [one.name for one in DETECTORS]
            known = methods.methods_of(texts, preset, settings_in(settings), tolerate, calibrate)
            if side_by_side is not None:
                galleries.two_of([method._asdict() for method in known], side_by_side, [])
            options: dict[str, Any] = {"max_minutes": max_minutes, "place": _place(on, jobs), "command": _command()}
            options |= {"resume": resume, "show_leaks": show_leaks, "recursive": recursive, "on_row": _row_printer()}
            rows = run_bench(datasets, known, range(seeds), output, **options)
            grown = _measure_scaling(known, output / scaling.FOLDER, options) if with_scaling else []
        for line in (*summary.lines(rows, show_leaks=show_leaks), *summary.failures(grown)):
            out(line)
        written = page.write_page(output, rows, pictures=pictures, side_by_side=side_by_side)
    note(f"Page: {written}")
    if any(row.get("failed") for row in (*rows, *grown)):
        raise typer.Exit(1)


def compare(first: First, second: Second = None, fail_on_regression: FailOnRegression = False) -> None:
    """Say which differences between two runs of a benchmark are more than chance."""
    if second is None and fail_on_regression:
        raise SettingError("--fail-on-regression came with one run; give a second one")
    with needs_torch():
        from unmask.benchmark import comparison
        from unmask.benchmark.results import rows_of

        before, after = rows_of(first), [] if second is None else rows_of(second)
        found = comparison.within(before) if second is None else comparison.compare(before, after)
        lost = [] if second is None else comparison.lost(before, after)
    for difference in found:
        out(difference.sentence())
    for line in lost:
        out(f"LOST: {line}")
    if fail_on_regression and (lost or any(one.significant and one.mean < 0 for one in found)):
        raise typer.Exit(1)


def _place(on: str, jobs: int) -> Any:
    """Where rows are measured."""
    from unmask.benchmark import places

    if on == "ray":
        if jobs != 1:
            raise SettingError(f"--jobs {jobs} came with --on ray, which runs as many rows as its cluster has cores")
        return places.on_ray()
    if on != "here":
        raise SettingError(f"--on {on} is unknown; give here or ray")
    return places.here(jobs)


@contextmanager
def _resumable(output: Path) -> Iterator[None]:
    """Say how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"{output} holds the rows that are done; the same command with --resume goes on")
        raise


def _command() -> str:
    return shlex.join(["unmask", *sys.argv[1:]])


def _measure_scaling(methods: Sequence[Any], output: Path, options: Mapping[str, Any]) -> list[Any]:
    """Rows of drawn images; they always go on where they stopped."""
    from unmask.benchmark import running, scaling

    def measure(folders: Iterable[Path], some: Sequence[Any]) -> list[Any]:
        return running.bench(
            list(folders),
            some,
            range(1),
            output,
            resume=True,
            folder_name=lambda folder: folder.name,
            on_row=_row_printer(),
            **options,
        )

    with scaling.parts() as folders:
        measure(folders.values(), methods)
        return measure([folders[100]], scaling.at_sizes(methods))


def _row_printer() -> Callable[[Mapping[str, Any], int, int], None]:
    """Prints a line for each row, with the time that is left by the pace so far."""
    from unmask.benchmark.methods import method_of

    start, measured = time.monotonic(), 0

    def print_row(row: Mapping[str, Any], done: int, total: int) -> None:
        nonlocal measured
        measured += 1
        left = (time.monotonic() - start) / measured * (total - done) / 60
        what = f"image AUROC {shown(row['image_auroc'])}" if not row["failed"] else f"FAILED: {row['failed']}"
        note(f"{done}/{total} {row['dataset']}, {method_of(row)}, seed {row['seed']}: {what} ({left:.0f} min left)")
        if row.get("n_left_out"):
            note(f"Note: {row['n_left_out']} test images are also good images to learn from; they are left out")

    return print_row
