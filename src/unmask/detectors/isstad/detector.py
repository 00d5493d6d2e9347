"""ISSTAD: incremental self-supervised learning based on transformer (Jin, Guo, Zhu; arXiv 2303.17354).

1. A masked autoencoder learns to fill in hidden patches of normal images.
2. Its encoder is frozen. The decoder grows: stage 1's blocks, then as many fresh ones, a pixel-status head on each.
3. Stage 2 shows damaged normal images; the decoder learns to repair them and to classify pixels as damaged or not.
4. A pixel's score joins the mean damage probability over the heads, p, with the repair error, r.

`space="pixels"` is the paper. `space="features"`, the default on a CPU, takes the cached feature maps of a frozen
network for tokens, puts a bottleneck before the decoder, and adds two kinds of terms to the score: what the bottleneck
misses, and the distance to the nearest normal feature.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from unmask.detectors.base import Detector
from unmask.detectors.isstad.decoder import GrowingDecoder, RepairLoss
from unmask.detectors.isstad.feature_tokens import FeatureTokens
from unmask.detectors.isstad.fusion import Fusion
from unmask.detectors.isstad.pixel_tokens import PixelTokens
from unmask.detectors.isstad.tokens import NormalTokens, Stage, Tokens, View
from unmask.detectors.scoring import check_finite, top_mean
from unmask.detectors.settings import Above, AtLeast, Between, MultipleOf, OnlyIf, Share, check_settings
from unmask.errors import SettingError
from unmask.features.maps import Images
from unmask.training.losses import gaussian_blur
from unmask.training.trainer import Trainer, Training
from unmask.types import Prediction, Step

LEAST_IMAGES = 8
FULL = 10.0  # standard deviations above normal images at which the map of an explanation is full

Encoder = Literal["vit_nano", "vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge"]
IN_PIXELS, IN_FEATURES = OnlyIf("space", "pixels"), OnlyIf("space", "features")
EXTENDED = OnlyIf("combine", "extended")

FAST: dict[str, Any] = {}
BASE: dict[str, Any] = {
    "space": "pixels",
    "image_size": 224,
    "encoder": "vit_base",
    "combine": "product",
    "decoder_dim": 512,
    "decoder_heads": 16,
    "first_blocks": 6,
    "fresh_blocks": 6,
    "mask_ratio": 0.75,
    "batch": 16,
    "smoothing": 4.0,
}
PAPER = {
    **BASE,
    "encoder": "vit_large",
    "weights": "timm:vit_large_patch16_224.mae",
    "stage1_epochs": 305.0,
    "stage2_epochs": 200.0,
    "versions": None,
}
"""The numbers of the paper's released recipe: MAE's ViT-L/16 at 224 pixels, trained for 305 epochs more with three
quarters of the patches hidden; a decoder of 6 blocks of 512 values and 16 heads that grows to 12 (the "incremental"
step) and trains for 200 epochs on damage that is new in every step; sigma 4 and the product p * r as the score."""


class ISSTAD(Detector):
    """Repairs damage that it was trained to recognise, and scores images by damage probability and repair error.

    Args:
        space: What tokens are: "features", cached feature maps of `backbone`, or "pixels", the paper's masked
            autoencoder of images.
        target: What stage 2 repairs to: "clean", the undamaged image (the abstract), or "input", the damaged one (the
            release).
        combine: How terms make the score: "fused" standardises each on normal images and adds them; "product" is
            p * r, and the image's score is its mean; "extended" (the extended paper) has the same map, and the score
            (1 + top 10 % of p) ** power_p * (1 + top 10 % of r) ** power_r.
        image_size: Pixels along a side of the images.
        backbone: The frozen network of the features space; see `backbones.load`.
        encoder: The vision transformer of the pixels space; see `mae.SIZES`.
        weights: The start of the pixels space: a file in the public MAE layout, "timm:<name>", or None for a random
            start.
        decoder_dim: Values of a decoder token.
        decoder_heads: Heads of the decoder's attention; they must divide `decoder_dim`.
        first_blocks: Decoder blocks of stage 1.
        fresh_blocks: Decoder blocks that stage 2 adds.
        mlp_ratio: Hidden width of a decoder block over its width, in the features space; the paper's decoder has 4.
        mask_ratio: Share of the tokens that stage 1 hides.
        stage1_steps: Least number of steps of stage 1.
        stage1_epochs: Least number of passes over the images in stage 1.
        stage2_steps: Least number of steps of stage 2.
        stage2_epochs: Least number of passes over the images in stage 2.
        batch: Images of a training step.
        lr: Highest learning rate; stage 1 of the pixels space has the paper's, 1e-3 * batch / 256.
        versions: Damaged versions of each image that stage 2 of the pixels space encodes once and repeats; every third
            one is whole. None draws new damage in every step, as the paper does, and runs the encoder in every step.
        variance_share: Share of the variance that the bottleneck of the features space keeps.
        bank_size: Vectors of normal features that each bank of the features space keeps.
        smoothing: Sigma of the gaussian over p and r, in pixels.
        power_p: Exponent of p with combine="extended".
        power_r: Exponent of r with combine="extended".
    """

    name = "isstad"
    least_images = LEAST_IMAGES
    trains_in_steps = True
    paper = "Jin, Guo, Zhu: Incremental self-supervised learning based on transformer, arXiv 2303.17354"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": FAST, "base": BASE, "paper": PAPER}

    tokens: Tokens

    def __init__(
        self,
        *,
        space: Literal["features", "pixels"] = "features",
        target: Literal["clean", "input"] = "clean",
        combine: Literal["fused", "product", "extended"] = "fused",
        image_size: Annotated[int, Between(16, 4096)] = 256,
        backbone: Annotated[str, IN_FEATURES] = "efficientnet_lite0",
        encoder: Annotated[Encoder, IN_PIXELS] = "vit_base",
        weights: Annotated[str | None, IN_PIXELS] = None,
        decoder_dim: Annotated[int, MultipleOf(4), Between(4, 4096)] = 128,
        decoder_heads: Annotated[int, Between(1, 1024)] = 4,
        first_blocks: Annotated[int, Between(1, 64)] = 2,
        fresh_blocks: Annotated[int, Between(0, 64)] = 2,
        mlp_ratio: Annotated[float, Between(0.25, 16), IN_FEATURES] = 2.0,
        mask_ratio: Annotated[float, Share()] = 0.6,
        stage1_steps: Annotated[int, AtLeast(0)] = 60,
        stage1_epochs: Annotated[float, Between(0, 1e6)] = 0.0,
        stage2_steps: Annotated[int, AtLeast(0)] = 200,
        stage2_epochs: Annotated[float, Between(0, 1e6)] = 0.0,
        batch: Annotated[int, Between(1, 4096)] = 16,
        lr: Annotated[float, Above(0), Between(0, 1)] = 1e-3,
        versions: Annotated[int | None, Between(2, 1000), IN_PIXELS] = 6,
        variance_share: Annotated[float, Share(), IN_FEATURES] = 0.97,
        bank_size: Annotated[int, Between(100, 10_000_000), IN_FEATURES] = 5_000,
        smoothing: Annotated[float, Between(0, 1000)] = 8.0,
        power_p: Annotated[float, Between(0, 10), EXTENDED] = 1.0,
        power_r: Annotated[float, Between(0, 10), EXTENDED] = 1.0,
    ) -> None:
        check_settings(ISSTAD, locals())
        super().__init__()
        self.space, self.target, self.combine, self.image_size = space, target, combine, image_size
        self.backbone, self.encoder, self.weights = backbone, encoder, weights
        self.decoder_dim, self.decoder_heads, self.mlp_ratio = decoder_dim, decoder_heads, mlp_ratio
        self.first_blocks, self.fresh_blocks, self.mask_ratio = first_blocks, fresh_blocks, mask_ratio
        self.stage1_steps, self.stage1_epochs = stage1_steps, stage1_epochs
        self.stage2_steps, self.stage2_epochs = stage2_steps, stage2_epochs
        self.batch, self.lr, self.versions = batch, lr, versions
        self.variance_share, self.bank_size, self.smoothing = variance_share, bank_size, smoothing
        self.power_p, self.power_r = power_p, power_r
        self._build(seed=0)

    def _build(self, seed: int) -> None:
        """Start afresh: everything that is learned, as it is before the first step."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tokens = self._tokens()
            self.decoder = GrowingDecoder(
                latent_dim=self.tokens.latent_dim,
                target_dim=self.tokens.target_dim,
                grid=self.tokens.grid,
                cells=self.tokens.cells,
                dim=self.decoder_dim,
                heads=self.decoder_heads,
                first_blocks=self.first_blocks,
                fresh_blocks=self.fresh_blocks,
                mlp_ratio=self.tokens.mlp_ratio,
                class_token=self.tokens.class_token,
            )
        self.maps = self.tokens.features
        self.fusion = Fusion(self.tokens.terms)
        if not round(self.mask_ratio * self.tokens.grid**2):
            least = f"at least 1 / {self.tokens.grid**2}"
            raise SettingError(f"mask_ratio={self.mask_ratio} hides no token of {self.tokens.grid**2}; give {least}")

    def _tokens(self) -> Tokens:
        if self.space == "features":
            return FeatureTokens(
                self.backbone,
                self.image_size,
                mlp_ratio=self.mlp_ratio,
                variance_share=self.variance_share,
                bank_size=self.bank_size,
            )
        return PixelTokens(
            self.encoder,
            self.image_size,
            weights=self.weights,
            decoder_dim=self.decoder_dim,
            decoder_heads=self.decoder_heads,
            first_blocks=self.first_blocks,
            versions=self.versions,
        )

    # --- the two stages -----------------------------------------------------------------------------------------------

    def _fit(self, images: Images, training: Training) -> None:
        """Learn to fill in, grow, learn to repair and to classify damage; see `Detector.fit`."""
        self._build(training.seed)
        trainer = Trainer(training)
        self.to(trainer.device)
        steps = self._steps(self.stage1_steps, self.stage1_epochs, len(images))
        normals = self.tokens.fit(
            images, self.decoder, trainer, Stage(steps, self.batch, self.lr, mask_ratio=self.mask_ratio)
        )
        self._fit_repair(normals, trainer, self._steps(self.stage2_steps, self.stage2_epochs, len(images)))
        self.fit_scores(normals)

    def _fit_repair(self, normals: NormalTokens, trainer: Trainer, steps: int) -> None:
        """Stage 2."""

        def show(step: int) -> None:
            self.fit_scores(normals)
            if trainer.training.observer is not None:
                trainer.training.observer(self, step, steps)

        trainer.run(
            "stage 2",
            RepairLoss(self.decoder, self.tokens.channel_weights, self.tokens.more_loss),
            lambda step: normals.damaged_batch(step, self.batch, self.target),
            steps=steps,
            lr=self.lr,
            time_share=1 - self.tokens.stage1_time,
            show=show,
        )

    def _steps(self, least: int, epochs: float, n: int) -> int:
        return max(least, round(epochs * n / self.batch))

    @torch.inference_mode()
    def fit_scores(self, normals: NormalTokens) -> None:
        """Take mean and deviation of each term from normal images; from then on the detector can predict."""
        self.eval()
        self.fusion.fit(self._terms(view)[0] for view in normals.views())
        check_finite(self.name, self.fusion.map_mean, self.fusion.peak_mean)
        self.mark_fitted()

    # --- the score ----------------------------------------------------------------------------------------------------

    def _predict(self, images: Float[Tensor, "b 3 s s"]) -> Prediction:
        """Score images by repairing them; see `Detector.predict`."""
        return self._score(self.tokens.encode(images))

    def score_maps(self, maps: list[Tensor]) -> Prediction:
        """Score images by their maps (features space); see `Detector.score_maps`."""
        return self._score(self.tokens.encode_maps(maps))

    def _score(self, view: View) -> Prediction:
        terms, repaired = self._terms(view)
        if self.combine == "fused":
            maps, scores = self.fusion(terms)
        else:
            maps, scores = self._score_by_the_paper(terms[:, 0], self._repair_error(terms))
        maps = F.interpolate(maps[:, None], size=self.image_size, mode="bilinear")[:, 0]
        return Prediction(maps, scores, self.tokens.picture(repaired))

    def _terms(self, view: View) -> tuple[Float[Tensor, "b t s s"], Float[Tensor, "b n d"]]:
        """p, r and the tokens' own terms, smoothed, on the status grid; and the repaired tokens."""
        repaired, logits = self.decoder(view.latents)
        p = logits.sigmoid().mean(0)  # b s s
        r = self.tokens.repair_maps(repaired, view.wanted)
        terms = torch.cat([p[:, None], r, view.extras], dim=1)
        sigma = self.smoothing * terms.shape[-1] / self.image_size
        return gaussian_blur(terms.flatten(0, 1), sigma).unflatten(0, terms.shape[:2]), repaired

    def _repair_error(self, terms: Float[Tensor, "b t s s"]) -> Float[Tensor, "b s s"]:
        return terms[:, 1 : 1 + len(self.tokens.terms.repair)].mean(1)

    def _score_by_the_paper(self, p: Tensor, r: Tensor) -> tuple[Float[Tensor, "b s s"], Float[Tensor, " b"]]:
        maps = gaussian_blur(p * r, self.smoothing * p.shape[-1] / self.image_size)
        if self.combine == "product":
            return maps, maps.mean((1, 2))
        return maps, (1 + top_mean(p, 0.1)) ** self.power_p * (1 + top_mean(r, 0.1)) ** self.power_r

    def _explain(self, images: Float[Tensor, "b 3 s s"]) -> list[list[Step]]:
        """One step: the repaired image, where there is one, p, and r over its spread on normal images."""
        terms, repaired = self._terms(self.tokens.encode(images))
        pictures = self.tokens.picture(repaired)
        error = self._repair_error((terms - self.fusion.map_mean) / self.fusion.map_std / FULL)
        maps = torch.stack([terms[:, 0], error], dim=1).clamp(0, 1)  # b 2 s s
        maps = F.interpolate(maps, size=self.image_size, mode="bilinear")
        return [
            [Step("repair", {} if pictures is None else {"repaired": pictures[i]}, {"probability": p, "error": r})]
            for i, (p, r) in enumerate(maps)
        ]
