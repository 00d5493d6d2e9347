"""Seeded damage of feature maps: endless variety for a self-supervised detector, and no damaged image is ever encoded.

Each image of a batch gets one shape (a smooth blob or a thin stroke), one filling and one opacity. Only the damaged
cells are touched, those of all images at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from unmask.errors import SettingError

AREA = (0.01, 0.37)
"""Least and largest share of the cells that a blob covers, drawn log-uniformly: small damage is the common one."""

OPACITY = (0.4, 1.0)


class Kind(IntEnum):
    """What a damaged cell is filled with."""

    ELSEWHERE = 0  # tokens of the same image, rolled
    FOREIGN = 1  # tokens of another image of the batch, rolled
    SHUFFLED = 2  # tokens of the same image, without their order
    NOISE = 3
    SHIFT = 4  # the same random vector added to all


class Filling(NamedTuple):
    """Where b images take their filling from; a block is a cell of the grid that all levels can be cut into.

    Attributes:
        kind: (b,) one of `Kind`.
        image: (b,) index of the image that lends its tokens.
        block: (b, bh, bw) flat index of the block that lends its tokens.
    """

    kind: Tensor
    image: Tensor
    block: Tensor


def damage_features(
    maps: Sequence[Float[Tensor, "b _c _gh _gw"]],
    generator: torch.Generator,
    *,
    stroke_share: float = 0.3,
    whole_share: float = 0.25,
) -> tuple[list[Float[Tensor, "b _c _gh _gw"]], Float[Tensor, "b gh gw"]]:
    """Damage a batch of feature maps; a coarser cell is damaged as strongly as the share of it that is.

    Args:
        maps: levels, finest first, each channel standardised (noise has unit variance). The grid of each level divides
            the finest one's.
        generator: of the CPU, where the randomness comes from; what is drawn then moves to the device of the maps.
        stroke_share: share of the images that get a stroke one cell wide instead of a blob.
        whole_share: share of the images that are left whole.

    Returns:
        The damaged maps, and where the finest one was damaged: 1 or 0.

    Raises:
        SettingError: a share outside [0, 1], or a grid that does not divide the finest.
    """
    _check(maps, stroke_share, whole_share)
    b, _, gh, gw = maps[0].shape
    mask = _blobs(b, gh, gw, generator)
    stroke = torch.rand(b, 1, 1, generator=generator) < stroke_share
    mask = torch.where(stroke, _strokes(b, gh, gw, generator), mask)
    mask = mask * (torch.rand(b, 1, 1, generator=generator) >= whole_share)
    opacity = mask * _uniform(OPACITY, (b, 1, 1), generator)
    blocks = math.gcd(*(level.shape[2] for level in maps)), math.gcd(*(level.shape[3] for level in maps))
    filling = _draw_filling(b, *blocks, generator)
    device = maps[0].device
    opacity, filling = opacity.to(device), Filling(*(part.to(device) for part in filling))
    return [_fill(level, opacity, filling, generator) for level in maps], mask.to(device)


def _check(maps: Sequence[Tensor], stroke_share: float, whole_share: float) -> None:
    for name, share in (("stroke_share", stroke_share), ("whole_share", whole_share)):
        if not 0 <= share <= 1:
            raise SettingError(f"{name} must lie in [0, 1], got {share}")
    if not maps:
        raise SettingError("damage needs at least one level of feature maps, got none")
    gh, gw = maps[0].shape[2:]
    for level in maps:
        if gh % level.shape[2] or gw % level.shape[3]:
            raise SettingError(f"a grid of {tuple(level.shape[2:])} cells does not divide the finest, {(gh, gw)}")


def _uniform(ends: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * torch.rand(shape, generator=generator)


def _blobs(b: int, gh: int, gw: int, generator: torch.Generator) -> Float[Tensor, "b gh gw"]:
    """The highest hills of smooth noise: the area is exact, to a cell."""
    hills = _smooth_noise(b, gh, gw, generator)
    area = AREA[0] * (AREA[1] / AREA[0]) ** torch.rand(b, 1, generator=generator)
    cells = (area * gh * gw).round().long().clamp(min=1)  # b 1
    lowest = hills.flatten(1).sort(dim=1, descending=True).values.gather(1, cells - 1)
    return (hills >= lowest[..., None]).float()


def _smooth_noise(b: int, gh: int, gw: int, generator: torch.Generator) -> Float[Tensor, "b gh gw"]:
    """Noise smoothed with a gaussian of 1/16 to 1/8 of the grid, drawn for each image; its scale is arbitrary.

    The noise reaches past the edges, so that hills are about as likely there as inside.
    """
    ends = (max(gh, gw) / 16, max(gh, gw) / 8)
    sigma = _uniform(ends, (b, 1, 1), generator)
    margin = math.ceil(3 * ends[1])
    noise = torch.randn(b, gh + 2 * margin, gw + 2 * margin, generator=generator)
    rows, columns = _gaussian_rows(gh, margin, sigma), _gaussian_rows(gw, margin, sigma)
    return rows @ noise @ columns.transpose(1, 2)


def _gaussian_rows(size: int, margin: int, sigma: Tensor) -> Tensor:
    """A matrix for each image: row i holds the gaussian weights around position i of the widened line."""
    distance = torch.arange(size)[:, None] - torch.arange(-margin, size + margin)[None]
    return torch.exp(-0.5 * (distance / sigma) ** 2)  # b size size+2*margin


def _strokes(b: int, gh: int, gw: int, generator: torch.Generator) -> Float[Tensor, "b gh gw"]:
    """One thin parabola an image, such as a crack or a scratch would leave."""
    side = max(gh, gw)
    middle = torch.rand(2, b, 1, 1, generator=generator)
    angle = _uniform((0, math.pi), (b, 1, 1), generator)
    half_length = _uniform((0.075, 0.375), (b, 1, 1), generator) * side
    curvature = _uniform((-1, 1), (b, 1, 1), generator) / side
    x = torch.arange(gw) - middle[0] * (gw - 1)  # b 1 gw
    y = torch.arange(gh)[:, None] - middle[1] * (gh - 1)  # b gh 1
    along = x * angle.cos() + y * angle.sin()  # b gh gw
    across = y * angle.cos() - x * angle.sin() - curvature * along**2
    # 0.6 of a cell to either side is the least that leaves a slanted line without gaps.
    return ((across.abs() < 0.6) & (along.abs() < half_length.clamp(min=1))).float()


def _draw_filling(b: int, bh: int, bw: int, generator: torch.Generator) -> Filling:
    kind = torch.randint(len(Kind), (b,), generator=generator)
    itself = torch.arange(b)
    other = (itself + torch.randint(1, max(2, b), (b,), generator=generator)) % b
    image = torch.where(kind == Kind.FOREIGN, other, itself)
    shuffled = (kind == Kind.SHUFFLED)[:, None, None]
    block = torch.where(shuffled, _shuffled(b, bh, bw, generator), _rolled(b, bh, bw, generator))
    return Filling(kind, image, block)


def _rolled(b: int, bh: int, bw: int, generator: torch.Generator) -> Tensor:
    """Flat indices of blocks, moved by at least an eighth of the grid in both directions."""

    def line(size: int) -> Tensor:
        least = max(1, size // 8)
        step = torch.randint(least, max(least + 1, size - least + 1), (b, 1), generator=generator)
        return (torch.arange(size) + step) % size  # b size

    return line(bh)[:, :, None] * bw + line(bw)[:, None, :]


def _shuffled(b: int, bh: int, bw: int, generator: torch.Generator) -> Tensor:
    """Flat indices of blocks in one random cycle, so that none stays where it was."""
    order = torch.rand(b, bh * bw, generator=generator).argsort(1)
    return torch.empty_like(order).scatter_(1, order, order.roll(1, 1)).view(b, bh, bw)


def _fill(level: Tensor, opacity: Tensor, filling: Filling, generator: torch.Generator) -> Tensor:
    """A copy of one level whose damaged cells are mixed with their filling."""
    b, c, h, w = level.shape
    scale = opacity.shape[1] // h, opacity.shape[2] // w
    opacity = F.avg_pool2d(opacity[:, None], scale)[:, 0]  # b h w
    damaged = level.clone(memory_format=torch.contiguous_format)
    tokens = damaged.permute(0, 2, 3, 1)  # b h w c, a view
    at = opacity.nonzero(as_tuple=True)  # image, y, x of k cells
    clean = tokens[at]  # k c
    filler = tokens[_lender(at, (h, w), filling)]
    kind = filling.kind[at[0], None]
    filler = torch.where(kind == Kind.NOISE, torch.randn(clean.shape, generator=generator).to(level), filler)
    shift = torch.randn(b, c, generator=generator).to(level)
    filler = torch.where(kind == Kind.SHIFT, clean + shift[at[0]], filler)
    tokens[at] = torch.lerp(clean, filler, opacity[at][:, None].to(level))
    return damaged


def _lender(at: tuple[Tensor, ...], grid: tuple[int, int], filling: Filling) -> tuple[Tensor, Tensor, Tensor]:
    """Image, y and x of the cell that lends its token to each of k cells."""
    image, y, x = at
    bh, bw = filling.block.shape[1:]
    sy, sx = grid[0] // bh, grid[1] // bw  # cells of a block
    block = filling.block[image, y // sy, x // sx]
    return filling.image[image], block // bw * sy + y % sy, block % bw * sx + x % sx
