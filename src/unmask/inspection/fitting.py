"""Learning: good images in, a calibrated inspector out. Labels have no way in."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import unmask
from unmask.datasets import load as load_dataset
from unmask.detectors import DETECTORS, Detector, make
from unmask.errors import DatasetError, SettingError
from unmask.features.store import check_memory
from unmask.imaging.intensity import IntensityRange
from unmask.imaging.region import region_of
from unmask.imaging.tiling import Tiling
from unmask.inspection.calibration import Calibration, rate_for
from unmask.inspection.division import Given, divide
from unmask.inspection.held_out import score_held_out
from unmask.inspection.inspector import Inspector
from unmask.inspection.looks import warn_of_looks
from unmask.inspection.scoring import Reading
from unmask.inspection.sources import Sources
from unmask.inspection.torch_backend import TorchBackend, import_path
from unmask.inspection.training_images import TrainingImages, check_images
from unmask.training.trainer import Training
from unmask.types import Split

HELD_OUT_SHARE = 0.2


class Good(NamedTuple):
    """Good images.

    Attributes:
        images: all of them.
        given: how they are divided; None = by their contents.
        source: where they come from, in words.
        share: of them to hold out, where contents divide them.
    """

    images: Sequence[Any]
    given: Given | None
    source: str
    share: float = HELD_OUT_SHARE

    def early_rate(self, wanted: float | None) -> float | None:
        """The rate that can be promised as far as is known before anything is decoded; None = not known yet.

        Raises:
            CalibrationError: too few images are held out.
        """
        if self.given is None or (self.given.is_drawn and not self.given.held_out):
            return None
        return rate_for(len(self.given.held_out), wanted)


def fit(
    images: Any,
    *,
    held_out: Any = None,
    detector: str | Detector = "fuse",
    preset: str = "fast",
    settings: Mapping[str, Any] | None = None,
    false_alarm_rate: float | None = None,
    held_out_share: float = HELD_OUT_SHARE,
    seed: int = 0,
    device: str = "auto",
    training: Training | None = None,
    resize: str = "squash",
    tile: int | None = None,
    overlap: float = 0.25,
    region: str | Sequence[int] | None = None,
    intensity_range: tuple[float, float] | None = None,
) -> Inspector:
    """Learn from good images, and calibrate on others of them, which the detector does not see.

    Args:
        images: a folder or data set, what `load_dataset` gives, or a sequence (or torch Dataset) of images.
        held_out: images to calibrate on, in the same forms; None = a share of `images`.
        detector: a name, such as "patchcore+fre", or a detector, such as `PatchCore(coreset=0.1)`, also of your own.
        preset: of the detector that is named.
        settings: that replace some of the preset's.
        false_alarm_rate: share of good images that may be flagged, in (0, 1); None = 0.05, or the best possible.
        held_out_share: share of the images to calibrate on, in (0, 1).
        seed: random seed.
        device: "auto", "cpu", "cuda" or "mps".
        training: how to run, with checkpoints and limits; it takes the place of seed and device.
        resize: of images that are not square: "squash", "fit" or "crop"; see `Tiling`.
        tile: side of the tiles that images are cut into, in pixels; None = each image as a whole.
        overlap: of neighbouring tiles, a share of their side in [0, 0.5].
        region: of interest: x0,y0,x1,y1 in pixels, or the path of a picture whose white part is judged.
        intensity_range: values that become black and white, (0, 4095); None = learned from 16-bit images.

    Raises:
        UnmaskError: of a kind that names the cause: bad images, too few of them, an unknown setting, no weights.
    """
    run = _training(training, seed, device)
    made, preset_name = _detector(detector, preset, settings)
    place = {} if region is None else region_of(region)
    tiling = Tiling(made.image_size, resize=resize, tile=tile, overlap=overlap, **place)
    given = None if intensity_range is None else IntensityRange(*intensity_range)
    good = _divided(images, held_out, held_out_share, run.seed)
    return _fitted(made, preset_name, good, Reading(tiling, given), run, false_alarm_rate)


def _fitted(
    made: Detector, preset: str | None, good: Good, reading: Reading, training: Training, rate: float | None
) -> Inspector:
    made.check_training(training)
    check_memory(training)
    start = time.monotonic()
    promised = good.early_rate(rate)
    checked = check_images(good.images, reading.tiling, reading.intensity, training)
    reading = replace(reading, intensity=checked.intensity)
    parts = divide(good.images, checked, good.given, reading, good.share, training.seed)
    if promised is None or good.given is None or parts.n_scenes != len(good.given.held_out):
        promised = rate_for(parts.n_scenes, rate)
    seen = [checked.looks[number] for number in sorted((*parts.normals, *parts.held_out))]
    warn_of_looks(seen, no_noise=checked.is_noise_free)
    hashes = {role: [checked.hashes[i] for i in numbers] for role, numbers in parts.by_role().items()}
    facts = {**_detector_facts(made, preset), "source": good.source, "seed": training.seed}
    run = replace(training, identity=_identity(facts, reading, hashes))
    made.fit(TrainingImages(good.images, parts.normals, reading, checked), run)
    made.mark_fitted()  # a detector of the user's may have a `fit` of its own
    backend = TorchBackend(made)
    held_out = [good.images[i] for i in parts.held_out]
    calibration = _calibrated(backend, reading, held_out, promised, training, checked.is_noise_free)
    facts |= {"n_normal": len(parts.normals), "n_held_out": len(held_out), "n_scenes": parts.n_scenes, "images": hashes}
    facts |= {"noise_added": checked.is_noise_free, "properties": checked.properties()}
    facts |= {"fit_seconds": round(time.monotonic() - start, 1), **_circumstances(made)}
    return Inspector(backend, calibration, reading, facts)


# --- what users give --------------------------------------------------------------------------------------------------


def _training(training: Training | None, seed: int, device: str) -> Training:
    if training is None:
        return Training(seed=seed, device=device)
    if seed or device != "auto":
        raise SettingError("seed and device came beside training, which has its own; give them there")
    return training


def _detector(detector: str | Detector, preset: str, settings: Mapping[str, Any] | None) -> tuple[Detector, str | None]:
    """A detector and the name of its preset; one that is given has none."""
    if isinstance(detector, str):
        return make(detector, preset, settings or {}), preset
    if settings or preset != "fast":
        raise SettingError("a preset or settings came beside a detector that has its own; give them to its constructor")
    if not isinstance(detector, Detector):
        kind = detector if isinstance(detector, type) else type(detector)
        raise SettingError(f"detector={kind.__name__} is no detector; give a name, or an instance such as PatchCore()")
    return detector, None


def _detector_facts(detector: Detector, preset: str | None) -> dict[str, Any]:
    """The name and settings of a detector; of a class from outside, where it is imported from."""
    facts: dict[str, Any] = {"detector": detector.name, "preset": preset, "params": detector.params()}
    if type(detector) not in DETECTORS:
        facts["detector_class"] = import_path(type(detector))
    try:
        json.dumps(facts)
    except TypeError as error:
        raise SettingError(
            f"a setting of {detector.name} is no plain value ({error}); a model file holds those"
        ) from error
    return facts


def _divided(images: Any, held_out: Any, share: float, seed: int) -> Good:
    """The images of a folder as its split divides them, those of the caller as given, or all of them undivided."""
    if not 0 < share < 1:
        raise SettingError(f"held_out_share={share:g} is out of range; give a share between 0 and 1, such as 0.2")
    split = load_dataset(images, held_out_share=share, seed=seed) if isinstance(images, str | Path) else images
    if isinstance(split, Split):
        source = f"{split.name} ({split.layout})"
        if held_out is None:
            return _numbered(split.normals, split.held_out, source, is_drawn=split.is_drawn)
        return _numbered((*split.normals, *split.held_out), Sources(held_out), source)
    good = Sources(images)
    if not len(good):
        raise DatasetError("there are no images to learn from; give good ones")
    source = f"{len(good)} images"
    return Good(good, None, source, share) if held_out is None else _numbered(good, Sources(held_out), source)


def _numbered(normals: Sequence[Any], held_out: Sequence[Any], source: str, *, is_drawn: bool = False) -> Good:
    both = Both(normals, held_out)
    return Good(both, Given(range(len(normals)), range(len(normals), len(both)), is_drawn), source)


class Both(Sequence[Any]):
    """Two sequences, one after the other, without a copy of either."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Any) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


