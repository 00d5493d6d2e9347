"""Learning: good images in, a calibrated inspector out. Labels have no way in."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import unmask
from unmask.detectors import DETECTORS, Detector, make
from unmask.errors import SettingError
from unmask.features.store import check_memory
from unmask.imaging import accounting
from unmask.imaging.alignment import check_way
from unmask.imaging.options import ImageOptions
from unmask.imaging.region import region_of
from unmask.imaging.tiling import Tiling
from unmask.imaging.tolerance import Tolerance
from unmask.inspection import sensitivity, usual
from unmask.inspection.checking import Checked
from unmask.inspection.copies import Copies
from unmask.inspection.crossing import fit_and_score, folds_of
from unmask.inspection.division import Division, divide
from unmask.inspection.good_images import Good, good_images
from unmask.inspection.guarantee import Wanted
from unmask.inspection.held_out import HeldOut, Unseen, score_held_out
from unmask.inspection.inspector import Inspector
from unmask.inspection.looks import warn_of_looks
from unmask.inspection.options import checked_options
from unmask.inspection.plan import Plan, protocol_of, share_of, with_confidence
from unmask.inspection.pooling import expected_alarms, pooled
from unmask.inspection.scoring import Reading
from unmask.inspection.torch_backend import TorchBackend, import_path
from unmask.inspection.training_images import TrainingImages, check_images
from unmask.inspection.usual_pose import in_usual_pose
from unmask.training.trainer import Training


@checked_options
def fit(  # noqa: D417 - arguments that belong together share a line
    images: Any,
    *,
    held_out: Any = None,
    detector: str | Detector = "fuse",
    preset: str = "fast",
    settings: Mapping[str, Any] | None = None,
    tolerate: str = "mild",
    calibrate: str | None = None,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    held_out_share: float | None = None,
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
    """Learn from good images, and calibrate on scores of good images by a detector that has not seen them.

    Args:
        images: a folder or data set, what `load_dataset` gives, or a sequence (or torch Dataset) of images.
        held_out: images to calibrate on, in the same forms; None = `calibrate` decides.
        detector: a name, such as "patchcore+fre", or a detector, such as `PatchCore(coreset=0.1)`, also of your own.
        preset, settings: of the detector that is named, and what replaces some of its settings.
        tolerate: what new good images may differ by: "mild", "none", "strong", or a list of kinds such as
            "blur,shift=6%"; disturbed copies of the images are learned and calibrated on; see `imaging.tolerance`.
        calibrate: "cross" = every image is learned from, and scored by a fit without it; "split" = a share of the
            images is held out; None = cross for detectors that fit in seconds, unless images are held out already.
        false_alarm_rate, confidence: share of good images that may be flagged, in (0, 1) (None = 0.05, or the best
            possible), and with which confidence this fit in itself keeps it, in [0.5, 0.9999] (None = on average).
        held_out_share: of the images, in (0, 1), where calibrate is "split"; None = 0.2.
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
    run, (made, preset_name) = _training(training, seed, device), _detector(detector, preset, settings)
    tiling = Tiling(made.image_size, resize, tile, overlap, **({} if region is None else region_of(region)))
    reading = Reading(tiling, ImageOptions.of(intensity_range, bands, page, max_pixels))
    tolerance, calibrate = Tolerance.parse(tolerate), with_confidence(calibrate, confidence)
    good = good_images(images, held_out, share_of(held_out_share, calibrate), run.seed, recursive=recursive)
    wanted = Wanted(false_alarm_rate, confidence)
    plan = Plan(tolerance, protocol_of(calibrate, made, good, held_out_share), wanted, align)
    return _fitted(made, preset_name, good.in_pages(reading.options), reading, run, plan)


