"""The command line: parse, call one function, print. Heavy imports happen inside a command."""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from unmask.cli import calibrating, data, fitting, inspecting, measure
from unmask.cli import options as opt
from unmask.cli.arguments import needs_torch
from unmask.cli.console import fail, megabytes, note, out, silence, streams, warn
from unmask.cli.failures import reason_of
from unmask.cli.signals import Signals
from unmask.errors import TrainingStopped

app = typer.Typer(
    help="Learn what good images look like, then show what does not belong in a new one.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

SIGNALLED, CLOSED_PIPE = 128, 141  # as a shell counts: 128 and the number of a signal, 130 after Ctrl-C
DEFECT = 70  # a mistake in unmask itself; never 1, which says that an image is anomalous
UsageError = cast("type[Exception]", typer.BadParameter.__base__)  # of click, or of the copy of it inside typer

app.command()(fitting.fit)
app.command()(inspecting.inspect)
app.command()(calibrating.calibrate)
app.command()(fitting.export)
app.command()(data.data)
app.command()(measure.evaluate)
app.command()(measure.bench)
app.command()(measure.compare)


@app.command()
def info(model: Annotated[Path, typer.Argument(help="A model file.")]) -> None:
    """Print everything that a model file says about itself."""
    from unmask.cli.information import lines_of
    from unmask.inspection.loading import facts_of

    for line in lines_of(facts_of(model)):
        out(line)
    out(f"{'file size':18} {megabytes(model):.1f} MB")


@app.command()
def detectors() -> None:
    """List the detectors, their presets and settings."""
    with needs_torch():
        from unmask.detectors import DETECTORS, settings_of
        from unmask.detectors.settings import text_of
    for detector in DETECTORS:
        out(f"{detector.name}: {detector.paper}")
        out(f"  presets: {', '.join(detector.presets)}")
        for name, parameter in settings_of(detector).items():
            out(f"  --set {name}={text_of(parameter.default)}  ({parameter.wanted()})")


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
    signals = Signals()
    with streams(), signals.caught():
        try:
            code = _run(sys.argv[1:] or ["--help"], signals)
        except BrokenPipeError:  # whoever read the output has gone, such as `head`
            silence(sys.stdout)
            code = CLOSED_PIPE
        sys.exit(code)


def _run(words: list[str], signals: Signals) -> int | None:
    """Run a command; whatever it raises becomes one line and an exit code.

    Typer's own way to run one would exit with 1 where a pipe is closed, which says that an image is anomalous.
    """
    if "" in words:
        fail("an empty argument came, such as a variable without a value; fill it in, or leave it out")
    try:
        with typer.main.get_command(app).make_context("unmask", words, obj=signals) as context:
            context.command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except UsageError as error:
        fail(_usage(error))
    except TrainingStopped as error:
        fail(str(error), SIGNALLED + error.signal)
    except KeyboardInterrupt as stopped:
        fail(str(stopped) or "interrupted", SIGNALLED + (signals.received or [signal.SIGINT])[0])
    except BrokenPipeError:
        raise
    except SystemExit as ended:  # Rich, which prints the help, exits with 1 where nobody reads it
        return CLOSED_PIPE if ended.code == 1 else ended.code  # type: ignore[return-value]
    except Exception as error:
        if reason := reason_of(error):
            fail(reason)
        traceback.print_exc()
        fail(f"a mistake in unmask ({type(error).__name__}); please report it with the lines above", DEFECT)
    return None


def _usage(error: Any) -> str:
    """What is wrong with the words of a command, and where to read on."""
    command = "unmask" if error.ctx is None else error.ctx.command_path
    return f"{error.format_message()} See: {command} --help"
