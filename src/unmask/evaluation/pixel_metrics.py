"""Metrics of pixels: one accumulator that reads each map once.

A mask that is True is a defect, and a metric that needs both classes is None where one is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from unmask.errors import UnmaskError
from unmask.evaluation.curves import Curve, area, mean_precision, refuse_nan, summed
from unmask.evaluation.histogram import Histogram

_DEFECT, _PRO, _SPRO = range(3)  # the weights of a defect pixel: 1, its share of its region, its saturated share


@dataclass(frozen=True)
class PixelScores:
    """Pixel metrics of a whole test set, all None where no pixel is a defect or none is normal.

    Attributes:
        auroc: area under the ROC curve of all pixels.
        average_precision: average precision of all pixels.
        aupro: mean overlap of the connected defect regions, integrated to `limit` of false positives, / limit.
        spro: the same with the overlap saturated (MVTec LOCO); None where no saturation area was given.
        error: for each of the four, how far it can be from the value without bins; 0 means exact (up to rounding).
        roc: recall of pixels over false-positive rate, at most 1000 exact points.
        pro: mean overlap of regions over false-positive rate, at most 1000 exact points.
    """

    auroc: float | None
    average_precision: float | None
    aupro: float | None
    spro: float | None
    error: dict[str, float]
    roc: Curve | None
    pro: Curve | None


class PixelMetrics:
    """Pixel AUROC, AP, AUPRO and sPRO of a test set, one image at a time, in memory that does not grow with the set.

    A float32 value becomes an integer key of the same order; keys are counted in at most 2^22 bins. While the keys seen
    span less than that, each bin is one value and all metrics are exact. When they span more, neighbouring bins are
    merged in pairs, and a bin may hold several values whose order is then lost. Every bin's edge is still an exact
    point of the curves, so the error is confined to bins in which different values of normal and of defect pixels meet:

    - areas: the true curve crosses such a bin's rectangle from corner to corner, ours along the diagonal, hence at most
      half the rectangle each (all of it in the bin cut by the limit);
    - AP: a defect's precision there lies between "all normals of the bin first" and "all of them last".

    `PixelScores.error` is the sum of these bounds. A defect pixel weighs 1 in AUROC and AP; 1 / (area of its region) in
    AUPRO (Bergmann et al., MVTec AD, IJCV 2021; 8-neighbours); in sPRO (Bergmann et al., MVTec LOCO, IJCV 2022) the
    largest values of a region weigh 1 / saturation until they make 1, the others nothing.
    """

    def __init__(self, limit: float = 0.3, saturated_limit: float = 0.05) -> None:
        """Integrate AUPRO to `limit` and sPRO to `saturated_limit` of false positives, both in (0, 1]."""
        self.limit = limit
        self.saturated_limit = saturated_limit
        self._histogram = Histogram(rows=3)

    def update(
        self,
        anomaly_map: Float32[np.ndarray, "h w"],
        mask: Bool[np.ndarray, "mask_h mask_w"] | Sequence[Bool[np.ndarray, "_ _"]],
        saturation: Sequence[float] = (),
    ) -> None:
        """Count one image.

        Args:
            anomaly_map: (h, w) any finite or infinite values; each image may have a size of its own.
            mask: (h, w) True on defects, or a list of such masks, one a defect; an empty list for a normal image.
            saturation: for each mask of the list the area in pixels at which its overlap is full, for sPRO.

        Raises:
            UnmaskError: NaN in the map, sizes that differ, or not one saturation area above 0 a mask.
        """
        masks = [mask] if isinstance(mask, np.ndarray) else list(mask)
        _check_masks(anomaly_map, masks, saturation)
        self._histogram.count(anomaly_map)
        defect = np.logical_or.reduce(masks) if masks else np.zeros(anomaly_map.shape, bool)
        if not defect.any():
            return
        inside = anomaly_map[defect]
        self._histogram.weigh(_DEFECT, inside, np.ones(len(inside)))
        self._histogram.weigh(_PRO, inside, _region_shares(defect))
        for one, full in zip(masks if len(saturation) else (), saturation, strict=True):
            inside = np.sort(anomaly_map[one])[::-1]
            self._histogram.weigh(_SPRO, inside, _saturated_shares(len(inside), full))

    def compute(self) -> PixelScores:
        """The metrics of all images counted so far."""
        pixels, weights, mixed = self._histogram.descending()
        false, true = summed(pixels - weights[_DEFECT]), summed(weights[_DEFECT])
        if not (false[-1] and true[-1]):
            return PixelScores(None, None, None, None, {}, None, None)
        rate, recall, pro = false / false[-1], true / true[-1], _risen(weights[_PRO])
        error = {
            "auroc": _area_doubt(rate, recall, mixed),
            "average_precision": _precision_doubt(false, true, mixed),
            "aupro": _area_doubt(rate, pro, mixed, self.limit),
        }
        spro = None
        if weights[_SPRO].any():
            saturated = _risen(weights[_SPRO])
            spro = area(rate, saturated, self.saturated_limit)
            error["spro"] = _area_doubt(rate, saturated, mixed, self.saturated_limit)
        return PixelScores(
            auroc=area(rate, recall),
            average_precision=mean_precision(false, true),
            aupro=area(rate, pro, self.limit),
            spro=spro,
            error=error,
            roc=Curve(rate, recall).thinned(),
            pro=Curve(rate, pro).thinned(),
        )


def _risen(weights: np.ndarray) -> np.ndarray:
    return summed(weights) / float(np.sum(weights))


def _area_doubt(x: np.ndarray, y: np.ndarray, mixed: np.ndarray, limit: float = 1.0) -> float:
    """How far `area` can be off: half of each mixed bin's rectangle, all of that which the limit cuts."""
    rectangles = np.diff(np.minimum(x, limit)) * np.diff(y)
    return float(np.sum(np.where(x[1:] > limit, 1.0, 0.5) * rectangles * mixed) / limit)


