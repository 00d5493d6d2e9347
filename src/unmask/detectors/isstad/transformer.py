"""The transformer block of a vision transformer, and its fixed table of positions: encoder and decoder share them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn

from unmask.errors import SettingError


class Attention(nn.Module):
    """Multi-head self-attention; `qkv` holds queries, keys and values of all heads, in this order."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise SettingError(
                f"{heads} heads cannot share {dim} dimensions; give a number of heads that divides {dim}"
            )
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Each token becomes a mixture of all tokens of its image."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each: b heads n d/heads
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))  # b n d
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, applied to each token."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Each token by itself."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """A pre-norm transformer block.

    Args:
        dim: values of a token.
        heads: heads of the attention; they must divide `dim`.
        mlp_ratio: hidden width of the MLP, as a multiple of `dim`.

    Raises:
        SettingError: the heads do not divide the dimension.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, round(mlp_ratio * dim))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Attention over all tokens, then the MLP on each of them."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def sincos_positions(dim: int, grid: int) -> Float[Tensor, "n {dim}"]:
    """The fixed table of two-dimensional sine-cosine positions that the public checkpoints hold.

    The first half of the channels encodes x (the column), the second half y (the row); each half is sin(p w_i) for all
    i, then cos(p w_i), with w_i = 10000 ** (-i / (dim / 4)).

    Args:
        dim: values of a token, a multiple of 4.
        grid: patches along a side.

    Returns:
        (grid * grid, dim), the patches row by row.

    Raises:
        SettingError: `dim` is no multiple of 4.
    """
    if dim % 4:
        raise SettingError(f"positions need a dimension that is a multiple of 4, got {dim}")
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * omega
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # grid dim/2
    x, y = line.repeat(grid, 1), line.repeat_interleave(grid, 0)
    return torch.cat([x, y], dim=1).float()
