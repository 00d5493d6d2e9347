"""Images of which several show one photograph (it and its copies, or its tiles): no group is learned and tested on."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.features.maps import CachedImages, CachedMaps, Images


@runtime_checkable
class Grouped(Protocol):
    """Images that tell which of them show one photograph: equal numbers in `groups`, which never fall."""

    @property
    def groups(self) -> Int[Tensor, " n"]:
        """For each image the number of its photograph."""


class Fold(NamedTuple):
    """Rows of images by what one of several fits does with them; no group is on both sides.

    Attributes:
        learned: rows to learn from.
        scored: rows that are scored by what was learned.
    """

    learned: Int[Tensor, " _l"]
    scored: Int[Tensor, " _s"]


class SomeImages:
    """Some of n images.

    Args:
        images: all of them.
        rows: numbers of those to give.
    """

    def __init__(self, images: Images, rows: Int[Tensor, " k"]) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Float[Tensor, "3 s s"]:
        return self.images[int(self.rows[index])]

    @property
    def groups(self) -> Int[Tensor, " k"]:
        """Which of them show one photograph."""
        return groups_of(self.images)[self.rows]


def groups_of(images: Images | CachedMaps) -> Int[Tensor, " n"]:
    """For each image the number of its group; images that tell nothing are groups of one."""
    if isinstance(images, CachedImages):
        return groups_of(images.images)[images.cached.rows]
    if isinstance(images, Grouped):
        return images.groups
    return torch.arange(len(images))


def some(images: Images, rows: Int[Tensor, " k"]) -> Images:
    """Images with these numbers only; what is cached of them stays so."""
    return images.subset(rows) if isinstance(images, CachedImages) else SomeImages(images, rows)


def set_aside(groups: Int[Tensor, " n"], every: int, generator: torch.Generator | None = None) -> Fold:
    """Set whole groups aside: the first of every `every` of them.

    Args:
        groups: of n images.
        every: such as 5 for a fifth.
        generator: draws which; None = in their order.
    """
    names, place = groups.unique(return_inverse=True)
    order = torch.arange(len(names)) if generator is None else torch.randperm(len(names), generator=generator)
    aside = torch.zeros(len(names), dtype=torch.bool)
    aside[order[::every]] = True
    is_aside = aside[place]
    return Fold(torch.arange(len(groups))[~is_aside], torch.arange(len(groups))[is_aside])
