"""A fitted, calibrated detector that judges images of any size. Nothing here imports torch: a backend computes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from jaxtyping import Float

from unmask.errors import ImageError, SettingError
from unmask.imaging.poses import returned_picture
from unmask.imaging.properties import differences, is_grey, properties_of
from unmask.imaging.tiling import Tiling
from unmask.inspection import history
from unmask.inspection.backend import Backend
from unmask.inspection.calibration import Calibration, regions
from unmask.inspection.explanation import frames, stretched
from unmask.inspection.guarantee import Wanted
from unmask.inspection.options import checked_options
from unmask.inspection.scoring import BATCH, Failed, Reading, Scored, name_of, score_images
from unmask.inspection.sources import ImagePage, file_of, in_pages, path_of, several
from unmask.inspection.usual import Usual
from unmask.inspection.watch import StreamWatch, checked_watch
from unmask.types import AnomalyResult, FailedImage, Frame

if TYPE_CHECKING:
    from unmask.detectors import Detector

ON_ERROR = ("raise", "record")
LOOK = "look at it yourself, or give refuse=False (--no-refuse)"


class Inspector:
    """Judges images of any size.

    One inspector may be used by several threads at once: judging changes nothing in it.

    Attributes:
        backend: what computes.
        calibration: what scores and maps mean.
        reading: how an image becomes squares for the backend.
        facts: plain values that the model file keeps and `unmask info` prints.
        usual: what the good images are like; None = the file, of an older version, does not say.
    """

    def __init__(self, backend: Backend, calibration: Calibration, reading: Reading, facts: Mapping[str, Any]) -> None:
        self.backend, self.calibration, self.reading, self.facts = backend, calibration, reading, dict(facts)
        self.usual = Usual.from_facts(facts)

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

    def watch(self) -> StreamWatch:
        """A watch over one stream of images: give it to each call of `inspect` or `inspect_many` for that stream."""
        return StreamWatch.of(self.usual, self.calibration)

    @checked_options
    def inspect(
        self, image: Any, *, explain: bool = False, watch: StreamWatch | None = None, refuse: bool = True
    ) -> AnomalyResult:
        """Judge one image.

        Args:
            image: a path, the bytes of a file, a file opened with mode "rb", a Pillow image, a tensor (3, h, w), or an
                array (h, w), (h, w, 3) or (h, w, 4) of uint8, uint16 or float in [0, 1]; see docs/images.md.
            explain: also give the steps that led to the map (of tiles, of the one that scored highest).
            watch: over the stream that the image is the next of, from `Inspector.watch`.
            refuse: refuse an image that is nothing like the good ones; otherwise it is judged all the same.

        Raises:
            ImageError: it cannot be read, does not hold the region of interest, its map is not finite, or it is nothing
                like the good images (empty, cut off, of something else; then the error's `not_judged` has the reason).
            SettingError: the backend cannot explain.
        """
        results = list(self.inspect_many([image], explain=explain, watch=watch, refuse=refuse))
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
        watch: StreamWatch | None = None,
        refuse: bool = True,
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
        watch: StreamWatch | None = None,
        refuse: bool = True,
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
        watch: StreamWatch | None = None,
        refuse: bool = True,
    ) -> Iterator[Any]:
        """Judge images one after the other; the times in a result are means over its batch.

        Args:
            images: each as `inspect` takes it, read when its turn comes; or a folder of image files.
            batch_size: squares that are scored together, 1 or more.
            on_error: of an image that cannot be judged: "raise" its error, or "record" it as a `FailedImage` in its
                place and go on.
            explain: see `inspect`.
            recursive: of a folder: also judge images in folders inside it.
            watch: over the stream that the images go on with, from `Inspector.watch`; None = they are one stream. Once
                it has noticed a change, the results say so.
            refuse: see `inspect`.

        Raises:
            ImageError: an image cannot be judged, and on_error is "raise".
            SettingError: batch_size or on_error is none of these, or the backend cannot explain.
            DatasetError: a path came and nothing is there, or what came is one image, or holds none.
        """
        if on_error not in ON_ERROR:
            raise SettingError(f"on_error={on_error!r} is unknown; give {' or '.join(ON_ERROR)}")
        if batch_size < 1:
            raise SettingError(f"batch_size={batch_size} is out of range; give 1 or more")
        judged = self._judged(several(images, recursive=recursive), batch_size, explain, refuse)
        return self._watched(judged, checked_watch(watch) or self.watch(), on_error)

    def _judged(
        self, images: Iterable[Any], batch: int, explain: bool, refuse: bool
    ) -> Iterator[tuple[Scored, AnomalyResult] | Failed]:
        sources = in_pages(images, self.reading.options)
        viewed = self.usual is not None
        for one in score_images(self.backend.predict, self.reading, sources, batch, viewed=viewed):
            if isinstance(one, Failed):
                yield one
                continue
            reason = self._refusal(one)
            if reason and refuse:
                yield Failed(one.source, ImageError(f"{name_of(one.source)}: not judged: {reason}; {LOOK}", reason))
            else:
                yield one, self._result(one, self._explanation(one) if explain else (), reason)

    def _watched(
        self, judged: Iterable[tuple[Scored, AnomalyResult] | Failed], watch: StreamWatch, on_error: str
    ) -> Iterator[AnomalyResult | FailedImage]:
        """The results, each with what the watch has noticed up to it."""
        for one in judged:
            if not isinstance(one, Failed):
                scored, result = one
                numbers = {} if self.usual is None or scored.view is None else self.usual.numbers(scored.view)
                yield replace(result, change=watch.add(numbers, result.score))
            elif on_error == "raise":
                raise one.error
            else:
                reason, page = one.error.not_judged, self.reading.page_of(one.source)
                yield FailedImage(str(one.error), path_of(one.source), page, reason, watch.add({}, None))

    def _refusal(self, one: Scored) -> str | None:
        if self.usual is None or one.view is None:
            return None
        if self.facts.get("noise_added"):  # drawn parts hardly spread: a defect is as far from them as another product
            return self.usual.emptiness(one.view)
        return self.usual.refusal(one.view, one.score, one.map, self.calibration)

    def _explanation(self, one: Scored) -> tuple[Frame, ...]:
        return frames(self.backend.explain(one.square), one.square, *one.size)

    def _result(self, one: Scored, explanation: tuple[Frame, ...], not_judged: str | None) -> AnomalyResult:
        start = time.monotonic()
        mask, found = regions(one.map, self.calibration.pixel_threshold)
        times = {**one.milliseconds, "regions": 1000 * (time.monotonic() - start)}
        restored = (
            returned_picture(stretched(one.restored, *one.map.shape), one.pose) if one.restored is not None else None
        )
        return AnomalyResult(
            score=one.score,
            threshold=self.calibration.threshold,
            is_anomalous=one.score > self.calibration.threshold,
            map=one.map,
            pixel_threshold=self.calibration.pixel_threshold,
            mask=mask,
            regions=found,
            restored=None if restored is None else returned_picture(restored, one.pose),
            milliseconds={**times, "total": sum(times.values())},
            path=path_of(one.source),
            explanation=explanation,
            notes=(*one.notes, *self._notes(one)),
            page=self.reading.page_of(one.source),
            not_judged=not_judged,
            pose=None if one.pose is None else one.pose.to_dict(),
        )

    def _notes(self, one: Scored) -> tuple[str, ...]:
        """What sets an image apart from the good ones; files of older versions do not tell what these were."""
        good = history.current(self.facts, "properties")
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
    def calibrate(
        self,
        images: Any,
        *,
        false_alarm_rate: float | None = None,
        confidence: float | None = None,
        recursive: bool = True,
    ) -> Inspector:
        """The same model with thresholds from new good images, in seconds; this one stays as it is.

        Args:
            images: good ones, taken as those that will be judged: a folder or data set, or as `inspect_many` takes
                them. Those that the model learned from are left out, and each scene counts once.
            false_alarm_rate: share of good images that may be flagged, in (0, 1); None = as now, or the best possible.
            confidence: with which these thresholds in themselves keep the rate, in [0.5, 0.9999]; None = on average,
                or where no rate is given either, as now.
            recursive: of a folder: also take images in folders inside it.

        Raises:
            ImageError: some images cannot be used; all of them are named.
            DatasetError: there are none, the model learned from all of them, or they show only one picture.
            CalibrationError: they are too few for the promise asked for.
            SettingError: the rate or the confidence is out of range.
        """
        from unmask.inspection.recalibration import good_images, recalibrated

        return recalibrated(self, good_images(images, recursive=recursive), Wanted(false_alarm_rate, confidence))

    @checked_options
    def save(self, path: str | Path) -> None:
        """Write a model file, with a self-test in it; an export is written as an export of its own kind.

        Raises:
            ModelFileError: the place cannot be written.
            SettingError: the name is that of another kind of file.
        """
        from unmask.inspection.saving import save

        save(self, Path(path))
