"""Which good images are learned from and which are held out, once each is decoded: no scene is on both sides."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unmask.errors import DatasetError, ImageError, UnmaskError
from unmask.imaging.fingerprints import are_equal_in_the_large, is_one_picture, scenes
from unmask.imaging.images import resize
from unmask.inspection.looks import DARK, blank, warn_of_blank
from unmask.inspection.scoring import Reading, numbered
from unmask.inspection.training_images import Checked
from unmask.types import Skip

BURSTS = 2 / 3
"""Of the held-out images, the share that may show a scene which is learned from before names no longer divide."""

COMPARED, SIDE = 20, 256  # images that are decoded again where all look the same, and the pixels of their sides


Unit = tuple[str, list[int], list[int]]


class Division(NamedTuple):
    """Numbers of the good images by what they are for; images that count for nothing are in neither.

    Attributes:
        normals: to learn from.
        held_out: to calibrate on.
        left_out: pictures of scenes that are held out already.
        n_scenes: how many scenes the held-out images show: so many can stand behind a promise.
        units: where none is held out because each is to be scored by a fit without it: what stays together in such a
            fit, as a name that decides, the numbers of all its images, and those of one image a scene.
    """

    normals: list[int]
    held_out: list[int]
    left_out: list[int]
    n_scenes: int
    units: tuple[Unit, ...] = ()

    def by_role(self) -> dict[str, list[int]]:
        """Numbers by the names of what they are for, as a model file keeps them; only roles that have images."""
        roles = {"learned": self.normals, "held_out": self.held_out, "left_out": self.left_out}
        return {role: numbers for role, numbers in roles.items() if numbers or role != "left_out"}

    def unused(self, total: int, checked: Checked) -> dict[str, int]:
        """How many of all images count for nothing, by reason."""
        blanks = len(blank(checked.looks))
        return {Skip.BLANK: blanks, Skip.COPY: total - blanks - len(self.normals) - len(self.held_out)}


class Given(NamedTuple):
    """A division that was made before the images were decoded.

    Attributes:
        normals: numbers of the images to learn from.
        held_out: numbers of those to calibrate on.
        is_drawn: whether names alone decided, so that contents may decide better.
    """

    normals: Sequence[int]
    held_out: Sequence[int]
    is_drawn: bool


def divide(
    sources: Sequence[Any],
    checked: Checked,
    given: Given | Sequence[int] | None,
    reading: Reading,
    share: float | None,
    seed: int,
) -> Division:
    """Divide the good images: blank ones are left out, each picture counts once, and so does each held-out scene.

    Args:
        sources: of all images.
        checked: what is known of them.
        given: a division to keep; None = divide by the contents; numbers of the files that the images are pages of =
            the same, with all pages of a file on one side.
        reading: how a source is decoded.
        share: of the scenes to hold out, where contents decide; None = hold none out, and say what stays together.
        seed: another one holds out others.

    Raises:
        ImageError: no image shows anything.
        DatasetError: the images show only one picture, or none is left to learn from.
    """
    numbers = (*given.normals, *given.held_out) if isinstance(given, Given) else range(len(sources))
    kept = _once(checked, _shown(sources, checked, numbers))
    if len(kept) == 1 or _is_one_picture(sources, checked, kept, reading):
        raise _without_variation([checked.looks[number].bright for number in kept])
    scene = _scenes(kept, checked)
    if not isinstance(given, Given):
        unit = scene if given is None else {number: scene[_first(kept, given, number)] for number in kept}
        if share is None:
            return _undivided(kept, scene, unit, checked.hashes)
        return _drawn(kept, scene, unit, checked.hashes, share, seed)
    normals = [number for number in given.normals if number in scene]
    held_out = [number for number in given.held_out if number in scene]
    if not normals:
        raise DatasetError("no image is left to learn from; give good photographs that are not among the held-out ones")
    learned = {scene[number] for number in normals}
    across = [number for number in held_out if scene[number] in learned]
    if given.is_drawn and len(across) > BURSTS * len(held_out) and len(set(scene.values())) > 1:
        return _drawn(kept, scene, scene, checked.hashes, len(held_out) / len(kept), seed)
    if across:
        _warn_of_near_duplicates(sources, normals, held_out, across, scene)
    return _as_given(normals, held_out, scene)


def _without_variation(brightest: Sequence[float]) -> UnmaskError:
    """Why there is nothing to learn from: the light, or the images."""
    if len(brightest) > 1 and max(brightest) < DARK:
        used = f"they use {max(brightest):.1%} of the range"
        return ImageError(
            f"the good images are too dark to be told apart: {used}; give more light or an intensity range"
        )
    return DatasetError(
        "the good images show only one picture, however often it was copied, saved or taken: there is no variation "
        "to learn from; give photographs of different good parts"
    )


def _shown(sources: Sequence[Any], checked: Checked, numbers: Sequence[int]) -> list[int]:
    """The images that show anything; the others are warned of."""
    nothing = blank(checked.looks)
    if len(nothing) == len(sources):
        raise ImageError(
            "no good image shows anything: the pixels of each have one value, or next to one, but for a handful; "
            "check the images, or the intensity range"
        )
    if nothing:
        warn_of_blank([_name(sources, number) for number in sorted(nothing)], len(sources))
    return [number for number in numbers if number not in nothing]


def _once(checked: Checked, numbers: Sequence[int]) -> list[int]:
    """Each content once: a copy is not one more image, and what was learned cannot calibrate."""
    first: dict[str, int] = {}
    for number in numbers:
        first.setdefault(checked.hashes[number], number)
    if dropped := len(numbers) - len(first):
        warnings.warn(f"{dropped} good images are copies of others; each picture counts once", stacklevel=5)
    return list(first.values())


def _is_one_picture(sources: Sequence[Any], checked: Checked, kept: Sequence[int], reading: Reading) -> bool:
    """Whether all images are one picture; only where they are equal in the large, some are decoded again to tell."""
    if not are_equal_in_the_large([checked.signatures[number] for number in kept]):
        return False
    some = kept[:: max(1, len(kept) // COMPARED)]
    first, *others = (resize(reading.decode(sources[number]), SIDE, SIDE) for number in some)
    return all(is_one_picture(first, other) for other in others)


def _scenes(kept: Sequence[int], checked: Checked) -> dict[int, str]:
    """The scene of each image: the first hash of those that show it, whatever order the images came in."""
    ordered = sorted(kept, key=lambda number: checked.hashes[number])
    firsts = scenes([checked.signatures[number] for number in ordered])
    return {number: checked.hashes[ordered[first]] for number, first in zip(ordered, firsts, strict=True)}


def _first(kept: Sequence[int], file_of: Sequence[int], number: int) -> int:
    """The first image of an image's file."""
    return next(one for one in kept if file_of[one] == file_of[number])


