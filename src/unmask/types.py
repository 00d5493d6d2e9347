"""The nouns that pass between rooms. Nothing here computes.

Units, once: an image is RGB float32 in [0, 1], (3, h, w); a box is (x0, y0, x1, y1) in pixels, its end excluded; a rate
is in [0, 1]; a higher score is more anomalous.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

if TYPE_CHECKING:
    from torch import Tensor


class Skip(StrEnum):
    """Why a file is skipped. A layout of data sets may have reasons of its own, such as "depth image"."""

    UNREADABLE = "unreadable"
    BROKEN_LINK = "broken link"
    LOOP = "link in a circle"
    TWICE = "the same file twice"
    COPY = "copy of another image"
    BLANK = "shows nothing"
    SPECIAL = "special file"
    HIDDEN = "hidden"
    THUMBNAIL = "thumbnail"
    TRASH = "deleted file"
    REPORT = "part of a report"
    MODEL = "model file"
    NOT_IMAGE = "not an image"
    NESTED = "nested folder"
    DEFECTS = "folder named like defects"
    MASK = "mask"
    UNUSED = "not part of the layout"


@dataclass(frozen=True)
class SkippedFile:
    """A file, or a folder that cannot be opened, that was seen and not used.

    Attributes:
        path: of the file.
        reason: one of `Skip`, or what a layout of data sets says.
    """

    path: Path
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the names of `AnomalyResult.to_dict`; there is no score and no verdict."""
        return {**FailedImage("", self.path).to_dict(), "error": None, "skipped": str(self.reason)}


@dataclass(frozen=True)
class Outlines:
    """A mask that an annotation file describes, before it is drawn.

    Attributes:
        file: the annotation file.
        size: (width, height) in pixels of the image that was annotated.
        polygons: the corners of each, as x0, y0, x1, y1, ... in pixels from the upper left corner of that image.
        runs: the lengths of runs of pixels down the columns, in turn outside and inside a region; one tuple a region.
    """

    file: Path
    size: tuple[int, int]
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[tuple[int, ...], ...] = ()


Mask = Path | Outlines
"""Where ground truth comes from: the file of a mask, or outlines in an annotation file."""


@dataclass(frozen=True)
class Sample:
    """One image of a test set, with what is known about it.

    Attributes:
        path: the image file.
        anomalous: the label; True for any kind of defect.
        kind: the name of its class, such as "good" or "broken_large".
        masks: ground truth, one a defect (MVTec LOCO) or one an image; empty when none exist.
        saturation: for each mask, the area in pixels at which its overlap counts as full (MVTec LOCO); empty elsewhere.
    """

    path: Path
    anomalous: bool
    kind: str
    masks: tuple[Mask, ...] = ()
    saturation: tuple[float, ...] = ()


@dataclass(frozen=True)
class Split:
    """A data set, divided once: what to learn from, what to calibrate on, what to be judged on.

    Attributes:
        name: the folder's name.
        layout: which layout was recognised, such as "MVTec AD".
        normals: images to learn from.
        held_out: normal images that no detector sees; thresholds come from them.
        test: labelled images; only the benchmark opens them.
        has_masks: whether pixel metrics can be computed.
        warnings: one line each, for the user.
        is_drawn: whether hashes of names alone chose the images that are held out, and neither authors nor groups did.
        seen: how many files lie in its folder, or are named by its table.
        skipped: those of them that nothing is done with.
        rule: what beside the seed decides which images are held out: "held out|name" of each that authors hold out, and
            "group|name|group" of each in a group; sorted, and empty where names alone decide.
    """

    name: str
    layout: str
    normals: tuple[Path, ...]
    held_out: tuple[Path, ...]
    test: tuple[Sample, ...] = ()
    has_masks: bool = False
    warnings: tuple[str, ...] = ()
    is_drawn: bool = False
    seen: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    rule: tuple[str, ...] = ()


class Prediction(NamedTuple):
    """What a detector says of a batch of b images of s x s pixels.

    Attributes:
        maps: (b, s, s) anomaly of each pixel.
        scores: (b,) anomaly of each image.
        restored: (b, 3, s, s) the image as the detector would have it, in [0, 1]; None where it has none.
    """

    maps: Float[Tensor, "b s s"]
    scores: Float[Tensor, " b"]
    restored: Float[Tensor, "b 3 s s"] | None = None


class ArrayPrediction(NamedTuple):
    """The same as `Prediction`, in NumPy: what everything behind a detector works on."""

    maps: Float[np.ndarray, "b s s"]
    scores: Float[np.ndarray, " b"]
    restored: Float[np.ndarray, "b 3 s s"] | None = None


