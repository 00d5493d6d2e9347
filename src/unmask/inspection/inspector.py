"""The one door: an image in, an `AnomalyResult` out; around a detector, its calibration and its model file."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import unmask
from unmask.detectors import Detector, build, find, make
from unmask.errors import ImageError, ModelFileError
from unmask.features.store import check_memory
from unmask.imaging import images
from unmask.imaging.tiling import Framed, Framing, region_of
from unmask.inspection import model_file as modelfile
from unmask.inspection import self_test
from unmask.inspection.calibration import Calibration, rate_for
from unmask.inspection.judging import ArrayPrediction, Judge, framed_and_judged
from unmask.training.trainer import Training
from unmask.types import Step


class ImageFiles:
    """Image files as a detector wants them: every square of every image, each made when it is asked for.

    Args:
        paths: of the files.
        framing: how an image becomes squares.
    """

    def __init__(self, paths: Sequence[Path], framing: Framing) -> None:
        self.paths, self.framing = paths, framing
        if framing.tile is None:
            self.owners = [(number, 0) for number in range(len(paths))]
        else:
            sizes = [images.size_of(path) for path in paths]
            counts = [framing.squares_of(h, w) for w, h in sizes]
            self.owners = [(number, k) for number, count in enumerate(counts) for k in range(count)]
        self.last: tuple[int, Framed | None] = (-1, None)

    def __len__(self) -> int:
        return len(self.owners)

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        number, square = self.owners[index]
        if self.last[0] != number or self.last[1] is None:  # the tiles of an image are mostly asked for in turn
            self.last = number, self.framing.frame(images.decode(self.paths[number]), str(self.paths[number]))
        framed = self.last[1]
        assert framed is not None  # noqa: S101
        return torch.from_numpy(framed.square(square))


class Inspector(Judge):
    """A fitted, calibrated detector that judges images of any size.

    Attributes:
        detector: what scores them.
        calibration: what its scores mean.
        framing: how an image becomes squares for it.
        facts: plain values that the model file keeps and `unmask info` prints.
    """

    def __init__(
        self, detector: Detector, calibration: Calibration, framing: Framing, facts: Mapping[str, Any]
    ) -> None:
        self.detector, self.calibration, self.framing, self.facts = (
            detector.eval(),
            calibration,
            framing,
            dict(facts),
        )

    @classmethod
    def train(
        cls,
        normals: Sequence[Path],
        held_out: Sequence[Path],
        *,
        detector: str = "fuse",
        preset: str = "fast",
        settings: Mapping[str, Any] | None = None,
        false_alarm_rate: float | None = None,
        training: Training | None = None,
        source: str = "",
        folder: Path | None = None,
        resize: str = "squash",
        tile: int | None = None,
        overlap: float = 0.25,
        region: str | None = None,
    ) -> Inspector:
        """Learn from normal images and calibrate on others that no detector sees.

        Args:
            normals: image files to learn from.
            held_out: image files of normals to calibrate on.
            detector: name in the registry.
            preset: of the detector.
            settings: that replace some of the preset's.
            false_alarm_rate: in (0, 1); None = 0.05, or with too few held-out images the best they can promise.
            training: how to run; None = the default.
            source: where the images come from, for the record.
            folder: the data set on the disk, so that an export can find the held-out images again.
            resize: of images that are not square: "squash", "fit" or "crop"; see `Framing`.
            tile: cut images into tiles of so many pixels along a side; None = each image as a whole.
            overlap: of neighbouring tiles, a share of their side.
            region: of interest: "x0,y0,x1,y1" in pixels, or the path of a picture whose white part is judged.

        Raises:
            CalibrationError: `held_out` is too small for the rate that was asked for (known before the training).
            ImageError: some images cannot be read; all of them are named (likewise).
            SettingError, WeightsError, TrainingStopped: see there.
        """
        rate = rate_for(len(held_out), false_alarm_rate)
        made = make(detector, preset, settings or {})
        place = {} if region is None else region_of(region)
        framing = Framing(made.image_size, resize=resize, tile=tile, overlap=overlap, **place)
        training = training or Training()
        made.check_training(training)
        check_memory(training)
        start = time.monotonic()
        _check_readable([*normals, *held_out], framing, training)
        identity = _identity(made, framing, normals, training.seed)
        made.fit(ImageFiles(normals, framing), replace(training, identity=identity))
        calibration = _calibrate(made, framing, held_out, rate, training)
        seconds = time.monotonic() - start
        facts = {
            "detector": made.name,
            "preset": preset,
            "params": made.params(),
            "source": source,
            "folder": None if folder is None else str(folder.resolve()),
            "seed": training.seed,
            "n_normal": len(normals),
            "n_held_out": len(held_out),
            "fit_seconds": round(seconds, 1),
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "frozen": made.frozen(),
            "input": {"size": made.image_size, "channels": "RGB", "range": [0.0, 1.0]},
            "versions": _versions(),
        }
        return cls(made, calibration, framing, facts)

    def predict(self, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        """Score squares, RGB in [0, 1]."""
        return said(self.detector, squares)

    def explain_square(self, square: Float[np.ndarray, "3 s s"]) -> Sequence[Step]:
        """The steps that led to a square's map, as the detector tells them."""
        return self.detector.explain(torch.from_numpy(square)[None])[0]

    def save(self, path: str | Path) -> None:
        """Write a model file, with a self-test in it.

        Raises:
            ModelFileError: the place cannot be written.
        """
        test = self_test.answers(self.predict, self.framing.size)
        judged = {"calibration": self.calibration.to_dict(), "framing": self.framing.to_dict()}
        facts = {**self.facts, **judged, "self_test": test}
        tensors = {key: value.numpy() for key, value in self.detector.learned().items()}
        modelfile.write(path, facts, tensors)

    @classmethod
    def load(cls, path: str | Path) -> Inspector:
        """Read a model file and repeat its self-test.

        Raises:
            ModelFileError: it is damaged, something else, too new, or does not give the numbers it gave when saved.
            WeightsError: its backbone is not installed.
        """
        facts, arrays = modelfile.read(path)
        try:
            calibration = Calibration.from_dict(facts.pop("calibration"))
            framing = Framing.from_dict(facts.pop("framing", {"size": facts["input"]["size"]}))
            test = facts.pop("self_test")
            detector = build(find(facts["detector"]), next(iter(find(facts["detector"]).presets)), facts["params"])
            _check_frozen(path, facts, detector)
        except KeyError as error:
            raise ModelFileError(f"{path} lacks {error}; it is damaged: copy it again or fit a new one") from error
        detector.restore({key: torch.from_numpy(value) for key, value in arrays.items()})
        inspector = cls(detector, calibration, framing, facts)
        self_test.check(path, inspector.predict, framing.size, test, calibration)
        return inspector


