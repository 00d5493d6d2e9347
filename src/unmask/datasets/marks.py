"""Which pixels of a mask count as defective, whatever values, colours or transparency its author chose.

A pixel is the background where it is black, and where nothing is black in a coloured file, where it has the colour of
the border. Everything else is measured by its distance from the background, and then

- of two values, the larger is the defect;
- of class numbers (whole numbers below 64), each above the lowest is a defect;
- of more values, those above the middle are defects, since those between are the soft edges of drawing programs or the
  noise of a lossy file; and so is a value below the middle that has an area of its own, for that is a class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer, Shaped

CLASS_NUMBERS = 64  # whole numbers below this are classes, not brightness
VOID = (255, 65_535)  # "not decided" beside class numbers, as in Pascal VOC
VOID_COLOUR = (224, 224, 192)  # the same in the colours of Pascal VOC
NEAR = 16  # of 255: colours this close are one colour
MOST_CLASSES = 32  # that are looked for in a file, so that one of many values takes no longer
SPECKS = 0.001  # of the image: fewer pixels of the void's colour are chance
NOISE = 0.05  # of the range: values this close to the background are noise


class Marks(NamedTuple):
    """What a mask says.

    Attributes:
        defective: (h, w) True where the image is defective.
        remark: what a user should know about how it was read, to follow "3 masks"; empty = nothing.
    """

    defective: Bool[np.ndarray, "h w"]
    remark: str = ""


def marks_of(pixels: Shaped[np.ndarray, "h w *c"], *, lossy: bool = False) -> Marks:
    """Say which pixels of a decoded mask are defective.

    Args:
        pixels: (h, w) grey of any kind of number, or (h, w, 3) RGB or (h, w, 4) RGBA bytes.
        lossy: the file's compression does not keep values, as in JPEG.
    """
    if pixels.ndim == 2:
        return _of_values(pixels, lossy=lossy)
    if pixels.shape[2] == 3:
        return _of_colours(pixels, lossy=lossy)
    colours, alpha = pixels[..., :3], pixels[..., 3]
    if alpha.min() == alpha.max():
        return _of_colours(colours, lossy=lossy)
    opaque = alpha > (int(alpha.min()) + int(alpha.max())) / 2
    shown = colours[opaque].astype(np.int64)
    one_colour = (shown.max(axis=0) - shown.min(axis=0)).max() <= NEAR
    if one_colour or shown.max(axis=1).min() > NEAR:
        return _of_values(alpha, lossy=lossy)
    return _of_colours(colours * opaque[..., None].astype(colours.dtype), lossy=lossy)


def _of_colours(colours: Shaped[np.ndarray, "h w 3"], *, lossy: bool) -> Marks:
    brightest = colours.max(axis=2)
    if int((brightest - colours.min(axis=2)).max()) <= (3 * NEAR if lossy else NEAR):
        return _of_values(brightest, lossy=lossy)
    if brightest.min() <= NEAR:
        marks = _of_values(brightest, lossy=lossy)
        void = (colours == np.array(VOID_COLOUR)).all(axis=2)
        return _without_void(marks, void) if void.mean() > SPECKS else marks
    distance = np.abs(colours.astype(np.int64) - _border_colour(colours)).max(axis=2)
    if distance.max() <= NEAR:  # a single colour that is not black
        return Marks(np.ones(distance.shape, bool))
    return _of_values(distance, lossy=lossy)


def _border_colour(colours: Shaped[np.ndarray, "h w 3"]) -> Integer[np.ndarray, " 3"]:
    border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    found, counts = np.unique(border, axis=0, return_counts=True)
    return np.asarray(found[counts.argmax()]).astype(np.int64)


def _of_values(values: Shaped[np.ndarray, "h w"], *, lossy: bool) -> Marks:
    levels, counts = _levels(values)
    low, high = levels[0].item(), levels[-1].item()
    if low < 0:
        kept = np.maximum(values, 0)
        return Marks(_of_values(kept, lossy=lossy).defective, "hold negative values, which are taken as background")
    if lossy:
        return Marks(_of_lossy(values, low, high))
    if low == high:
        return Marks(values > 0)
    if high < CLASS_NUMBERS and bool((levels == np.floor(levels)).all()):
        remark = "" if low == 0 else "hold no 0; their lowest value is taken as background"
        return Marks(values > low, remark)
    if low > high * 3 / 4:
        return Marks(np.ones(values.shape, bool))
    classes = (levels > 0) & (levels < CLASS_NUMBERS)
    if low == 0 and high in VOID and classes[1:-1].all() and counts[1:-1].sum() > counts[-1]:
        return _without_void(Marks(values > 0), values == high)
    return _of_many(values, levels, counts)


def _without_void(marks: Marks, void: Bool[np.ndarray, "h w"]) -> Marks:
    """Take away the pixels that are not decided, unless they are most of what is marked."""
    decided = marks.defective & ~void
    if decided.sum() <= (marks.defective & void).sum():
        return marks
    return Marks(decided, "hold the void of Pascal VOC beside classes, which is not counted as defective")


def _of_lossy(values: Shaped[np.ndarray, "h w"], low: float, high: float) -> Bool[np.ndarray, "h w"]:
    if high < CLASS_NUMBERS / 2 or low > high * 3 / 4:  # a single level, and noise
        return np.full(values.shape, high > 127)
    return np.asarray(values > (low + high) / 2)


def _of_many(
    values: Shaped[np.ndarray, "h w"], levels: Shaped[np.ndarray, " n"], counts: Integer[np.ndarray, " n"]
) -> Marks:
    """Take what is above the middle, and the classes below it."""
    low, high = levels[0].item(), levels[-1].item()
    middle, span = (low + high) / 2, high - low
    defective = values > middle
    below = np.flatnonzero((levels > low + NOISE * span) & (levels <= middle))
    for number in below[np.argsort(-counts[below], kind="stable")][:MOST_CLASSES]:
        near = np.abs(levels - levels[number]) <= 0.03 * span
        if 2 * counts[number] > counts[near].sum():
            region = values == levels[number]
            if _has_area(region, values > levels[number]):
                defective |= region
    between = counts[(levels > low + span / 4) & (levels < high - span / 4)]
    soft = len(between) > 16 and between.sum() > values.size / 5 and not between.max() > between.sum() / 2
    return Marks(defective, "look like photographs or heat maps; what is above the middle is taken" if soft else "")


def _has_area(region: Bool[np.ndarray, "h w"], higher: Bool[np.ndarray, "h w"]) -> bool:
    """Say whether most of a region touches nothing higher; the pixels of a soft edge do."""
    padded = np.pad(higher, 1)
    h, w = region.shape
    touching = np.zeros_like(region)
    for dy in range(3):
        for dx in range(3):
            touching |= padded[dy : dy + h, dx : dx + w]
    return bool(2 * (region & touching).sum() < region.sum())


def _levels(values: Shaped[np.ndarray, "h w"]) -> tuple[Shaped[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
    """List the values that occur and how often."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        levels = np.flatnonzero(counts)
        return levels, counts[levels]
    return np.unique(values, return_counts=True)
