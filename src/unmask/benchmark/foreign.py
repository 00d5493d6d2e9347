"""Detectors of other people: a command reads folders and writes maps; splits, threshold and figures are ours.

    COMMAND TRAIN IMAGES MAPS SEED

- TRAIN holds good images to learn from.
- IMAGES holds images to judge, under numbers for names and in a random order: the held-out images, the test images, and
  disturbed copies of some test images. Nothing says which is which. (A command that compares images with each other
  could find the copies.)
- All are PNG files of 8 bits and three channels, decoded as they are for the detectors of unmask.
- Into MAPS it writes for each image, such as 000017.png, a map: 000017.npy, (h, w) float, higher = more anomalous, of
  any size. MAPS/scores.json may hold image scores ({"000017": 3.2}); otherwise the largest value of a map is its score.
- MAPS/cost.json may hold {"fit_seconds", "model_mb", "milliseconds": [one image at a time, ...], "versions": {...}}.
- SEED is a whole number. What the command prints goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from unmask.benchmark.cost import PeakOf
from unmask.benchmark.methods import ANOMALIB, COMMAND, Method, words_of
from unmask.benchmark.robustness import NONE, Disturbed
from unmask.errors import DependencyError, ForeignError
from unmask.imaging import images
from unmask.inspection.calibration import Calibration, regions
from unmask.inspection.pooling import without_copies
from unmask.types import AnomalyResult

PYTHON_OF_ANOMALIB = "UNMASK_ANOMALIB_PYTHON"


class Maps:
    """What a command wrote: maps and scores of images; a map is read from the disk when it is needed.

    Args:
        folder: where it wrote.
        names: image -> the number it had for a name.
        seconds: that the command took.
        peak_mb: its most resident memory.

    Raises:
        ForeignError: a map or a score is missing or is none.
    """

    def __init__(self, folder: Path, names: Mapping[Disturbed, str], seconds: float, peak_mb: int) -> None:
        self.folder, self.names, self.peak_mb = folder, names, peak_mb
        scores, self.cost = _read(folder / "scores.json"), _cost(_read(folder / "cost.json"))
        if missing := [name for name in names.values() if not (folder / f"{name}.npy").exists()]:
            raise ForeignError(f"{len(missing)} of {len(names)} maps were not written, such as {missing[0]}.npy")
        self.scores = {
            image: float(scores.get(name, 0.0) if scores else self.map_of(image).max()) for image, name in names.items()
        }
        if scores and (unscored := set(names.values()) - set(scores)):
            raise ForeignError(f"scores.json lacks {min(unscored)}; give a score for each image, or no scores.json")
        times = self.cost.get("milliseconds") or [1000 * seconds / len(names)]
        self.milliseconds = float(np.median(times))

    def map_of(self, image: Disturbed) -> Float[np.ndarray, "h w"]:
        """As the command wrote it."""
        path = self.folder / f"{self.names[image]}.npy"
        try:
            found = np.load(path, allow_pickle=False)
            if found.ndim != 2 or not found.size or not np.isfinite(found).all():
                raise ValueError(f"its shape is {found.shape}, wanted (h, w) of finite numbers")
        except (OSError, EOFError, TypeError, ValueError) as error:
            raise ForeignError(f"{path.name} is no map: {error}") from error
        sized: np.ndarray = found.astype(np.float32)
        return sized

    def calibrate(self, held_out: Sequence[Path], rate: float) -> Calibration:
        """From held-out normal images, as with our own detectors."""
        whole = [Disturbed(path, NONE) for path in held_out]
        return without_copies(((self.scores[one], self._sized(one)) for one in whole), rate)

    def results(self, wanted: Iterable[Disturbed], calibration: Calibration) -> Iterator[AnomalyResult]:
        """The verdicts, maps at the size of their images."""
        for image in wanted:
            sized = self._sized(image)
            mask, found = regions(sized, calibration.pixel_threshold)
            yield AnomalyResult(
                score=self.scores[image],
                threshold=calibration.threshold,
                is_anomalous=self.scores[image] > calibration.threshold,
                map=sized,
                pixel_threshold=calibration.pixel_threshold,
                mask=mask,
                regions=found,
                milliseconds={"total": self.milliseconds},
                path=image.path,
            )

    def _sized(self, image: Disturbed) -> Float[np.ndarray, "h w"]:
        w, h = images.size_of(image.path)
        return images.resize_map(self.map_of(image), h, w)


def run(method: Method, normals: Sequence[Path], wanted: Sequence[Disturbed], seed: int, folder: Path) -> Maps:
    """Lay out the folders, run the command, and check what it wrote.

    Args:
        method: a foreign one.
        normals: to learn from.
        wanted: images to judge, in any order.
        seed: for the command.
        folder: empty, for all of this.

    Raises:
        ForeignError: it failed, or wrote what is no map.
        DependencyError: anomalib's environment is not named.
    """
    train, shown, maps = (folder / name for name in ("train", "images", "maps"))
    for one in (train, shown, maps):
        one.mkdir()
    for number, path in enumerate(normals):
        _draw(Disturbed(path, NONE), train / f"{number:06d}.png")
    order = np.random.default_rng().permutation(len(wanted))  # of no seed: the command knows that, and could undo it
    names = {wanted[i]: f"{number:06d}" for number, i in enumerate(order)}
    for image, name in names.items():
        _draw(image, shown / f"{name}.png")
    start = time.monotonic()
    peak = _call([*command_of(method), str(train), str(shown), str(maps), str(seed)], method)
    return Maps(maps, names, time.monotonic() - start, peak)


def _draw(image: Disturbed, path: Path) -> None:
    Image.fromarray(image.picture()).save(path, compress_level=1)


def command_of(method: Method) -> list[str]:
    """The words of a foreign method's command.

    Raises:
        DependencyError: anomalib's environment is not named.
    """
    if method.detector.startswith(COMMAND):
        return words_of(method.detector.removeprefix(COMMAND))
    python = os.environ.get(PYTHON_OF_ANOMALIB)
    if not python or not Path(python).exists():
        raise DependencyError(
            f"{method.detector} runs in an environment of its own; set {PYTHON_OF_ANOMALIB} to the python of one that "
            "holds anomalib (benchmarks/anomalib/requirements.txt)"
        )
    worker = Path(__file__).with_name("anomalib_worker.py")
    settings = [f"{name}={value}" for name, value in method.settings.items()]
    return [python, str(worker), method.detector.removeprefix(ANOMALIB), json.dumps(settings)]


def _call(command: list[str], method: Method) -> int:
    """Run a command; return the most megabytes that it and its children had."""
    ours = ("PYTHONPATH", "PYTHONHOME")  # of the row, which would give it our packages in place of its own
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    null, pipe, joined = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "replace"}
    try:
        child = subprocess.Popen(command, env=environment, stdin=null, stdout=pipe, stderr=joined, **text)
    except OSError as error:
        raise ForeignError(f"{method.detector} cannot be started: {error}") from error
    with PeakOf(child.pid) as peak:
        printed, _ = child.communicate()
    sys.stderr.write(printed)
    if child.returncode:
        last = next((line for line in reversed(printed.splitlines()) if line.strip()), "no message")
        raise ForeignError(f"{method.detector} ended with {child.returncode}: {last.strip()}")
    return peak.megabytes


def _cost(given: dict[str, Any]) -> dict[str, Any]:
    """The numbers of cost.json."""
    try:
        known: dict[str, Any] = {
            name: None if given.get(name) is None else _finite(given[name]) for name in ("fit_seconds", "model_mb")
        }
        known["milliseconds"] = [_finite(one) for one in given.get("milliseconds") or ()]
        known["versions"] = {str(name): str(one) for name, one in (given.get("versions") or {}).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise ForeignError(f"cost.json does not hold what it may ({error}); see docs/evaluation.md") from error
    return known


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is no finite number")
    return number


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ForeignError(f"{path.name} is no JSON object: {error}") from error
