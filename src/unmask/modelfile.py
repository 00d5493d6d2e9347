"""One `.unmask` file: tensors and a JSON header in a safetensors container. Reading one can never run code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import ModelFileError

FORMAT = 1
"""Raised when a file could not be understood by an older version any more."""

KEY = "unmask"


def write(path: str | Path, facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a model file: under a temporary name first, so that `path` is whole or as it was.

    Args:
        path: where to.
        facts: plain values: detector, params, calibration, versions and the like.
        tensors: what was learned.

    Raises:
        ModelFileError: the place cannot be written.
    """
    from safetensors.numpy import save_file

    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    header = {KEY: json.dumps({"format": FORMAT, **facts})}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, temporary, header)
        temporary.replace(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written ({error.strerror or error}); give another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def facts_of(path: str | Path) -> dict[str, Any]:
    """Read the header of a model file only.

    Raises:
        ModelFileError: the file is missing, damaged, something else, or newer than this version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}; make one with: unmask fit IMAGES -o {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is damaged or no model file ({error}); copy it again or fit a new one") from error
    if text is None:
        raise ModelFileError(f"{path} holds tensors but no unmask model; give a file written by unmask fit")
    return _checked(path, text)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a model file whole.

    Returns:
        Its facts and its tensors.

    Raises:
        ModelFileError: as `facts_of`.
    """
    from safetensors.numpy import load_file

    facts = facts_of(path)
    return facts, load_file(path)


def _checked(path: Path, text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
        number = int(facts["format"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"the header of {path} cannot be read; copy the file again or fit a new one") from error
    if number > FORMAT:
        raise ModelFileError(f"{path} has format {number}, this version reads up to {FORMAT}; update unmask")
    return dict(facts)
