"""A fitted, calibrated detector that judges images of any size: fit, inspect, save, load.

Nothing here imports torch: what computes is a backend, with torch or without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Float

from unmask.errors import ImageError, SettingError
from unmask.imaging.poses import returned_picture
from unmask.imaging.properties import differences, is_grey, properties_of
from unmask.imaging.tiling import Tiling
from unmask.inspection.calibration import Calibration, regions
from unmask.inspection.explanation import frames, stretched
from unmask.inspection.options import checked_options
from unmask.inspection.scoring import BATCH, Reading, Scored, score_images
from unmask.inspection.sources import ImagePage, file_of, in_pages, several
from unmask.types import AnomalyResult, ArrayPrediction, FailedImage, Frame, Step

if TYPE_CHECKING:
    from unmask.detectors import Detector

ON_ERROR = ("raise", "record")


@runtime_checkable
class Backend(Protocol):
    """What computes maps and scores."""

    @property
    def name(self) -> str:
        """One of "torch", "onnx" and "openvino"."""

    @property
    def device(self) -> str:
        """Where it computes, such as "cpu" or "cuda"."""

    def predict(self, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        """Score squares, RGB in [0, 1]."""

    def explain(self, square: Float[np.ndarray, "3 s s"]) -> Sequence[Step]:
        """The steps that led to a square's map.

        Raises:
            SettingError: the backend cannot explain.
        """


class Inspector:
    """Judges images of any size.

    One inspector may be used by several threads at once: judging changes nothing in it.

    Attributes:
        backend: what computes.
        calibration: what scores and maps mean.
        reading: how an image becomes squares for the backend.
        facts: plain values that the model file keeps and `unmask info` prints.
    """

    def __init__(self, backend: Backend, calibration: Calibration, reading: Reading, facts: Mapping[str, Any]) -> None:
        self.backend, self.calibration, self.reading, self.facts = backend, calibration, reading, dict(facts)

    @classmethod
    def fit(cls, images: Any, **options: Any) -> Inspector:
        """Learn from good images; see `unmask.fit` for the options."""
        from unmask.inspection.fitting import fit

        return fit(images, **options)

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> Inspector:
        """Open a model file; see `unmask.load` for the options."""
        from unmask.inspection.loading import load

        return load(path, **options)

    @property
    def tiling(self) -> Tiling:
        """How an image becomes squares."""
        return self.reading.tiling

    @property
    def detector(self) -> Detector:
        """The fitted detector.

        Raises:
            SettingError: the model was exported; only the backend "torch" has a detector.
        """
        from unmask.inspection.torch_backend import detector_of

        return detector_of(self.backend)

    @checked_options
    def inspect(self, image: Any, *, explain: bool = False) -> AnomalyResult:
        """Judge one image.

        Args:
            image: a path, the bytes of a file, a file opened with mode "rb", a Pillow image, a tensor (3, h, w), or an
                array (h, w), (h, w, 3) or (h, w, 4) of uint8, uint16 or float in [0, 1]; see docs/images.md.
            explain: also give the steps that led to the map (of tiles, of the one that scored highest).

        Raises:
            ImageError: it cannot be read, does not hold the region of interest, or its map is not finite.
            SettingError: the backend cannot explain.
        """
        results = list(self.inspect_many([image], explain=explain))
        if len(results) > 1:
            raise ImageError(f"the file holds {len(results)} pictures, each a result of its own; call inspect_many")
        return results[0]

    @overload
    def inspect_many(
        self,
        images: Iterable[Any],
        batch_size: int = BATCH,
        *,
        on_error: Literal["raise"] = "raise",
        explain: bool = False,
        recursive: bool = True,
    ) -> Iterator[AnomalyResult]: ...

    @overload
    def inspect_many(
        self,
        images: Iterable[Any],
        batch_size: int = BATCH,
        *,
        on_error: str,
        explain: bool = False,
        recursive: bool = True,
    ) -> Iterator[AnomalyResult | FailedImage]: ...

    @checked_options
    def inspect_many(
        self,
        images: Any,
        batch_size: int = BATCH,
        *,
        on_error: str = "raise",
        explain: bool = False,
        recursive: bool = True,
    ) -> Iterator[Any]:
        """Judge images one after the other; the times in a result are means over its batch.

        Args:
            images: each as `inspect` takes it, read when its turn comes; or a folder of image files.
            batch_size: squares that are scored together, 1 or more.
            on_error: of an image that cannot be judged: "raise" its error, or "record" it as a `FailedImage` in its
                place and go on.
            explain: see `inspect`.
            recursive: of a folder: also judge images in folders inside it.

        Raises:
            ImageError: an image cannot be judged, and on_error is "raise".
            SettingError: batch_size or on_error is none of these, or the backend cannot explain.
            DatasetError: a path came and nothing is there, or what came is one image, or holds none.
        """
        if on_error not in ON_ERROR:
            raise SettingError(f"on_error={on_error!r} is unknown; give {' or '.join(ON_ERROR)}")
        if batch_size < 1:
            raise SettingError(f"batch_size={batch_size} is out of range; give 1 or more")
        return self._judged(several(images, recursive=recursive), batch_size, on_error, explain)

    def _judged(
        self, images: Iterable[Any], batch: int, on_error: str, explain: bool
    ) -> Iterator[AnomalyResult | FailedImage]:
        sources = in_pages(images, self.reading.options)
        for one in score_images(self.backend.predict, self.reading, sources, batch):
            if isinstance(one, Scored):
                yield self._result(one, self._explanation(one) if explain else ())
            elif on_error == "raise":
                raise one.error
            else:
                yield FailedImage(str(one.error), _path(one.source), self.reading.page_of(one.source))

    def _explanation(self, one: Scored) -> tuple[Frame, ...]:
        return frames(self.backend.explain(one.square), one.square, *one.size)

    def _result(self, one: Scored, explanation: tuple[Frame, ...]) -> AnomalyResult:
        start = time.monotonic()
        mask, found = regions(one.map, self.calibration.pixel_threshold)
        times = {**one.milliseconds, "regions": 1000 * (time.monotonic() - start)}
        return AnomalyResult(
            score=one.score,
            threshold=self.calibration.threshold,
            is_anomalous=one.score > self.calibration.threshold,
            map=one.map,
            pixel_threshold=self.calibration.pixel_threshold,
            mask=mask,
            regions=found,
            restored=None
            if one.restored is None
            else returned_picture(stretched(one.restored, *one.map.shape), one.pose),
            milliseconds={**times, "total": sum(times.values())},
            path=_path(one.source),
            explanation=explanation,
            notes=(*one.notes, *self._notes(one)),
            page=self.reading.page_of(one.source),
            pose=None if one.pose is None else one.pose.to_dict(),
        )

    def _notes(self, one: Scored) -> tuple[str, ...]:
        """What sets an image apart from the good ones; files of older versions do not tell what these were."""
        good = self.facts.get("properties")
        if good is None:
            return ()
        channels = is_grey(one.square) if self.tiling.tile is None else None  # of one tile they say little of the image
        return differences(good, properties_of(file_of(one.source)), one.map.shape, channels)

    def photograph(self, result: AnomalyResult) -> Float[np.ndarray, "3 h w"] | None:
        """The image behind a result, decoded from its path as it was judged; None where it has no path.

        Raises:
            ImageError: it cannot be read any more.
        """
        if result.path is None:
            return None
        return self.reading.decode(result.path if result.page is None else ImagePage(result.path, result.page))

    @checked_options
    def save(self, path: str | Path) -> None:
        """Write a model file, with a self-test in it.

        Raises:
            ModelFileError: the place cannot be written.
            SettingError: the model was exported; only what the backend "torch" has can be saved.
        """
        from unmask.inspection.torch_backend import save

        save(self, Path(path))


def _path(source: Any) -> Path | None:
    file = file_of(source)
    return Path(os.fsdecode(file)) if isinstance(file, str | os.PathLike) else None
