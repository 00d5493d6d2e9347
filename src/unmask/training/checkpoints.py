"""Checkpoints: the state of each stage of a fit in a folder, so that an interrupted fit can be resumed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unmask.errors import ModelFileError, OutputError, SettingError, UnmaskError
from unmask.imaging.writing import failing_as
from unmask.training.devices import is_main_process

SUFFIX = ".checkpoint"
UNFINISHED = ".checkpoint-unfinished"
PARTS = "[0-9]*-*"
"""Folders of a fusion's parts, such as "1-scale"."""


class Checkpoints:
    """The checkpoints of one fit, a file for each stage.

    Args:
        folder: where the files are; None = nothing is written.
        identity: what they must agree on, so that nothing of another fit is resumed.
        resume: whether a stage goes on from its file.
    """

    def __init__(self, folder: Path | None, identity: str, *, resume: bool) -> None:
        self.folder, self.identity, self.resume = folder, identity, resume

    def prepare(self) -> None:
        """Make the folder ready for a whole fit; the first process does it, once, before anything else.

        A fresh fit discards every checkpoint in it, also those of a fusion's parts: a later resume cannot mix two
        fits.

        Raises:
            ModelFileError: a checkpoint to be resumed cannot be read.
            SettingError: a checkpoint to be resumed belongs to a fit of other images or settings.
        """
        if not is_main_process():
            return
        files = self._files(SUFFIX)
        if not self.resume:
            for path in [*files, *self._files(UNFINISHED)]:
                path.unlink()
        elif not files:
            warnings.warn(f"there is no checkpoint in {self.folder}; the fit starts from the beginning", stacklevel=2)
        else:
            for path in files:
                self._read(path, mapped=True)  # its identity alone comes into memory

    def save(self, stage: str, module: nn.Module, optimiser: torch.optim.Optimizer, step: int, seconds: float) -> None:
        """Write a stage's checkpoint after `step` steps that took `seconds`: whole, or not at all.

        Raises:
            OutputError: the disk is full.
        """
        if self.folder is None:
            return
        path = self._path(stage)
        with failing_as(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "identity": self.identity,
            "module": module.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "seconds": seconds,
        }
        try:
            with failing_as(path):
                torch.save(state, path.with_suffix(UNFINISHED))
                path.with_suffix(UNFINISHED).replace(path)
        except RuntimeError as error:  # how torch's own writer says that a disk is full
            raise OutputError(f"{path} cannot be written ({str(error)[:100]}); make room on the disk") from error
        finally:
            path.with_suffix(UNFINISHED).unlink(missing_ok=True)

    def load(self, stage: str) -> dict[str, Any] | UnmaskError | None:
        """A stage's checkpoint, or what is wrong with it; None where the stage starts from the beginning."""
        if self.folder is None or not self.resume or not self._path(stage).exists():
            return None
        try:
            return self._read(self._path(stage))
        except UnmaskError as error:
            return error

    def _path(self, stage: str) -> Path:
        assert self.folder is not None, "without a folder nothing is saved or loaded"  # noqa: S101
        return self.folder / f"{stage.replace(' ', '_')}{SUFFIX}"

    def _files(self, suffix: str) -> list[Path]:
        """Files of the fit and of a fusion's parts; what else is below a folder belongs to somebody else."""
        if self.folder is None:
            return []
        return sorted([*self.folder.glob(f"*{suffix}"), *self.folder.glob(f"{PARTS}/*{suffix}")])

    def _read(self, path: Path, *, mapped: bool = False) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
            same = state["identity"] == self.identity
        except Exception as error:  # torch, zip and pickle raise many unrelated kinds
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ModelFileError(f"{path} cannot be read ({reason}); delete it and start again") from error
        if not same:
            raise SettingError(
                f"{path} is of other images or settings; run without --resume to start from the beginning"
            )
        return state
