"""What several detectors compute of their maps to get the score of an image."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from unmask.errors import SettingError


def top_mean(maps: Float[Tensor, "*b h w"], share: float) -> Float[Tensor, "*b"]:
    """Mean of the largest `share` of each map: a maximum that one pixel of noise cannot decide; 0 = the maximum."""
    flat = maps.flatten(-2)
    return flat.topk(max(1, round(share * flat.shape[-1])), dim=-1).values.mean(-1)


def check_finite(detector: str, *statistics: Tensor) -> None:
    """Raise SettingError where the scores of normal images are not finite: the training has diverged."""
    if not all(bool(one.isfinite().all()) for one in statistics):
        raise SettingError(
            f"the training of {detector} diverged: its scores of normal images are not finite; give a smaller lr"
        )
