"""The usual pose of a part, learned from good images alone; and whether an alignment would help."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from unmask.errors import SettingError
from unmask.imaging.alignment import Alignment
from unmask.imaging.images import resize
from unmask.imaging.matching import LONGER, Field, Matcher, field_of, grey
from unmask.imaging.poses import Pose, brought
from unmask.inspection.checking import Checked
from unmask.inspection.scoring import Reading

COMPARED = 10  # good images, each with every other, for the most central one
AVERAGED = 40  # good images, whose mean field is the template
ROUNDS = 2
SHOWN = 0.9  # share of the good images that show a pixel of the usual pose which is judged
KEPT = 12  # good parts that fill what a photograph does not show
LOOKED_AT = 9  # good images, where nobody asked for an alignment
SHIFTED, TURNED = 0.04, 5.0  # share of a side, degrees: parts that lie so far apart are worth a line
SIMILAR, GAINED, CLEARLY, RIVALRY = 0.2, 1.5, 1.2, 0.9
"""The line needs parts this similar, this much more than where they lie (turned ones: than shifted ones), and a second
best pose that agrees at most this much of the best: textures repeat, and some parts look alike when turned."""
LEAST_OF_USUAL, LEAST_OF_WORST = 0.5, 0.8  # of the median and of the least similarity of good images


class Central(NamedTuple):
    """The most central of some good images.

    Attributes:
        number: of it, among them.
        matcher: with it as template.
    """

    number: int
    matcher: Matcher


def in_usual_pose(
    sources: Sequence[Any], numbers: Sequence[int], reading: Reading, checked: Checked, way: str
) -> tuple[Reading, Checked]:
    """How images are read so that their parts lie alike; without an alignment, as before, and a line if one would help.

    Args:
        sources: of all good images.
        numbers: of those to learn from.
        reading: how a source becomes an image.
        checked: what is known of all images.
        way: "none", "shift" or "turn".

    Returns:
        The reading with its alignment, and what is known of the images, without squares that are not aligned.
    """
    if way == "none":
        if line := would_help([reading.decode(sources[number]) for number in _spread(numbers, LOOKED_AT)]):
            warnings.warn(line, stacklevel=4)
        return reading, checked
    alignment = usual_pose(lambda number: reading.decode(sources[number]), numbers, way)
    return replace(reading, alignment=alignment), checked._replace(squares={})


def usual_pose(images: Callable[[int], Float[np.ndarray, "3 h w"]], numbers: Sequence[int], way: str) -> Alignment:
    """Learn how a part usually lies.

    Args:
        images: decodes a good image by its number.
        numbers: of the images to learn from.
        way: "shift" or "turn".

    Raises:
        SettingError: the good images show no part that they share.
    """
    some = _spread(numbers, AVERAGED)
    h, w = _size(images(some[0]))
    fields = [field_of(grey(images(number), h, w)) for number in some]
    compared = _spread(range(len(some)), COMPARED)
    central = most_central([fields[i] for i in compared], turn=way == "turn")
    matcher = central.matcher
    for _ in range(ROUNDS):
        posed = [matcher.in_usual_pose(field, pose) for field in fields if (pose := matcher.find(field)) is not None]
        if not posed:
            raise SettingError(f"align={way} finds no part that the good images share; leave it out")
        mean = np.asarray(np.mean(posed, axis=0, dtype=np.float32))
        found = Alignment.of(way, mean, np.ones(mean.shape[1:], bool))
        matcher = found.matcher
    poses = {number: pose for number, field in zip(some, fields, strict=True) if (pose := matcher.find(field))}
    similar = [pose.similarity for pose in poses.values()]
    least = min(LEAST_OF_USUAL * float(np.median(similar)), LEAST_OF_WORST * min(similar))
    first = some[compared[central.number]]
    pictures = _pictures(images, {first: poses.pop(first), **poses} if first in poses else poses)
    shown = np.mean([matcher.seen(pose) for pose in poses.values()], axis=0)
    return Alignment.of(way, mean, shown >= SHOWN, pictures, least)


def _pictures(
    images: Callable[[int], Float[np.ndarray, "3 h w"]], poses: Mapping[int, Pose]
) -> list[Float[np.ndarray, "3 _h _w"]]:
    """Good parts in the usual pose, the most central one first, then each the least like those before it."""
    size: Any = None
    found: list[np.ndarray] = []
    small: list[np.ndarray] = []
    for number, pose in poses.items():
        image = images(number)
        size = size or image.shape[1:]
        image = brought(resize(image, *size), pose, None, found[:1])
        found.append(image)
        small.append(resize(image, 32, 32))
    chosen, apart = [0], np.full(len(found), np.inf)
    while len(chosen) < min(KEPT, len(found)):
        apart = np.minimum(apart, [float(np.abs(one - small[chosen[-1]]).mean()) for one in small])
        chosen.append(int(apart.argmax()))
    return [found[i] for i in chosen]


def most_central(fields: Sequence[Field], *, turn: bool) -> Central:
    """The image to whose pose the others come with the least movement, and which they agree with.

    Args:
        fields: of good images, of one size.
        turn: whether parts may be turned.
    """
    best, least = None, math.inf
    for number, field in enumerate(fields):
        matcher = Matcher(field, turn=turn)
        others = [other for i, other in enumerate(fields) if i != number]
        found = [matcher.find(other) for other in others]
        cost = float(np.mean([1.0 if pose is None else 1 - pose.similarity + moved_by(pose) for pose in found] or [0]))
        if best is None or cost < least:
            best, least = Central(number, matcher), cost
    assert best is not None  # noqa: S101 - there is at least one field
    return best


def would_help(images: Sequence[Float[np.ndarray, "3 _h _w"]]) -> str | None:
    """A line if the parts of good images lie apart, so that an alignment would help; None if not, or if it is unclear.

    Args:
        images: some good ones, decoded.
    """
    if len(images) < LOOKED_AT:
        return None
    h, w = _size(images[0])
    fields = [field_of(grey(image, h, w)) for image in images]
    shifted, turned = (_spread_of(fields, turn=turn) for turn in (False, True))
    if turned.is_clear and turned.similarity > CLEARLY * shifted.similarity and turned.degrees >= TURNED:
        return f"the parts in the good images are turned by up to {turned.degrees:.0f} degrees; align='turn' would help"
    if shifted.is_clear and shifted.share >= SHIFTED:
        return f"the parts in the good images lie up to {shifted.share:.0%} of a side apart; align='shift' would help"
    return None


class _Apart(NamedTuple):
    """How far parts lie apart: all but the farthest of some images, from the middle of all."""

    similarity: float
    share: float
    degrees: float
    is_clear: bool


def _spread_of(fields: Sequence[Field], *, turn: bool) -> _Apart:
    matcher = Matcher(fields[0], turn=turn)
    found = [(pose, field) for field in fields[1:] if (pose := matcher.find(field)) is not None]
    if len(found) < len(fields) - 2:
        return _Apart(0, 0, 0, is_clear=False)
    poses = [Pose(), *(pose for pose, _ in found)]
    similarity = float(np.median([pose.similarity for pose, _ in found]))
    resting = float(np.median([matcher.at_rest(field).similarity for _, field in found]))
    rivalry = float(np.median([matcher.rivalry(field) for _, field in found]))
    places = np.array([(pose.right, pose.down) for pose in poses])
    turns = np.exp(1j * np.radians([pose.degrees for pose in poses]))
    share = float(np.sort(np.hypot(*(places - np.median(places, axis=0)).T))[-2])
    degrees = float(np.sort(np.abs(np.degrees(np.angle(turns / turns.sum()))))[-2])
    is_clear = similarity >= SIMILAR and similarity >= GAINED * resting and rivalry <= RIVALRY
    return _Apart(similarity, share, degrees, is_clear)


def moved_by(pose: Pose) -> float:
    """How far a pose moves what is in the picture, as a share of its side."""
    return math.hypot(pose.right, pose.down) + 0.5 * abs(math.sin(math.radians(pose.degrees) / 2))


def _size(image: Float[np.ndarray, "3 _h _w"]) -> tuple[int, int]:
    """Height and width of a template for images of this shape."""
    scale = LONGER / max(image.shape[1:])
    h, w = (max(16, 2 * round(scale * side / 2)) for side in image.shape[1:])
    return h, w


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    n = min(most, len(numbers))
    return [numbers[i * len(numbers) // n] for i in range(n)]
