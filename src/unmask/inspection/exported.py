"""Exported models without torch: ONNX Runtime and OpenVINO as backends of an inspector.

`unmask export` writes the graph of a fitted detector, and into it, as one JSON text, all that a verdict needs beside
the graph: the calibration, the way from an image to squares, a self-test. Reading one runs no code of the file's.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.errors import DependencyError, ModelFileError, SettingError, is_out_of_memory
from unmask.inspection.openvino_core import openvino_core
from unmask.types import ArrayPrediction, Step

KEY = "unmask"
SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}
BACKENDS = ("onnx", "openvino")
SPIN_MICROSECONDS = "20"
"""For which a thread of ONNX Runtime waits for others before it sleeps: see docs/experiments/0005-busy-machines.md."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
MARK, DIGITS = "unmask-checksum:", 32
UNSEALED = MARK + DIGITS * "0"
"""What stands for the checksum of a file while the checksum is computed; see `seal`."""


class Opened(NamedTuple):
    """A graph that is ready to run.

    Attributes:
        device: where it runs: "cpu" or "cuda".
        text: that was written into the file; empty where there is none.
        run: squares -> maps, scores and, where the graph has them, restored images, by their names.
    """

    device: str
    text: str
    run: Callable[[np.ndarray], dict[str, np.ndarray]]


