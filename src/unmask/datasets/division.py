"""Which good images are held out: a hash of names decides, and images of one group stay together."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.errors import SettingError
from unmask.types import Sample

Key = TypeVar("Key")

TEST_SHARE = 0.2  # of the good images, where a data set brings no good test images of its own


def draw(names: Mapping[Key, str], share: float, salt: str) -> set[Key]:
    """Draw the images whose name's hash of "{salt}/{name}", as a fraction of its range, is below the share.

    Names are compared as NFC, so that systems which write accents in two characters draw the same images.

    Images of equal names are drawn together. Of two names or more at least one is drawn (the smallest hash) and one is
    not (the largest); of a single one, none.

    Args:
        names: of each image its group, or its own name or content when it is in no group.
        share: of the names, in (0, 1).
        salt: another salt draws others.
    """

    def fraction(name: str) -> float:
        text = unicodedata.normalize("NFC", f"{salt}/{name}")
        digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    ranked = sorted((fraction(name), name) for name in set(names.values()))
    if len(ranked) < 2:
        return set()
    below = sum(at < share for at, _ in ranked)
    drawn = {name for _, name in ranked[: min(max(below, 1), len(ranked) - 1)]}
    return {path for path, name in names.items() if name in drawn}


def grouped(inventory: Inventory, pattern: str | None) -> Inventory:
    """Name the groups of the good images by a regular expression; without one, the data set's own groups stay.

    The expression is searched in each image's path relative to the training folder. Its first capture group names the
    image's group, or the whole match does where it captures nothing; an image without a match is in no group.

    Raises:
        SettingError: the expression is invalid, or matches no image.
    """
    if pattern is None:
        return inventory
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SettingError(
            f"groups: {pattern!r} is no regular expression ({error}); write one such as '^[^/]+'"
        ) from error
    groups = {}
    for path in (*inventory.normals, *inventory.held_out):
        found = expression.search(inventory.name(path))
        name = found and (found[1] if expression.groups else found[0])
        if name:
            groups[path] = name
    if not groups:
        example = inventory.name(inventory.normals[0])
        raise SettingError(f"groups: {pattern!r} matches no image; their paths look like {example}; change the pattern")
    return replace(inventory, groups=groups)


def names_of(inventory: Inventory) -> dict[Path, str]:
    """Give each good image that may be drawn its group, or its own name when it is in no group."""
    return {path: inventory.groups.get(path) or inventory.name(path) for path in inventory.normals}


def rule_of(inventory: Inventory) -> tuple[str, ...]:
    """Write what beside the seed decides which good images are held out, as `Split.rule` has it."""
    groups = ((path, inventory.groups.get(path)) for path in inventory.normals)
    lines = [f"group|{inventory.name(path)}|{group}" for path, group in groups if group]
    return tuple(sorted([*lines, *(f"held out|{inventory.name(path)}" for path in inventory.held_out)]))


def with_test_normals(inventory: Inventory) -> Inventory:
    """Move a stable share of the good images to a test set that has none of its own; no seed changes the share."""
    if not inventory.draws_test_normals:
        return inventory
    drawn = draw(names_of(inventory), TEST_SHARE, "test")
    good = tuple(Sample(path, False, "good") for path in sorted(drawn))
    warning = f"{len(drawn)} of {len(inventory.normals)} good images were set apart as the test set's good images"
    return replace(
        inventory,
        normals=tuple(path for path in inventory.normals if path not in drawn),
        test=(*good, *inventory.test),
        warnings=(*inventory.warnings, warning),
    )


def group_warnings(inventory: Inventory) -> tuple[str, ...]:
    """Say how many groups there are, and which of them lie on both sides of a split that the data set itself makes."""
    if not inventory.groups:
        return ()
    names = set(names_of(inventory).values())
    lines = [f"{len(inventory.normals)} good images form {len(names)} groups, each of which stays on one side"]
    others = {
        "held-out": inventory.held_out,
        "test": [sample.path for sample in inventory.test],
    }
    for role, paths in others.items():
        shared = sorted({inventory.groups[path] for path in paths if path in inventory.groups} & names)
        if shared:
            lines.append(
                f"{len(shared)} groups have both training and {role} images, which makes figures look better than "
                f"they are: {abbreviated(shared)}"
            )
    return tuple(lines)
