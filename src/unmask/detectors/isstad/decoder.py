"""ISSTAD's decoder: stage 1's blocks learn to fill in, then it grows and classifies each cell as damaged or not."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.detectors.isstad.mae import MaskedAutoencoder
from unmask.detectors.isstad.transformer import Block, sincos_positions
from unmask.training.losses import pixel_status


class GrowingDecoder(nn.Module):
    """A light transformer over tokens that repairs them, with a status head on every block (deep supervision).

    Args:
        latent_dim: values of a token that comes in.
        target_dim: values of a repaired token.
        grid: tokens along a side of an image.
        cells: cells along a side of a token; each has a status of its own.
        dim: values of the decoder's own tokens.
        heads: heads of its attention.
        first_blocks: number of blocks of stage 1.
        fresh_blocks: number of blocks that stage 2 adds behind them.
        mlp_ratio: width of a block's hidden layer over `dim`.
        class_token: whether a class token comes before the others; MAE's encoder has one.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        latent_dim: int,
        target_dim: int,
        grid: int,
        cells: int,
        dim: int,
        heads: int,
        first_blocks: int,
        fresh_blocks: int,
        mlp_ratio: float,
        class_token: bool,
    ) -> None:
        super().__init__()
        depth = first_blocks + fresh_blocks
        self.grid, self.cells, self.first_blocks, self.class_token = grid, cells, first_blocks, class_token
        self.embed = nn.Linear(latent_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        positions = sincos_positions(dim, grid)
        if class_token:
            positions = torch.cat([torch.zeros(1, dim), positions])
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-6) for _ in range(depth))
        self.statuses = nn.ModuleList(nn.Linear(dim, cells * cells) for _ in range(depth))
        self.repair = nn.Linear(dim, target_dim)

    def forward(self, latents: Float[Tensor, "b m c"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "k b s s"]]:
        """Stage 2: repair the tokens, and classify the cells.

        Args:
            latents: (b, n, latent_dim), or (b, 1 + n, latent_dim) with a class token.

        Returns:
            The repaired tokens, and for each block the log odds of damage on a grid of s = grid * cells.
        """
        x = self.embed(latents) + self.positions
        logits = []
        for block, norm, status in zip(self.blocks, self.norms, self.statuses, strict=True):
            x = block(x)
            logits.append(self._as_map(status(norm(x))))
        repaired: Tensor = self.repair(self.norms[-1](x))
        return (repaired[:, 1:] if self.class_token else repaired), torch.stack(logits)

    def _as_map(self, status: Tensor) -> Tensor:
        tokens = status[:, 1:] if self.class_token else status
        grid = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # b cells*cells gh gw
        return F.pixel_shuffle(grid, self.cells)[:, 0]

    def inherit(self, mae: MaskedAutoencoder) -> None:
        """Take over the decoder that a masked autoencoder trained in stage 1; the fresh blocks stay as they are."""
        self.embed.load_state_dict(mae.decoder_embed.state_dict())
        for block, trained in zip(self.blocks, mae.decoder_blocks, strict=False):
            block.load_state_dict(trained.state_dict())
        self.norms[-1].load_state_dict(mae.decoder_norm.state_dict())
        self.repair.load_state_dict(mae.decoder_pred.state_dict())


class FillingLoss(nn.Module):
    """Stage 1: mean squared error of the hidden tokens alone.

    It holds just what stage 1 trains, so that every parameter has a gradient on every device.
    """

    positions: Tensor
    channel_weights: Tensor

    def __init__(self, decoder: GrowingDecoder, channel_weights: Float[Tensor, " c"]) -> None:
        super().__init__()
        self.embed, self.mask_token, self.repair = decoder.embed, decoder.mask_token, decoder.repair
        self.blocks = nn.ModuleList(list(decoder.blocks)[: decoder.first_blocks])
        self.norm = decoder.norms[decoder.first_blocks - 1]
        self.register_buffer("positions", decoder.positions, persistent=False)
        self.register_buffer("channel_weights", channel_weights, persistent=False)

    def forward(self, tokens: Float[Tensor, "b n c"], hidden: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
        """The loss; hidden tokens are replaced by the mask token before any block sees them."""
        embedded = self.embed(tokens)
        x = torch.where(hidden[..., None], self.mask_token.to(embedded), embedded) + self.positions
        for block in self.blocks:
            x = block(x)
        filled: Tensor = self.repair(self.norm(x)).float()
        error = ((filled - tokens) ** 2 * self.channel_weights).sum(-1)  # b n
        return error[hidden].mean()


class RepairLoss(nn.Module):
    """Stage 2: damaged or not, the mean over the heads, and half the squared error of the repair.

    Args:
        decoder: the decoder, grown.
        channel_weights: weights of the squared error of a token's values; their sum is 1.
        more_loss: (repaired, wanted) -> a further term; the pixels' is 0.1 (1 - SSIM), the features have none.
    """

    channel_weights: Tensor

    def __init__(
        self,
        decoder: GrowingDecoder,
        channel_weights: Float[Tensor, " d"],
        more_loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.decoder, self.more_loss = decoder, more_loss
        self.register_buffer("channel_weights", channel_weights, persistent=False)

    def forward(
        self, latents: Float[Tensor, "b m c"], wanted: Float[Tensor, "b n d"], damaged: Float[Tensor, "b s s"]
    ) -> Float[Tensor, ""]:
        """The loss of a batch, `damaged` 1 where a cell is damaged and 0 elsewhere."""
        repaired, logits = self.decoder(latents)
        status = torch.stack([pixel_status(head.float(), damaged) for head in logits]).mean()
        repaired = repaired.float()
        squared = ((repaired - wanted) ** 2 * self.channel_weights).sum(-1).mean()
        loss: Tensor = status + 0.5 * squared + self.more_loss(repaired, wanted)
        return loss
