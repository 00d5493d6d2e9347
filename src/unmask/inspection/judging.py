"""From images to verdicts, whatever computes the maps: with torch in `inspector`, without it in `runtime`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from unmask.imaging import images
from unmask.imaging.tiling import Framed, Framing
from unmask.inspection.calibration import Calibration, regions
from unmask.inspection.explanation import frames, stretched
from unmask.types import AnomalyResult, Frame, Step

BATCH = 8
Source = str | Path | bytes | Image.Image | np.ndarray


class ArrayPrediction(NamedTuple):
    """What a detector says of b squares: as a Prediction, in NumPy."""

    maps: Float[np.ndarray, "b s s"]
    scores: Float[np.ndarray, " b"]
    restored: Float[np.ndarray, "b 3 s s"] | None = None


Predict = Callable[[Float[np.ndarray, "b 3 s s"]], ArrayPrediction]


class Judge:
    """Judges images of any size. A subclass computes: `predict`, and where it can `explain_square`.

    Attributes:
        calibration: what scores and maps mean.
        framing: how an image becomes squares.
        facts: plain values that the model file keeps and `unmask info` prints.
    """

    calibration: Calibration
    framing: Framing
    facts: dict[str, Any]

    def predict(self, squares: Float[np.ndarray, "b 3 s s"]) -> ArrayPrediction:
        """Score squares, RGB in [0, 1]."""
        raise NotImplementedError

    def explain_square(self, square: Float[np.ndarray, "3 s s"]) -> Sequence[Step]:
        """The steps that led to a square's map."""
        raise NotImplementedError

    def inspect(self, image: Source, *, explain: bool = False) -> AnomalyResult:
        """Judge one image.

        Args:
            image: a path, the bytes of a file, a Pillow image, or an array (h, w), (h, w, 3) or (h, w, 4) of uint8,
                uint16 or float in [0, 1].
            explain: look a second time, and tell the steps that led to the map (of tiles, the one that scored highest).

        Raises:
            ImageError: it cannot be read, or does not hold the region of interest.
        """
        return next(self.inspect_many([image], explain=explain))

    def inspect_many(
        self, sources: Iterable[Source], batch: int = BATCH, *, explain: bool = False
    ) -> Iterator[AnomalyResult]:
        """Judge images one after the other, `batch` squares at a time; times are means over a batch. See `inspect`.

        Raises:
            ImageError: one cannot be read.
        """
        for some, framed, spent in framed_and_judged(self.predict, self.framing, sources, batch):
            for source, one in zip(some, framed, strict=True):
                yield self._result(one, source, spent, self._explained(one) if explain else ())

    def _explained(self, one: Framed) -> tuple[Frame, ...]:
        assert one.best is not None  # noqa: S101 - every image has a square
        square, (h, w) = one.best
        return frames(self.explain_square(square), square, h, w)

    def _result(
        self, one: Framed, source: Source, spent: Mapping[str, float], explanation: tuple[Frame, ...]
    ) -> AnomalyResult:
        start = time.monotonic()
        own_size = one.map()
        mask, found = regions(own_size, self.calibration.pixel_threshold)
        times = {**spent, "regions": 1000 * (time.monotonic() - start)}
        return AnomalyResult(
            score=one.score,
            threshold=self.calibration.threshold,
            is_anomalous=one.score > self.calibration.threshold,
            map=own_size,
            pixel_threshold=self.calibration.pixel_threshold,
            mask=mask,
            regions=found,
            restored=None if one.restored is None else stretched(one.restored, one.h, one.w),
            milliseconds={**times, "total": sum(times.values())},
            path=Path(source) if isinstance(source, str | Path) else None,
            explanation=explanation,
        )


def framed_and_judged(
    predict: Predict, framing: Framing, sources: Iterable[Source], batch: int = BATCH
) -> Iterator[tuple[list[Source], list[Framed], dict[str, float]]]:
    """Judge the squares of a few images at a time: of `batch` images, or of one that is cut into tiles.

    Yields:
        The images, the same framed and with every square added, and the mean times in milliseconds.

    Raises:
        ImageError: one cannot be read, or does not hold the region of interest.
    """
    waiting = iter(sources)
    while some := list(islice(waiting, 1 if framing.tile else batch)):
        start = time.monotonic()
        framed = [framing.frame(images.decode(source), _name(source)) for source in some]
        squares = chain.from_iterable(((one, square) for square in one.squares()) for one in framed)
        predicting = 0.0
        while group := list(islice(squares, batch)):
            stack = np.stack([square for _, square in group])
            before = time.monotonic()
            said = predict(stack)
            predicting += time.monotonic() - before
            for i, (one, square) in enumerate(group):
                restored = None if said.restored is None else said.restored[i]
                one.add(square, said.maps[i], float(said.scores[i]), restored)
        each = 1000 / len(some)
        spent = {"decode": each * (time.monotonic() - start - predicting), "predict": each * predicting}
        yield some, framed, spent


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "the image"
