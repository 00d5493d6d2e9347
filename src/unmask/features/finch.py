"""FINCH: clustering by first neighbours, without parameters (Sarfraz, Sharma, Stiefelhagen; CVPR 2019)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

QUERIES = 512  # at a time: their products with 30,000 vectors fill 60 MB


def finch(vectors: Float[Tensor, "n c"]) -> Iterator[Int[Tensor, " n"]]:
    """Cluster by cosine distance, ever more coarsely.

    Two vectors belong together if one is the other's nearest, or both have the same nearest (eq. 1): the connected
    components of that graph are the clusters, whose means are clustered in turn.

    Args:
        vectors: to cluster; none is zero.

    Yields:
        The cluster of each vector, counted from 0, for each partition from the finest to the last of more than one.
    """
    labels, means = torch.arange(len(vectors), device=vectors.device), vectors
    while len(means) > 1:
        merged = _components(first_neighbours(means))
        if int(merged.max()) + 1 in (1, len(means)):
            return
        labels = merged[labels]
        yield labels
        means = cluster_means(vectors, labels)


def first_neighbours(vectors: Float[Tensor, "n c"]) -> Int[Tensor, " n"]:
    """The number of each vector's nearest other vector, by cosine."""
    unit = F.normalize(vectors, dim=1)
    found = []
    for start in range(0, len(unit), QUERIES):
        near = unit[start : start + QUERIES] @ unit.T
        near[:, start : start + len(near)].fill_diagonal_(-torch.inf)
        found.append(near.argmax(1))
    return torch.cat(found)


def cluster_means(vectors: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float[Tensor, "k c"]:
    """The mean of each cluster."""
    count = int(labels.max()) + 1
    sums = vectors.new_zeros(count, vectors.shape[1]).index_add_(0, labels, vectors)
    return sums / torch.bincount(labels, minlength=count)[:, None]


def _components(neighbours: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Connected components of i - neighbours[i]; those with the same neighbour are connected through it."""
    n = len(neighbours)
    edges = sparse.coo_matrix((np.ones(n, bool), (np.arange(n), neighbours.cpu().numpy())), shape=(n, n))
    labels = sparse.csgraph.connected_components(edges, directed=False)[1]
    return torch.from_numpy(labels).long().to(neighbours.device)
