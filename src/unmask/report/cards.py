"""What a report keeps of one result: a row of numbers, and pictures small enough to lie inside the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from unmask.errors import UnmaskError
from unmask.imaging.images import heat, overlay, to_uint8
from unmask.imaging.writing import failing_as
from unmask.inspection.calibration import Calibration
from unmask.inspection.explanation import animate
from unmask.report.thumbnails import data_uri, outlined, shrunk, thumbnail
from unmask.types import AnomalyResult, FailedImage, Region

COLUMNS = (
    "path",
    "page",
    "name",
    "group",
    "error",
    "not_judged",
    "score",
    "threshold",
    "is_anomalous",
    "n_regions",
    "largest_box",
    "largest_area",
    "milliseconds",
    "notes",
)
"""Of a row, in results.json and results.parquet; what is not known is null."""

STEP_THUMBNAIL = 192  # pixels of the longer side of a picture in an explanation


@dataclass(frozen=True)
class Card:
    """What the report keeps of one result.

    Attributes:
        row: of numbers; of an image that could not be judged, with its "error" and without a score.
        pictures: data URIs by their captions; none where the image could not be judged.
        size: (w, h) of them.
        steps: of the explanation: titles, and again data URIs by their captions.
        animation: its address relative to the page; None without an explanation.
    """

    row: dict[str, Any]
    pictures: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    steps: tuple[tuple[str, dict[str, str]], ...] = ()
    animation: str | None = None


def card_of(
    fresh: Path, index: int, result: AnomalyResult, calibration: Calibration, photo: Float[np.ndarray, "3 h w"] | None
) -> Card:
    """The card of a judged image; its animation, if it is explained, is written into the folder `fresh`.

    Raises:
        UnmaskError: its score is not finite.
    """
    if not np.isfinite(result.score):
        raise UnmaskError(f"the score of {result.path or index} is {result.score}; mend the detector that made it")
    small = thumbnail(np.zeros((*result.map.shape, 3), np.uint8) if photo is None else to_uint8(photo))
    h, w = small.shape[1:]
    plane = Image.fromarray(calibration.scaled(result.map)).resize((w, h), Image.Resampling.BILINEAR)
    mask, colours = shrunk(result.mask, h, w), heat(np.asarray(plane))
    pictures = {} if photo is None else {"Outline": data_uri(outlined(to_uint8(small), mask))}
    pictures["Heat map"] = data_uri(overlay(small, colours, np.zeros_like(mask), strength=0.65))
    if result.restored is not None:
        pictures["Repaired"] = data_uri(to_uint8(thumbnail(result.restored)))
    steps = tuple(
        (title, {caption: data_uri(to_uint8(thumbnail(one, STEP_THUMBNAIL)), 70) for caption, one in shown.items()})
        for title, shown in result.explanation
    )
    with failing_as(fresh):
        animation = animate(fresh, index, result) if steps else None
    return Card(_row(index, result), pictures, (w, h), steps, animation)


def failed_card(index: int, failed: FailedImage) -> Card:
    """The card of an image that could not be judged."""
    return Card(
        {
            **dict.fromkeys(COLUMNS),
            **_named(index, failed),
            "error": failed.error,
            "not_judged": failed.not_judged,
            "notes": [],
        }
    )


def _row(index: int, result: AnomalyResult) -> dict[str, Any]:
    largest: Region | None = max(result.regions, key=lambda region: region.area, default=None)
    return {
        **dict.fromkeys(COLUMNS),
        **_named(index, result),
        "score": result.score,
        "threshold": result.threshold,
        "is_anomalous": result.is_anomalous,
        "not_judged": result.not_judged,
        "n_regions": len(result.regions),
        "largest_box": None if largest is None else list(largest.box),
        "largest_area": None if largest is None else largest.area,
        "milliseconds": result.milliseconds.get("total"),
        "notes": list(result.notes),
    }


def _named(index: int, result: AnomalyResult | FailedImage) -> dict[str, Any]:
    path, page = result.path, result.page
    name = f"image {index + 1}" if path is None else path.name
    return {
        "path": None if path is None else str(path),
        "page": page,
        "name": name if page is None else f"{name}, page {page}",
    }
