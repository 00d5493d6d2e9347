"""The one door: an image in, an `AnomalyResult` out; around a detector, its calibration and its model file."""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import unmask
from unmask import images, modelfile, self_test
from unmask.calibration import Calibration, best_rate, images_needed, regions
from unmask.detectors import Detector, build, find, make
from unmask.errors import CalibrationError, ImageError, ModelFileError
from unmask.explanation import frames, stretched
from unmask.training import Training
from unmask.types import AnomalyResult, Prediction

DEFAULT_RATE = 0.05
BATCH = 8
Source = str | Path | bytes | Image.Image | np.ndarray


class ImageFiles:
    """Image files as a detector wants them: (3, size, size) tensors, each decoded when it is asked for."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        return torch.from_numpy(images.resize(images.decode(self.paths[index]), self.size))


class Inspector:
    """A fitted, calibrated detector that judges images of any size.

    Attributes:
        detector: what scores them.
        calibration: what its scores mean.
        facts: plain values that the model file keeps and `unmask info` prints.
    """

    def __init__(self, detector: Detector, calibration: Calibration, facts: Mapping[str, Any]) -> None:
        self.detector, self.calibration, self.facts = detector.eval(), calibration, dict(facts)

    @classmethod
    def train(
        cls,
        normals: Sequence[Path],
        held_out: Sequence[Path],
        *,
        detector: str = "isstad",
        preset: str = "fast",
        settings: Mapping[str, Any] | None = None,
        false_alarm_rate: float | None = None,
        training: Training | None = None,
        source: str = "",
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

        Raises:
            CalibrationError: `held_out` is too small for the rate that was asked for (known before the training).
            ImageError: some images cannot be read; all of them are named (likewise).
            SettingError, WeightsError, TrainingStopped: see there.
        """
        rate = _rate(len(held_out), false_alarm_rate)
        made = make(detector, preset, settings or {})
        training = training or Training()
        _check_readable([*normals, *held_out], training)
        start = time.monotonic()
        identity = _identity(made, normals, training.seed)
        made.fit(ImageFiles(normals, made.image_size), replace(training, identity=identity))
        seconds = time.monotonic() - start
        calibration = _calibrate(made, held_out, rate, training)
        facts = {
            "detector": made.name,
            "preset": preset,
            "params": made.params(),
            "source": source,
            "seed": training.seed,
            "n_normal": len(normals),
            "n_held_out": len(held_out),
            "fit_seconds": round(seconds, 1),
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "frozen": made.frozen(),
            "input": {"size": made.image_size, "channels": "RGB", "range": [0.0, 1.0]},
            "versions": _versions(),
        }
        return cls(made, calibration, facts)

    def inspect(self, image: Source, *, explain: bool = False) -> AnomalyResult:
        """Judge one image.

        Args:
            image: a path, the bytes of a file, a Pillow image, or an array (h, w), (h, w, 3) or (h, w, 4) of uint8,
                uint16 or float in [0, 1].
            explain: look a second time, and tell the steps that led to the map.

        Raises:
            ImageError: it cannot be read.
        """
        return next(self.inspect_many([image], explain=explain))

    def inspect_many(
        self, sources: Iterable[Source], batch: int = BATCH, *, explain: bool = False
    ) -> Iterator[AnomalyResult]:
        """Judge images one after the other, `batch` at a time; times are means over a batch. See `inspect`.

        Raises:
            ImageError: one cannot be read.
        """
        waiting = iter(sources)
        while some := list(islice(waiting, batch)):
            start = time.monotonic()
            sized, own_sizes = zip(*(self._sized(source) for source in some), strict=True)
            stack = torch.from_numpy(np.stack(sized))
            ready = time.monotonic()
            prediction = self.detector.predict(stack)
            predicted = time.monotonic()
            spent = {"decode": 1000 * (ready - start) / len(some), "predict": 1000 * (predicted - ready) / len(some)}
            told = self.detector.explain(stack) if explain else [[] for _ in some]
            for index, (source, own_size) in enumerate(zip(some, own_sizes, strict=True)):
                explanation = frames(told[index], sized[index], *own_size)
                yield replace(self._result(prediction, index, own_size, source, spent), explanation=explanation)

    def _sized(self, source: Source) -> tuple[np.ndarray, tuple[int, int]]:
        """The image as the detector wants it, and its own (h, w); a large original is let go at once."""
        image = images.decode(source)
        return images.resize(image, self.detector.image_size), (image.shape[1], image.shape[2])

    def _result(
        self, prediction: Prediction, index: int, size: tuple[int, int], source: Source, spent: Mapping[str, float]
    ) -> AnomalyResult:
        start = time.monotonic()
        own_size = images.resize_map(prediction.maps[index].numpy(), *size)
        mask, found = regions(own_size, self.calibration.pixel_threshold)
        score = float(prediction.scores[index])
        times = {**spent, "regions": 1000 * (time.monotonic() - start)}
        return AnomalyResult(
            score=score,
            threshold=self.calibration.threshold,
            is_anomalous=score > self.calibration.threshold,
            map=own_size,
            pixel_threshold=self.calibration.pixel_threshold,
            mask=mask,
            regions=found,
            restored=None if prediction.restored is None else stretched(prediction.restored[index].numpy(), *size),
            milliseconds={**times, "total": sum(times.values())},
            path=Path(source) if isinstance(source, str | Path) else None,
        )

    def save(self, path: str | Path) -> None:
        """Write a model file, with a self-test in it.

        Raises:
            ModelFileError: the place cannot be written.
        """
        test = self_test.answers(self.detector)
        facts = {**self.facts, "calibration": self.calibration.to_dict(), "self_test": test}
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
            test = facts.pop("self_test")
            detector = build(find(facts["detector"]), next(iter(find(facts["detector"]).presets)), facts["params"])
            _check_frozen(path, facts, detector)
        except KeyError as error:
            raise ModelFileError(f"{path} lacks {error}; it is damaged: copy it again or fit a new one") from error
        detector.restore({key: torch.from_numpy(value) for key, value in arrays.items()})
        self_test.check(path, detector, test, calibration)
        return cls(detector, calibration, facts)


