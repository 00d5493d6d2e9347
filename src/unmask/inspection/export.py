"""A fitted model to a file that needs no torch: calibrated anew, and kept only if its verdicts are the original's."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

import unmask.training  # noqa: F401 - it imports torch, which its settings must precede
from unmask.errors import DependencyError, ModelFileError, SettingError
from unmask.imaging.fingerprints import content_hash
from unmask.imaging.images import Source, to_uint8
from unmask.imaging.options import DEFAULTS
from unmask.imaging.writing import failing_as
from unmask.inspection import self_test
from unmask.inspection.calibration import Calibration, images_needed
from unmask.inspection.exported import SUFFIXES, UNSEALED, ExportedBackend, open_exported, seal
from unmask.inspection.graphs import set_text, write_graph
from unmask.inspection.held_out import score_held_out
from unmask.inspection.inspector import Inspector
from unmask.inspection.loading import load
from unmask.inspection.model_file import fingerprint
from unmask.inspection.options import checked_options
from unmask.inspection.scoring import Reading, score_or_raise
from unmask.inspection.sources import Sources, in_pages
from unmask.inspection.torch_backend import detector_of, judged_by
from unmask.types import ArrayPrediction

FORMATS = {name: suffix for suffix, name in SUFFIXES.items()}
PRECISIONS = ("fp32", "fp16", "int8")
SLACK = 1e-3
"""How far scores and maps of an fp32 export may be from the model's: a share of the threshold or of themselves."""
MOST_DIFFERING = 0.005
"""Share of verdicts that may differ from the model's."""
COMPARED = 100  # images, each as it is and with `DISTURBED`


class Exported(NamedTuple):
    """What came of an export.

    Attributes:
        path: of the file.
        difference: the largest between its scores and the model's, as a share of the threshold or of themselves.
        map_difference: likewise of the maps.
        calibrated_on: good images that its thresholds come from; 0 = they are the model's.
        verdicts: that were compared: of those images, and of disturbed copies of them.
        differing: verdicts that differ.
    """

    path: Path
    difference: float
    map_difference: float
    calibrated_on: int
    verdicts: int
    differing: int


@checked_options
def export(
    model: str | Path,
    path: str | Path | None = None,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    images: Sequence[Source] = (),
    accept: bool = False,
    detector: type | None = None,
) -> Exported:
    """Write a model for machines without torch, and keep it only if its verdicts are the original's.

    Its thresholds are set anew from the scores that its own graph gives to good images that were not learned from:
    arithmetic in fewer bits moves scores, and a threshold that belongs to other scores keeps no promise.

    Args:
        model: a .unmask file.
        path: where to; None = beside the model, under its name.
        to: "onnx" or "openvino".
        precision: of the weights in the file: "fp32", "fp16" or, of ONNX, "int8"; arithmetic stays in float32.
        images: good images, the held-out ones among them; those that were learned from are left out.
        accept: keep the file even if more than 0.5 % of the verdicts differ.
        detector: the class of the detector, where it is not one of unmask's.

    Raises:
        SettingError: an unknown format or precision, a detector that cannot be exported, or fewer bits with too few
            good images to set thresholds.
        DependencyError: a package is missing.
        ModelFileError: the model cannot be read, the place not be written, or verdicts differ.
    """
    _check(to, precision)
    inspector = load(model, backend="torch", device="cpu", detector=detector)
    target = _target(inspector, Path(model), path, to)
    good = _not_learned_from(inspector, in_pages(Sources(images), inspector.reading.options))
    anew = _may_be_calibrated(inspector, good, precision)
    with failing_as(target), tempfile.TemporaryDirectory(dir=_folder(target), prefix=".export-") as folder:
        made = Path(folder) / f"export{target.suffix}"
        write_graph(detector_of(inspector.backend), made, to, precision)
        found, facts = _judged(inspector, made, good, anew, target)
        _refuse_differences(found, precision, accept)
        facts["exported"] |= {"to": to, "precision": precision, "from": fingerprint(model), "checksum": UNSEALED}
        set_text(made, json.dumps(facts))
        seal(made)
        open_exported(made)  # OpenVINO does not say that a disk is full
        for suffix in {target.suffix, ".bin" if to == "openvino" else target.suffix}:
            made.with_suffix(suffix).replace(target.with_suffix(suffix))
    return found


