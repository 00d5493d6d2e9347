"""A whole-map PCA: a linear autoencoder with a bottleneck, which cannot copy what it has not seen (FRE, 2211.12650)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Subspace(NamedTuple):
    """An affine subspace: mean (d,) and orthonormal basis (d, k)."""

    mean: Float[Tensor, " d"]
    basis: Float[Tensor, "d k"]

    def project(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The nearest points of the subspace."""
        centred = vectors - self.mean
        return self.mean + (centred @ self.basis) @ self.basis.T


def principal_subspace(vectors: Float[Tensor, "n d"], share: float) -> Subspace:
    """The smallest principal subspace that keeps `share` of the variance, by way of the n x n Gram matrix (n << d).

    Args:
        vectors: one row an image.
        share: of the variance, in (0, 1].
    """
    mean = vectors.mean(0)
    centred = vectors - mean
    gram = (centred @ centred.T).cpu().double()  # not every device has float64 and eigenvalues
    values, directions = torch.linalg.eigh(gram)
    values, directions = values.flip(0).clamp(min=0), directions.flip(1)
    explained = values.cumsum(0) / values.sum().clamp(min=1e-12)
    rank = min(int((explained < share).sum()) + 1, max(1, len(vectors) - 1))
    scale = values[:rank].clamp(min=1e-12).sqrt()
    coefficients = (directions[:, :rank] / scale).float().to(vectors.device)
    return Subspace(mean, (centred.T @ coefficients).contiguous())
