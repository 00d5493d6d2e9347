"""The one visible training loop: devices, precision, resume, a time limit, progress (Lightning Fabric underneath)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from unmask.errors import SettingError, TrainingStopped, UnmaskError
from unmask.training.checkpoints import Checkpoints
from unmask.training.clock import Clock, interruptible, schedule
from unmask.training.devices import check_device, launch, resolve_device

CHECKPOINT_SECONDS = 20.0
"""The most work that a killed process loses; writing a checkpoint takes some 50 ms."""


@runtime_checkable
class Progress(Protocol):
    """A function that is called after each step."""

    def __call__(self, stage: str, done: int, total: int, seconds_left: float) -> None:
        """`done` of `total` steps of a named stage are over; the rest takes about `seconds_left` seconds."""


def silent(stage: str, done: int, total: int, seconds_left: float) -> None:
    """Report nothing."""


@runtime_checkable
class Observer(Protocol):
    """A function that is shown a detector in the middle of its training; what it finds never reaches the fit."""

    def __call__(self, detector: Any, step: int, steps: int) -> None:
        """`detector` can predict, and has done `step` of `steps`."""


OBSERVATIONS = 5
"""How often an observer is called, evenly over the last stage of a training, its end excluded."""


@dataclass(frozen=True)
class Training:
    """How a fit is run; what is learned belongs to the detector.

    Some options act on detectors that train in steps only; other detectors refuse them (`Detector.check_training`).

    Attributes:
        seed: the seed of every random choice.
        device: "auto", "cpu", "cuda" or "mps"; see `resolve_device`.
        devices: processes on this machine, each with a share of every batch; training in steps only.
        nodes: machines; start one process on each with MASTER_ADDR, MASTER_PORT and NODE_RANK set; training in steps
            only.
        max_minutes: time limit of the training steps; the learning-rate schedule is squeezed to end in time. None = no
            limit.
        checkpoints: a folder for what a resumed fit needs; a fresh fit discards the checkpoints in it. None = keep
            nothing.
        resume: go on from `checkpoints`; training in steps only.
        identity: what a checkpoint must agree on (settings and images), so that nothing foreign is resumed.
        max_memory: bytes of its own that the whole process may use (see `features.store`); what does not fit goes to a
            file. None = 1 GB of features.
        scratch: a folder on a disk for that file; None = the folder that `checkpoints` is in, or else the system's
            folder of temporary files.
        progress: called after each step.
        observer: shown the detector in the middle of its last stage, by those that train in steps; None = nobody.
    """

    seed: int = 0
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    max_minutes: float | None = None
    checkpoints: Path | None = None
    resume: bool = False
    identity: str = ""
    max_memory: int | None = None
    scratch: Path | None = None
    progress: Progress = field(default=silent, compare=False)
    observer: Observer | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_device(self.device)
        if not isinstance(self.seed, int):
            raise SettingError(f"seed={self.seed} is out of range; give a whole number")
        if self.devices < 1 or self.nodes < 1:
            raise SettingError(f"devices and nodes count from 1, got {self.devices} and {self.nodes}")
        if self.max_minutes is not None and not 0 < self.max_minutes < math.inf:
            raise SettingError(f"max-minutes must be a number above 0, got {self.max_minutes}")
        if self.resume and self.checkpoints is None:
            raise SettingError("resume came without checkpoints; give the folder of those to go on from")

    @property
    def torch_device(self) -> torch.device:
        """The device of this process.

        Raises:
            SettingError: this machine has none of this kind.
        """
        return resolve_device(self.device)


class _Stage(NamedTuple):
    """What the steps of one stage work on."""

    name: str
    module: nn.Module
    optimiser: torch.optim.Optimizer
    clock: Clock
    show: Callable[[int], None] | None


class Trainer:
    """Runs the stages of one fit, one after the other, on the devices of a `Training`.

    Args:
        training: how to run.
        precise: in float32 throughout; otherwise in bfloat16 where that is faster.
    """

    def __init__(self, training: Training, *, precise: bool = False) -> None:
        self.training = training
        self.fabric = launch(training.torch_device, training.devices, training.nodes, precise=precise)
        self.device = self.fabric.device
        self.checkpoints = Checkpoints(training.checkpoints, training.identity, resume=training.resume)

    def run(
        self,
        stage: str,
        module: nn.Module,
        batch_at: Callable[[int], tuple[Tensor, ...]],
        *,
        steps: int,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.05,
        warm_up: float = 0.1,
        time_share: float = 1.0,
        show: Callable[[int], None] | None = None,
    ) -> None:
        """Train `module` in place: AdamW, linear warm-up, half a cosine down to 0.

        Args:
            stage: its name, for progress and checkpoints.
            module: `module(*batch)` returns the loss.
            batch_at: step -> the whole batch of that step, drawn from a seed and the step alone, so that a resumed run
                and a run on many devices see the same batches. Each device takes every n-th row.
            steps: optimiser steps.
            lr: the highest learning rate.
            betas: of AdamW.
            weight_decay: of matrices; biases and norms have none.
            warm_up: share of the stage over which the rate rises.
            time_share: of `max_minutes` that this stage may use.
            show: called with the step, `OBSERVATIONS` times on the way, if there is an `observer`; it may predict.

        Raises:
            TrainingStopped: Ctrl-C; the last step is kept in the checkpoint.
        """
        optimiser = torch.optim.AdamW(_decay_groups(module, weight_decay), lr=lr, betas=betas)
        clock = Clock(steps, 60 * time_share * (self.training.max_minutes or math.inf))
        now = _Stage(stage, module, optimiser, clock, show)
        wrapped, fast_optimiser = self.fabric.setup(module, optimiser)
        clock.resume(*self._restore(now))  # last: the optimiser's state follows the device
        module.train()
        with interruptible() as interrupted, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            while (position := self._of_first_process(math.inf if interrupted() else clock.position())) < 1:
                for group in fast_optimiser.param_groups:
                    group["lr"] = lr * schedule(position, warm_up)
                self.fabric.backward(wrapped(*(self._share(part) for part in batch_at(clock.done))))
                fast_optimiser.step()
                fast_optimiser.zero_grad()
                self._after_step(now)
        self._end(now, interrupted=math.isinf(position), number=interrupted())

    def _after_step(self, now: _Stage) -> None:
        """Count the step and report it; the observer and the checkpoint have their turn now and then."""
        now.clock.tick()
        self._observe(now)
        self.training.progress(now.name, now.clock.done, now.clock.steps, now.clock.seconds_left())
        if now.clock.due(CHECKPOINT_SECONDS):
            self._save(now, now.clock.done)

    def _end(self, now: _Stage, *, interrupted: bool, number: int) -> None:
        """Keep what was learned, and raise TrainingStopped after an interruption."""
        done, steps = now.clock.done, now.clock.steps
        self._save(now, done if interrupted else steps)
        if interrupted:
            kept = "the same command with --resume goes on from there"
            lost = "no checkpoint folder was given, so nothing is kept"
            where = f"interrupted in {now.name} at step {done} of {steps}"
            stopped = TrainingStopped(f"{where}; {kept if self.training.checkpoints else lost}")
            stopped.signal = number or stopped.signal  # another process may have been asked to end
            raise stopped
        now.module.eval()
        self.training.progress(now.name, steps, steps, 0.0)

    def _observe(self, now: _Stage) -> None:
        """Call `show` at its steps; the random numbers and the mode of the module stay as they were."""
        steps, step = now.clock.steps, now.clock.done
        places = {round(steps * i / (OBSERVATIONS + 1)) for i in range(1, OBSERVATIONS + 1)}
        if now.show is None or self.training.observer is None or step not in places:
            return
        with torch.random.fork_rng(devices=[]):
            now.show(step)
        now.module.train()

    def _share(self, part: Tensor) -> Tensor:
        """The rows of a batch that belong to this process, on its device."""
        if len(part) % self.fabric.world_size:
            raise SettingError(
                f"a batch of {len(part)} cannot be shared by {self.fabric.world_size} processes; make it a multiple"
            )
        return part[self.fabric.global_rank :: self.fabric.world_size].to(self.device)

    def _of_first_process(self, position: float) -> float:
        """The position of the first process's clock: all processes follow it."""
        if self.fabric.world_size == 1:
            return position
        return float(self.fabric.broadcast(position))

    def _save(self, now: _Stage, step: int) -> None:
        if self.fabric.is_global_zero:
            self.checkpoints.save(now.name, now.module, now.optimiser, step, now.clock.seconds())

    def _restore(self, now: _Stage) -> tuple[int, float]:
        """The first process reads, for another machine may not have the file; all go on from what it found."""
        state = self.fabric.broadcast(self.checkpoints.load(now.name) if self.fabric.is_global_zero else None)
        if isinstance(state, UnmaskError):
            raise state
        if state is None:
            return 0, 0.0
        now.module.load_state_dict(state["module"])
        now.optimiser.load_state_dict(state["optimiser"])
        return int(state["step"]), float(state["seconds"])


def _decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and other vectors do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def generator_for(seed: int, *what: object) -> torch.Generator:
    """A generator for one purpose, such as ("stage 2", step).

    It is the same for the same seed and purpose, whatever was drawn before. It lives on the CPU, and what is drawn from
    it is moved, so that all devices draw the same numbers.
    """
    digest = hashlib.blake2b(repr((seed, *what)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