def _fitted(
    made: Detector, preset: str | None, good: Good, reading: Reading, training: Training, plan: Plan
) -> Inspector:
    plan.wanted.check()
    made.check_training(training)
    check_memory(training)
    start = time.monotonic()
    promised = None if plan.is_crossed else good.early_rate(plan.wanted)
    checked = check_images(good.images, reading, training)
    reading = replace(reading, options=replace(reading.options, intensity=checked.intensity))
    given, share = (good.file_of, None) if plan.is_crossed else (good.given or good.file_of, good.share)
    parts = divide(good.images, checked, given, reading, share, training.seed)
    if promised is None or good.given is None or parts.n_scenes != len(good.given.held_out):
        promised = plan.wanted.of(parts.n_scenes)
    reading, checked = in_usual_pose(good.images, parts.normals, reading, checked, plan.align)
    seen = [checked.looks[number] for number in sorted((*parts.normals, *parts.held_out))]
    warn_of_looks(seen, no_noise=checked.is_noise_free)
    tolerance = plan.tolerance.of_grey() if checked.is_grey else plan.tolerance
    copies = Copies(tolerance, checked.is_noise_free, len(parts.normals) + len(parts.held_out))
    hashes = {role: [checked.hashes[i] for i in numbers] for role, numbers in parts.by_role().items()}
    facts = {**_detector_facts(made, preset), "source": good.source, "seed": training.seed, **copies.to_dict()}
    run = replace(training, identity=_identity(facts, reading, hashes))
    learn = _learn_and_cross if plan.is_crossed else _learn_and_hold_out
    unseen = learn(made, Material(good.images, parts, reading, checked, copies), run)
    calibration = pooled(unseen.scored, promised, plan.protocol, plan.wanted.confidence)
    facts |= {"n_normal": len(parts.normals), "n_held_out": len(parts.held_out), "n_scenes": parts.n_scenes}
    facts |= {"images": hashes, "expected_alarms": expected_alarms(unseen.scored, calibration.threshold)}
    facts |= {"properties": checked.properties()}
    facts["sensitivity"] = sensitivity.card(unseen.predict, reading, unseen.images, calibration, training)
    facts[usual.FACT] = usual.Usual.of([look.view for look in seen], [look.copies for look in seen]).to_dict()
    if good.files is not None:
        facts["files"] = accounting.without(good.files, parts.unused(len(good.images), checked))
    facts |= {"fit_seconds": round(time.monotonic() - start, 1), **_circumstances(made)}
    return Inspector(TorchBackend(made), calibration, reading, facts)


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


# --- what the fit makes -----------------------------------------------------------------------------------------------


class Material(NamedTuple):
    """What a detector learns from, and is calibrated on.

    Attributes:
        images: all good images.
        parts: which of them are for what.
        reading: how one becomes squares.
        checked: what is known of them.
        copies: which copies of each there are.
    """

    images: Sequence[Any]
    parts: Division
    reading: Reading
    checked: Checked
    copies: Copies


def _learn_and_cross(detector: Detector, material: Material, training: Training) -> Unseen:
    """Learn from all images; each is scored by a fit without it."""
    images, parts, reading, checked, copies = material
    squares = TrainingImages(images, parts.normals, reading, checked, copies, calibrated=True)
    return fit_and_score(detector, squares, folds_of(parts.units, training.seed), training)


def _learn_and_hold_out(detector: Detector, material: Material, training: Training) -> Unseen:
    """Learn from some images, and score the others: whole, for the maximum over tiles is rarer exceeded than of one."""
    images, parts, reading, checked, copies = material
    detector.fit(TrainingImages(images, parts.normals, reading, checked, copies), training)
    detector.mark_fitted()  # one of the user's may have a `fit` of its own
    held_out, predict = [images[number] for number in parts.held_out], TorchBackend(detector).predict
    scored: list[list[HeldOut]] = []
    start = time.monotonic()
    for done, one in enumerate(score_held_out(predict, reading, held_out, copies), 1):
        scored.append(one)
        training.progress("calibrate", done, len(held_out), (time.monotonic() - start) / done * (len(held_out) - done))
    return Unseen(scored, predict, held_out)


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
