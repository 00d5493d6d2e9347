"""The distance from each feature vector to the nearest of a bank of normal ones (PatchCore, arXiv 2106.08265)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from unmask.features.maps import CachedValue
from unmask.training.trainer import generator_for

QUERIES = 128  # at a time: their products with 10,000 vectors fill 5 MB


class Bank(nn.Module):
    """Normal feature vectors of some levels on one grid.

    Args:
        levels: which of the feature maps to join.
        grid: vectors along a side of an image.
        size: vectors to keep, drawn at random.
    """

    vectors: Tensor

    def __init__(self, levels: Sequence[int], grid: int, size: int) -> None:
        super().__init__()
        self.levels, self.grid, self.size = list(levels), grid, size
        self.register_buffer("vectors", torch.empty(0, dtype=torch.float16))
        self.group = torch.empty(0, dtype=torch.long)  # of each vector's image, rising; on the CPU
        self.columns = CachedValue(bank_columns)

    def fill(self, groups: Int[Tensor, " n"], chunks: Iterable[tuple[int, list[Tensor]]], seed: int) -> None:
        """Draw vectors of n images, whose maps come in chunks with the number of their first image.

        Args:
            groups: the photograph that each image shows; the numbers never fall.
            chunks: maps.
            seed: of the draw.
        """
        self.vectors, image = candidates(
            len(groups), chunks, self._vectors, self.size, generator_for(seed, "bank", *self.levels)
        )
        self.group = groups[image]

    def distances(self, maps: list[Tensor], groups: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b g g"]:
        """Distance of each cell to the nearest vector of the bank.

        Args:
            maps: of b images.
            groups: the photographs that they show, on the CPU, where these are in the bank: vectors of the same
                photograph then do not count.
        """
        columns = self.columns(self.vectors)
        if groups is None:
            near: Tensor = nearest(self._vectors(maps), columns).unflatten(1, (self.grid, self.grid))
            return near
        own = torch.searchsorted(self.group, torch.stack([groups, groups + 1], dim=1)).tolist()
        found = [nearest(q, columns, (rows[0], rows[1])) for q, rows in zip(self._vectors(maps), own, strict=True)]
        return torch.stack(found).view(-1, self.grid, self.grid)

    def _vectors(self, maps: list[Tensor]) -> Float[Tensor, "b n c"]:
        return patch_vectors([maps[i] for i in self.levels], self.grid)


def patch_vectors(maps: Sequence[Tensor], grid: int) -> Float[Tensor, "b n c"]:
    """Each level averaged over 3 x 3 cells (PatchCore, eq. 2), then all on one grid, n = grid x grid vectors."""
    pooled = [F.avg_pool2d(one, 3, 1, 1) for one in maps]
    fitted = [one if one.shape[-1] == grid else F.interpolate(one, size=grid, mode="bilinear") for one in pooled]
    return torch.cat(fitted, dim=1).flatten(2).transpose(1, 2)


def candidates(
    n: int,
    chunks: Iterable[tuple[int, list[Tensor]]],
    vectors_of: Callable[[list[Tensor]], Tensor],
    size: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "m c"], Int[Tensor, " m"]]:
    """Vectors drawn at random from all images, without ever holding all of them.

    Args:
        n: images.
        chunks: their maps, with the number of the first image of each chunk.
        vectors_of: maps of b images -> (b, cells, c).
        size: vectors to draw, at the most.
        generator: of the draw.

    Returns:
        The vectors in float16 on the device of the maps, and the number of each one's image, rising, on the CPU.
    """
    chosen: list[Tensor] = []
    rows = torch.empty(0, dtype=torch.long)
    cells = 0
    for start, maps in chunks:
        vectors = vectors_of(maps)
        if not chosen:
            cells = vectors.shape[1]
            rows = sample_rows(n * cells, size, generator)
        vectors = vectors.flatten(0, 1)
        here = rows[(rows >= start * cells) & (rows < start * cells + len(vectors))] - start * cells
        chosen.append(vectors[here.to(vectors.device)].half())
    return torch.cat(chosen), rows // cells


def sample_rows(n: int, size: int, generator: torch.Generator) -> Int[Tensor, " m"]:
    """Choose min(n, size) of n rows, in ascending order."""
    return torch.randperm(n, generator=generator)[:size].sort().values


def bank_columns(bank: Shaped[Tensor, "m c"]) -> Float[Tensor, "c_and_1 m"]:
    """A bank in the layout of `nearest`: its vectors as columns, and below each one minus half its square."""
    vectors = bank.float()
    half_squares = 0.5 * (vectors * vectors).sum(1, keepdim=True)
    return torch.cat([vectors, -half_squares], dim=1).T.contiguous()


def nearest(
    queries: Float[Tensor, "*b q c"], columns: Float[Tensor, "c_and_1 m"], forbidden: tuple[int, int] = (0, 0)
) -> Float[Tensor, "*b q"]:
    """Euclidean distance to the nearest bank vector.

    |q - b|^2 = |q|^2 - 2 (q b - |b|^2 / 2): the bracket is one matrix product, taken in parts that stay in the cache.

    Args:
        queries: feature vectors.
        columns: the bank, from `bank_columns`.
        forbidden: (first, end) of the bank's vectors that do not count.
    """
    if forbidden[0] < forbidden[1]:
        columns = columns.clone()
        columns[-1, forbidden[0] : forbidden[1]] = -torch.inf
    rows = F.pad(queries, (0, 1), value=1.0)
    closest = torch.cat([(part @ columns).amax(-1) for part in rows.split(QUERIES, dim=-2)], dim=-1)
    return ((queries * queries).sum(-1) - 2 * closest).clamp(min=0).sqrt()
