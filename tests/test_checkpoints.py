"""A fit that was interrupted, crashed or killed goes on, and ends as if nothing had happened."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unmask
from test_training import cpu, fit, learn, weights
from tiny import (
    FEATURES,
    PATCHCORE,
    PIXELS,
    SIZE,
    SSM_PIXELS,
    Textures,
    environment,
    run_python,
    write_textures,
)
from unmask.detectors import build, find
from unmask.errors import ModelFileError, SettingError, TrainingStopped
from unmask.inspection.model_file import read
from unmask.training import trainer
from unmask.training.checkpoints import Checkpoints
from unmask.training.trainer import Training

SHARED = ("backbone", "image_size")


def interrupt_at(step: int) -> Callable[[str, int, int, float], None]:
    def progress(stage: str, done: int, total: int, seconds_left: float) -> None:
        if (stage, done) == ("stage 1", step):
            signal.raise_signal(signal.SIGINT)

    return progress


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 13, 29])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    training = cpu(checkpoints=tmp_path)
    with pytest.raises(TrainingStopped, match=f"step {stop} of 30.*--resume"):
        learn(replace(training, progress=interrupt_at(stop)))
    resumed = learn(replace(training, resume=True))
    assert len(resumed.losses) == 30 - stop
    assert torch.equal(weights(resumed), weights(learn(cpu())))


def test_without_resume_a_checkpoint_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped):
        learn(cpu(checkpoints=tmp_path, progress=interrupt_at(3)))
    assert len(learn(cpu(checkpoints=tmp_path)).losses) == 30


def test_a_finished_stage_is_not_repeated(tmp_path: Path) -> None:
    first = learn(cpu(checkpoints=tmp_path))
    again = learn(cpu(checkpoints=tmp_path, resume=True))
    assert again.losses == []
    assert torch.equal(weights(again), weights(first))


def test_an_interruption_without_checkpoints_says_that_nothing_is_kept() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingStopped, match="nothing is kept"):
        learn(cpu(progress=interrupt_at(2)))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    learn(cpu(checkpoints=tmp_path, identity="these images"))
    with pytest.raises(SettingError, match="other images or settings"):
        learn(cpu(checkpoints=tmp_path, identity="those images", resume=True))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    learn(cpu(checkpoints=tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(ModelFileError, match="delete it") as caught:
        learn(cpu(checkpoints=tmp_path, resume=True))
    assert "\n" not in str(caught.value)


# --- fits of detectors ------------------------------------------------------------------------------------------------

STEPS = {"stage1_steps": 4, "stage2_steps": 4}
PIXEL_PART = {f"ssm.{key}": value for key, value in SSM_PIXELS.items() if key != "image_size"}
FEATURE_PART = {f"isstad.{key}": value for key, value in {**FEATURES, **STEPS}.items() if key not in SHARED}
FITS: dict[str, dict[str, Any]] = {
    "isstad features": {**FEATURES, **STEPS},
    "isstad pixels": {**PIXELS, **STEPS},
    "ssm pixels": SSM_PIXELS,
    "isstad+patchcore+ssm": {"backbone": "tiny", "image_size": SIZE, **FEATURE_PART, **PIXEL_PART},
}


class CrashError(Exception):
    """Stands for a power cut."""


def crash_at(call: int) -> Callable[[str, int, int, float], None]:
    """A `progress` that fails when it is called for the `call`-th time."""
    calls = itertools.count(1)

    def progress(stage: str, done: int, total: int, seconds_left: float) -> None:
        if next(calls) == call:
            raise CrashError

    return progress


def learned(name: str, training: Training) -> dict[str, Tensor]:
    return fit(FITS[name], training, name.split(" ")[0]).learned()


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [key for key, value in expected.items() if not torch.equal(found[key], value)] == []


@pytest.fixture(scope="module")
def whole() -> dict[str, tuple[dict[str, Tensor], int]]:
    """What an uninterrupted fit learns, and how often it reports progress."""
    found = {}
    for name in FITS:
        calls: list[str] = []
        found[name] = learned(name, cpu(progress=lambda *state, to=calls: to.append(state[0]))), len(calls)
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FITS)
def test_a_fit_that_crashes_at_random_moments_ends_as_if_it_had_not(
    name: str, seed: int, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, calls = whole[name]
    draw = random.Random(f"{name} {seed}")
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", draw.choice([0.0, 1e6]))  # after each step, or of each stage
    training = cpu(checkpoints=tmp_path / "partial", identity=name)
    for crash in range(draw.randint(1, 3)):
        with pytest.raises(CrashError):
            learned(name, replace(training, resume=crash > 0, progress=crash_at(draw.randint(1, calls // 2))))
    assert_equal(learned(name, replace(training, resume=True)), expected)


@pytest.mark.parametrize("name", FITS)
def test_an_interrupted_fit_goes_on_where_it_was(name: str, whole: Any, tmp_path: Path) -> None:
    """Ctrl-C in the last training; all the stages before it are not repeated."""
    stages: list[str] = []
    with pytest.raises(TrainingStopped, match="--resume"):
        learned(name, cpu(checkpoints=tmp_path, progress=interrupt_in_last_stage(name, stages)))
    files = sorted(tmp_path.rglob("*.checkpoint"))
    again: list[tuple[str, int]] = []
    found = learned(name, cpu(checkpoints=tmp_path, resume=True, progress=lambda *state: again.append(state[:2])))
    assert_equal(found, whole[name][0])
    steps = [done for stage, done in again if stage in TRAINED and done == 1]
    assert (len(files), steps) == ((2 if "+" in name else 1) * len(set(stages) & TRAINED), [])


TRAINED = {"stage 1", "stage 2", "restoration"}
LAST = {"isstad features": 1, "isstad pixels": 1, "ssm pixels": 1, "isstad+patchcore+ssm": 2}


def interrupt_in_last_stage(name: str, stages: list[str]) -> Callable[[str, int, int, float], None]:
    """Ctrl-C after the second step of the last stage that is trained; of a fusion's second round."""
    last, times = ("stage 2" if name.startswith("isstad ") else "restoration"), itertools.count(1)

    def progress(stage: str, done: int, total: int, seconds_left: float) -> None:
        stages.append(stage)
        if (stage, done) == (last, 2) and next(times) == LAST[name]:
            signal.raise_signal(signal.SIGINT)

    return progress


