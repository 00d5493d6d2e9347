"""The masked autoencoder of He et al. (2021, arXiv 2111.06377), in pixels and in the layout of the public checkpoints.

The encoder sees only the visible patches (section 3, "MAE encoder"); a light decoder gets its latents and one shared
mask token at each hidden patch ("MAE decoder") and predicts pixels; the loss is the squared error of the hidden patches
alone ("Reconstruction target", without the per-patch normalisation). `mae_weights.py` reads the checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.detectors.isstad.transformer import Block, sincos_positions
from unmask.errors import SettingError


class Size(NamedTuple):
    """An encoder: `MaskedAutoencoder(**SIZES["vit_base"]._asdict())` builds one."""

    dim: int
    depth: int
    heads: int
    patch: int = 16


SIZES = {
    "vit_nano": Size(64, 2, 2),
    "vit_tiny": Size(192, 12, 3),
    "vit_small": Size(384, 12, 6),
    "vit_base": Size(768, 12, 12),
    "vit_large": Size(1024, 24, 16),
    "vit_huge": Size(1280, 32, 16, patch=14),
}
"""Encoders by name. Public checkpoints exist for base, large and huge; nano is for tests."""


class PatchEmbedding(nn.Module):
    """Each patch of pixels to one token, row by row."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """One token for each patch."""
        out: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return out


class MaskedAutoencoder(nn.Module):
    """Learns to fill in hidden patches. Its parameters have the names and shapes of the public checkpoints.

    Images come in as (b, 3, s, s), normalised as the weights expect; the public ones were trained with the ImageNet
    mean (0.485, 0.456, 0.406) and standard deviation (0.229, 0.224, 0.225).

    Args:
        dim: values of an encoder token.
        depth: number of encoder blocks.
        heads: heads of the encoder's attention.
        image_size: s, pixels along a side; a multiple of `patch`.
        patch: pixels along a side of a patch.
        decoder_dim: values of a decoder token.
        decoder_depth: number of decoder blocks; the paper and the public checkpoints have 8.
        decoder_heads: heads of the decoder's attention.

    Attributes:
        grid: patches along a side.

    Raises:
        SettingError: sizes that do not divide.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        image_size: int = 224,
        patch: int = 16,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
    ) -> None:
        super().__init__()
        if image_size % patch:
            raise SettingError(
                f"an image of {image_size} pixels cannot be cut into patches of {patch}; give a multiple"
            )
        self.patch, self.grid = patch, image_size // patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("pos_embed", _positions_with_class(dim, self.grid))
        self.patch_embed = PatchEmbedding(patch, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

        self.decoder_embed = nn.Linear(dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.register_buffer("decoder_pos_embed", _positions_with_class(decoder_dim, self.grid))
        self.decoder_blocks = nn.ModuleList(Block(decoder_dim, decoder_heads) for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_dim, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_dim, patch * patch * 3)
        self.apply(_initialise)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def patchify(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n d"]:
        """Cut images into patches, each flattened in the order (row, column, channel).

        Returns:
            (b, grid * grid, patch * patch * 3), the patches row by row.
        """
        p, g = self.patch, self.grid
        cut = images.reshape(-1, 3, g, p, g, p).permute(0, 2, 4, 3, 5, 1)  # b gh gw p p 3
        return cut.reshape(-1, g * g, p * p * 3)

    def unpatchify(self, patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 s s"]:
        """Put patches together again: the inverse of `patchify`."""
        p, g = self.patch, self.grid
        cut = patches.reshape(-1, g, g, p, p, 3).permute(0, 5, 1, 3, 2, 4)  # b 3 gh p gw p
        return cut.reshape(-1, 3, g * p, g * p)

    def encode(
        self, images: Float[Tensor, "b 3 s s"], hidden: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b visible_and_class d"]:
        """Encode the visible patches alone.

        Args:
            images: normalised as the weights expect.
            hidden: True = left out; equally many in each image (`masking.random_hidden`). None = no patch is hidden.

        Returns:
            (b, 1 + visible, dim): the class token, then the visible patches row by row.

        Raises:
            SettingError: the images have different numbers of hidden patches.
        """
        positions: Tensor = self.get_buffer("pos_embed")
        tokens = self.patch_embed(images) + positions[:, 1:]  # b n d
        if hidden is not None:
            tokens = _visible(tokens, hidden)  # b visible d
        first = (self.cls_token + positions[:, :1]).expand(
            images.shape[0], -1, -1
        )  # len() would fix the batch in an export
        x = torch.cat([first, tokens], dim=1)
        for block in self.blocks:
            x = block(x)
        latents: Tensor = self.norm(x)
        return latents

    def decode(
        self, latents: Float[Tensor, "b visible_and_class d"], hidden: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b m p"]:
        """Predict the pixels of all patches, hidden and visible.

        Args:
            latents: of `encode` with the same `hidden`.
            hidden: True = a mask token stands in. None = no patch was hidden.

        Returns:
            (b, grid * grid, patch * patch * 3), the patches as `patchify` cuts them.
        """
        x = self.decoder_embed(latents)  # b 1+visible d
        if hidden is not None:
            # Patch number k among the visible is latent k, counted from 1: the class token is number 0.
            number = (~hidden).cumsum(1)[..., None].expand(-1, -1, x.shape[2])
            patches = torch.where(hidden[..., None], self.mask_token, x.gather(1, number))
            x = torch.cat([x[:, :1], patches], dim=1)  # b 1+n d
        x = x + self.get_buffer("decoder_pos_embed")
        for block in self.decoder_blocks:
            x = block(x)
        predicted: Tensor = self.decoder_pred(self.decoder_norm(x))
        return predicted[:, 1:]

    def forward(self, images: Float[Tensor, "b 3 s s"], hidden: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
        """The loss: mean squared error of the hidden patches' pixels.

        Raises:
            SettingError: nothing is hidden, or not equally much in each image.
        """
        if not hidden.any():
            raise SettingError("no patch is hidden, so there is nothing to learn; give a larger mask ratio")
        predicted = self.decode(self.encode(images, hidden), hidden)
        return ((predicted - self.patchify(images)) ** 2)[hidden].mean()


def _visible(tokens: Tensor, hidden: Tensor) -> Tensor:
    counts = (~hidden).sum(1)
    if (counts != counts[0]).any():
        raise SettingError(
            "each image of a batch must have equally many hidden patches; masking.random_hidden does that"
        )
    return tokens[~hidden].view(len(tokens), -1, tokens.shape[2])


def _positions_with_class(dim: int, grid: int) -> Tensor:
    """The class token has position 0."""
    return F.pad(sincos_positions(dim, grid), (0, 0, 1, 0))[None]  # 1 1+n dim


def _initialise(module: nn.Module) -> None:
    """Xavier-uniform matrices (a patch embedding counts as one) and zero biases, as the paper's appendix A.1 says."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
