"""A few vectors that stand for many: the greedy k-center coreset, exact, and fast by being lazy."""

from __future__ import annotations

import time

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.training.trainer import Progress, silent

WIDTH = 512  # vectors that wait to be chosen; more make fewer rounds, of more work each
ROWS = 1024  # at a time: their products with the fresh centres stay in the cache
ROUNDING = 4e-6  # of a squared length: squared distances of equal vectors come out below that


def greedy_coreset(
    vectors: Float[Tensor, "n c"],
    size: int,
    generator: torch.Generator,
    *,
    projected: int = 128,
    progress: Progress = silent,
) -> Int[Tensor, " m"]:
    """Choose vectors one after the other, each the farthest from all chosen before it (Sener and Savarese 2018).

    Distances to the chosen only shrink. So the `WIDTH` farthest vectors of a round can be compared among themselves as
    long as the best of them is farther than the best outside was at the start of the round: the choice is the greedy
    one, and the distances of all n vectors are brought up to date once a round, by one matrix product, instead of once
    a choice. Memory: n distances and n x `projected` values.

    Args:
        vectors: to choose from, on any device.
        size: how many.
        generator: of the first choice and of the projection, on the CPU.
        projected: dimensions of a random projection in which distances are taken (PatchCore, section 3.2); fewer
            are left as they are.
        progress: called after each round.

    Returns:
        Their numbers in the order of choice, on the device of the vectors: min(size, distinct vectors) of them.
    """
    if vectors.shape[1] > projected:
        projection = torch.randn(vectors.shape[1], projected, generator=generator).to(vectors.device)
        vectors = vectors @ projection / projected**0.5
    squares = (vectors * vectors).sum(1)
    chosen = [int(torch.randint(len(vectors), (1,), generator=generator))]
    distances = torch.full((len(vectors),), torch.inf, device=vectors.device)
    fresh, start = chosen, time.monotonic()
    while fresh and len(chosen) < size:
        _shrink(distances, vectors, squares, fresh)
        fresh = _farthest(distances, vectors, squares, size - len(chosen))
        chosen = chosen + fresh
        spent = time.monotonic() - start
        progress("coreset", len(chosen), size, spent / len(chosen) * (size - len(chosen)))
    return torch.tensor(chosen).to(vectors.device)


def _shrink(distances: Tensor, vectors: Tensor, squares: Tensor, fresh: list[int]) -> None:
    """Bring the squared distances to the nearest chosen vector up to date, in place."""
    chosen = torch.tensor(fresh).to(vectors.device)
    columns, offsets = vectors[chosen].T, squares[chosen]
    for start in range(0, len(vectors), ROWS):
        rows = slice(start, start + ROWS)
        nearest = (offsets - 2 * vectors[rows] @ columns).amin(1) + squares[rows]
        torch.minimum(distances[rows], nearest, out=distances[rows])
    distances[chosen] = 0


def _farthest(distances: Tensor, vectors: Tensor, squares: Tensor, most: int) -> list[int]:
    """The next choices, while none outside the waiting ones can be farther."""
    farthest = distances.topk(min(WIDTH + 1, len(distances)))
    outside = float(farthest.values[-1]) if len(distances) > WIDTH else 0.0
    waiting, left = farthest.indices[:WIDTH], farthest.values[:WIDTH].clone()
    among, offsets = vectors[waiting], squares[waiting]
    chosen: list[int] = []
    while len(chosen) < most:
        best = int(left.argmax())
        if left[best] < outside or left[best] <= ROUNDING * offsets[best]:
            break
        chosen.append(int(waiting[best]))
        left = torch.minimum(left, offsets + offsets[best] - 2 * (among @ among[best]))
        left[best] = 0
    return chosen
