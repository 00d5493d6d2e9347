"""Images of which several show one photograph (it and its copies, or its tiles): no group is learned and tested on."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.features.maps import CachedImages, Images


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


def groups_of(images: Images) -> Int[Tensor, " n"]:
    """For each image the number of its group; images that tell nothing are groups of one."""
    if isinstance(images, CachedImages):
        return groups_of(images.images)[images.cached.rows]
    if isinstance(images, Grouped):
        return images.groups
    return torch.arange(len(images))


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
