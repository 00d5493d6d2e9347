"""A fitted model to a file that needs no torch: calibrated anew, and kept only if its verdicts are the original's."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import unmask.training  # noqa: F401 - it imports torch, which its settings must precede
from unmask.errors import DependencyError, ModelFileError, SettingError
from unmask.imaging.fingerprints import content_hash
from unmask.imaging.images import Source
from unmask.imaging.writing import failing_as
from unmask.inspection import history, self_test
from unmask.inspection.copies import Copies
from unmask.inspection.export_comparison import MAP_SLACK, SLACK, Exported, carried, compared
from unmask.inspection.exported import SUFFIXES, UNSEALED, ExportedBackend, open_exported, seal
from unmask.inspection.graphs import set_text, write_graph
from unmask.inspection.guarantee import images_needed
from unmask.inspection.held_out import score_held_out
from unmask.inspection.inspector import Inspector
from unmask.inspection.loading import load
from unmask.inspection.model_file import fingerprint
from unmask.inspection.options import checked_options
from unmask.inspection.pooling import pooled
from unmask.inspection.sources import Sources, in_pages
from unmask.inspection.torch_backend import detector_of, judged_by

FORMATS = {name: suffix for suffix, name in SUFFIXES.items()}
PRECISIONS = ("fp32", "fp16", "int8")
MOST_DIFFERING = 0.005
"""Share of verdicts that may differ from the model's."""


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
    arithmetic in fewer bits moves scores, and a threshold that belongs to other scores keeps no promise. Where all
    good images were learned from, the thresholds of the model are kept, or with fewer bits carried over to the scores
    of the graph.

    Args:
        model: a .unmask file.
        path: where to; None = beside the model, under its name.
        to: "onnx" or "openvino".
        precision: of the weights in the file: "fp32", "fp16" or, of ONNX, "int8"; arithmetic stays in float32.
        images: good images, the held-out ones among them; those that were learned from set no threshold.
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
    given = list(in_pages(Sources(images), inspector.reading.options))
    good = _not_learned_from(inspector, given)
    carry = inspector.calibration.protocol == "cross" and precision != "fp32" and bool(given)
    setting = [] if carry else _setting_thresholds(inspector, good, precision)
    with failing_as(target), tempfile.TemporaryDirectory(dir=_folder(target), prefix=".export-") as folder:
        made = Path(folder) / f"export{target.suffix}"
        write_graph(detector_of(inspector.backend), made, to, precision)
        found, facts = _judged(inspector, made, list(good.values()) or given, setting, target, carry=carry)
        _refuse_differences(found, precision, accept)
        facts["exported"] |= {"to": to, "precision": precision, "from": fingerprint(model), "checksum": UNSEALED}
        _put(made, facts, target)
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


def _not_learned_from(inspector: Inspector, images: Iterable[Any]) -> dict[str, Any]:
    """Good images that say something of new ones, each content once by its hash: none that the model learned from."""
    images_of = inspector.facts.get("images", {})
    known = {*images_of.get("learned", []), *images_of.get("left_out", [])}
    found: dict[str, Any] = {}
    for image in images:
        content = content_hash(inspector.reading.pixels(image).values)
        if content not in known:
            found.setdefault(content, image)
    return found


def _setting_thresholds(inspector: Inspector, good: Mapping[str, Source], precision: str) -> list[Source]:
    """The good images that set the export's thresholds: those of the last calibration, if they are all there.

    Only full precision can do without, and keeps the model's thresholds.
    """
    calibration, last = inspector.calibration, history.calibrated_on(inspector.facts)
    if "images" not in inspector.facts:
        if precision != "fp32":
            raise SettingError(
                f"{precision} moves scores, and the model does not say which images it learned from, so none can set "
                "thresholds; fit again, or export in fp32"
            )
        return []
    needed = images_needed(calibration.false_alarm_rate, calibration.confidence)
    setting = [image for content, image in good.items() if not last or content in last]
    if len(setting) < needed and precision != "fp32":
        which = "that it was calibrated on" if last else "that were not learned from"
        where = "give those of its last calibration" if last else "give the folder of the fit, or more good images"
        raise SettingError(
            f"{precision} moves scores, so its thresholds need {needed} good images {which}, got "
            f"{len(setting)}; {where}"
        )
    return setting if len(setting) >= max(needed, len(last)) else []


# --- after ------------------------------------------------------------------------------------------------------------


def _judged(
    inspector: Inspector,
    made: Path,
    good: Sequence[Source],
    setting: Sequence[Source],
    target: Path,
    *,
    carry: bool,
) -> tuple[Exported, dict[str, Any]]:
    """Calibrate a graph, compare it with its model, and gather what its file says about itself."""
    backend = ExportedBackend(made)
    twin = _calibrated(inspector, backend, setting)
    if carry:
        twin.calibration = carried(inspector, twin, good)
    found = compared(inspector, twin, good, target, len(setting))
    differing = found.differing if found.verdicts else None
    facts = {
        **{name: value for name, value in inspector.facts.items() if name != history.EARLIER},  # of the model's scores
        **judged_by(twin),
        "self_test": self_test.answers(backend.predict, twin.tiling.size),
        "exported": {"compared_verdicts": found.verdicts, "differing_verdicts": differing},
    }
    return found, facts


def _calibrated(inspector: Inspector, backend: ExportedBackend, good: Sequence[Source]) -> Inspector:
    """The exported model; without good images it keeps the original's thresholds."""
    calibration, reading = inspector.calibration, inspector.reading
    if good:
        scored = list(score_held_out(backend.predict, reading, good, Copies.of(inspector.facts, len(good))))
        calibration = pooled(scored, calibration.false_alarm_rate, "split", calibration.confidence)
    return Inspector(backend, calibration, reading, inspector.facts)


def _put(made: Path, facts: Mapping[str, Any], target: Path) -> None:
    """Write what a file says about itself into it, and take it to its place; OpenVINO has its weights apart."""
    set_text(made, json.dumps(facts))
    seal(made)
    open_exported(made)  # OpenVINO does not say that a disk is full
    for suffix in {target.suffix, ".bin" if target.suffix == ".xml" else target.suffix}:
        made.with_suffix(suffix).replace(target.with_suffix(suffix))


def _refuse_differences(found: Exported, precision: str, accept: bool) -> None:
    if precision == "fp32" and (found.difference > SLACK or found.map_difference > MAP_SLACK):
        raise ModelFileError(
            f"the exported scores differ by {found.difference:.2g} and the maps by {found.map_difference:.2g} of "
            f"themselves, fp32 allows {SLACK:g} and {MAP_SLACK:g}; nothing was written: report this, and use the "
            ".unmask file"
        )
    remedy = "export in fp32" if precision != "fp32" else "give the good images that the fit held out with --images"
    if found.differing > MOST_DIFFERING * found.verdicts and not accept:
        raise ModelFileError(
            f"{found.differing} of {found.verdicts} verdicts in {precision} differ from the model's, "
            f"{MOST_DIFFERING:.1%} may; nothing was written: {remedy}, or accept them with --accept"
        )
