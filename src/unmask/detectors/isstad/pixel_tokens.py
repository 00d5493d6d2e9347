"""ISSTAD's tokens as the paper has them: a masked autoencoder's latents come in, the patches' pixels go out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.transforms.v2 import functional as TF  # noqa: N812

from unmask.detectors.isstad.damage import damage_image, object_box
from unmask.detectors.isstad.decoder import GrowingDecoder
from unmask.detectors.isstad.mae import SIZES, MaskedAutoencoder
from unmask.detectors.isstad.mae_weights import load_mae, load_timm
from unmask.detectors.isstad.tokens import VIEWS, DamagedBatch, NormalTokens, Stage, Terms, Tokens, View
from unmask.errors import WeightsError
from unmask.features.maps import Images, encode
from unmask.features.neighbours import sample_rows
from unmask.features.store import FeatureStore
from unmask.training import losses
from unmask.training.masking import random_hidden
from unmask.training.trainer import Trainer, Training, generator_for

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WHOLE = 3  # one in three images of stage 2 is left whole, as in the release


class PixelTokens(Tokens):
    """A masked autoencoder of normal images; its encoder is frozen after stage 1.

    Args:
        encoder: name in `mae.SIZES`.
        image_size: pixels along a side, a multiple of the patch.
        weights: a file with a public MAE checkpoint, "timm:<name>", or None for a random start.
        decoder_dim: values of a decoder token.
        decoder_heads: heads of the decoder's attention.
        first_blocks: decoder blocks of stage 1.
        versions: damaged versions of each image that stage 2 repeats; None = it draws new damage in every step.
    """

    class_token = True
    stage1_time = 0.5
    mlp_ratio = 4.0  # MAE's, whose decoder blocks are taken over
    terms = Terms(("repair",), (), ("damage", "repair"), ())

    def __init__(
        self,
        encoder: str,
        image_size: int,
        *,
        weights: str | None,
        decoder_dim: int,
        decoder_heads: int,
        first_blocks: int,
        versions: int | None,
    ) -> None:
        super().__init__()
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

    # --- stage 1 ----------------------------------------------------------------------------------------------------

    def fit(self, images: Images, decoder: GrowingDecoder, trainer: Trainer, stage: Stage) -> NormalImages:
        """Train the autoencoder, freeze its encoder, and hand its decoder over; the rate is the paper's."""
        self.load_weights()
        seed = trainer.training.seed
        trainer.run(
            "stage 1",
            self.mae,
            lambda step: self._hidden_batch(images, step, stage, seed),
            steps=stage.steps,
            lr=1e-3 * stage.batch / 256,
            time_share=self.stage1_time,
        )
        self.mae.eval().requires_grad_(requires_grad=False)
        decoder.inherit(self.mae)
        cached = None if self.versions is None else CachedVersions(images, self.versions, self, trainer.training)
        return NormalImages(self, images, seed, cached)

    def load_weights(self) -> None:
        """Start from public weights, and warn of all that starts at random."""
        if self.weights is None:
            warnings.warn("no pre-trained weights were given: the masked autoencoder starts at random", stacklevel=2)
            return
        load = load_timm if self.weights.startswith("timm:") else load_mae
        report = load(self.mae, self.weights.removeprefix("timm:"))
        if not report.loaded:
            raise WeightsError(f"nothing of {self.weights} fits; {report}")
        if report.afresh:
            warnings.warn(f"{self.weights}: {report}", stacklevel=2)

    def _hidden_batch(self, images: Images, step: int, stage: Stage, seed: int) -> tuple[Tensor, Tensor]:
        """Random resized crops (0.2-1.0, bicubic), half of them flipped, and which patches to hide."""
        generator = generator_for(seed, "stage 1", step)
        rows = torch.randint(len(images), (stage.batch,), generator=generator)
        stack = torch.stack([_crop(images[int(i)], generator) for i in rows])
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (stack - mean) / std, random_hidden(stage.batch, self.grid**2, stage.mask_ratio, generator)

    # --- new images -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def latents(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b m c"]:
        """The frozen encoder's tokens of whole images, the class token first; mean = std = 0.5."""
        return self.mae.encode(images.to(self.device) * 2 - 1)

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> View:
        """New images as the decoder takes them."""
        images = images.to(self.device)
        nothing = images.new_zeros(images.shape[0], 0, *images.shape[2:])
        return View(self.latents(images), self.mae.patchify(images * 2 - 1), nothing)

    def repair_maps(self, repaired: Float[Tensor, "b n d"], wanted: Float[Tensor, "b n d"]) -> Float[Tensor, "b r s s"]:
        """Mean over the channels of the squared difference, pixel by pixel, of images in [0, 1]."""
        return (self.mae.unpatchify(repaired - wanted) / 2).pow(2).mean(1, keepdim=True)

    def more_loss(self, repaired: Float[Tensor, "b n d"], wanted: Float[Tensor, "b n d"]) -> Float[Tensor, ""]:
        """0.1 (1 - SSIM) of images in [0, 1]."""
        return 0.1 * (1 - losses.ssim(self.mae.unpatchify(repaired) / 2 + 0.5, self.mae.unpatchify(wanted) / 2 + 0.5))

    def picture(self, repaired: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 h w"]:
        """The repaired images in [0, 1]."""
        return (self.mae.unpatchify(repaired) / 2 + 0.5).clamp(0, 1)


class Example(NamedTuple):
    """An image as stage 2 shows it, the image itself, and where they differ."""

    shown: Float[Tensor, "3 h w"]
    whole: Float[Tensor, "3 h w"]
    damaged: Bool[Tensor, "h w"]


class NormalImages(NormalTokens):
    """Normal images that are damaged anew in every step, or come in a fixed number of cached versions.

    Drawn anew, no damage is ever shown twice, as in the paper; the frozen encoder then runs over every batch. Versions
    are encoded once, which saves that work and shows the same few kinds of damage again and again.

    Args:
        tokens: the tokens, with their encoder frozen.
        images: the normal images.
        seed: of the fit.
        cached: the versions to repeat; None = damage is drawn anew.
    """

    def __init__(self, tokens: PixelTokens, images: Images, seed: int, cached: CachedVersions | None) -> None:
        self.tokens, self.images, self.seed, self.cached = tokens, images, seed, cached

    def damaged_batch(self, step: int, size: int, target: str) -> DamagedBatch:
        """A step of stage 2."""
        generator = generator_for(self.seed, "stage 2", step)
        if self.cached is None:
            rows = torch.randint(len(self.images), (size,), generator=generator)
            examples = [self._drawn(int(row), generator) for row in rows]
            latents = self.tokens.latents(torch.stack([one.shown for one in examples]))
        else:
            rows = torch.randint(len(self.cached), (size,), generator=generator)
            examples = [self.cached.example(int(row)) for row in rows]
            latents = self.cached.latents[rows].float()
        wanted = torch.stack([one.shown if target == "input" else one.whole for one in examples])
        damaged = torch.stack([one.damaged for one in examples]).float()
        return DamagedBatch(latents, self.tokens.mae.patchify(wanted * 2 - 1), damaged)

    def _drawn(self, row: int, generator: torch.Generator) -> Example:
        is_whole = int(torch.randint(WHOLE, (), generator=generator)) == 0
        return example_of(self.images[row], None if is_whole else generator)

    def views(self) -> Iterator[View]:
        """Undamaged images."""
        chosen = sample_rows(len(self.images), VIEWS, generator_for(self.seed, "views"))
        for rows in chosen.split(8):
            yield self.tokens.encode(torch.stack([self.images[int(row)] for row in rows]))


class CachedVersions:
    """n versions of each image, every third one whole and the others damaged; each was encoded once.

    Args:
        images: the normal images.
        n: versions of each image.
        tokens: what encodes them.
        training: seed, progress and memory of the fit.
    """

    def __init__(self, images: Images, n: int, tokens: PixelTokens, training: Training) -> None:
        self.images, self.n, self.seed = images, n, training.seed
        self.latents: FeatureStore = encode(self, tokens.latents, stage="encode", training=training)

    def __len__(self) -> int:
        return len(self.images) * self.n

    def __getitem__(self, index: int) -> Float[Tensor, "3 h w"]:
        return self.example(index).shown

    def example(self, index: int) -> Example:
        """A version with what it was made of; the same in every call."""
        is_whole = index % self.n % WHOLE == 0
        generator = None if is_whole else generator_for(self.seed, "damage", index)
        return example_of(self.images[index // self.n], generator)


def example_of(image: Float[Tensor, "3 h w"], generator: torch.Generator | None) -> Example:
    """An image damaged inside the box of its object; without a generator it is left whole."""
    if generator is None:
        return Example(image, image, torch.zeros(image.shape[1:], dtype=torch.bool))
    damaged, mask = damage_image(image, generator, box=object_box(image))
    return Example(damaged, image, mask)


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
