"""A Gaussian of whole feature maps: restores hidden tokens from the visible ones, in closed form.

Probabilistic PCA (Tipping and Bishop 1999): x = mean + W z + noise, with z ~ N(0, variances). What is hidden (h) is
restored from what is visible (v) by its conditional mean:

    E[z | x_v] = (W_v^T W_v + noise / variances)^-1 W_v^T (x_v - mean_v)
    E[x_h | x_v] = mean_h + W_h E[z | x_v]

It cannot copy what it hides, and cannot express what normal images never show.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.features.subspace import Subspace, principal_subspace

LEAST_RIDGE = 1e-4  # keeps the system solvable in float32 where a direction lies in hidden tokens alone


class ConditionalGaussian:
    """What normal maps are like, as `fit_gaussian` found it.

    Args:
        subspace: mean and basis W.
        ridge: noise over the variance of each direction.
        layout: (tokens, channels) of each group of the vectors; a group's values are stored token by token.
    """

    def __init__(self, subspace: Subspace, ridge: Float[Tensor, " r"], layout: Sequence[tuple[int, int]]) -> None:
        self.mean, self.ridge, self.layout = subspace.mean, ridge, list(layout)
        self.rows = [  # of W, token by token: n c r
            part.unflatten(0, shape)
            for part, shape in zip(subspace.basis.split([n * c for n, c in layout]), layout, strict=True)
        ]
        self.grams = torch.cat([rows.transpose(1, 2) @ rows for rows in self.rows]).flatten(1)  # tokens r*r

    def __call__(self, vectors: Float[Tensor, "b d"], visible: Float[Tensor, "b m tokens"]) -> Float[Tensor, "b m d"]:
        """Restore images under m masks each: the conditional mean everywhere, hidden or not.

        Args:
            vectors: whole maps.
            visible: of the tokens of all groups, 1 where a token may be used, 0 where it is hidden.
        """
        parts = (vectors - self.mean).split([n * c for n, c in self.layout], dim=1)
        evidence = torch.cat(  # W_i^T (x_i - mean_i) of each token i: b tokens r
            [
                torch.einsum("bnc,ncr->bnr", x.unflatten(1, rows.shape[:2]), rows)
                for x, rows in zip(parts, self.rows, strict=True)
            ],
            dim=1,
        )
        b, m, _ = visible.shape
        rank = len(self.ridge)
        systems = (visible.flatten(0, 1) @ self.grams).unflatten(1, (rank, rank)) + self.ridge.diag()
        wanted = (visible @ evidence).flatten(0, 1)[..., None]  # b*m r 1
        latents = torch.cholesky_solve(wanted, torch.linalg.cholesky(systems))[..., 0]
        restored = torch.cat([latents @ rows.flatten(0, 1).T for rows in self.rows], dim=1) + self.mean
        per_mask: Tensor = restored.unflatten(0, (b, m))
        return per_mask


def fit_gaussian(vectors: Float[Tensor, "n d"], share: float, most: int) -> tuple[Subspace, Float[Tensor, " r"]]:
    """The principal subspace of normal images and the variance along each of its directions.

    Args:
        vectors: one row an image.
        share: of the variance to keep, in (0, 1].
        most: directions, at the most.
    """
    whole = principal_subspace(vectors, share)
    subspace = Subspace(whole.mean, whole.basis[:, :most].contiguous())
    variances = ((vectors - subspace.mean) @ subspace.basis).pow(2).sum(0) / max(1, len(vectors) - 1)
    return subspace, variances
