"""The one visible training loop: devices, precision, resume, a time limit, progress (Lightning Fabric underneath)."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from unmask.errors import ModelFileError, SettingError, TrainingStopped, UnmaskError
from unmask.training.clock import Clock, interruptible, schedule

SUFFIX = ".checkpoint"
CHECKPOINT_SECONDS = 20.0
"""How much work a `kill -9` can cost; writing one takes some 50 ms."""


@runtime_checkable
class Progress(Protocol):
    """Told of each step."""

    def __call__(self, stage: str, done: int, total: int, seconds_left: float) -> None:
        """`done` of `total` steps of a named stage are over; the rest takes so many seconds."""


def silent(stage: str, done: int, total: int, seconds_left: float) -> None:
    """Report nothing."""


@runtime_checkable
class Observer(Protocol):
    """Shown a detector in the middle of its training; what it finds never reaches the fit."""

    def __call__(self, detector: Any, step: int, steps: int) -> None:
        """`detector` can predict, and has done `step` of `steps`."""


OBSERVATIONS = 5
"""How often a training is shown, evenly over its last stage, the end excluded."""


@dataclass(frozen=True)
class Training:
    """How a fit is run; what is learned belongs to the detector.

    Attributes:
        seed: of every random choice.
        device: "auto", "cpu", "cuda" or "mps".
        devices: processes on this machine, each with a share of every batch.
        nodes: machines; start one process on each with MASTER_ADDR, MASTER_PORT and NODE_RANK set.
        max_minutes: of training; the learning-rate schedule is squeezed to end in time. None = no limit.
        checkpoints: a folder for what a resumed fit needs; another fit's are discarded there. None = keep nothing.
        resume: go on from `checkpoints`.
        identity: what a checkpoint must agree on (settings and images), so that nothing foreign is resumed.
        max_memory: bytes of its own that the whole process may use (see `features.own_memory`); what does not fit goes
            to a file. None = 1 GB of features.
        progress: told of each step.
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
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            raise SettingError(f"device {self.device!r} is unknown; give auto, cpu, cuda or mps")
        if self.devices < 1 or self.nodes < 1:
            raise SettingError(f"devices and nodes count from 1, got {self.devices} and {self.nodes}")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise SettingError(f"max-minutes must be above 0, got {self.max_minutes}")


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes files."""
    return (
        int(os.environ.get("RANK", "0")) == 0
        and int(os.environ.get("LOCAL_RANK", "0")) == 0
        and (int(os.environ.get("NODE_RANK", "0")) == 0)
    )


class Trainer:
    """Runs the stages of one fit, one after the other, on the devices of a `Training`.

    Args:
        training: how to run.
        precise: in float32 throughout; otherwise in bfloat16 where that is faster.
    """

    def __init__(self, training: Training, *, precise: bool = False) -> None:
        self.training = training
        with _quiet():
            self.fabric = _fabric(training, precise=precise)
            self.fabric.launch()
        self.device = self.fabric.device
        if training.checkpoints and not training.resume and self.fabric.is_global_zero:
            for left_over in training.checkpoints.glob(f"*{SUFFIX}"):  # or a later --resume would mix two fits
                left_over.unlink()

    def autocast(self) -> Any:
        """The precision that training uses, as a context."""
        return self.fabric.autocast()

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
        wrapped, fast_optimiser = self.fabric.setup(module, optimiser)
        clock.resume(*self._restore(stage, module, optimiser))  # last: the optimiser's state follows the device
        module.train()
        with interruptible() as interrupted, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            while (position := self._agree(math.inf if interrupted() else clock.position())) < 1:
                for group in fast_optimiser.param_groups:
                    group["lr"] = lr * schedule(position, warm_up)
                loss = wrapped(*(self._mine(part) for part in batch_at(clock.done)))
                self.fabric.backward(loss)
                fast_optimiser.step()
                fast_optimiser.zero_grad()
                clock.tick()
                self._show(show, module, clock.done, steps)
                self.training.progress(stage, clock.done, steps, clock.seconds_left())
                if clock.due(CHECKPOINT_SECONDS):
                    self._keep(stage, module, optimiser, clock.done, clock.seconds())
        if math.isinf(position):
            self._keep(stage, module, optimiser, clock.done, clock.seconds())
            raise TrainingStopped(self._stopped(stage, clock.done, steps))
        module.eval()
        self._keep(stage, module, optimiser, steps, clock.seconds())
        self.training.progress(stage, steps, steps, 0.0)

    def _show(self, show: Callable[[int], None] | None, module: nn.Module, step: int, steps: int) -> None:
        """Leave the random numbers and the mode of the module as they were."""
        places = {round(steps * i / (OBSERVATIONS + 1)) for i in range(1, OBSERVATIONS + 1)}
        if show is None or self.training.observer is None or step not in places:
            return
        with torch.random.fork_rng(devices=[]):
            show(step)
        module.train()

    def _mine(self, part: Tensor) -> Tensor:
        if len(part) % self.fabric.world_size:
            raise SettingError(
                f"a batch of {len(part)} cannot be shared by {self.fabric.world_size} processes; make it a multiple"
            )
        return part[self.fabric.global_rank :: self.fabric.world_size].to(self.device)

    def _agree(self, position: float) -> float:
        """All processes follow the clock of the first."""
        if self.fabric.world_size == 1:
            return position
        return float(self.fabric.broadcast(position))

    def _path(self, stage: str) -> Path | None:
        folder = self.training.checkpoints
        return None if folder is None else folder / f"{stage.replace(' ', '_')}{SUFFIX}"

    def _keep(self, stage: str, module: nn.Module, optimiser: torch.optim.Optimizer, step: int, spent: float) -> None:
        path = self._path(stage)
        if path is None or not self.fabric.is_global_zero:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        torch.save(
            {
                "identity": self.training.identity,
                "module": module.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "spent": spent,
            },
            temporary,
        )
        temporary.replace(path)

    def _restore(self, stage: str, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
        """The first process reads, for another machine may not have the file; all go on from what it found."""
        kept = self.fabric.broadcast(self._found(stage) if self.fabric.is_global_zero else None)
        if isinstance(kept, UnmaskError):
            raise kept
        if kept is None:
            return 0, 0.0
        module.load_state_dict(kept["module"])
        optimiser.load_state_dict(kept["optimiser"])
        return int(kept["step"]), float(kept["spent"])

    def _found(self, stage: str) -> dict[str, Any] | UnmaskError | None:
        """A stage's checkpoint, or what is wrong with it."""
        path = self._path(stage)
        if path is None or not self.training.resume or not path.exists():
            return None
        try:
            kept: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            same = kept["identity"] == self.training.identity
        except Exception as error:  # torch, zip and pickle raise many unrelated kinds
            return ModelFileError(f"{path} cannot be read ({_first_line(error)}); delete it and start again")
        return kept if same else SettingError(f"{path.parent} is of other images or settings; run without --resume")

    def _stopped(self, stage: str, step: int, steps: int) -> str:
        if self.training.checkpoints is None:
            return f"interrupted in {stage} at step {step} of {steps}; no checkpoint folder was given, nothing is kept"
        return f"interrupted in {stage} at step {step} of {steps}; the same command with --resume goes on from there"


def _fabric(training: Training, *, precise: bool) -> Fabric:
    """A static graph lets a stage train a part of its module, and takes no time for it in each step."""
    parallel = training.devices * training.nodes > 1
    try:
        return Fabric(
            accelerator=training.device,
            devices=training.devices,
            num_nodes=training.nodes,
            strategy=DDPStrategy(static_graph=True) if parallel else "auto",
            precision="bf16-mixed" if not precise and _fast_bf16(training.device) else "32-true",
        )
    except Exception as error:  # Fabric raises several unrelated kinds
        wanted = f"{training.devices} device(s) of kind {training.device}"
        raise SettingError(f"cannot use {wanted}: {_first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Fabric tells of its precision and processes; the user did not ask."""
    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and other vectors do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _fast_bf16(device: str) -> bool:
    """Whether bfloat16 is native, and so faster: it doubles a ViT on a CPU with AVX-512 bf16, and slows others."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return device != "mps" and bool(torch.cpu._is_avx512_bf16_supported())


def generator_for(seed: int, *what: object) -> torch.Generator:
    """A generator for one purpose, such as ("stage 2", step): the same whoever asks, and whatever was drawn before."""
    digest = hashlib.blake2b(repr((seed, *what)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
