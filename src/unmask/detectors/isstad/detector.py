"""ISSTAD: incremental self-supervised learning based on transformer (Jin, Guo, Zhu; arXiv 2303.17354).

1. A masked autoencoder learns to fill in hidden patches of normal images.
2. Its encoder is frozen. The decoder grows: stage 1's blocks, then as many fresh ones, a pixel-status head on each.
3. Stage 2 shows damaged normal images; the decoder learns to repair them and to say which pixels are damaged.
4. A pixel's score joins the mean damage probability over the heads, p, with the repair error, r.

`space="pixels"` is the paper. `space="features"`, the default on a CPU, takes the cached feature maps of a frozen
network for tokens, puts a bottleneck before the decoder, and adds two terms to the score: what the bottleneck misses,
and the distance to the nearest normal feature.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from unmask.detectors.base import Detector
from unmask.detectors.isstad.decoder import FillingLoss, GrowingDecoder, RepairLoss, View
from unmask.detectors.isstad.feature_tokens import FeatureSpace
from unmask.detectors.isstad.pixel_tokens import PixelSpace
from unmask.detectors.scoring import Fusion, top_mean
from unmask.detectors.settings import one_of
from unmask.features.maps import Images
from unmask.training.losses import gaussian_blur
from unmask.training.trainer import Trainer, Training
from unmask.types import Prediction, Step

LEAST_IMAGES = 8
FAR = 10.0  # standard deviations above normal images at which the map of an explanation is full
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
}


class ISSTAD(Detector):
    """Repairs what it takes for damage, and says where it sees any.

    Args:
        space: "features" (cached feature maps of `backbone`) or "pixels" (the paper: a masked autoencoder of images).
        target: of the repair: "clean", the undamaged image (the abstract), or "input", the damaged one (the release).
        combine: "fused" (terms standardised on normal images, then added), "product" (p * r, the image score its
            mean) or "extended" ((1 + top 10 % of p) ** power_p * (1 + top 10 % of r) ** power_r, the extended paper).
        image_size: pixels along a side.
        backbone: of the features space; see `backbones.load`.
        encoder: of the pixels space; see `mae.SIZES`.
        weights: of the pixels space: a file in the public MAE layout, "timm:<name>", or None for a random start.
        decoder_dim: of the decoder's tokens.
        decoder_heads: of its attention.
        first_blocks: decoder blocks of stage 1.
        fresh_blocks: decoder blocks that stage 2 adds.
        mlp_ratio: hidden width of a decoder block over its width (features space; the paper's decoder has 4).
        mask_ratio: share of tokens that stage 1 hides.
        stage1_steps: least number of steps of stage 1.
        stage1_epochs: least number of passes over the images in stage 1.
        stage2_steps: least number of steps of stage 2.
        stage2_epochs: least number of passes over the images in stage 2.
        batch: images of a training step.
        lr: highest learning rate (stage 1 of the pixels space has the paper's, 1e-3 * batch / 256).
        versions: of each image that stage 2 caches in the pixels space.
        variance_share: that the bottleneck keeps (features space).
        bank_size: vectors of normal features (features space).
        smoothing: sigma of the gaussian over p and r, in pixels.
        power_p: exponent of "extended".
        power_r: exponent of "extended".
    """

    name = "isstad"
    least_images = LEAST_IMAGES
    paper = "Jin, Guo, Zhu: Incremental self-supervised learning based on transformer, arXiv 2303.17354"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": FAST, "base": BASE, "paper": PAPER}

    def __init__(
        self,
        *,
        space: str = "features",
        target: str = "clean",
        combine: str = "fused",
        image_size: int = 256,
        backbone: str = "efficientnet_lite0",
        encoder: str = "vit_base",
        weights: str | None = None,
        decoder_dim: int = 128,
        decoder_heads: int = 4,
        first_blocks: int = 2,
        fresh_blocks: int = 2,
        mlp_ratio: float = 2.0,
        mask_ratio: float = 0.6,
        stage1_steps: int = 60,
        stage1_epochs: float = 0.0,
        stage2_steps: int = 200,
        stage2_epochs: float = 0.0,
        batch: int = 16,
        lr: float = 1e-3,
        versions: int = 6,
        variance_share: float = 0.97,
        bank_size: int = 5_000,
        smoothing: float = 8.0,
        power_p: float = 1.0,
        power_r: float = 1.0,
    ) -> None:
        super().__init__()
        one_of("space", space, ("features", "pixels"))
        one_of("target", target, ("clean", "input"))
        one_of("combine", combine, ("fused", "product", "extended"))
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tokens = self._feature_space() if self.space == "features" else self._pixel_space()
            self.decoder = GrowingDecoder(
                latent_dim=self.tokens.latent_dim,
                target_dim=self.tokens.target_dim,
                grid=self.tokens.grid,
                cells=self.tokens.cells,
                dim=self.decoder_dim,
                heads=self.decoder_heads,
                first_blocks=self.first_blocks,
                fresh_blocks=self.fresh_blocks,
                mlp_ratio=self.mlp_ratio if self.space == "features" else 4.0,
                class_token=self.tokens.class_token,
            )
        self.maps = self.tokens.maps.features if isinstance(self.tokens, FeatureSpace) else None
        names = ("damage", *self.tokens.repair_names, *self.tokens.extra_names)
        self.fusion = Fusion(names, self.tokens.local_names, self.tokens.whole_names)

    def _feature_space(self) -> FeatureSpace:
        return FeatureSpace(
            self.backbone,
            self.image_size,
            variance_share=self.variance_share,
            bank_size=self.bank_size,
        )

    def _pixel_space(self) -> PixelSpace:
        return PixelSpace(
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
        """Learn to fill in, grow, learn to repair and to tell damage; see `Detector.fit`."""
        self._build(training.seed)
        trainer = Trainer(training)
        if isinstance(self.tokens, FeatureSpace):
            self._fill_in_features(self.tokens, images, trainer)
        else:
            self._fill_in_pixels(self.tokens, images, trainer)
        self._repair(len(images), trainer)
        self.to("cpu")
        self._standardise()
        self.tokens.forget_images()

    def _fill_in_features(self, tokens: FeatureSpace, images: Images, trainer: Trainer) -> None:
        tokens.learn(images, trainer)
        trainer.run(
            "stage 1",
            FillingLoss(self.decoder, tokens.channel_weights),
            lambda step: tokens.hidden_batch(step, self.batch, self.mask_ratio),
            steps=self._steps(self.stage1_steps, self.stage1_epochs, len(images)),
            lr=self.lr,
            time_share=0.25,
        )

    def _fill_in_pixels(self, tokens: PixelSpace, images: Images, trainer: Trainer) -> None:
        tokens.load_weights()
        trainer.run(
            "stage 1",
            tokens.mae,
            lambda step: tokens.hidden_batch(images, step, self.batch, self.mask_ratio, trainer.training.seed),
            steps=self._steps(self.stage1_steps, self.stage1_epochs, len(images)),
            lr=1e-3 * self.batch / 256,
            time_share=0.5,
        )
        tokens.damage(images, trainer)
        self.decoder.inherit(tokens.mae)

    @torch.inference_mode()
    def _standardise(self) -> None:
        """Learn how far each term goes on normal images; from then on it can predict."""
        self.eval()
        self.fusion.fit(self._terms(view)[0] for view in self.tokens.normal_views())
        self.mark_fitted()

    def _repair(self, n: int, trainer: Trainer) -> None:
        steps, look = self._steps(self.stage2_steps, self.stage2_epochs, n), trainer.training.observer

        def show(step: int) -> None:
            self._standardise()
            if look is not None:
                look(self, step, steps)

        similarity = self.tokens.similarity if isinstance(self.tokens, PixelSpace) else None
        trainer.run(
            "stage 2",
            RepairLoss(self.decoder, self.tokens.channel_weights, similarity),
            lambda step: self.tokens.damaged_batch(step, self.batch, self.target),
            steps=steps,
            lr=self.lr,
            time_share=0.75 if self.space == "features" else 0.5,
            show=show,
        )

    def _steps(self, least: int, epochs: float, n: int) -> int:
        return max(least, round(epochs * n / self.batch))

    # --- the score ----------------------------------------------------------------------------------------------------

    def _predict(self, images: Float[Tensor, "b 3 s s"]) -> Prediction:
        """Score images by repairing them; see `Detector.predict`."""
        return self._judged(self.tokens.view(images))

    def score_maps(self, maps: list[Tensor]) -> Prediction:
        """Score images by their maps (features space); see `Detector.score_maps`."""
        assert isinstance(self.tokens, FeatureSpace), "maps is None"  # noqa: S101
        return self._judged(self.tokens.view_of(maps))

    def _judged(self, view: View) -> Prediction:
        terms, repaired = self._terms(view)
        if self.combine == "fused":
            maps, scores = self.fusion(terms)
        else:
            repair = terms[:, 1 : 1 + len(self.tokens.repair_names)].mean(1)
            maps, scores = self._by_the_paper(terms[:, 0], repair)
        maps = F.interpolate(maps[:, None], size=self.image_size, mode="bilinear")[:, 0]
        return Prediction(maps, scores, self.tokens.picture(repaired))

    @torch.inference_mode()
    def explain(self, images: Float[Tensor, "b 3 s s"]) -> list[list[Step]]:
        """One step: the repaired image, where there is one, p, and r over its spread on normal images."""
        self.check_fitted()
        terms, repaired = self._terms(self.tokens.view(images))
        pictures = self.tokens.picture(repaired)
        far = (terms - self.fusion.map_mean) / self.fusion.map_std / FAR
        repair = far[:, 1 : 1 + len(self.tokens.repair_names)].mean(1)
        maps = torch.stack([terms[:, 0], repair], dim=1).clamp(0, 1)  # b 2 s s
        maps = F.interpolate(maps, size=self.image_size, mode="bilinear")
        return [
            [Step("repair", {} if pictures is None else {"repaired": pictures[i]}, {"probability": p, "error": r})]
            for i, (p, r) in enumerate(maps)
        ]

    def _terms(self, view: View) -> tuple[Float[Tensor, "b t s s"], Float[Tensor, "b n d"]]:
        """p, r and the space's own terms, smoothed, on the status grid; and the repaired tokens."""
        repaired, logits = self.decoder(view.latents)
        p = logits.sigmoid().mean(0)  # b s s
        r = self.tokens.repair_maps(repaired, view.wanted)
        terms = torch.cat([p[:, None], r, view.extras], dim=1)
        sigma = self.smoothing * terms.shape[-1] / self.image_size
        return gaussian_blur(terms.flatten(0, 1), sigma).unflatten(0, terms.shape[:2]), repaired

    def _by_the_paper(self, p: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        maps = gaussian_blur(p * r, self.smoothing * p.shape[-1] / self.image_size)
        if self.combine == "product":
            return maps, maps.mean((1, 2))
        return maps, (1 + top_mean(p, 0.1)) ** self.power_p * (1 + top_mean(r, 0.1)) ** self.power_r

    def frozen(self) -> dict[str, str]:
        """The features space names its backbone; the pixels space stores its own encoder."""
        if isinstance(self.tokens, FeatureSpace):
            return {self.tokens.maps.backbone.name: self.tokens.maps.backbone.checksum}
        return {}
