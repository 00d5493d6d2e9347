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
from unmask.imaging import accounting
from unmask.imaging.alignment import check_way
from unmask.imaging.options import ALL, ImageOptions
from unmask.imaging.region import region_of
from unmask.imaging.tiling import Tiling
from unmask.inspection.calibration import Calibration, rate_for
from unmask.inspection.division import Given, divide
from unmask.inspection.held_out import score_held_out
from unmask.inspection.inspector import Inspector
from unmask.inspection.looks import warn_of_looks
from unmask.inspection.options import checked_options
from unmask.inspection.scoring import Reading
from unmask.inspection.sources import Sources, in_pages
from unmask.inspection.torch_backend import TorchBackend, import_path
from unmask.inspection.training_images import TrainingImages, check_images
from unmask.inspection.usual_pose import in_usual_pose
from unmask.training.trainer import Training
from unmask.types import Split

HELD_OUT_SHARE = 0.2


class Good(NamedTuple):
    """Good images.

    Attributes:
        images: all of them.
        given: how they are divided; None = by their contents.
        source: where they come from, in words.
        share: of them to hold out, where they are divided by their contents.
        file_of: for each image the number of its file, where several come from one; they stay on one side.
        files: of the data set, how many were seen, used and skipped; None = they are from no folder.
    """

    images: Sequence[Any]
    given: Given | None
    source: str
    share: float = HELD_OUT_SHARE
    file_of: Sequence[int] | None = None
    files: dict[str, Any] | None = None

    def early_rate(self, wanted: float | None) -> float | None:
        """The rate that can be promised as far as is known before anything is decoded; None = not known yet.

        Raises:
            CalibrationError: too few images are held out.
        """
        if self.given is None or (self.given.is_drawn and not self.given.held_out):
            return None
        return rate_for(len(self.given.held_out), wanted)

    def in_pages(self, options: ImageOptions) -> Good:
        """The same, with each picture of a file as an image of its own where a user wants all pages."""
        if options.page != ALL:
            return self
        paged = [list(in_pages([image], options)) for image in self.images]
        files = [number for number, pages in enumerate(paged) for _ in pages]
        images = [page for pages in paged for page in pages]
        if self.given is None:
            return self._replace(images=images, file_of=files)
        normals, held_out = set(self.given.normals), set(self.given.held_out)
        given = Given(
            [number for number, file in enumerate(files) if file in normals],
            [number for number, file in enumerate(files) if file in held_out],
            is_drawn=False,
        )
        return self._replace(images=images, given=given)


@checked_options
def fit(  # noqa: D417 - arguments that belong together share a line
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
    bands: str | Sequence[int] | None = None,
    page: str | int | None = None,
    max_pixels: float | None = None,
    recursive: bool = True,
    align: str = "none",
) -> Inspector:
    """Learn from good images, and calibrate on others of them, which the detector does not see.

    Args:
        images: a folder or data set, what `load_dataset` gives, or a sequence (or torch Dataset) of images.
        held_out: images to calibrate on, in the same forms; None = a share of `images`.
        detector: a name, such as "patchcore+fre", or a detector, such as `PatchCore(coreset=0.1)`, also of your own.
        preset, settings: of the detector that is named, and what replaces some of its settings.
        false_alarm_rate: share of good images that may be flagged, in (0, 1); None = 0.05, or the best possible.
        held_out_share: of the images, in (0, 1).
        seed, device: random seed; "auto", "cpu", "cuda" or "mps".
        training: how to run, with checkpoints and limits; it takes the place of seed and device.
        resize: of images that are not square: "squash", "fit" or "crop"; see `Tiling`.
        tile, overlap: side of the tiles that images are cut into, in pixels, and the share of it that neighbours share.
        region: of interest: x0,y0,x1,y1 in pixels, or the path of a picture whose white part is judged.
        intensity_range: values that become black and white, (0, 4095); None = learned from 16-bit images.
        bands: which become grey (one) or RGB (three), counted from 1: (3, 2, 1); see docs/images.md, as the next two.
        page, max_pixels: which picture of several, from 1, or "all"; the most pixels of an image, None = 100 million.
        recursive: whether folders inside a folder of good images are learned from; see `load_dataset`.
        align: bring the part to one pose before it is judged: "none", "shift" (up to a quarter) or "turn" (any angle).

    Raises:
        UnmaskError: of a kind that names the cause: bad images, too few of them, an unknown setting, no weights.
    """
    check_way(align)
    run = _training(training, seed, device)
    made, preset_name = _detector(detector, preset, settings)
    tiling = Tiling(made.image_size, resize, tile, overlap, **({} if region is None else region_of(region)))
    reading = Reading(tiling, ImageOptions.of(intensity_range, bands, page, max_pixels))
    good = _divided(images, held_out, held_out_share, run.seed, recursive=recursive).in_pages(reading.options)
    return _fitted(made, preset_name, good, reading, run, false_alarm_rate, align)


def _fitted(
    made: Detector, preset: str | None, good: Good, reading: Reading, training: Training, rate: float | None, align: str
) -> Inspector:
    made.check_training(training)
    check_memory(training)
    start = time.monotonic()
    promised = good.early_rate(rate)
    checked = check_images(good.images, reading, training)
    reading = replace(reading, options=replace(reading.options, intensity=checked.intensity))
    parts = divide(good.images, checked, good.given or good.file_of, reading, good.share, training.seed)
    if promised is None or good.given is None or parts.n_scenes != len(good.given.held_out):
        promised = rate_for(parts.n_scenes, rate)
    reading, checked = in_usual_pose(good.images, parts.normals, reading, checked, align)
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
    if good.files is not None:
        facts["files"] = accounting.without(good.files, parts.unused(len(good.images), checked))
    facts |= {"fit_seconds": round(time.monotonic() - start, 1), **_circumstances(made)}
    return Inspector(backend, calibration, reading, facts)


# --- what users give --------------------------------------------------------------------------------------------------


def _training(training: Training | None, seed: int, device: str) -> Training:
    if training is None:
        return Training(seed=seed, device=device)
    if not isinstance(training, Training):
        raise SettingError(f"training is a {type(training).__name__}; give unmask.training.trainer.Training(...)")
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


def _divided(images: Any, held_out: Any, share: float, seed: int, *, recursive: bool) -> Good:
    """The images of a folder as its split divides them, those of the caller as given, or all of them undivided."""
    if not 0 < share < 1:
        raise SettingError(f"held_out_share={share:g} is out of range; give a share between 0 and 1, such as 0.2")
    if isinstance(images, str | Path):
        images = load_dataset(images, held_out_share=share, seed=seed, recursive=recursive)
    if isinstance(images, Split):
        source = f"{images.name} ({images.layout})"
        files = accounting.counts(images.seen, images.skipped) if images.seen else None
        if held_out is None:
            return _numbered(images.normals, images.held_out, source, is_drawn=images.is_drawn)._replace(files=files)
        both = (*images.normals, *images.held_out)
        return _numbered(both, Sources(held_out), source)._replace(files=files)
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
