"""Ctrl-C, SIGTERM and closed pipes: what is finished is kept, and the exit code tells what happened."""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import unmask
from tiny import FEATURES, PATCHCORE, Run, environment, write_textures
from unmask.cli import inspecting
from unmask.cli.signals import Signals
from unmask.training.checkpoints import Checkpoints
from unmask.training.clock import Clock
from unmask.training.trainer import Training

pytestmark = pytest.mark.filterwarnings("ignore:a false-alarm rate")
SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
if sys.platform == "win32":
    pytest.skip("signals are sent otherwise there", allow_module_level=True)


@pytest.fixture(autouse=True)
def terminal() -> Iterator[None]:
    """A hang-up ends a program by default; `nohup`, under which tests may run, has it ignored."""
    before = {name: signal.signal(getattr(signal, name), signal.SIG_DFL) for name in ("SIGTERM", "SIGHUP")}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_textures(tmp_path_factory.mktemp("good"), 20)


@pytest.fixture(scope="module")
def model(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "weave.unmask"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unmask.fit(paths, detector="patchcore", settings=PATCHCORE, training=Training(device="cpu")).save(path)
    return path


def after(count: int, action: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function that sends this process a signal when it is called for the so-manieth time."""
    calls: list[int] = []

    def called(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == count:
            signal.raise_signal(getattr(signal, name))
        return action(*args, **kwargs)

    return called


@pytest.mark.parametrize("name", SIGNALS)
def test_an_interrupted_inspection_keeps_its_finished_part(
    run: Run, model: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(inspecting, "_line", after(5, inspecting._line, name))
    before = [signal.getsignal(getattr(signal, one)) for one in SIGNALS]
    done = run("inspect", model, paths[0].parent, "-o", tmp_path / "report")
    assert done.code == SIGNALS[name]
    assert done.err.splitlines()[-1].startswith("unmask: interrupted after 5 of 20 images; ")
    content = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert len(content["results"]) == 5
    assert content["left_out"] == "Interrupted: 5 of 20 images are in this report."
    assert content["left_out"] in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert [signal.getsignal(getattr(signal, one)) for one in SIGNALS] == before


def test_a_whole_report_lacks_nothing(run: Run, model: Path, paths: list[Path], tmp_path: Path) -> None:
    assert run("inspect", model, *paths[:3], "-o", tmp_path / "report").code == 0
    assert json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))["left_out"] is None
    assert "Interrupted" not in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_a_signal_before_the_first_image_is_one_line(
    run: Run, model: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "image_files", after(1, inspecting.image_files, "SIGTERM"))
    done = run("inspect", model, paths[0], "-o", tmp_path / "report")
    assert (done.code, done.err) == (143, "unmask: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SIGNALS)
def test_an_interrupted_training_is_kept_and_resumed(
    run: Run, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    words = [part for key, value in FEATURES.items() for part in ("--set", f"{key}={value}")]
    fit = ["fit", paths[0].parent, "-o", tmp_path / "a.unmask", "--device", "cpu", "--detector", "isstad", *words]
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "tick", after(1, Clock.tick, name))
        done = run(*fit)
    assert done.code == SIGNALS[name]
    assert "--resume goes on from there" in done.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.unmask.partial"]
    assert run(*fit, "--resume").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.unmask"]


def test_a_signal_while_a_checkpoint_is_written_leaves_no_part_of_it(
    run: Run, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [part for key, value in FEATURES.items() for part in ("--set", f"{key}={value}")]
    monkeypatch.setattr(Checkpoints, "_path", after(1, Checkpoints._path, "SIGTERM"))
    done = run("fit", paths[0].parent, "-o", tmp_path / "a.unmask", "--detector", "isstad", *words)
    assert done.code == 143
    assert list(tmp_path.rglob("*unfinished")) == []


def test_the_second_signal_ends_at_once() -> None:
    signals = Signals()
    with signals.caught():
        with signals.awaited():
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signals.received == [signal.SIGTERM, signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL, "a third one is left to the system"


def test_signals_that_are_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals().caught():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_that_is_asked_to_end_says_so(model: Path, paths: list[Path], tmp_path: Path) -> None:
    """One real process; it judges the same images again and again until the signal comes."""
    command = [sys.executable, "-m", "unmask", "inspect", model, *(30 * paths), "-o", tmp_path / "report"]
    child = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    rest, said = child.communicate(timeout=240)
    assert child.returncode == 143, said
    assert said.splitlines()[-1].startswith("unmask: interrupted after ")
    judged = len([first, *rest.splitlines()]) - 1
    assert 1 <= judged < 600
    assert len(json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))["results"]) == judged


@pytest.mark.parametrize("words", [["--help"], ["detectors"], ["info", "MODEL"]], ids=" ".join)
def test_a_pipe_that_nobody_reads_ends_quietly(model: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "unmask", *(str(model) if word == "MODEL" else word for word in words)],
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=240,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_closed_streams_are_no_files_of_the_model(model: Path, paths: list[Path], tmp_path: Path) -> None:
    command = f'exec "{sys.executable}" -m unmask inspect "{model}" "{paths[0]}" -o "{tmp_path / "r"}" <&- >&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", command], env=environment(), timeout=240, check=False)
    assert done.returncode == 0
    assert len(json.loads((tmp_path / "r" / "results.json").read_text(encoding="utf-8"))["results"]) == 1