def _rate(n: int, wanted: float | None) -> float:
    """The rate to promise, checked before any training."""
    rate = DEFAULT_RATE if wanted is None else wanted
    needed = images_needed(rate)
    if n >= needed:
        return rate
    message = f"a false-alarm rate of {rate:g} needs at least {needed} held-out normal images, got {n}"
    if wanted is not None or n == 0:
        least = "" if n == 0 else f" or ask for a rate of {best_rate(n):g} or more"
        raise CalibrationError(f"{message}; give more images{least}")
    warnings.warn(f"{message}; the best that can be promised is {best_rate(n):g}, and that is used", stacklevel=3)
    return best_rate(n)


def _check_readable(paths: Sequence[Path], training: Training) -> None:
    """Decode every image once, for a header says nothing of what follows it, and training may take hours."""
    bad, start = [], time.monotonic()
    for done, path in enumerate(paths, 1):
        try:
            images.decode(path)
        except ImageError as error:
            bad.append(str(error))
        training.progress("check", done, len(paths), (time.monotonic() - start) / done * (len(paths) - done))
    if bad:
        raise ImageError(f"{len(bad)} of {len(paths)} images cannot be used: {' | '.join(bad)}")


def _calibrate(detector: Detector, held_out: Sequence[Path], rate: float, training: Training) -> Calibration:
    files = ImageFiles(held_out, detector.image_size)
    scores: list[Tensor] = []
    maps: list[np.ndarray] = []
    for start in range(0, len(files), BATCH):
        said = detector.predict(torch.stack([files[i] for i in range(start, min(start + BATCH, len(files)))]))
        scores.append(said.scores)
        maps.extend(said.maps.numpy())
        training.progress("calibrate", len(maps), len(files), 0.0)
    return Calibration.from_normals(torch.cat(scores).numpy(), maps, rate)


def _identity(detector: Detector, normals: Sequence[Path], seed: int) -> str:
    """What a checkpoint must agree on."""
    files = [(path.name, path.stat().st_size) for path in normals]
    what = repr((detector.name, detector.params(), seed, files))
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