def _check_readable(paths: Sequence[Path], framing: Framing, training: Training) -> None:
    """Decode every image once, for a header says nothing of what follows it, and training may take hours."""
    bad, start = [], time.monotonic()
    for done, path in enumerate(paths, 1):
        try:
            _, h, w = images.decode(path).shape
            framing.region(h, w, str(path))
        except ImageError as error:
            bad.append(str(error))
        training.progress("check", done, len(paths), (time.monotonic() - start) / done * (len(paths) - done))
    if bad:
        raise ImageError(f"{len(bad)} of {len(paths)} images cannot be used: {' | '.join(bad)}")


def said(detector: Detector, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
    """A detector's prediction, in NumPy."""
    prediction = detector.predict(torch.from_numpy(squares))
    restored = None if prediction.restored is None else prediction.restored.cpu().numpy()
    return ArrayPrediction(prediction.maps.cpu().numpy(), prediction.scores.cpu().numpy(), restored)


def _calibrate(
    detector: Detector, framing: Framing, held_out: Sequence[Path], rate: float, training: Training
) -> Calibration:
    """Whole images, as they will be judged: the maximum over many tiles is rarer exceeded than that of one."""
    scores: list[float] = []

    def maps() -> Iterator[np.ndarray]:
        start = time.monotonic()
        for _, framed, _ in framed_and_judged(partial(said, detector), framing, held_out):
            for one in framed:
                scores.append(one.score)
                yield one.map()
            left = (time.monotonic() - start) / len(scores) * (len(held_out) - len(scores))
            training.progress("calibrate", len(scores), len(held_out), left)

    return Calibration.from_normals(scores, maps(), rate)


def _identity(detector: Detector, framing: Framing, normals: Sequence[Path], seed: int) -> str:
    """What a checkpoint must agree on."""
    files = [(path.name, path.stat().st_size) for path in normals]
    what = repr((detector.name, detector.params(), framing.to_dict(), seed, files))
    return hashlib.blake2b(what.encode(), digest_size=8).hexdigest()


def _versions() -> dict[str, str]:
    import timm

    return {
        "unmask": unmask.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def _check_frozen(path: str | Path, facts: Mapping[str, Any], detector: Detector) -> None:
    for name, checksum in facts["frozen"].items():
        if (here := detector.frozen().get(name)) != checksum:
            raise ModelFileError(
                f"{path} needs {name} with checksum {checksum}, here it is {here}; install those weights or fit again"
            )
