"""One `.unmask` file: tensors and a JSON header in a safetensors container. Reading one can never run code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import ModelFileError, SettingError
from unmask.imaging.listing import IMAGE_SUFFIXES
from unmask.imaging.writing import written_whole

FORMAT = 4
"""Raised when a file could not be understood by an older version any more."""

EXPORT_SUFFIXES = frozenset({".onnx", ".xml", ".bin"})
OTHER_SUFFIXES = frozenset({".html", ".json", ".csv", ".parquet", ".txt", ".pdf", ".svg", ".zip"})
KEY, CHECKSUM = "unmask", "checksum"


def write(path: str | Path, facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a model file: under a temporary name first, so that `path` is whole or as it was.

    Args:
        path: where to.
        facts: plain values: detector, params, calibration, versions and the like.
        tensors: what was learned.

    Raises:
        ModelFileError: the place cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    if "\0" in str(path):
        raise ModelFileError("the path of the model holds a zero byte; give another place")
    arrays = {key: np.asarray(value, order="C") for key, value in tensors.items()}
    text = json.dumps({**facts, "format": FORMAT})
    if os.path.exists(path) and not path.is_file():  # noqa: PTH110 - of a name that is too long, `Path` raises an error
        raise ModelFileError(f"{path} cannot be written: it is no regular file; give another place")
    with written_whole(path, ModelFileError) as temporary:
        temporary.write_bytes(save(arrays, {KEY: text, CHECKSUM: _checksum(text, arrays)}))  # save_file hides it: 0600


def check_model_name(path: Path) -> None:
    """Refuse to give a model file the name of something else, before hours of work.

    Raises:
        SettingError: the name ends as that of an export, a picture or a table does.
    """
    suffix = path.suffix.lower()
    if suffix in EXPORT_SUFFIXES:
        other = path.with_suffix(".unmask")
        raise SettingError(
            f"{path}: {suffix} is an export, and a fit writes a model file; give {other.name}, then run: "
            f"unmask export {other.name}"
        )
    if suffix in IMAGE_SUFFIXES | OTHER_SUFFIXES:
        raise SettingError(f"{path}: a model file cannot be named {suffix}; give a name such as model.unmask")


def facts_of(path: str | Path) -> dict[str, Any]:
    """Read the header of a model file only.

    Raises:
        ModelFileError: the file is missing, damaged, something else, or newer than this version.
    """
    return _checked(Path(path), _header(Path(path))[KEY])


def fingerprint(path: str | Path) -> str:
    """The checksum of all that a model file holds; no other file has it.

    Raises:
        ModelFileError: the file is missing, damaged or something else.
    """
    return _header(Path(path)).get(CHECKSUM, "")


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a model file whole.

    Returns:
        Its facts and its tensors.

    Raises:
        ModelFileError: as `facts_of`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    header = _header(path)
    facts = _checked(path, header[KEY])
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); copy it again or fit a new one") from error
    if header.get(CHECKSUM) != _checksum(header[KEY], tensors):
        raise ModelFileError(f"{path} is damaged: its checksum differs; copy it again or fit a new one")
    return facts, tensors


def _header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    is_file = os.path.isfile(path)  # noqa: PTH113 - of a name that is too long, `Path` raises an error
    if not is_file and os.path.lexists(path):
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ModelFileError(f"{path} is {kind}; give a file that unmask fit wrote")
    if not is_file:
        raise ModelFileError(f"there is no model file {path}; make one with: unmask fit IMAGES -o {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged or no model file ({error}); copy it again or fit a new one") from error
    if KEY not in header:
        raise ModelFileError(f"{path} holds tensors but no unmask model; give a file written by unmask fit")
    return header


def _checksum(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Of all that a file holds: a flipped bit in a threshold or a weight would otherwise pass for a model."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {tensors[key].shape}".encode())
        digest.update(tensors[key].tobytes())
    return digest.hexdigest()


def _checked(path: Path, text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
        number = int(facts["format"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise ModelFileError(f"the header of {path} cannot be read; copy the file again or fit a new one") from error
    if number > FORMAT:
        raise ModelFileError(f"{path} has format {number}, this version reads up to {FORMAT}; update unmask")
    return dict(facts)