# --- before -----------------------------------------------------------------------------------------------------------


def _check(to: str, precision: str) -> None:
    if to not in FORMATS:
        raise SettingError(f"to={to} is unknown; give {' or '.join(FORMATS)}")
    if precision not in PRECISIONS:
        raise SettingError(f"precision={precision} is unknown; give {', '.join(PRECISIONS)}")
    if (to, precision) == ("openvino", "int8"):
        raise SettingError("weights in int8 are written to ONNX only; give --to onnx, or --precision fp16")
    for package in ["onnx", "onnxscript", *(["openvino"] if to == "openvino" else [])]:
        if find_spec(package) is None:
            extra = "train" if package.startswith("onnx") else "openvino"
            raise DependencyError(
                f"{package} is not installed, and this export needs it; run: pip install 'unmask[{extra}]'"
            )


def _target(inspector: Inspector, model: Path, path: str | Path | None, to: str) -> Path:
    if reason := detector_of(inspector.backend).not_exportable():
        raise SettingError(f"{inspector.facts['detector']} cannot be exported: {reason}")
    target = Path(path) if path else model.with_suffix(FORMATS[to])
    if target.suffix != FORMATS[to]:
        raise SettingError(f"{target} should end in {FORMATS[to]}, as {to} files do")
    return target


