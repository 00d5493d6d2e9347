"""SSM in pixels: a conditional autoencoder restores what masks hide (arXiv 2205.06568, section III)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.detectors.ssm.network import STRIDE, ConditionalAutoencoder
from unmask.errors import SettingError
from unmask.features import backbones
from unmask.features.maps import Images, encode
from unmask.training import losses
from unmask.training.masking import MASKS, disjoint_masks
from unmask.training.trainer import Trainer, generator_for

ASIDE = 5  # every fifth image is not learned from: tau and the spread of the scores come from these
NAMES = {"pixels": ("gradients",), "features": ("features",), "both": ("gradients", "features")}


class PixelRestoration(nn.Module):
    """The network, and how an image is compared with its restoration.

    Args:
        image_size: pixels along a side.
        cells: sides of the masks' cells, in pixels.
        width: of the network; 1 is the paper.
        mask_weight: of the mask's part in the loss.
        score: "pixels" (MSGMS and squared error), "features" (of a frozen backbone), or "both".
        backbone: name for `backbones.load`, if features are compared.

    Attributes:
        side: of the grid that masks live on: pixels.
        cells: sides of the masks' cells, in pixels.
        names: of the terms of the score.

    Raises:
        SettingError: the size does not fit the strides.
    """

    def __init__(
        self,
        image_size: int,
        *,
        cells: tuple[int, ...],
        width: float,
        mask_weight: float,
        score: str,
        backbone: str,
    ) -> None:
        super().__init__()
        self.side, self.cells, self.score, self.names = image_size, cells, score, NAMES[score]
        self.backbone = None if score == "pixels" else backbones.load(backbone, levels=(2, 3, 4))
        step = max([STRIDE, *(self.backbone.strides if self.backbone else ())])
        if image_size % step:
            raise SettingError(f"image_size {image_size} does not fit the network; give a multiple of {step}")
        self.net = ConditionalAutoencoder(width).to(memory_format=torch.channels_last)
        self.mask_weight = mask_weight

    # --- learning ---------------------------------------------------------------------------------------------------

    def learn(
        self,
        images: Images,
        trainer: Trainer,
        *,
        steps: int,
        batch: int,
        lr: float,
        show: Callable[[int], None] | None = None,
    ) -> None:
        """Train on triplets (masked image, mask, original), one scale a step.

        Args:
            images: normal images.
            trainer: of this fit.
            steps: of the optimiser.
            batch: images of a step, each under all its masks.
            lr: highest learning rate.
            show: see `Trainer.run`.
        """
        self.kept = encode(images, lambda stack: stack, stage="read", training=trainer.training)
        learned = torch.arange(len(images))[torch.arange(len(images)) % ASIDE != 0]

        def triplets(step: int) -> tuple[Tensor, Tensor]:
            generator = generator_for(trainer.training.seed, "triplets", step)
            cell = self.cells[int(torch.randint(len(self.cells), (), generator=generator))]
            visible = disjoint_masks(self.side, cell, MASKS, generator)
            rows = learned[torch.randint(len(learned), (batch,), generator=generator)]
            return self.kept[rows].float(), visible.expand(batch, -1, -1, -1)

        trainer.run(
            "restoration",
            RestorationLoss(self.net, self.mask_weight),
            triplets,
            steps=steps,
            lr=lr,
            betas=(0.9, 0.999),
            weight_decay=1e-5,
            show=show,
        )

    def unseen(self, most: int = 50) -> Iterator[tuple[ConditionalAutoencoder, Float[Tensor, "b 3 s s"]]]:
        """Normal images that were not learned from."""
        for rows in torch.arange(0, len(self.kept), ASIDE)[:most].split(8):
            yield self.net, self.kept[rows].float()

    def forget_images(self) -> None:
        """Let go of what only learning needs."""
        self.__dict__.pop("kept", None)

    # --- hide, restore, compare -------------------------------------------------------------------------------------

    def look(self, images: Float[Tensor, "b 3 s s"]) -> tuple[ConditionalAutoencoder, Float[Tensor, "b 3 s s"]]:
        """What restores new images, and what it is to restore."""
        return self.net, images

    def restore(
        self, net: ConditionalAutoencoder, seen: Float[Tensor, "b 3 s s"], visible: Bool[Tensor, "b k n s s"]
    ) -> Float[Tensor, "b k 3 s s"]:
        """R_k = sum_i out_i (1 - M_i), and the image itself where no mask hides it.

        All masks and scales of an image go through the network as one batch.
        """
        restored = []
        for image, masks in zip(seen, visible, strict=True):
            shown = masks.flatten(0, 1)[:, None].float()  # k*n 1 s s
            out, _ = net(image * shown, shown)
            restored.append(_joined(image, out.unflatten(0, masks.shape[:2]), masks[:, :, None]))
        return torch.stack(restored)

    def differ(
        self, seen: Float[Tensor, "b 3 s s"], restored: Float[Tensor, "b k 3 s s"], weights: Float[Tensor, " k"]
    ) -> tuple[Float[Tensor, "b t s s"], Float[Tensor, "b t s s"]]:
        """A = mean_k MSGMS and mean_k squared error; and the distance of the mean restoration's features, as both."""
        errors, squares = [], []
        if self.score != "features":
            again = seen[:, None].expand_as(restored)
            apart = losses.msgms_map(again.flatten(0, 1), restored.flatten(0, 1)).unflatten(0, restored.shape[:2])
            errors.append(torch.einsum("bkhw,k->bhw", apart, weights))
            squares.append((restored - again).pow(2).mean((1, 2)))
        if self.backbone is not None:
            mean = torch.einsum("bkchw,k->bchw", restored, weights)
            apart = feature_distance(self.backbone(seen), self.backbone(mean.clamp(0, 1)), self.side)
            errors.append(apart)
            squares.append(apart)
        return torch.stack(errors, dim=1), torch.stack(squares, dim=1)

    def picture(self, restored: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
        """The restored image, in [0, 1]."""
        return restored.clamp(0, 1)


def n_learned(n: int) -> int:
    """How many of n images are learned from."""
    return n - len(range(0, n, ASIDE))


class RestorationLoss(nn.Module):
    """L = MSE(I, R) + MSGMS(I, R) + (1 - SSIM(I, R)) + w_mask * sum_i MSE(p_i, M_i), R = sum_i out_i (1 - M_i).

    Args:
        net: restores, and predicts the masks p_i.
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