# --- a fresh start ----------------------------------------------------------------------------------------------------


def test_a_fresh_fit_discards_what_another_left_and_nothing_else(tmp_path: Path) -> None:
    mine = ("stage_2.checkpoint", "1-all/stage_1.checkpoint", "1-all/stage_2.checkpoint-unfinished")
    others = {"notes.txt", "1-all/weights.pt", "photos/of_mine.checkpoint"}
    for folder in ("1-all", "photos"):
        (tmp_path / folder).mkdir()
    for name in (*mine, *others):
        (tmp_path / name).write_text("")
    Checkpoints(tmp_path, "", resume=False).prepare()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == others


def test_only_the_first_process_discards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stage_1.checkpoint").write_text("")
    monkeypatch.setenv("LOCAL_RANK", "1")
    Checkpoints(tmp_path, "", resume=False).prepare()
    assert (tmp_path / "stage_1.checkpoint").exists()


@pytest.mark.parametrize("fresh", FITS)
def test_a_fresh_fit_over_a_fusion_s_second_round_can_be_resumed(fresh: str, whole: Any, tmp_path: Path) -> None:
    """A fusion is stopped in its second round; another fit starts afresh in that folder, stops early and is resumed."""
    expected, calls = whole[fresh]
    fusion = "isstad+patchcore+ssm"
    with pytest.raises(TrainingStopped):
        learned(fusion, cpu(checkpoints=tmp_path, identity="A", progress=interrupt_in_last_stage(fusion, [])))
    assert (tmp_path / "1-all" / "stage_1.checkpoint").exists()
    with pytest.raises(CrashError):
        learned(fresh, cpu(checkpoints=tmp_path, identity="B", progress=crash_at(calls // 3)))
    assert_equal(learned(fresh, cpu(checkpoints=tmp_path, identity="B", resume=True)), expected)


def test_a_fast_fit_discards_them_too(tmp_path: Path) -> None:
    (tmp_path / "stage_1.checkpoint").write_text("of another detector")
    fit(PATCHCORE, cpu(checkpoints=tmp_path), "patchcore")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["stage_9.checkpoint", "3-all/stage_1.checkpoint"])
def test_leftovers_of_another_fit_are_not_passed_over(stage: str, tmp_path: Path) -> None:
    """They are of stages that this fit has not, so it would never open them."""
    learn(cpu(checkpoints=tmp_path, identity="another"))
    (tmp_path / stage).parent.mkdir(exist_ok=True)
    (tmp_path / "stage_1.checkpoint").rename(tmp_path / stage)
    with pytest.raises(SettingError, match="other images or settings") as caught:
        fit(FITS["isstad features"], cpu(checkpoints=tmp_path, identity="this", resume=True))
    assert stage.split("/")[-1] in str(caught.value)


def test_nothing_to_resume_is_said(tmp_path: Path, whole: Any) -> None:
    detector = build(find("isstad"), "fast", FITS["isstad features"])
    with pytest.warns(UserWarning, match="no checkpoint in .* starts from the beginning"):
        detector.fit(Textures(12), cpu(checkpoints=tmp_path / "partial", resume=True))
    assert_equal(detector.learned(), whole["isstad features"][0])


# --- killed -----------------------------------------------------------------------------------------------------------

KILLABLE = """
import sys, time
from unmask.cli import app as cli
from unmask.training import trainer as training

take = training.Trainer._share
training.Trainer._share = lambda self, part: (time.sleep(0.1), take(self, part))[1]
training.CHECKPOINT_SECONDS = 0.0
cli.main()
"""


def test_a_killed_fit_goes_on_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    write_textures(tmp_path / "good", 24)
    steps = {**FEATURES, "stage1_steps": 3, "stage2_steps": 12}
    settings = [part for key, value in steps.items() for part in ("--set", f"{key}={value}")]
    command = [
        "fit",
        "good",
        "-o",
        "killed.unmask",
        "--detector",
        "isstad",
        "--device",
        "cpu",
        "--false-alarm-rate",
        "0.5",
        *settings,
    ]
    victim = subprocess.Popen(
        [sys.executable, "-c", KILLABLE, *command], env=environment(), cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "killed.unmask.partial" / "stage_2.checkpoint"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.kill()
    assert victim.wait(10) == -signal.SIGKILL, "it was killed in the middle"
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 12
    resumed = run_python("-m", "unmask", *command, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert not checkpoint.parent.exists()
    whole = unmask.fit(tmp_path / "good", detector="isstad", settings=steps, false_alarm_rate=0.5, device="cpu")
    whole.save(tmp_path / "whole.unmask")
    (_, found), (_, expected) = (read(tmp_path / f"{name}.unmask") for name in ("killed", "whole"))
    assert found.keys() == expected.keys()
    assert [key for key, value in expected.items() if not np.array_equal(found[key], value)] == []
