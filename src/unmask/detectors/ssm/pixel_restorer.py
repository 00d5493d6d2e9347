"""SSM in pixels: a conditional autoencoder restores what masks hide (arXiv 2205.06568, section III)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.detectors.ssm.network import STRIDE, ConditionalAutoencoder
from unmask.detectors.ssm.restorer import Encoded, Observe, Restorer
from unmask.errors import SettingError
from unmask.features import backbones
from unmask.features.groups import groups_of, set_aside
from unmask.features.maps import Images, encode
from unmask.features.neighbours import sample_rows
from unmask.features.store import FeatureStore
from unmask.training import losses
from unmask.training.masking import MASKS, disjoint_masks
from unmask.training.trainer import Trainer, generator_for

VALIDATION_EVERY = 5  # every fifth image is not trained on: tau and the spread of the scores come from these
VALIDATION_IMAGES = 50
NAMES = {"pixels": ("gradients",), "features": ("features",), "both": ("gradients", "features")}


class Schedule(NamedTuple):
    """How long and how fast the network is trained.

    Attributes:
        steps: least number of steps.
        epochs: least number of passes over the images that are trained on.
        batch: images of a step, each under all its masks.
        lr: highest learning rate.
    """

    steps: int
    epochs: float
    batch: int
    lr: float

    def steps_for(self, n: int) -> int:
        """Steps of a training on n images."""
        return max(self.steps, round(self.epochs * n / self.batch))


class PixelRestorer(Restorer):
    """The network, and how an image is compared with its restoration.

    Args:
        image_size: pixels along a side.
        cells: sides of the masks' cells, in pixels.
        width: width of the network; 1 is the paper.
        mask_weight: weight of the predicted mask in the loss.
        score: "pixels" (MSGMS and squared error), "features" (of a frozen backbone), or "both".
        backbone: name for `backbones.load`, if features are compared.
        schedule: how long and how fast to train.

    Raises:
        SettingError: the size does not fit the strides.
    """

    repairs = True

    def __init__(
        self,
        image_size: int,
        *,
        cells: tuple[int, ...],
        width: float,
        mask_weight: float,
        score: str,
        backbone: str,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self.side, self.cells, self.score, self.names = image_size, cells, score, NAMES[score]
        self.backbone = None if score == "pixels" else backbones.load(backbone, levels=(2, 3, 4))
        step = max([STRIDE, *(self.backbone.strides if self.backbone else ())])
        if image_size % step:
            raise SettingError(f"image_size {image_size} does not fit the network; give a multiple of {step}")
        self.net = ConditionalAutoencoder(width).to(memory_format=torch.channels_last)
        self.mask_weight, self.schedule = mask_weight, schedule

    # --- learning ---------------------------------------------------------------------------------------------------

    def fit(self, images: Images, trainer: Trainer, observe: Observe) -> list[Encoded]:
        """Train on triplets (masked image, mask, original), one scale a step; every fifth image is set aside."""
        cached = encode(images, lambda stack: stack, stage="read", training=trainer.training)
        trained, aside = set_aside(groups_of(images), VALIDATION_EVERY)
        rows = aside[sample_rows(len(aside), VALIDATION_IMAGES, generator_for(trainer.training.seed, "validation"))]
        validation = [Encoded(cached[part].float().to(trainer.device), self.restore) for part in rows.split(8)]
        steps = self.schedule.steps_for(len(trained))
        trainer.run(
            "restoration",
            RestorationLoss(self.net, self.mask_weight),
            lambda step: self._triplets(cached, trained, step, trainer.training.seed),
            steps=steps,
            lr=self.schedule.lr,
            betas=(0.9, 0.999),
            weight_decay=1e-5,
            show=lambda step: observe(step, steps, validation),
        )
        return validation

    def _triplets(self, cached: FeatureStore, trained: Tensor, step: int, seed: int) -> tuple[Tensor, Tensor]:
        """Images, and the disjoint masks of one scale."""
        generator, size = generator_for(seed, "triplets", step), self.schedule.batch
        cell = self.cells[int(torch.randint(len(self.cells), (), generator=generator))]
        visible = disjoint_masks(self.side, cell, MASKS, generator)
        rows = trained[torch.randint(len(trained), (size,), generator=generator)]
        return cached[rows].float(), visible.expand(size, -1, -1, -1)

    # --- hide, restore, compare -------------------------------------------------------------------------------------

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Encoded:
        """New images."""
        return Encoded(images.to(self.device), self.restore)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.output.weight.device

    def restore(
        self, values: Float[Tensor, "b 3 h w"], visible: Bool[Tensor, "b k n h w"]
    ) -> Float[Tensor, "b k 3 h w"]:
        """R_k = sum_i out_i (1 - M_i), and the image itself where no mask hides it.

        All masks and scales of an image go through the network as one batch.
        """
        restored = []
        for image, masks in zip(values, visible, strict=True):
            shown = masks.flatten(0, 1)[:, None].float()  # k*n 1 s s
            out, _ = self.net(image * shown, shown)
            restored.append(_joined(image, out.unflatten(0, masks.shape[:2]), masks[:, :, None]))
        return torch.stack(restored)

    def compare(
        self, values: Float[Tensor, "b 3 h w"], restored: Float[Tensor, "b k 3 h w"], weights: Float[Tensor, " k"]
    ) -> tuple[Float[Tensor, "b t h w"], Float[Tensor, "b t h w"]]:
        """A = mean_k MSGMS and mean_k squared error; and the distance of the mean restoration's features, as both."""
        errors, squares = [], []
        if self.score != "features":
            again = values[:, None].expand_as(restored)
            apart = losses.msgms_map(again.flatten(0, 1), restored.flatten(0, 1)).unflatten(0, restored.shape[:2])
            errors.append(torch.einsum("bkhw,k->bhw", apart, weights))
            squares.append((restored - again).pow(2).mean((1, 2)))
        if self.backbone is not None:
            mean = torch.einsum("bkchw,k->bchw", restored, weights)
            apart = feature_distance(self.backbone(values), self.backbone(mean.clamp(0, 1)), self.side)
            errors.append(apart)
            squares.append(apart)
        return torch.stack(errors, dim=1), torch.stack(squares, dim=1)

    def picture(self, restored: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The restored image, in [0, 1]."""
        return restored.clamp(0, 1)

    def frozen(self) -> dict[str, str]:
        """The backbone that restorations are compared in, if there is one; the network itself is stored."""
        return {} if self.backbone is None else {self.backbone.name: self.backbone.checksum}


class RestorationLoss(nn.Module):
    """L = MSE(I, R) + MSGMS(I, R) + (1 - SSIM(I, R)) + w_mask * sum_i MSE(p_i, M_i), R = sum_i out_i (1 - M_i).

    Args:
        net: the network, which restores and predicts the masks p_i.
        mask_weight: w_mask.
    """

    def __init__(self, net: ConditionalAutoencoder, mask_weight: float) -> None:
        super().__init__()
        self.net, self.mask_weight = net, mask_weight

    def forward(self, images: Float[Tensor, "b 3 h w"], visible: Bool[Tensor, "b n h w"]) -> Float[Tensor, ""]:
        """The loss of a batch, each image under its n disjoint masks."""
        b, n = visible.shape[:2]
        shown = visible.flatten(0, 1)[:, None].to(images)  # b*n 1 h w
        out, predicted = self.net(images.repeat_interleave(n, 0) * shown, shown)
        restored = _joined(images, out.unflatten(0, (b, n)), visible[:, :, None])
        loss: Tensor = F.mse_loss(restored, images) + losses.msgms(images, restored)
        loss = loss + 1 - losses.ssim(images, restored)
        return loss + self.mask_weight * n * F.mse_loss(predicted, shown)  # n means = the sum of n MSEs


def _joined(image: Tensor, out: Tensor, visible: Tensor) -> Tensor:
    """Each pixel from the mask that hides it; where none does, from the image. Masks lie along the fourth last axis."""
    return torch.where(visible, 0.0, out).sum(-4) + torch.where(visible.all(-4), image, 0.0)


def feature_distance(
    a: list[Float[Tensor, "b _c _h _w"]], b: list[Float[Tensor, "b _c _h _w"]], side: int
) -> Float[Tensor, "b side side"]:
    """1 - cosine similarity of the feature vectors, mean over the levels, enlarged to side x side."""
    maps = [1 - F.cosine_similarity(x, y, dim=1) for x, y in zip(a, b, strict=True)]
    return torch.stack([F.interpolate(m[:, None], size=side, mode="bilinear")[:, 0] for m in maps]).mean(0)
