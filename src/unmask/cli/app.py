"""The command line: parse, call one function, print. Heavy imports happen inside a command."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from unmask.cli import data, fitting, inspecting, measure
from unmask.cli import options as opt
from unmask.cli.arguments import needs_torch
from unmask.cli.console import fail, megabytes, note, shown, warn
from unmask.errors import UnmaskError

app = typer.Typer(
    help="Learn what good images look like, then show what does not belong in a new one.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

INTERRUPTED, CLOSED_PIPE = 130, 141  # what a shell expects after Ctrl-C, and of a program that nobody reads
DEFECT = 70  # a mistake in unmask itself
UsageError = cast("type[Exception]", typer.BadParameter.__base__)  # of click, or of the copy of it inside typer

app.command()(fitting.fit)
app.command()(inspecting.inspect)
app.command()(fitting.export)
app.command()(data.data)
app.command()(measure.evaluate)
app.command()(measure.bench)
app.command()(measure.compare)


@app.command()
def info(model: Annotated[Path, typer.Argument(help="A model file.")]) -> None:
    """Print everything that a model file says about itself."""
    from unmask.inspection.loading import facts_of

    for key, value in facts_of(model).items():
        if key == "self_test":
            typer.echo(f"{key:18} a score of {value['score']:.4g} on a built-in picture, checked whenever it is loaded")
        elif key == "images":
            counts = ", ".join(f"{len(hashes)} {role.replace('_', ' ')}" for role, hashes in value.items())
            typer.echo(f"{key:18} {counts}; their contents are recognised")
        elif isinstance(value, dict):
            typer.echo(key)
            for name, one in value.items():
                typer.echo(f"  {name:16} {shown(one)}")
        else:
            typer.echo(f"{key:18} {shown(value)}")
    typer.echo(f"{'file size':18} {megabytes(model):.1f} MB")


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
    seed: opt.Seed = 0,
) -> None:
    """Write the embedded sample data sets (a woven fabric, a machined part) in MVTec layout."""
    from unmask.samples import write

    write(out, seed=seed)
    note(f"Wrote {out / 'fabric'} and {out / 'part'}.")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo"),
    seed: opt.Seed = 0,
) -> None:
    """Draw the sample part, learn from it, measure, and write a report."""
    from unmask.samples import render

    render("part", out / "part", seed=seed, n_train=100)
    note(f"Drew {out / 'part'}: 100 good parts to learn from, 35 to judge.")
    model = out / "part.unmask"
    fitting.fit(out / "part", model, seed=seed)
    measure.evaluate(model, out / "part", out / "report")


def main() -> None:
    """Run the command line: a user's mistake is one line and exit code 2."""
    warnings.showwarning = warn
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="unmask", standalone_mode=False)
    except UnmaskError as error:
        fail(str(error))
    except UsageError as error:
        fail(_usage(error))
    except BrokenPipeError:  # whoever read the output has gone, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE)
    except OSError as error:
        fail(f"{error.filename or 'a file'} cannot be used ({error.strerror or error}); check the path and the disk")
    except Exception:
        traceback.print_exc()
        sys.exit(DEFECT)  # never 1, which says that an image is anomalous
    if code == INTERRUPTED:
        typer.echo("unmask: interrupted", err=True)
    sys.exit(code)


def _usage(error: Any) -> str:
    """What is wrong with the words of a command, and where to read on."""
    command = "unmask" if error.ctx is None else error.ctx.command_path
    return f"{error.format_message()} See: {command} --help"
