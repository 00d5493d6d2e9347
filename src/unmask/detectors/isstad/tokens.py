"""The interface of ISSTAD's tokens. There are two kinds: feature maps of a frozen network, and patches of pixels.

`Tokens` turns images into what the decoder takes, and stays with the fitted detector. `NormalTokens` holds the normal
images of one fit, and goes when the fit is over.

Letters of the shapes: n = grid x grid tokens; m = n, or n + 1 with a class token; c values of a token that goes into
the decoder, d of one that it repairs; s = grid * cells cells along a side of the status grid, on which the decoder
says what is damaged and on which all terms of the score lie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.detectors.isstad.decoder import GrowingDecoder
from unmask.features.maps import FeatureMaps, Images
from unmask.training.trainer import Trainer

VIEWS = 200
"""The most normal images that the spread of the scores is taken from."""


class View(NamedTuple):
    """b images as ISSTAD's decoder takes them, and what they are compared with afterwards.

    Attributes:
        latents: the tokens that go into the decoder.
        wanted: the tokens that the repair is compared with.
        extras: further terms of the score, already on the status grid; e may be 0.
    """

    latents: Float[Tensor, "b m c"]
    wanted: Float[Tensor, "b n d"]
    extras: Float[Tensor, "b e s s"]


class DamagedBatch(NamedTuple):
    """b images of a step of stage 2.

    Attributes:
        latents: the tokens of the damaged images.
        wanted: the tokens that they should be repaired to.
        damaged: 1 in the cells of the status grid that are damaged, 0 elsewhere.
    """

    latents: Float[Tensor, "b m c"]
    wanted: Float[Tensor, "b n d"]
    damaged: Float[Tensor, "b s s"]


class Stage(NamedTuple):
    """How stage 1 is trained.

    Attributes:
        steps: number of optimiser steps.
        batch: images of a step.
        lr: the highest learning rate of the decoder.
        mask_ratio: share of the tokens that are hidden.
    """

    steps: int
    batch: int
    lr: float
    mask_ratio: float


class Terms(NamedTuple):
    """Names of the terms of a score, in their order: damage, repair errors, extras.

    Attributes:
        repair: the repair errors that `Tokens.repair_maps` gives.
        extras: the terms that `View.extras` holds.
        local: the terms that make the map; all terms make the image's score.
        whole: the terms that score the image as a whole: they count by their mean too, not by their peak alone.
    """

    repair: tuple[str, ...]
    extras: tuple[str, ...]
    local: tuple[str, ...]
    whole: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All terms; the first is the damage probability."""
        return ("damage", *self.repair, *self.extras)


class NormalTokens(ABC):
    """The normal images of one fit: stage 2 and the fit of the scores draw from them."""

    @abstractmethod
    def damaged_batch(self, step: int, size: int, target: str) -> DamagedBatch:
        """The images of a step of stage 2, drawn from the seed of the fit and the step alone.

        Args:
            step: number of the step.
            size: number of images.
            target: what to repair to: "clean", the undamaged images, or "input", the damaged ones.
        """

    @abstractmethod
    def views(self) -> Iterator[View]:
        """Undamaged images as if they were new, a few at a time; `VIEWS` of them at most, drawn by the seed."""


class Tokens(nn.Module, ABC):
    """Images as tokens for ISSTAD's decoder.

    Attributes:
        grid: tokens along a side of an image.
        cells: cells of the status grid along a side of a token.
        latent_dim: c, values of a token that goes into the decoder.
        target_dim: d, values of a repaired token.
        class_token: whether a class token comes before the others in the latents.
        mlp_ratio: hidden width of a decoder block over its width.
        stage1_time: share of a time limit that stage 1 may use.
        terms: names of the terms of the score.
        channel_weights: weights of the squared repair error of a token's values; their sum is 1.
    """

    grid: int
    cells: int
    latent_dim: int
    target_dim: int
    class_token: bool
    mlp_ratio: float
    stage1_time: float
    terms: Terms
    channel_weights: Float[Tensor, " d"]

    @abstractmethod
    def fit(self, images: Images, decoder: GrowingDecoder, trainer: Trainer, stage: Stage) -> NormalTokens:
        """Stage 1: learn all that the tokens need and train the decoder's first blocks to fill in hidden tokens.

        Afterwards the tokens of an image never change.

        Args:
            images: normal images.
            decoder: its first blocks are trained in place, or get weights that were.
            trainer: of this fit; tokens and decoder are on its device.
            stage: steps, batch, rate and mask.

        Returns:
            The images, for stage 2.
        """

    @abstractmethod
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> View:
        """New images as the decoder takes them."""

    def encode_maps(self, maps: list[Tensor]) -> View:
        """The same for images whose maps are known already, as `features` makes them; only tokens with `features`."""
        raise NotImplementedError

    @abstractmethod
    def repair_maps(self, repaired: Float[Tensor, "b n d"], wanted: Float[Tensor, "b n d"]) -> Float[Tensor, "b r s s"]:
        """The repair error: r maps, named by `terms.repair`."""

    def more_loss(self, repaired: Float[Tensor, "b n d"], wanted: Float[Tensor, "b n d"]) -> Float[Tensor, ""]:
        """What stage 2's loss holds beside the cross-entropy and the squared error; nothing unless overridden."""
        return torch.zeros((), device=repaired.device)

    def picture(self, repaired: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 h w"] | None:
        """The repaired images in [0, 1]; None where tokens have no picture."""
        return None

    @property
    def features(self) -> FeatureMaps | None:
        """The frozen network, if its maps are all that these tokens are made of; None where they are pixels."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the tokens are computed."""
        return self.channel_weights.device
