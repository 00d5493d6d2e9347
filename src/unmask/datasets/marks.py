"""Which pixels of a mask count as defective, whatever values, colours or transparency its author chose.

A pixel is the background where it is black, and where nothing is black in a coloured file, where it has the colour of
the border. Everything else is measured by its distance from the background, and then

- of two values, the larger is the defect;
- of class numbers (whole numbers below 64), each above the lowest is a defect;
- so it is with whole numbers of any size that fill areas, as the numbers of instances do;
- of more values, those above the middle are defects, since those between are the soft edges of drawing programs or the
  noise of a lossy file; and so is a value below the middle that has an area of its own, for that is a class.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Integer, Shaped

CLASS_NUMBERS = 64  # whole numbers below this are classes, not brightness
VOID = (255, 65_535)  # "not decided" beside class numbers, as in Pascal VOC
VOID_COLOUR = (224, 224, 192)  # the same in the colours of Pascal VOC
NEAR = 16  # of 255: colours this close are one colour
MOST_CLASSES = 32  # that are looked for in a file, so that one of many values takes no longer
SPECKS = 0.001  # of the image: fewer pixels of the void's colour are chance
NOISE = 0.05  # of the range: values this close to the background are noise
FILLED = 0.8  # of the pixels of classes lie in areas of one value; soft edges and noise do not
MANY = 8  # times the pixels of the largest value: so many between are no soft edges around it
SMOOTH = 0.75  # of the steps between values are small in a heat map
NEIGHBOURS = (  # the pixels and those below, to the right, and below to either side
    (np.s_[1:, :], np.s_[:-1, :]),
    (np.s_[:, 1:], np.s_[:, :-1]),
    (np.s_[1:, 1:], np.s_[:-1, :-1]),
    (np.s_[1:, :-1], np.s_[:-1, 1:]),
)
BORDER = 5  # pixels: how far the void of Pascal VOC reaches around an object
NO_ZERO = "hold no 0; their lowest value is taken as background"
TOUCHING = "hold areas of many values that touch; all of them count as defective"


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
        return _beside_void(marks.defective & ~void, void) if void.mean() > SPECKS else marks
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
        return Marks(values > low, NO_ZERO if low > 0 else "")
    if low > high * 3 / 4:
        return Marks(np.ones(values.shape, bool))
    whole = bool((levels == np.floor(levels)).all())
    if whole and low == 0 and high in VOID and len(levels) > 2 and levels[-2] < (high + 1) / 4:
        classes, void = (values > 0) & (values < high), values == high
        if _is_border(void, classes) or _areas(classes, values, high):
            return _beside_void(classes, void)
    elif whole and (areas := _areas(_between(values, low, high), values, high)):
        return Marks(values > low, NO_ZERO if low > 0 else "" if areas == "apart" else TOUCHING)
    return _of_many(values, levels, counts)


def _beside_void(classes: Bool[np.ndarray, "h w"], void: Bool[np.ndarray, "h w"]) -> Marks:
    """Leave out the pixels that are undecided, where that is what they must be."""
    if _is_border(void, classes):
        return Marks(classes, "hold the void of Pascal VOC around classes, which is not counted as defective")
    return Marks(
        classes | void, "hold 255, 65535 or the void of Pascal VOC beside classes; all of it counts as defective"
    )


def _is_border(void: Bool[np.ndarray, "h w"], classes: Bool[np.ndarray, "h w"]) -> bool:
    """Say whether pixels lie close around the classes, so that these hardly touch the background."""
    close = 10 * (void & _grown(classes, BORDER)).sum() >= 9 * void.sum()
    open_to_background = (classes & _grown(~(classes | void))).sum()
    return bool(close and 4 * open_to_background < (classes & _grown(~classes)).sum())


def _between(values: Shaped[np.ndarray, "h w"], low: float, high: float) -> Bool[np.ndarray, "h w"]:
    """Find the pixels that tell classes from brightness: of values between, or else close to the lowest."""
    noise = NOISE * (high - low)
    between = (values > low + noise) & (values < high - noise)
    return between if between.any() else (values > low) & (values <= low + noise)


def _areas(
    region: Bool[np.ndarray, "h w"], values: Shaped[np.ndarray, "h w"], high: float
) -> Literal["apart", "touching", ""]:
    """Say how the areas of one value lie that fill a region; empty where soft edges, noise or a heat map do.

    The pixels of an area lie in squares of 2 x 2 equal ones, or touch no other value but the background.
    """
    count = int(region.sum())
    if not count:
        return ""
    background = values.min()
    small = steps = 0
    alone = np.ones_like(region)
    for one, other in NEIGHBOURS:
        size = np.abs(values[one].astype(np.float64) - values[other])
        differ = (size > 0) & (region[one] | region[other])
        foreign = differ & (values[one] > background) & (values[other] > background)
        steps += int(differ.sum())
        small += int((foreign & (size <= NOISE * (high - float(background)))).sum())
        alone[one] &= ~foreign
        alone[other] &= ~foreign
    apart = (region & alone).sum() >= FILLED * count
    filled = (region & (alone | _in_squares(values))).sum() >= FILLED * count
    if not filled or small > SMOOTH * steps or not (apart or count > MANY * (values == high).sum()):
        return ""
    return "apart" if apart else "touching"


def _in_squares(values: Shaped[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Find the pixels that lie in a square of 2 x 2 equal ones."""
    across, down = values[:, 1:] == values[:, :-1], values[1:] == values[:-1]
    squares = np.pad(across[1:] & across[:-1] & down[:, 1:], 1)
    return np.asarray(squares[1:, 1:] | squares[1:, :-1] | squares[:-1, 1:] | squares[:-1, :-1])


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
    return bool(2 * (region & _grown(higher)).sum() < region.sum())


def _grown(region: Bool[np.ndarray, "h w"], by: int = 1) -> Bool[np.ndarray, "h w"]:
    """Add the pixels within a distance, across the corners too."""
    for _ in range(by):
        padded = np.pad(region, 1)
        region = padded[:-2] | padded[1:-1] | padded[2:]
        region = region[:, :-2] | region[:, 1:-1] | region[:, 2:]
    return region


def _levels(values: Shaped[np.ndarray, "h w"]) -> tuple[Shaped[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
    """List the values that occur and how often."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        levels = np.flatnonzero(counts)
        return levels, counts[levels]
    return np.unique(values, return_counts=True)
