"""Opening a model file: with torch, or the export that lies beside it, or an exported file itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from unmask.errors import DependencyError, ModelFileError, SettingError, UnmaskError
from unmask.imaging.alignment import Alignment
from unmask.imaging.intensity import IntensityRange
from unmask.imaging.options import ImageOptions
from unmask.imaging.tiling import Tiling
from unmask.inspection import history, model_file, self_test
from unmask.inspection.backend import Backend
from unmask.inspection.calibration import Calibration
from unmask.inspection.exported import BACKENDS, SUFFIXES, open_exported
from unmask.inspection.inspector import Inspector
from unmask.inspection.options import checked_options
from unmask.inspection.scoring import Reading

NAMES = ("auto", "torch", *BACKENDS)
UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError)
"""What a file of wrong values can lead to: wrong kinds, shapes, names, sizes."""


@checked_options
def load(
    path: str | Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    detector: type | None = None,
    page: str | int | None = None,
    max_pixels: float | None = None,
) -> Inspector:
    """Open a model file, without torch where that is possible.

    Args:
        path: a file written by `unmask fit` (.unmask) or by `unmask export` (.onnx, .xml).
        device: "auto" (a graphics card if the backend can use one, else the CPU), "cpu", "cuda" or "mps".
        backend: "torch", "onnx", "openvino", or "auto": what the file needs. Of a .unmask file, "auto" takes the
            export beside it under the same name, if it was made from it in full precision and gave the same verdicts.
        detector: the class of the detector, where it is not one of unmask's; the file names it.
        page: number of the picture to take from files that hold several, counted from 1, or "all"; None = as the model
            was fitted.
        max_pixels: images with more are refused; None = as the model was fitted.

    Returns:
        What judges images: `inspect`, `inspect_many`.

    Raises:
        ModelFileError: the file is damaged, something else, newer than this version, or made by another class.
        DependencyError: torch (the extra `train`) or OpenVINO is needed and not installed.
        SettingError: the backend or device is unknown, is not there, or cannot open this file.
    """
    given = ImageOptions.of(page=page, max_pixels=max_pixels)
    found = _opened(Path(path), device, backend, detector)
    if page is None and max_pixels is None:
        return found
    kept = found.reading.options
    options = replace(
        kept,
        page=kept.page if page is None else given.page,
        max_pixels=kept.max_pixels if max_pixels is None else given.max_pixels,
    )
    return Inspector(found.backend, found.calibration, replace(found.reading, options=options), found.facts)


def _opened(path: Path, device: str, backend: str, detector: type | None) -> Inspector:
    if not path.name:
        raise ModelFileError("the path of the model is empty or a folder; give a file such as part.unmask")
    if backend not in NAMES:
        raise SettingError(f"backend={backend!r} is unknown; give {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    if path.suffix in SUFFIXES:
        return _load_exported(path, device, backend)
    if detector is None and backend != "torch":
        found = _beside(path, device, backend)
        if found is not None:
            return found
    return _load_with_torch(path, device, detector)


def facts_of(path: str | Path) -> dict[str, Any]:
    """What a model file, exported or not, says about itself.

    Raises:
        ModelFileError: it is damaged or something else.
    """
    path = Path(path)
    return open_exported(path)[1] if path.suffix in SUFFIXES else model_file.facts_of(path)


def inspector_of(path: Path, facts: Mapping[str, Any], backend: Backend) -> Inspector:
    """An inspector around a backend, after its self-test.

    Args:
        path: of the file, for messages.
        facts: of the file; what the inspector itself keeps is taken out of them.
        backend: what the file's graph or tensors became.

    Raises:
        ModelFileError: a part is missing, or the self-test fails.
    """
    rest = dict(facts)
    with _readable(path):
        history.lines(facts)  # what cannot be told cannot be undone
        calibration = Calibration.from_dict(rest.pop("calibration"))
        tiling = Tiling.from_dict(rest.pop("tiling", None) or rest.pop("framing", {"size": rest["input"]["size"]}))
        test = rest.pop("self_test")
        kept = rest.pop("intensity_range", None)
        intensity = None if kept is None else IntensityRange(**kept)
        usual = rest.pop("alignment", None)
        alignment = None if usual is None else Alignment.from_dict(usual)
        reading = Reading(tiling, ImageOptions.from_dict(rest.pop("reading", {}), intensity), alignment)
        self_test.check(path, backend.predict, tiling.size, test, calibration)
        return Inspector(backend, calibration, reading, rest)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say of whatever a foreign or damaged file leads to that the file is the cause."""
    try:
        yield
    except KeyError as error:
        raise ModelFileError(f"{path} lacks {error}; it is damaged: copy it again or fit a new one") from error
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelFileError(f"{path} cannot be opened ({reason}); copy it again or fit a new one") from error


def _load_exported(path: Path, device: str, backend: str) -> Inspector:
    if backend not in ("auto", SUFFIXES[path.suffix]):
        raise SettingError(f"{path} is a file for {SUFFIXES[path.suffix]}, not for {backend}; give backend='auto'")
    opened, facts = open_exported(path, device)
    return inspector_of(path, facts, opened)


def _beside(model: Path, device: str, backend: str) -> Inspector | None:
    """The export beside a model file; one that was asked for by name must be there."""
    for suffix, name in SUFFIXES.items():
        path = model.with_suffix(suffix)
        if backend not in ("auto", name) or not os.path.isfile(path) or not os.path.isfile(model):  # noqa: PTH113 - `Path` raises errors
            continue
        try:
            opened, facts = open_exported(path, device)
            if _is_its_own(facts, model) and (backend != "auto" or _is_equal(facts["exported"])):
                return inspector_of(path, facts, opened)
        except (UnmaskError, KeyError):
            if backend != "auto":
                raise  # otherwise the model file itself can still be opened
    if backend != "auto":
        to = " --to openvino" if backend == "openvino" else ""
        raise SettingError(
            f"no export of {model} as it is now lies beside it for {backend}; make one with: unmask export {model}{to}"
        )
    return None


def _is_its_own(facts: Mapping[str, Any], model: Path) -> bool:
    """Whether an export was made from a model as it is now, and has the thresholds that it was given then."""
    was_calibrated = facts.get(history.NOW, {}).get("backend", "torch") != "torch"
    return facts["exported"]["from"] == model_file.fingerprint(model) and not was_calibrated


def _is_equal(exported: Mapping[str, Any]) -> bool:
    """Whether an export may stand for its model unasked: full precision, and every verdict compared was the same."""
    return exported["precision"] == "fp32" and exported.get("differing_verdicts") == 0


def _load_with_torch(path: Path, device: str, detector: type | None) -> Inspector:
    facts, arrays = model_file.read(path)
    try:
        import unmask.training  # noqa: F401 - it imports torch, which its settings must precede
        from unmask.inspection.torch_backend import TorchBackend, restored
    except (ImportError, OSError) as error:  # OSError: a library of torch's is broken
        missing = isinstance(error, ModuleNotFoundError)
        what = f"{error.name}, which is not installed" if missing else f"torch, which is broken here ({error})"  # type: ignore[union-attr]
        raise DependencyError(
            f"{path} needs {what}; run: pip install 'unmask[train]', or where that is "
            f"installed: unmask export {path}, and take the .onnx file"
        ) from error
    with _readable(path):
        made = restored(path, facts, arrays, detector)
    return inspector_of(path, facts, TorchBackend(made, device))
