"""What good images are usually like, as plain values in a model file; and whether an image is nothing like them.

An image of something else has no place among verdicts: that a lens cap is anomalous at every pixel says nothing of a
part. Its bounds come from good images alone, and from copies of them disturbed as a fit tolerates by
default, so that no ordinary day makes a good photograph strange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from unmask.imaging.disturbances import drawn
from unmask.imaging.images import resize
from unmask.imaging.measures import TEXTURE, View, shift_of, view_of
from unmask.imaging.tolerance import MILD
from unmask.inspection import history
from unmask.inspection.calibration import Calibration

FACT = "usual"  # its name among the facts of a model file
MOST_VALUES = 200  # of a measure that are kept
MOST_COPIED = 24  # images that disturbed copies are made of
AMOUNTS = {**MILD, "color": 0.09}
"""How much copies are disturbed: as `--tolerate mild` says, and more in colour: a little is far from grey images."""
LEAST_SPREAD = np.array([0.03, 0.02, 0.02] + [0.1] * 15)  # of the numbers of a texture: less is nothing that matters
RIDGE = 0.1  # added to the variances, so that no direction is taken for certain
FLAT = 1 / 3  # of the least contrast of the good images, below which an image shows nothing
GREY_LEVEL = 1 / 255
BLACK, WHITE = 0.1, 0.9  # mean grey below and above which an image that shows nothing is black, or white
CUT_OFF = 0.1  # share of the image that may be of one colour at the bottom, more than on any good image
CALM = 0.1  # share of the pixels that is called the calmest
STEP = 4  # pixels between those that are looked at for it
MOSTLY = 0.99
STRANGE = 4.0
"""Of calm x distance^2, from which on an image is nothing like the good ones. Calm is 0 where the calmest tenth of its
map is as on good images and 1 where it is at the pixel threshold. On `magnetic_tile` and `ksdd_crops`, defects that are
disturbed as copies are reach about 2.3, and other products begin at about 4.2."""


@dataclass(frozen=True)
class Usual:
    """What good images are like.

    Attributes:
        measures: of each name up to 200 values, sorted; "x" and "y" are the place of the part.
        across, down: the usual profiles, (127,).
        least_contrast: of any good image.
        most_constant: `View.constant` of any good image.
        centre, spread: (18,) of textures.
        whitening: (18, 18) which makes textures comparable in all directions.
        far: the distance from the centre that 99 % of the good images and their disturbed copies keep.
    """

    measures: dict[str, list[float]]
    across: Float[np.ndarray, " 127"]
    down: Float[np.ndarray, " 127"]
    least_contrast: float
    most_constant: float
    centre: Float[np.ndarray, " 18"]
    spread: Float[np.ndarray, " 18"]
    whitening: Float[np.ndarray, "18 18"]
    far: float

    @classmethod
    def of(cls, views: Sequence[View], copies: Sequence[Float[np.ndarray, "_k 18"]]) -> Usual:
        """Of good images.

        Args:
            views: of each, at least one.
            copies: textures of disturbed copies, see `disturbed_textures`; empty of images without any.
        """
        across, down = (np.median([getattr(view, name) for view in views], axis=0) for name in ("across", "down"))
        some = [views[i * len(views) // MOST_VALUES] for i in range(MOST_VALUES)] if len(views) > MOST_VALUES else views
        rows = [_numbers(view, across, down) for view in some]
        textures = np.concatenate([np.array([view.texture for view in views]), *copies])
        centre, spread = textures.mean(axis=0), textures.std(axis=0) + LEAST_SPREAD
        scaled = (textures - centre) / spread
        covariance = scaled.T @ scaled / len(scaled) + RIDGE * np.eye(len(centre))
        whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(
            {name: sorted(row[name] for row in rows) for name in rows[0]},
            across,
            down,
            min(view.measures.contrast for view in views),
            max(view.constant for view in views),
            centre,
            spread,
            whitening,
            float(np.quantile(np.sqrt(np.square(scaled @ whitening).mean(axis=1)), MOSTLY)),
        )

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Usual | None:
        """Of a model file: of the images of its last calibration; None where it does not say, as of older versions."""
        values = history.current(facts, FACT)
        if values is None:
            return None
        arrays: dict[str, Any] = {name: np.array(one) if isinstance(one, list) else one for name, one in values.items()}
        return cls(**arrays)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with 4 digits."""
        return {name: _plain(value) for name, value in vars(self).items()}

    def numbers(self, view: View) -> dict[str, float]:
        """The measures of an image by their names, the place of the part among them."""
        return _numbers(view, self.across, self.down)

    def distance(self, texture: Float[np.ndarray, " 18"]) -> float:
        """Of a texture from the good ones; 1 = further than 99 % of the good images and copies."""
        whitened = ((texture - self.centre) / self.spread) @ self.whitening
        return float(np.sqrt(np.square(whitened).mean())) / max(self.far, 1e-9)

    def emptiness(self, view: View) -> str | None:
        """Why an image shows nothing, or is not whole; None = it shows something."""
        measures = view.measures
        if measures.contrast < max(GREY_LEVEL, FLAT * self.least_contrast):
            what = (
                "black" if measures.brightness < BLACK else "white" if measures.brightness > WHITE else "of one colour"
            )
            return f"it is all {what} and shows nothing"
        if view.constant > self.most_constant + CUT_OFF:
            return f"its lower {100 * view.constant:.0f} % are of one colour, as of a picture that was not transmitted"
        return None

    def strangeness(self, view: View, score: float, anomaly_map: Float[np.ndarray, "h w"], good: Calibration) -> float:
        """How little an image is like the good ones: from `STRANGE` on it is nothing like them.

        Args:
            view: of the image.
            score: of it, as the detector gave it.
            anomaly_map: (h, w) of it.
            good: the calibration of the detector.
        """
        if score <= good.threshold:
            return 0.0
        span = max(good.pixel_threshold - good.map_low, float(np.finfo(np.float32).tiny))
        calm = (float(np.quantile(anomaly_map[::STEP, ::STEP], CALM)) - good.map_low) / span
        return calm * self.distance(view.texture) ** 2 if calm >= 1 else 0.0

    def refusal(self, view: View, score: float, anomaly_map: Float[np.ndarray, "h w"], good: Calibration) -> str | None:
        """Why an image is not to be judged; None = it is. The arguments are those of `strangeness`."""
        if reason := self.emptiness(view):
            return reason
        if self.strangeness(view, score, anomaly_map, good) >= STRANGE:
            return "it is nothing like the good images"
        return None


def copied_at(number: int, total: int) -> int | None:
    """A seed for the copies of an image among many, evenly spread; None = no copies are made of it."""
    step = max(1, total // MOST_COPIED)
    return number if number % step == 0 and number // step < MOST_COPIED else None


def disturbed_textures(image: Float[np.ndarray, "3 _h _w"], seed: int) -> Float[np.ndarray, "k 18"]:
    """The textures of an image disturbed in each way."""
    small, random = resize(image, TEXTURE, TEXTURE), np.random.default_rng(seed)
    return np.array([view_of(drawn(small, kind, amount, random)).texture for kind, amount in AMOUNTS.items()])


def _numbers(view: View, across: Float[np.ndarray, " 127"], down: Float[np.ndarray, " 127"]) -> dict[str, float]:
    places = {"x": shift_of(view.across, across), "y": shift_of(view.down, down)}
    return {name: _digits(value) for name, value in {**view.measures._asdict(), **places}.items()}


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(one) for one in value]
    return _digits(float(value))
