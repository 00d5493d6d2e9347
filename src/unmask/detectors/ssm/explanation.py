"""A pass of SSM's refinement as pictures: what was hidden, what was restored, and what stays covered."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.detectors.ssm.refinement import Pass
from unmask.types import Step

COVER = (0.95, 0.55, 0.1)  # the colour of what is covered


def step_of(
    title: str,
    one: Pass,
    image: Float[Tensor, "3 h w"],
    restored: Float[Tensor, "3 h w"],
    error: Float[Tensor, "h w"],
) -> Step:
    """A pass over a single image, for people to watch.

    Args:
        title: title of the step, such as "pass 1 of 2".
        one: the pass, of one image.
        image: the image.
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


def _covered(image: Float[Tensor, "3 h w"], covered: Bool[Tensor, "g g"], opacity: float) -> Float[Tensor, "3 h w"]:
    """The image with a coat of colour over a part of it."""
    coat = F.interpolate(covered[None, None].float(), size=image.shape[-1])[0]
    colour = torch.tensor(COVER).to(image)[:, None, None].expand_as(image)
    return torch.lerp(image, colour, opacity * coat)