class ExportedBackend:
    """Runs an exported graph.

    An open graph has threads, which no fork, copy or pickle of it has: there it is opened anew, before its first use. A
    pickle holds the content of the file.

    Args:
        path: of the file, .onnx or .xml.
        device: where it runs: "auto", "cpu" or "cuda".

    Raises:
        ModelFileError: it cannot be read.
        DependencyError: OpenVINO is not installed.
        SettingError: the device is not there.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        self.path, self.name = path.absolute(), SUFFIXES[path.suffix]
        self.content: tuple[bytes, ...] | None = None
        self.stamp = stamp(self.path)
        self._opened: Opened | None = _open(self.path, None, device)
        self.device, self.text = self._opened.device, self._opened.text
        self._prepare_for_forks()

    def predict(self, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        """Score squares, RGB in [0, 1].

        Raises:
            ModelFileError: the graph cannot be computed.
            MemoryError: there is too little memory.
        """
        run = self._here().run
        try:
            return ArrayPrediction(**run(squares))
        except Exception as error:  # kinds of the runtimes have no common ancestor but this
            if is_out_of_memory(error):
                raise MemoryError from error
            raise ModelFileError(f"{self.path} cannot be computed ({_reason(error)}); export it again") from error

    def explain(self, square: Float[np.ndarray, "3 s s"]) -> Sequence[Step]:
        """An exported graph has no steps.

        Raises:
            SettingError: always.
        """
        raise SettingError("an exported model cannot explain itself; load the .unmask file with backend='torch'")

    def files(self) -> tuple[bytes, ...]:
        """The content of its files: of the graph and, of OpenVINO, of the weights beside it.

        Raises:
            ModelFileError: they have changed since they were opened.
        """
        if self.content is None:
            self._check_unchanged()
        return self.content or tuple(file.read_bytes() for file in _files(self.path))

    def _here(self) -> Opened:
        """The graph, opened by this process."""
        opened = self._opened
        if opened is None:
            if self.content is None:
                self._check_unchanged()
            opened = self._opened = _open(self.path, self.content, self.device)
        return opened

    def _prepare_for_forks(self) -> None:
        """Let a child of a fork open the graph itself."""
        this = weakref.ref(self)

        def forget() -> None:
            backend = this()
            if backend is not None and backend._opened is not None:
                # Its end would wait for threads that the child does not have: one reference too many keeps it for ever.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(backend._opened.run))
                backend._opened = None
                if backend.name == "onnx":
                    _end_without_destructors()

        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=forget)

    def _check_unchanged(self) -> None:
        if stamp(self.path) != self.stamp:
            raise ModelFileError(
                f"{self.path} has changed since it was loaded, so another process cannot open it; load it again there"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "content": self.files(), "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare_for_forks()


def open_exported(path: Path, device: str = "auto") -> tuple[ExportedBackend, dict[str, Any]]:
    """Open an exported file: what runs its graph, and what it says about itself.

    Raises:
        ModelFileError: there is no such file, or it is damaged or something else.
        DependencyError: OpenVINO is not installed.
        SettingError: the device is not there.
    """
    check_is_file(path)
    _check_seal(path)
    backend = ExportedBackend(path, device)
    try:
        facts = dict(json.loads(backend.text))
    except (ValueError, TypeError, RecursionError):
        facts = {}
    if missing := {"calibration", "self_test", "exported"} - set(facts):
        raise ModelFileError(f"{path} lacks {min(missing)}: it was not written by unmask export; export it again")
    return backend, facts


def check_is_file(path: Path) -> None:
    """Raise ModelFileError unless there is an exported file; opening a pipe would wait for ever."""
    if os.path.isfile(path):  # noqa: PTH113 - of a name that is too long, `Path` raises an error
        return
    if os.path.lexists(path):
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ModelFileError(f"{path} is {kind}; give a file that unmask export wrote")
    raise ModelFileError(f"there is no exported model {path}; make one with: unmask export MODEL")


def _end_without_destructors() -> None:
    """Let this process end once Python is done: ONNX Runtime would wait for threads that it does not have."""
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # of glibc
        library.on_exit(ctypes.cast(library._exit, ctypes.c_void_p), None)


# --- the checksum -----------------------------------------------------------------------------------------------------


def seal(path: Path) -> None:
    """Write the checksum of a finished file into it, where `UNSEALED` is; no byte of it can change unnoticed then."""
    content = path.read_bytes()
    digest = _checksum(content, path)
    path.write_bytes(content.replace(UNSEALED.encode(), f"{MARK}{digest}".encode(), 1))


def _check_seal(path: Path) -> None:
    """Raise ModelFileError where a file is not what was sealed; older files have no seal."""
    content, mark = path.read_bytes(), MARK.encode()
    at = content.find(mark) + len(mark)
    if at < len(mark):
        return
    sealed, rest = content[at : at + DIGITS], content[:at] + DIGITS * b"0" + content[at + DIGITS :]
    if sealed != _checksum(rest, path).encode():
        raise ModelFileError(
            f"{path} is damaged: its checksum differs; copy it again, with its .bin, or export it again"
        )


def _checksum(content: bytes, path: Path) -> str:
    digest = hashlib.blake2b(content, digest_size=DIGITS // 2)
    for file in _files(path)[1:]:
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """The files of an exported model: OpenVINO has its weights beside the graph."""
    return [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]


def stamp(path: Path) -> list[tuple[int, int, int]]:
    """What tells whether the files are still those that were opened."""
    found = [file.stat() for file in _files(path) if file.exists()]
    return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in found]


# --- the runtimes -----------------------------------------------------------------------------------------------------


def _open(path: Path, content: tuple[bytes, ...] | None, device: str) -> Opened:
    """Open a file, or its content."""
    return (_open_onnx if SUFFIXES[path.suffix] == "onnx" else _open_openvino)(path, content, device)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _open_onnx(path: Path, content: tuple[bytes, ...] | None, device: str) -> Opened:
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(f"{path} needs ONNX Runtime ({error}); run: pip install onnxruntime") from error
    there = onnxruntime.get_available_providers()
    chosen = next((name for name in ("cuda", "cpu") if PROVIDERS[name] in there), "cpu") if device == "auto" else device
    if PROVIDERS.get(chosen) not in there:
        raise SettingError(f"device={device} is not there for ONNX Runtime, which has {', '.join(there)}; give cpu")
    try:
        source = _nameable(path) if content is None else content[0]
        session = onnxruntime.InferenceSession(source, session_options(), providers=[PROVIDERS[chosen]])
        text = session.get_modelmeta().custom_metadata_map.get(KEY, "")
    except Exception as error:  # its kinds have no common ancestor but this
        raise ModelFileError(f"{path} cannot be read as ONNX ({_reason(error)}); export it again") from error
    names = [one.name for one in session.get_outputs()]

    def run(squares: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {"images": squares}), strict=True))

    return Opened(chosen, text, run)


def _nameable(path: Path) -> str | bytes:
    """What ONNX Runtime opens: a path, or the content of a file whose name is not UTF-8."""
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        return path.read_bytes()
    return str(path)


def session_options() -> Any:
    """ONNX Runtime's options: a thread that waits for others soon sleeps, and leaves its core to other programs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its own lines would come beside ours
    options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
    return options


def _open_openvino(path: Path, content: tuple[bytes, ...] | None, device: str) -> Opened:
    try:
        core = openvino_core()
    except ImportError as error:
        raise DependencyError(f"{path} needs OpenVINO ({error}); run: pip install 'unmask[openvino]'") from error
    if device not in ("auto", "cpu"):
        raise SettingError(f"device={device} is not there for OpenVINO files, which run on the CPU; give cpu")
    try:
        model = core.read_model(path) if content is None else core.read_model(*content)
        text = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else ""
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"})
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelFileError(f"{path} cannot be read as OpenVINO ({_reason(error)}); export it again") from error
    names = [one.get_any_name() for one in compiled.outputs]

    def run(squares: np.ndarray) -> dict[str, np.ndarray]:
        request = compiled.create_infer_request()  # one a call: two threads must not share a request
        return dict(zip(names, (np.array(one) for one in request.infer(squares).values()), strict=True))

    return Opened("cpu", text, run)
