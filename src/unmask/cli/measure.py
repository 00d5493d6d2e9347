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

from unmask.cli.arguments import check_writable, load_dataset, needs_torch, settings_in
from unmask.cli.console import console, note, shown
from unmask.errors import SettingError

Report = Annotated[Path | None, typer.Option("--report", "-o", help="Folder for a report: open its index.html.")]


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file written by: unmask fit, or unmask export.")],
    dataset: Annotated[Path, typer.Argument(help="A data set with a labelled test part.")],
    report: Report = None,
    eval_size: Annotated[int | None, typer.Option(help="Pixel metrics at this size; default: the masks' own.")] = None,
) -> None:
    """Measure a model on labelled test images, once, at the threshold it already has."""
    check_writable(report)
    from unmask import load

    inspector = load(model)
    split = load_dataset(dataset, inspector.facts["seed"])
    from rich.progress import track

    from unmask.evaluation.evaluate import evaluate as measure

    def progress(paths: Iterable[Path]) -> Iterable[Path]:
        return track(list(paths), "inspect", console=console(), transient=True)

    figures = measure(inspector, split, report, eval_size=eval_size, progress=progress)
    for key, value in figures.items():
        typer.echo(f"{key:26} {shown(value)}")
    if not split.has_masks:
        note(f"{split.name} has no ground-truth masks, so there are no pixel metrics.")
    if report is not None:
        note(f"Report: {report / 'index.html'}")


def bench(
    datasets: Annotated[list[Path], typer.Argument(help="Data sets with a labelled test part.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    detectors: Annotated[
        list[str] | None,
        typer.Option(
            help="Names joined by commas, NAME@PRESET, anomalib:MODEL, or 'command:PROGRAM'; repeatable. "
            "Default: all of ours."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many: 0, 1, ...")] = 3,
    preset: Annotated[str, typer.Option(help="Of detectors that name none.")] = "fast",
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a single detector.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is in the folder.")] = False,
    jobs: Annotated[int, typer.Option(help="Rows at once; they share the cores.")] = 1,
    on: Annotated[str, typer.Option(help="here, or ray: over the cluster that RAY_ADDRESS names.")] = "here",
    max_minutes: Annotated[float | None, typer.Option(help="Give a row up after so long.")] = None,
    show_leaks: Annotated[
        bool, typer.Option("--show-leaks", help="Also tell what looking at the test set would have claimed.")
    ] = False,
    with_scaling: Annotated[
        bool, typer.Option("--scaling", help="Also measure 10 to 10,000 drawn images, and 128 to 1024 pixels.")
    ] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Put test images into the page's galleries.")
    ] = True,
    side_by_side: Annotated[
        str | None, typer.Option(help="Two detectors for the galleries, joined by a comma. Default: the best two.")
    ] = None,
) -> None:
    """Measure detectors on data sets by one honest protocol, and write tables and a page."""
    if seeds < 1:
        raise SettingError(f"seeds count from 1, got {seeds}")
    check_writable(output)
    with needs_torch():
        from unmask.benchmark import galleries, page, running, scaling, summary
        from unmask.benchmark.methods import methods_of
        from unmask.detectors import DETECTORS

        methods = methods_of(detectors or [one.name for one in DETECTORS], preset, settings_in(settings))
        if side_by_side is not None:
            galleries.two_of([method._asdict() for method in methods], side_by_side, [])
        place = _place(on, jobs)
        with _resumable(output):
            rows = running.bench(
                datasets,
                methods,
                range(seeds),
                output,
                resume=resume,
                show_leaks=show_leaks,
                max_minutes=max_minutes,
                run=place,
                command=_command(),
                told=_teller(),
            )
            grown = _measure_scaling(methods, output / scaling.FOLDER, max_minutes, place) if with_scaling else []
        for line in summary.lines(rows, show_leaks=show_leaks):
            typer.echo(line)
        for line in summary.failures(grown):
            typer.echo(line)
        written = page.write_page(output, rows, pictures=pictures, side_by_side=side_by_side)
    note(f"Page: {written}")
    if any(row.get("failed") for row in (*rows, *grown)):
        raise typer.Exit(1)


def compare(
    first: Annotated[Path, typer.Argument(help="A folder or file of results that unmask bench wrote.")],
    second: Annotated[Path, typer.Argument(help="Another, of the same data sets and seeds.")],
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit with 1 if the second is really worse, or failed.")
    ] = False,
) -> None:
    """Say which differences between two runs of a benchmark are more than chance."""
    with needs_torch():
        from unmask.benchmark import comparison
        from unmask.benchmark.results import rows_of

        before, after = rows_of(first), rows_of(second)
        found, lost = comparison.compare(before, after), comparison.lost(before, after)
    for difference in found:
        typer.echo(difference.sentence())
    for line in lost:
        typer.echo(f"LOST: {line}")
    if fail_on_regression and (lost or any(one.real and one.mean < 0 for one in found)):
        raise typer.Exit(1)


def _place(on: str, jobs: int) -> Any:
    """Where rows are run."""
    from unmask.benchmark import running

    if on == "ray":
        if jobs != 1:
            raise SettingError(f"--jobs {jobs} came with --on ray, which runs as many rows as its cluster has cores")
        return running.on_ray()
    if on != "here":
        raise SettingError(f"--on {on} is unknown; give here or ray")
    return running.here(jobs)


@contextmanager
def _resumable(output: Path) -> Iterator[None]:
    """Say how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"{output} keeps the rows that are done; the same command with --resume goes on")
        raise


def _command() -> str:
    return shlex.join(["unmask", *sys.argv[1:]])


def _measure_scaling(methods: Sequence[Any], output: Path, max_minutes: float | None, run: Any) -> list[Any]:
    """Rows of drawn images; they always go on where they stopped."""
    from unmask.benchmark import running, scaling

    def measure(folders: Iterable[Path], some: Sequence[Any]) -> list[Any]:
        return running.bench(
            list(folders),
            some,
            range(1),
            output,
            resume=True,
            max_minutes=max_minutes,
            run=run,
            command=_command(),
            shown=lambda folder: folder.name,
            told=_teller(),
        )

    with scaling.parts() as folders:
        measure(folders.values(), methods)
        return measure([folders[100]], scaling.at_sizes(methods))


def _teller() -> Callable[[Mapping[str, Any], int, int], None]:
    """A line a row, with the time that is left by the pace so far."""
    from unmask.benchmark.methods import method_of

    start, measured = time.monotonic(), 0

    def told(row: Mapping[str, Any], done: int, total: int) -> None:
        nonlocal measured
        measured += 1
        left = (time.monotonic() - start) / measured * (total - done) / 60
        what = f"image AUROC {shown(row['image_auroc'])}" if not row["failed"] else f"FAILED: {row['failed']}"
        note(f"{done}/{total} {row['dataset']}, {method_of(row)}, seed {row['seed']}: {what} ({left:.0f} min left)")

    return told