def _undivided(kept: list[int], scene: dict[int, str], unit: dict[int, str], hashes: Sequence[str]) -> Division:
    """All images to learn from, and what stays together where each is scored by a fit without it."""
    units = {name: (name, list[int](), list[int]()) for name in sorted(set(unit.values()))}
    for number in kept:
        _, whole, scored = units[unit[number]]
        whole.append(number)
        if hashes[number] == scene[number]:
            scored.append(number)
    n = sum(len(scored) for _, _, scored in units.values())
    if n < len(kept):
        warnings.warn(
            f"{len(kept)} good images show {n} scenes (bursts, video frames, copies saved again); the images of a "
            f"scene are kept together, and each scene counts once",
            stacklevel=5,
        )
    return Division(kept, [], [], n if len(units) > 1 else 0, tuple(units.values()))


def _drawn(
    kept: Sequence[int], scene: dict[int, str], unit: dict[int, str], hashes: Sequence[str], share: float, seed: int
) -> Division:
    """Scenes to learn from and to hold out, by the order of hashes of their contents; one image a scene is held out."""
    names = set(unit.values())
    order = sorted(names, key=lambda one: hashlib.blake2b(f"{seed}/{one}".encode(), digest_size=8).digest())
    drawn = set(order[: min(max(1, round(share * len(order))), len(order) - 1)])
    held_out = [number for number in kept if unit[number] in drawn and hashes[number] == scene[number]]
    left_out = [number for number in kept if unit[number] in drawn and hashes[number] != scene[number]]
    if (shown := len(set(scene.values()))) < len(kept):
        warnings.warn(
            f"{len(kept)} good images show {shown} scenes (bursts, video frames, copies saved again); each scene "
            f"is on one side and counts once: {len(held_out)} scenes are held out",
            stacklevel=5,
        )
    return Division([number for number in kept if unit[number] not in drawn], held_out, left_out, len(held_out))


def _as_given(normals: list[int], held_out: list[int], scene: dict[int, str]) -> Division:
    """Keep a division; where held-out images are bursts, one image of each scene is calibrated on."""
    first: dict[str, int] = {}
    for number in held_out:
        first.setdefault(scene[number], number)
    if 2 * len(first) > len(held_out) or not held_out:
        return Division(normals, held_out, [], len(first))
    warnings.warn(f"{len(held_out)} held-out images show {len(first)} scenes; each counts once", stacklevel=5)
    chosen = list(first.values())
    return Division(normals, chosen, [number for number in held_out if number not in set(chosen)], len(first))


def _warn_of_near_duplicates(
    sources: Sequence[Any],
    normals: Sequence[int],
    held_out: Sequence[int],
    across: Sequence[int],
    scene: dict[int, str],
) -> None:
    """Warn in one line where a held-out image shows the scene of one that is learned from: a burst, a video frame."""
    other = next(number for number in normals if scene[number] == scene[across[0]])
    shown = len({scene[number] for number in held_out})
    counted = f" ({shown} scenes)" if shown < len(held_out) else ""
    warnings.warn(
        f"{len(across)} of {len(held_out)} held-out images{counted} show nearly the same as an image that is learned "
        f"from, such as {_name(sources, across[0])} and {_name(sources, other)}: the threshold may be too low; keep "
        "bursts together with --group",
        stacklevel=5,
    )


def _name(sources: Sequence[Any], number: int) -> str:
    return Path(numbered(sources[number], number)).name