# --- what the fit makes -----------------------------------------------------------------------------------------------


def _calibrated(
    backend: TorchBackend, reading: Reading, held_out: Sequence[Any], rate: float, training: Training, noise: bool
) -> Calibration:
    """Whole images, as they will be judged: the maximum over many tiles is rarer exceeded than that of one."""

    def scored() -> Iterator[tuple[float, Any]]:
        start = time.monotonic()
        for done, one in enumerate(score_held_out(backend.predict, reading, held_out, noise=noise), 1):
            yield one
            left = (time.monotonic() - start) / done * (len(held_out) - done)
            training.progress("calibrate", done, len(held_out), left)

    return Calibration.from_normals(scored(), rate)


def _identity(facts: Mapping[str, Any], reading: Reading, hashes: Mapping[str, Any]) -> str:
    """What a checkpoint must agree on."""
    what = repr((facts["detector"], facts["params"], facts["seed"], reading, hashes["learned"]))
    return hashlib.blake2b(what.encode(), digest_size=8).hexdigest()


def _circumstances(detector: Detector) -> dict[str, Any]:
    """When and with what a fit was made."""
    import timm
    import torch

    return {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "frozen": detector.frozen(),
        "input": {"size": detector.image_size, "channels": "RGB", "range": [0.0, 1.0]},
        "versions": {
            "unmask": unmask.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
        },
    }