class Step(NamedTuple):
    """One step of how a detector came to its map, for one image of s x s pixels.

    Attributes:
        title: such as "pass 1 of 2".
        pictures: captions and pictures, (3, s, s) RGB in [0, 1].
        maps: captions and maps, (s, s) in [0, 1]: 0 = as on normal images, 1 = far from them. They are drawn as heat
            over the image. No caption names both a picture and a map.
    """

    title: str
    pictures: dict[str, Float[Tensor, "3 s s"]]
    maps: dict[str, Float[Tensor, "s s"]]


class Frame(NamedTuple):
    """One step of an explanation, ready to be looked at.

    Attributes:
        title: of the step.
        pictures: captions and RGB bytes (h, w, 3), the step's pictures first, then its maps in heat colours. They have
            the image's own size; one whose longer side has more than 512 pixels is reduced to 512.
    """

    title: str
    pictures: dict[str, UInt8[np.ndarray, "h w 3"]]


@dataclass(frozen=True)
class Region:
    """One connected anomalous region (8-neighbours) of a mask.

    Attributes:
        box: (x0, y0, x1, y1) in pixels, end excluded.
        area: pixels.
        peak: the map's largest value inside.
        peak_at: (x, y) of that value.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float
    peak_at: tuple[int, int]


RESULT_VERSION = 1
"""Of the plain values that `to_dict` gives; raised when a name or a meaning changes."""


@dataclass(frozen=True, eq=False)
class AnomalyResult:
    """The verdict on one image of h x w pixels.

    Attributes:
        score: anomaly of the image.
        threshold: scores above it are anomalous; from held-out normal images.
        is_anomalous: score > threshold.
        map: (h, w) float32, anomaly of each pixel.
        pixel_threshold: map values above it are anomalous; from held-out normal images.
        mask: (h, w) map > pixel_threshold.
        regions: the mask's connected regions, the highest peak first.
        restored: (h, w, 3) uint8, the image as it should have been, or None where the detector restores none.
        milliseconds: time of each step ("decode", "predict", "regions") and their "total"; that of an explanation is
            not counted.
        path: where the image came from, when it came from a file.
        explanation: the steps that led to the map, in order; empty if not asked for, or if the detector has none.
        notes: what to know about this image before its verdict is trusted, one line each.
        page: number of the picture in its file, counted from 1, where a page was chosen or all were judged.
        not_judged: why it would be refused, where it was judged all the same; see `FailedImage`.
        change: what has changed in the stream of images, once that was noticed: one line.
        pose: how the part lay, where images are aligned and it was found; see `unmask.imaging.poses.Pose`.
    """

    score: float
    threshold: float
    is_anomalous: bool
    map: Float[np.ndarray, "h w"]
    pixel_threshold: float
    mask: Bool[np.ndarray, "h w"]
    regions: tuple[Region, ...]
    restored: UInt8[np.ndarray, "h w 3"] | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    path: Path | None = None
    explanation: tuple[Frame, ...] = ()
    notes: tuple[str, ...] = ()
    page: int | None = None
    not_judged: str | None = None
    change: str | None = None
    pose: dict[str, float] | None = None

    @property
    def error(self) -> None:
        """None: this image was judged. A `FailedImage` has its reason here."""
        return

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without map and pictures; a box is (x0, y0, x1, y1) in pixels, end excluded."""
        return {
            **FailedImage("", self.path, self.page, self.not_judged, self.change).to_dict(),
            "error": None,
            "score": self.score,
            "threshold": self.threshold,
            "is_anomalous": self.is_anomalous,
            "regions": [asdict(region) for region in self.regions],
            "milliseconds": self.milliseconds,
            "notes": list(self.notes),
            "pose": self.pose,
            "skipped": None,
        }


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be judged. It has no verdict: it is neither good nor anomalous.

    Attributes:
        error: why, in one line.
        path: where the image came from, when it came from a file.
        page: number of the picture in its file, counted from 1, where a page was chosen or all were judged.
        not_judged: why it was refused, where it could be read and is nothing like the good images; None otherwise.
        change: what has changed in the stream of images, once that was noticed: one line.
    """

    error: str
    path: Path | None = None
    page: int | None = None
    not_judged: str | None = None
    change: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the names of `AnomalyResult.to_dict`; there is no score and no verdict."""
        return {
            "version": RESULT_VERSION,
            "path": None if self.path is None else str(self.path),
            "page": self.page,
            "error": self.error,
            "not_judged": self.not_judged,
            "change": self.change,
            "score": None,
            "threshold": None,
            "is_anomalous": None,
            "regions": [],
            "milliseconds": {},
            "notes": [],
            "pose": None,
            "skipped": None,
        }
