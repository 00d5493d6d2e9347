"""ISSTAD's tokens as the paper has them: a masked autoencoder's latents come in, the patches' pixels go out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF  # noqa: N812

from unmask.detectors.isstad import damage as synthesis
from unmask.detectors.isstad.decoder import View
from unmask.detectors.isstad.mae import SIZES, MaskedAutoencoder
from unmask.detectors.isstad.mae_weights import load_mae, load_timm
from unmask.errors import SettingError, WeightsError
from unmask.features.maps import Images, batches, encode
from unmask.training import losses
from unmask.training.masking import random_hidden
from unmask.training.trainer import Trainer, generator_for

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PixelSpace(nn.Module):
    """A masked autoencoder of normal images; its encoder is frozen after stage 1.

    Args:
        encoder: name in `mae.SIZES`.
        image_size: pixels along a side, a multiple of the patch.
        weights: a file with a public MAE checkpoint, "timm:<name>", or None for a random start.
        decoder_dim: of the decoder's tokens.
        decoder_heads: of its attention.
        first_blocks: decoder blocks of stage 1.
        versions: cached versions of each image for stage 2; one in three is whole, the others are damaged.
    """

    channel_weights: Tensor
    class_token = True
    repair_names = ("repair",)
    extra_names = ()
    local_names = ("damage", "repair")
    whole_names = ()

    def __init__(
        self,
        encoder: str,
        image_size: int,
        *,
        weights: str | None,
        decoder_dim: int,
        decoder_heads: int,
        first_blocks: int,
        versions: int,
    ) -> None:
        super().__init__()
        if encoder not in SIZES:
            raise SettingError(f"encoder {encoder!r} is unknown; give one of {', '.join(SIZES)}")
        self.weights, self.versions = weights, versions
        self.mae = MaskedAutoencoder(
            **SIZES[encoder]._asdict(),
            image_size=image_size,
            decoder_dim=decoder_dim,
            decoder_heads=decoder_heads,
            decoder_depth=first_blocks,
        )
        self.grid, self.cells = self.mae.grid, self.mae.patch
        self.latent_dim, self.target_dim = SIZES[encoder].dim, 3 * self.mae.patch**2
        self.register_buffer("channel_weights", torch.full((self.target_dim,), 1 / self.target_dim), persistent=False)

    def load_weights(self) -> None:
        """Start from public weights, or say loudly that there are none."""
        if self.weights is None:
            warnings.warn("no pre-trained weights were given: the masked autoencoder starts at random", stacklevel=2)
            return
        load = load_timm if self.weights.startswith("timm:") else load_mae
        report = load(self.mae, self.weights.removeprefix("timm:"))
        if not report.loaded:
            raise WeightsError(f"nothing of {self.weights} fits; {report}")

    def damage(self, images: Images, trainer: Trainer) -> None:
        """Freeze the encoder and run it once over every version of every image; stage 2 never runs it again."""
        self.mae.eval().requires_grad_(requires_grad=False)
        self.seed, self.images = trainer.training.seed, images
        self.drawn = _Versions(images, self.versions, self.seed)
        self.kept = encode(self.drawn, self.latents, stage="encode", training=trainer.training)

    def forget_images(self) -> None:
        """Let go of what only training needs."""
        for name in ("kept", "drawn", "images"):
            self.__dict__.pop(name, None)

    def hidden_batch(self, images: Images, step: int, size: int, mask_ratio: float, seed: int) -> tuple[Tensor, Tensor]:
        """Stage 1: random resized crops (0.2-1.0, bicubic), half of them flipped, and which patches to hide."""
        generator = generator_for(seed, "stage 1", step)
        rows = torch.randint(len(images), (size,), generator=generator)
        stack = torch.stack([_crop(images[int(i)], generator) for i in rows])
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (stack - mean) / std, random_hidden(size, self.grid**2, mask_ratio, generator)

    def damaged_batch(self, step: int, size: int, target: str) -> tuple[Tensor, Tensor, Tensor]:
        """Stage 2: cached latents of damaged images, the patches to repair them to, and where they are damaged."""
        rows = torch.randint(len(self.kept), (size,), generator=generator_for(self.seed, "stage 2", step))
        pairs = [self.drawn.pair(int(i)) for i in rows]
        wanted = [damaged if target == "input" else whole for damaged, whole, _ in pairs]
        masks = torch.stack([mask for _, _, mask in pairs]).float()
        return self.kept[rows].float(), self.mae.patchify(torch.stack(wanted) * 2 - 1), masks

    @torch.no_grad()
    def latents(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b m c"]:
        """The frozen encoder's tokens of whole images, the class token first; mean = std = 0.5."""
        return self.mae.encode(images.to(self.mae.cls_token.device) * 2 - 1)

    def view(self, images: Float[Tensor, "b 3 s s"]) -> View:
        """New images as the decoder sees them."""
        nothing = images.new_zeros(images.shape[0], 0, *images.shape[2:])
        return View(self.latents(images), self.mae.patchify(images * 2 - 1), nothing)

    def normal_views(self, most: int = 200) -> Iterator[View]:
        """Undamaged training images."""
        for stack in batches(self.images, 8):
            if most <= 0:
                return
            most -= len(stack)
            yield self.view(stack)

    def repair_maps(self, repaired: Float[Tensor, "b n d"], wanted: Float[Tensor, "b n d"]) -> Float[Tensor, "b 1 s s"]:
        """Mean over the channels of the squared difference, pixel by pixel, of images in [0, 1]."""
        return (self.mae.unpatchify(repaired - wanted) / 2).pow(2).mean(1, keepdim=True)

    def picture(self, repaired: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 s s"]:
        """The repaired image in [0, 1]."""
        return (self.mae.unpatchify(repaired) / 2 + 0.5).clamp(0, 1)

    def similarity(self, repaired: Tensor, wanted: Tensor) -> Tensor:
        """SSIM of images in [0, 1]."""
        return losses.ssim(self.mae.unpatchify(repaired) / 2 + 0.5, self.mae.unpatchify(wanted) / 2 + 0.5)


class _Versions:
    """n versions of each image, every third one whole and the others damaged: the same whenever they are asked for."""

    def __init__(self, images: Images, n: int, seed: int) -> None:
        self.images, self.n, self.seed = images, n, seed

    def __len__(self) -> int:
        return len(self.images) * self.n

    def __getitem__(self, index: int) -> Tensor:
        return self.pair(index)[0]

    def pair(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """The damaged image, the whole one, and where they differ."""
        image = self.images[index // self.n]
        if index % self.n % 3 == 0:
            return image, image, torch.zeros(image.shape[1:], dtype=torch.bool)
        generator = generator_for(self.seed, "damage", index)
        damaged, mask = synthesis.damage_image(image, generator, box=synthesis.object_box(image))
        return damaged, image, mask


def _crop(image: Tensor, generator: torch.Generator) -> Tensor:
    """A random part of 20-100 % of the area and an aspect of 3/4 to 4/3, at full size, half of the time mirrored."""
    side = image.shape[-1]
    area, stretch, x, y, flip = torch.rand(5, generator=generator).tolist()
    aspect = (3 / 4) ** (1 - 2 * stretch)
    w = min(side, round(side * ((0.2 + 0.8 * area) * aspect) ** 0.5))
    h = min(side, round(side * ((0.2 + 0.8 * area) / aspect) ** 0.5))
    box = round(y * (side - h)), round(x * (side - w)), h, w
    crop: Tensor = TF.resized_crop(image, *box, [side, side], TF.InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    return crop.flip(2) if flip < 0.5 else crop
