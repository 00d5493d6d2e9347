"""Model files written anew: what was learned, or the graph, stays byte for byte; facts such as thresholds change."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.errors import ModelFileError, SettingError
from unmask.imaging.writing import failing_as
from unmask.inspection import model_file
from unmask.inspection.exported import SUFFIXES, UNSEALED, ExportedBackend, open_exported, seal
from unmask.inspection.exported_text import with_text

if TYPE_CHECKING:
    from unmask.inspection.inspector import Inspector

Facts = dict[str, Any]


def save(inspector: Inspector, path: Path) -> None:
    """Write an inspector's file: a model file, or of an exported model an export of the same kind.

    Raises:
        ModelFileError: the place cannot be written, or an export has changed since it was loaded.
        SettingError: the name is that of another kind of file.
    """
    backend = inspector.backend
    if not isinstance(backend, ExportedBackend):
        from unmask.inspection.torch_backend import save as save_fitted

        save_fitted(inspector, path)
        return
    check_kind(backend.path, path)
    changed = {"calibration": inspector.calibration.to_dict(), "reading": inspector.reading.options.to_dict()}
    _write_exported(backend, {**json.loads(backend.text), **inspector.facts, **changed}, path)


def rewrite(model: Path, target: Path, change: Callable[[Facts], Facts]) -> None:
    """Write a file of either kind with other facts; nothing is computed, so no torch is needed.

    Args:
        model: the file.
        target: where to; it may be the file itself.
        change: gives the new facts.

    Raises:
        ModelFileError: the file cannot be read, or the place not be written.
        SettingError: the name is that of another kind of file.
    """
    check_kind(model, target)
    if model.suffix in SUFFIXES:
        backend, facts = open_exported(model, "cpu")
        _write_exported(backend, change(facts), target)
        return
    facts, tensors = model_file.read(model)
    model_file.write(target, change(facts), tensors)


def check_kind(model: Path, target: Path) -> None:
    """Raise SettingError where a file cannot be written under a name, which is that of another kind."""
    if model.suffix not in SUFFIXES:
        model_file.check_model_name(target)
    elif target.suffix != model.suffix:
        raise SettingError(f"{target} should end in {model.suffix}, as the file does that it is made of")


def _write_exported(backend: ExportedBackend, facts: Mapping[str, Any], target: Path) -> None:
    whole = Path(os.path.realpath(target))  # of a link, what it leads to is written
    text = json.dumps({**facts, "exported": {**facts["exported"], "checksum": UNSEALED}})
    graph, *weights = backend.files()
    try:
        content = with_text(graph, target.suffix, text)
    except ValueError as error:
        raise ModelFileError(f"{backend.path} cannot be written anew ({error}); export the model again") from error
    with failing_as(target, ModelFileError):
        whole.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=whole.parent, prefix=".unmask-") as folder:
            made = Path(folder) / f"export{target.suffix}"
            made.write_bytes(content)
            for more in weights:
                made.with_suffix(".bin").write_bytes(more)
            seal(made)
            open_exported(made, "cpu")  # nothing that cannot be opened takes its place
            if weights and whole != backend.path:
                made.with_suffix(".bin").replace(whole.with_suffix(".bin"))
            made.replace(whole)
