"""Features to a picture for people to look at: a linear map from a token to its patch of pixels. It judges nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

RIDGE = 1e-3  # of the mean square of the tokens


class Painter:
    """Gathers tokens and their patches, then solves for the map between them (ridge regression)."""

    def __init__(self) -> None:
        self.squares: Tensor | float = 0.0
        self.products: Tensor | float = 0.0

    def add(self, tokens: Float[Tensor, "b c g g"], images: Float[Tensor, "b 3 s s"]) -> None:
        """Learn from images and their tokens."""
        rows, patches = _rows(tokens), _patches(images, tokens.shape[-1])
        self.squares = self.squares + rows.T @ rows
        self.products = self.products + rows.T @ patches

    def solved(self) -> Float[Tensor, "c_and_1 p"]:
        """The map; its last row is a constant."""
        squares, products = torch.as_tensor(self.squares), torch.as_tensor(self.products)
        solved: Tensor = torch.linalg.solve(squares + RIDGE * squares.diag().mean() * torch.eye(len(squares)), products)
        return solved


def paint(tokens: Float[Tensor, "b c g g"], linear: Float[Tensor, "c_and_1 p"]) -> Float[Tensor, "b 3 s s"]:
    """The picture that tokens stand for, in [0, 1]."""
    b, _, side, _ = tokens.shape
    patches = (_rows(tokens) @ linear).unflatten(0, (b, side, side)).permute(0, 3, 1, 2)  # b p g g
    return F.pixel_shuffle(patches, round((patches.shape[1] // 3) ** 0.5)).clamp(0, 1)


def _rows(tokens: Float[Tensor, "b c g g"]) -> Float[Tensor, "n c_and_1"]:
    return F.pad(tokens.permute(0, 2, 3, 1).flatten(0, 2), (0, 1), value=1.0)


def _patches(images: Float[Tensor, "b 3 s s"], side: int) -> Float[Tensor, "n p"]:
    return F.pixel_unshuffle(images, images.shape[-1] // side).permute(0, 2, 3, 1).flatten(0, 2)