def _folder(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelFileError(f"{target} cannot be written ({error.strerror}); give another place") from error
    if not os.access(target.parent, os.W_OK):
        raise ModelFileError(f"{target} cannot be written; give another place")
    return target.parent


def _not_learned_from(inspector: Inspector, images: Iterable[Any]) -> list[Any]:
    """Good images that may set a threshold: each content once, none that the model learned from."""
    images_of = inspector.facts.get("images", {})
    known = {*images_of.get("learned", []), *images_of.get("left_out", [])}
    found = []
    for image in images:
        content = content_hash(inspector.reading.pixels(image).values)
        if content not in known:
            known.add(content)
            found.append(image)
    return found


def _may_be_calibrated(inspector: Inspector, good: Sequence[Source], precision: str) -> bool:
    """Whether there are enough good images for thresholds of its own; only full precision can do without."""
    needed = images_needed(inspector.calibration.false_alarm_rate)
    if len(good) < needed and precision != "fp32":
        raise SettingError(
            f"{precision} moves scores, so its thresholds need {needed} good images that were not learned from, got "
            f"{len(good)}; give the folder of the fit, or more good images"
        )
    return len(good) >= needed


# --- after ------------------------------------------------------------------------------------------------------------


def _judged(
    inspector: Inspector, made: Path, good: Sequence[Source], anew: bool, target: Path
) -> tuple[Exported, dict[str, Any]]:
    """Calibrate a graph, compare it with its model, and gather what its file says about itself."""
    backend = ExportedBackend(made)
    twin = _calibrated(inspector, backend, good if anew else [])
    found = _compared(inspector, twin, good, target)
    differing = found.differing if found.verdicts else None
    facts = {
        **inspector.facts,
        **judged_by(twin),
        "self_test": self_test.answers(backend.predict, twin.tiling.size),
        "exported": {"compared_verdicts": found.verdicts, "differing_verdicts": differing},
    }
    return found, facts


def _calibrated(inspector: Inspector, backend: ExportedBackend, good: Sequence[Source]) -> Inspector:
    """The exported model; without good images it keeps the original's thresholds."""
    calibration, reading = inspector.calibration, inspector.reading
    if good:
        noise = bool(inspector.facts.get("noise_added"))
        scored = score_held_out(backend.predict, reading, good, noise=noise)
        calibration = Calibration.from_normals(scored, calibration.false_alarm_rate)
    return Inspector(backend, calibration, reading, inspector.facts)


def _compared(original: Inspector, twin: Inspector, good: Sequence[Source], target: Path) -> Exported:
    """Scores and maps of the built-in picture, and scores, maps and verdicts of good images and disturbed copies."""
    square = self_test.picture(original.tiling.size)
    a, b = original.backend.predict(square), twin.backend.predict(square)
    scores, maps = _differences(original, a, b)
    verdicts = differing = 0
    plain = replace(original.reading, options=DEFAULTS)
    for variant in _variants(original.reading, good[:COMPARED]):
        one, other = _scored(original, plain, variant), _scored(twin, plain, variant)
        more = _differences(original, one, other)
        scores, maps = max(scores, more[0]), max(maps, more[1])
        verdicts += 1
        differing += _differ(_margin(original, one), _margin(twin, other))
    calibrated_on = twin.calibration.n_held_out if twin.calibration is not original.calibration else 0
    return Exported(target, scores, maps, calibrated_on, verdicts, differing)


def _margin(inspector: Inspector, prediction: ArrayPrediction) -> float:
    """How far a score lies above the threshold, as a share of it."""
    threshold = inspector.calibration.threshold
    return (float(prediction.scores[0]) - threshold) / max(abs(threshold), 1e-6)


def _differ(a: float, b: float) -> bool:
    """Whether two verdicts differ by more than rounding: one held-out score is the threshold itself."""
    return (a > 0) != (b > 0) and max(abs(a), abs(b)) > SLACK


def _scored(inspector: Inspector, reading: Reading, image: np.ndarray) -> ArrayPrediction:
    (one,) = score_or_raise(inspector.backend.predict, reading, [image])
    return ArrayPrediction(one.map[None], np.array([one.score]))


def _differences(original: Inspector, a: ArrayPrediction, b: ArrayPrediction) -> tuple[float, float]:
    calibration = original.calibration
    return (
        _difference(a.scores, b.scores, calibration.threshold),
        _difference(a.maps, b.maps, calibration.pixel_threshold),
    )


def _difference(a: np.ndarray, b: np.ndarray, usual: float) -> float:
    return float((np.abs(a - b) / np.maximum(np.abs(a), abs(usual))).max())


def _refuse_differences(found: Exported, precision: str, accept: bool) -> None:
    if precision == "fp32" and max(found.difference, found.map_difference) > SLACK:
        raise ModelFileError(
            f"the exported scores differ by {found.difference:.2g} and the maps by {found.map_difference:.2g} of "
            f"themselves, fp32 allows {SLACK:g}; nothing was written: report this, and use the .unmask file"
        )
    if found.differing > MOST_DIFFERING * found.verdicts and not accept:
        raise ModelFileError(
            f"{found.differing} of {found.verdicts} verdicts in {precision} differ from the model's, "
            f"{MOST_DIFFERING:.1%} may; nothing was written: export in fp32, or accept them with --accept"
        )


# --- disturbed copies spread the scores, so that verdicts near the threshold are compared too -------------------------


def _variants(reading: Reading, good: Sequence[Source]) -> Iterator[Float[np.ndarray, "h w 3"]]:
    for number, source in enumerate(good):
        image = reading.decode(source)
        yield image.transpose(1, 2, 0)
        for disturb in DISTURBED:
            yield disturb(image, np.random.default_rng(number)).transpose(1, 2, 0)


def _moved_patch(image: np.ndarray, random: np.random.Generator, opacity: float = 0.4) -> np.ndarray:
    """A patch of an eighth of the sides, laid thinly over another place: a faint defect."""
    h, w = image.shape[1:]
    ph, pw = max(1, h // 8), max(1, w // 8)
    (y, x), (to_y, to_x) = ((random.integers(0, h - ph + 1), random.integers(0, w - pw + 1)) for _ in range(2))
    changed = image.copy()
    room = changed[:, to_y : to_y + ph, to_x : to_x + pw]
    room += np.float32(opacity) * (image[:, y : y + ph, x : x + pw] - room)
    return changed


def _softened(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    blurred = Image.fromarray(to_uint8(image)).filter(ImageFilter.GaussianBlur(0.7))
    return np.asarray(blurred, np.float32).transpose(2, 0, 1) / np.float32(255)


def _brightened(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.clip(image * np.float32(1.05), 0, 1)


DISTURBED: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (_moved_patch, _softened, _brightened)
