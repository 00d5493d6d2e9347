"""A pass of SSM's refinement, and how it looks: what was hidden, restored, and stays covered."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.types import Step

COVER = (0.95, 0.55, 0.1)  # the colour of what is covered


class Pass(NamedTuple):
    """One time of hiding and restoring b images.

    Attributes:
        visible: what was uncovered before it, True = never hidden.
        random_masks: (k, n, s, s), True = visible, before anything was uncovered.
        errors: of each term, in [0, 1] or in units of its variance.
        squares: likewise, what the mean error is taken of: the squared error.
        maps: A, the errors smoothed.
        confirmed: what is uncovered after it.
        restored: mean of R_k over the scales, as the space has it.
    """

    visible: Bool[Tensor, "b g g"]
    random_masks: Bool[Tensor, "k n g g"]
    errors: Float[Tensor, "b t g g"]
    squares: Float[Tensor, "b t g g"]
    maps: Float[Tensor, "b t g g"]
    confirmed: Bool[Tensor, "b g g"]
    restored: Float[Tensor, "b ..."]

    def only(self, rows: Tensor) -> Pass:
        """Some of the images."""
        return Pass(*(part if name == "random_masks" else part[rows] for name, part in self._asdict().items()))

    def updated(self, rows: Tensor, fresh: Pass) -> Pass:
        """A pass in which the images `rows` were looked at again."""
        return Pass(
            *(
                new if name == "random_masks" else old.index_copy(0, rows, new)
                for (name, old), new in zip(self._asdict().items(), fresh, strict=True)
            )
        )


def step_of(
    title: str,
    one: Pass,
    image: Float[Tensor, "3 s s"],
    restored: Float[Tensor, "3 s s"],
    error: Float[Tensor, "s s"],
) -> Step:
    """A pass over a single image, for people to watch.

    Args:
        title: such as "pass 1 of 2".
        one: of one image.
        image: it.
        restored: the picture of what was restored.
        error: in [0, 1], 0 = as on normal images.
    """
    shown = one.random_masks[len(one.random_masks) // 2, 0] | one.visible[0]  # a scale that an eye can follow
    pictures = {
        "hidden": _covered(image, ~shown, 1.0),
        "restored": restored,
        "stays covered": _covered(image, ~one.confirmed[0], 0.6),
    }
    return Step(title, pictures, {"error": error})


def _covered(image: Float[Tensor, "3 s s"], covered: Bool[Tensor, "g g"], opacity: float) -> Float[Tensor, "3 s s"]:
    """The image with a coat of colour over a part of it."""
    coat = F.interpolate(covered[None, None].float(), size=image.shape[-1])[0]
    return torch.lerp(image, torch.tensor(COVER)[:, None, None].expand_as(image), opacity * coat)