def _precision_doubt(false: np.ndarray, true: np.ndarray, mixed: np.ndarray) -> float:
    """How far `mean_precision` can be off, from the extreme precisions that a mixed bin's defects can have."""
    found = np.diff(true)
    ours = true[1:] / (true[1:] + false[1:])
    worst = (true[:-1] + 1) / (true[:-1] + 1 + false[1:])
    best = true[1:] / np.maximum(true[1:] + false[:-1], 1)
    above, below = (float(np.sum(found * mixed * gap)) for gap in (best - ours, ours - worst))
    return max(above, below) / float(true[-1])


def _check_masks(anomaly_map: np.ndarray, masks: Sequence[np.ndarray], saturation: Sequence[float]) -> None:
    refuse_nan(anomaly_map)
    sizes = sorted({one.shape for one in masks} - {anomaly_map.shape})
    if sizes:
        raise UnmaskError(
            f"a mask of {sizes[0]} pixels came with a map of {anomaly_map.shape}; resize the map to the mask"
        )
    if len(saturation) and (len(saturation) != len(masks) or min(saturation) <= 0):
        raise UnmaskError(
            f"{len(masks)} masks came with saturation areas {list(saturation)}; give one above 0 for each"
        )


def _region_shares(defect: np.ndarray) -> np.ndarray:
    """For each True pixel, in order, 1 / (area of its 8-connected region)."""
    from scipy import ndimage

    label = ndimage.label(defect, np.ones((3, 3)))[0][defect]
    shares: np.ndarray = 1.0 / np.bincount(label)[label]
    return shares


def _saturated_shares(n: int, saturation: float) -> np.ndarray:
    """What each further pixel of a defect of n adds to its overlap: 1 / saturation until that makes 1, then nothing."""
    return np.diff(np.minimum(np.arange(n + 1) / min(saturation, max(n, 1)), 1.0))
