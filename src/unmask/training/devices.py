"""Which device a fit or an inspection runs on, and which of several processes this one is."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy

from unmask.errors import SettingError

DEVICES = ("auto", "cpu", "cuda", "mps")


def check_device(name: str) -> None:
    """Raise SettingError unless this is the name of a kind of device, present or not."""
    if name not in DEVICES:
        raise SettingError(f"device {name!r} is unknown; give {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")


def resolve_device(name: str) -> torch.device:
    """The device that a name stands for on this machine; of several processes, the one that belongs to this process.

    Args:
        name: "cpu", "cuda", "mps", or "auto": CUDA where there is a device for it, else MPS, else the CPU.

    Raises:
        SettingError: the name is unknown, or this machine has no such device.
    """
    check_device(name)
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(kind for kind, is_present in present.items() if is_present) if name == "auto" else name
    if not present[kind]:
        raise SettingError(f"there is no device {kind} here, or torch was built without it; give auto or cpu")
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes files."""
    return all(int(os.environ.get(rank, "0")) == 0 for rank in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def launch(device: torch.device, devices: int, nodes: int, *, precise: bool) -> Fabric:
    """Start the processes of a training; each of them goes on from here with its own device.

    Args:
        device: of this process; the others have devices of the same kind.
        devices: processes on this machine.
        nodes: machines.
        precise: in float32 throughout; otherwise in bfloat16 where that is faster.

    Raises:
        SettingError: there are not so many devices.
    """
    parallel = devices * nodes > 1
    try:
        with _quiet():
            fabric = Fabric(
                accelerator=device.type,
                devices=devices,
                num_nodes=nodes,
                # A static graph lets a stage train a part of its module, and takes no time for it in each step.
                strategy=DDPStrategy(static_graph=True) if parallel else SingleDeviceStrategy(device),
                precision="bf16-mixed" if not precise and _fast_bf16(device) else "32-true",
            )
    except Exception as error:  # Fabric raises several unrelated kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise SettingError(f"cannot use {devices} device(s) of kind {device.type}: {reason}") from error
    with _quiet():
        fabric.launch()
    return fabric


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Fabric's notes on its precision and processes."""
    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is native, and so faster: it doubles a ViT on a CPU with AVX-512 bf16, and slows others."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
