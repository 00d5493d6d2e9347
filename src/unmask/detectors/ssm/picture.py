"""Features to a picture for explanations: a linear map from a token to its patch of pixels; no score uses it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

RIDGE = 1e-3  # of the mean square of the tokens


def fit_picture_map(
    pairs: Iterable[tuple[Float[Tensor, "_b c g g"], Float[Tensor, "_b 3 s s"]]],
) -> Float[Tensor, "c_and_1 p"]:
    """The linear map that best predicts patches from tokens (ridge regression); its last row is a constant.

    Args:
        pairs: tokens and the images that they were made of, a few at a time; at least one.
    """
    squares, products = torch.zeros(()), torch.zeros(())
    for tokens, images in pairs:
        rows, patches = _rows(tokens), _patches(images, tokens.shape[-1])
        squares = squares.to(rows) + rows.T @ rows
        products = products.to(rows) + rows.T @ patches
    ridge = RIDGE * squares.diag().mean() * torch.eye(len(squares), device=squares.device)
    solved: Tensor = torch.linalg.solve(squares + ridge, products)
    return solved


def draw_picture(tokens: Float[Tensor, "b c g g"], linear: Float[Tensor, "c_and_1 p"]) -> Float[Tensor, "b 3 s s"]:
    """The picture that tokens stand for, in [0, 1].

    Args:
        tokens: of b images.
        linear: of `fit_picture_map`.
    """
    b, _, side, _ = tokens.shape
    patches = (_rows(tokens) @ linear).unflatten(0, (b, side, side)).permute(0, 3, 1, 2)  # b p g g
    return F.pixel_shuffle(patches, round((patches.shape[1] // 3) ** 0.5)).clamp(0, 1)


def _rows(tokens: Float[Tensor, "b c g g"]) -> Float[Tensor, "n c_and_1"]:
    return F.pad(tokens.permute(0, 2, 3, 1).flatten(0, 2), (0, 1), value=1.0)


def _patches(images: Float[Tensor, "b 3 s s"], side: int) -> Float[Tensor, "n p"]:
    return F.pixel_unshuffle(images, images.shape[-1] // side).permute(0, 2, 3, 1).flatten(0, 2)
