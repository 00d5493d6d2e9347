"""SSM: self-supervised masking (Huang, Xu, Wang, Wang, Zhang; arXiv 2205.06568, IEEE TMM 2022).

1. Disjoint random masks of several scales together hide every part of an image once.
2. What they hide is restored. Normal parts come back as they were; an anomaly does not.
3. Blocks that came back well are uncovered for good, and what is left is hidden and restored again. The mask shrinks on
   to the anomaly (progressive mask refinement, in refinement.py).
4. The last pass makes the map. The image's score joins the map's peak and the mean squared error, both standardised on
   normal images that were not trained on.

`space="pixels"` is the paper: a conditional autoencoder restores pixels. `space="features"`, the default on a CPU,
hides tokens of the cached feature maps of a frozen network and restores them by a conditional Gaussian. One pass is
RIAD. The features space takes no training steps: a time limit has nothing to shorten there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from unmask.detectors.base import Detector
from unmask.detectors.scoring import check_finite, top_mean
from unmask.detectors.settings import Above, AtLeast, Between, MultipleOf, OnlyIf, Share, check_settings
from unmask.detectors.ssm.explanation import step_of
from unmask.detectors.ssm.feature_restorer import FeatureRestorer
from unmask.detectors.ssm.pixel_restorer import PixelRestorer, Schedule
from unmask.detectors.ssm.refinement import BLOCKS, Pass, Refinement
from unmask.detectors.ssm.restorer import Encoded, Restorer
from unmask.features.maps import Images
from unmask.training.clock import Clock
from unmask.training.masking import MASKS, check_cells
from unmask.training.trainer import Progress, Trainer, Training, silent
from unmask.types import Prediction, Step

LEAST_IMAGES = 8
FULL = 10.0  # standard deviations above normal images at which the map of an explanation is full
IN_PIXELS, IN_FEATURES = OnlyIf("space", "pixels"), OnlyIf("space", "features")

FAST: dict[str, Any] = {}
PAPER: dict[str, Any] = {
    "space": "pixels",
    "score": "pixels",
    "image_size": 128,
    "cells": (2, 4, 8),
    "weights": "squares",
    "tau": 0.0157,
    "uncovered": "zero",
    "smoothing": 7.0,
    "peak": 0.0,
    "width": 1.0,
    "steps": 0,  # epochs decide
    "epochs": 50.0,
    "batch": 32,
    "lr": 1e-4,
}
"""The paper's experiments on Retinal-OCT: 128 x 128 pixels, k in {2, 4, 8}, rate 1e-4, 50 epochs of batch 32, the
network at full width (33.3 M parameters). tau, sigma and the weights k^2 of the scales are the released code's."""
MVTEC = {**PAPER, "image_size": 256, "cells": (2, 4, 8, 16), "epochs": 300.0, "smoothing": 14.0, "tau": 0.0}
"""The paper's settings for MVTec AD were not published; these are those of RIAD, which it follows."""
LIGHT = {
    **PAPER,
    "score": "both",
    "tau": 0.0,
    "uncovered": "kept",
    "width": 0.125,
    "steps": 600,
    "epochs": 0.0,
    "batch": 2,
    "lr": 3e-3,
}


class SSM(Detector):
    """Hides everything in turn, compares what restores well, uncovers it, and hides the rest again.

    Args:
        space: What is hidden and restored: "features", cached feature maps of `backbone`, or "pixels", the paper's
            conditional autoencoder.
        score: How the pixels space compares an image with its restoration: in "pixels" (MSGMS and squared error), in
            the "features" of the backbone, or "both". The features space compares features.
        passes: T, how often to hide and restore; 1 = no refinement.
        image_size: Pixels along a side of the images.
        backbone: The frozen network of the features space, and of a score that compares features; see `backbones.load`.
        cells: k, sides of the square cells that masks hide, in pixels; one for each scale.
        weights: Weights of the scales in the map: "uniform", or "squares" (k^2, the release).
        tau: Below it a pixel of the map counts as restored; 0 = take `tau_quantile`. 0.0157 is the release's, for score
            "pixels"; other maps are sums in units of their means on normal images.
        tau_quantile: Quantile of the map's pixels on validation images that becomes tau, if `tau` is 0.
        block_share: Share of a block's pixels below tau above which it is uncovered; a block has 1/16 of the side.
        uncovered: Error of what was uncovered: "kept", the one that it was uncovered with, or "zero" (the paper), as
            R = I there.
        smoothing: Sigma of the gaussian over the map, in pixels.
        peak: Share of the map whose mean is its peak; 0 = its largest value alone (the paper).
        width: Width of the network of the pixels space over the paper's.
        mask_weight: Weight of the predicted mask in the loss of the pixels space.
        steps: Least number of training steps of the pixels space.
        epochs: Least number of passes over the images in the pixels space.
        batch: Images of a training step of the pixels space.
        lr: Highest learning rate of the pixels space.
        variance_share: Share of the variance that the Gaussian of the features space keeps.
        rank: Directions that the Gaussian of the features space keeps, at the most.
    """

    name = "ssm"
    least_images = LEAST_IMAGES
    paper = "Huang, Xu, Wang, Wang, Zhang: Self-supervised masking for unsupervised anomaly detection, arXiv 2205.06568"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": FAST, "light": LIGHT, "paper": PAPER, "mvtec": MVTEC}

    restorer: Restorer
    peak_mean: Tensor
    peak_std: Tensor
    energy_mean: Tensor
    energy_std: Tensor

    def __init__(
        self,
        *,
        space: Literal["features", "pixels"] = "features",
        score: Annotated[Literal["pixels", "features", "both"], IN_PIXELS] = "features",
        passes: Annotated[int, Between(1, 5)] = 2,
        image_size: Annotated[int, MultipleOf(BLOCKS), Between(BLOCKS, 4096)] = 256,
        backbone: Annotated[str, OnlyIf("score", "features", "both")] = "efficientnet_lite0",
        cells: Annotated[tuple[int, ...], AtLeast(1)] = (32, 64, 128),
        weights: Literal["uniform", "squares"] = "uniform",
        tau: Annotated[float, AtLeast(0)] = 0.0,
        tau_quantile: Annotated[float, Between(0, 1), OnlyIf("tau", 0.0)] = 0.8,
        block_share: Annotated[float, Between(0, 1)] = 0.8,
        uncovered: Literal["kept", "zero"] = "kept",
        smoothing: Annotated[float, Between(0, 1000)] = 16.0,
        peak: Annotated[float, Between(0, 1)] = 0.02,
        width: Annotated[float, Between(0.01, 4), IN_PIXELS] = 0.25,
        mask_weight: Annotated[float, Between(0, 1000), IN_PIXELS] = 1.0,
        steps: Annotated[int, AtLeast(0), IN_PIXELS] = 250,
        epochs: Annotated[float, Between(0, 1e6), IN_PIXELS] = 0.0,
        batch: Annotated[int, Between(1, 4096), IN_PIXELS] = 8,
        lr: Annotated[float, Above(0), Between(0, 1), IN_PIXELS] = 1e-3,
        variance_share: Annotated[float, Share(), IN_FEATURES] = 0.97,
        rank: Annotated[int, Between(1, 4096), IN_FEATURES] = 192,
    ) -> None:
        check_settings(SSM, locals())
        check_cells(tuple(cells), image_size, MASKS)
        super().__init__()
        self.trains_in_steps = space == "pixels"
        self.space, self.score, self.passes, self.image_size = space, score, passes, image_size
        self.backbone, self.cells, self.weights = backbone, tuple(cells), weights
        self.tau, self.tau_quantile, self.block_share = tau, tau_quantile, block_share
        self.uncovered, self.smoothing, self.peak = uncovered, smoothing, peak
        self.width, self.mask_weight = width, mask_weight
        self.steps, self.epochs, self.batch, self.lr = steps, epochs, batch, lr
        self.variance_share, self.rank = variance_share, rank
        self._build(seed=0)

    def _build(self, seed: int) -> None:
        """Start afresh: everything that is learned, as it is before the first step."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.restorer = self._restorer()
        self.maps = self.restorer.features
        self.refinement = Refinement(
            len(self.restorer.names),
            passes=self.passes,
            weights=self._weights(),
            uncovered=self.uncovered,
            sigma=self.smoothing * self.restorer.side / self.image_size,
            block_share=self.block_share,
            seed=seed,
        )
        for name in ("peak_mean", "peak_std", "energy_mean", "energy_std"):
            self.register_buffer(name, torch.zeros(len(self.restorer.names)))

    def _restorer(self) -> Restorer:
        if self.space == "features":
            return FeatureRestorer(
                self.backbone, self.image_size, cells=self.cells, variance_share=self.variance_share, rank=self.rank
            )
        return PixelRestorer(
            self.image_size,
            cells=self.cells,
            width=self.width,
            mask_weight=self.mask_weight,
            score=self.score,
            backbone=self.backbone,
            schedule=Schedule(self.steps, self.epochs, self.batch, self.lr),
        )

    def _weights(self) -> Float[Tensor, " k"]:
        """Weights of the scales; their sum is 1."""
        weights = torch.tensor([float(cell**2) if self.weights == "squares" else 1.0 for cell in self.cells])
        return weights / weights.sum()

    # --- learn to restore what random masks hide ----------------------------------------------------------------------

    @property
    def can_be_crossed(self) -> bool:
        """False: a fit already holds one Gaussian for each fold; once more for each of five would take minutes."""
        return False

    def _fit(self, images: Images, training: Training) -> None:
        """Learn to restore, then take the spread of the scores; see `Detector.fit`."""
        self.fit_scores(self.fit_restorer(images, training), training.progress)

    def fit_restorer(self, images: Images, training: Training) -> list[Encoded]:
        """The first half of a fit: learn to restore.

        Returns:
            Validation batches: normal images, each with a restorer that was fitted without it.
        """
        self._build(training.seed)
        trainer = Trainer(training, precise=True)  # bfloat16 restored pixels with 5 times the squared error
        self.to(trainer.device)

        def observe(step: int, steps: int, validation: Sequence[Encoded]) -> None:
            self.eval()
            self.fit_scores(validation)
            if training.observer is not None:
                training.observer(self, step, steps)

        validation = self.restorer.fit(images, trainer, observe)
        self.to(trainer.device).eval()
        return validation

    @torch.inference_mode()
    def fit_scores(self, validation: Sequence[Encoded], progress: Progress = silent) -> None:
        """The second half of a fit: take tau and the spread of the scores from the validation batches."""
        clock = Clock(2 * len(validation), math.inf)

        def count(one: Pass) -> Pass:
            clock.tick()
            progress("scores", clock.done, clock.steps, clock.seconds_left())
            return one

        first = [count(self.refinement.run_pass(self.restorer, batch, None, 0)) for batch in validation]
        self.refinement.fit(first, self.tau, self.tau_quantile)
        self.fit_spread([count(self.refinement(self.restorer, batch)[-1]) for batch in validation])
        self.mark_fitted()

    def fit_spread(self, last: Sequence[Pass]) -> None:
        """Take mean and deviation of the parts of the score from the last passes over normal images."""
        peaks = torch.cat([self._peaks(one) for one in last])
        energies = torch.cat([one.squares.mean((2, 3)) for one in last])
        check_finite(self.name, peaks, energies)
        self.set_buffers(peak_mean=peaks.mean(0), peak_std=_spread(peaks))
        self.set_buffers(energy_mean=energies.mean(0), energy_std=_spread(energies))

    # --- the score ----------------------------------------------------------------------------------------------------

    def _predict(self, images: Float[Tensor, "b 3 s s"]) -> Prediction:
        """Score images by restoring what masks hide of them; see `Detector.predict`."""
        return self._score(self.restorer.encode(images))

    def score_maps(self, maps: list[Tensor]) -> Prediction:
        """Score images by their maps (features space); see `Detector.score_maps`."""
        return self._score(self.restorer.encode_maps(maps))

    def _score(self, encoded: Encoded) -> Prediction:
        last = self.refinement(self.restorer, encoded)[-1]
        maps = F.interpolate(self.refinement.join(last.maps)[:, None], size=self.image_size, mode="bilinear")[:, 0]
        repaired = self.restorer.picture(last.restored) if self.restorer.repairs else None
        return Prediction(maps, self.scores(last), repaired)

    def scores(self, last: Pass) -> Float[Tensor, " b"]:
        """z(max A) + z(mean squared error), summed over the terms."""
        peaks = (self._peaks(last) - self.peak_mean) / self.peak_std
        return (peaks + (last.squares.mean((2, 3)) - self.energy_mean) / self.energy_std).sum(1)

    def _peaks(self, last: Pass) -> Float[Tensor, "b t"]:
        return top_mean(last.maps, self.peak)

    def _explain(self, images: Float[Tensor, "b 3 s s"]) -> list[list[Step]]:
        """A step a pass: what one mask hid, what was restored, the error, and what stays covered."""
        return [self._steps_of(image) for image in images]

    def _steps_of(self, image: Float[Tensor, "3 s s"]) -> list[Step]:
        passes = self.refinement(self.restorer, self.restorer.encode(image[None]))
        mean, std = self.refinement.normal_map
        steps = []
        for number, one in enumerate(passes, 1):
            error = ((self.refinement.join(one.maps) - mean) / std.clamp(min=1e-12) / FULL).clamp(0, 1)
            error = F.interpolate(error[:, None], size=self.image_size, mode="bilinear")[0, 0]
            restored = self.restorer.picture(one.restored)[0]
            steps.append(step_of(f"pass {number} of {len(passes)}", one, image.to(error.device), restored, error))
        return steps

    def not_exportable(self) -> str:
        """What is hidden in a pass depends on the pass before, image by image, and features need a solver each time."""
        return "its passes branch on each image, and ONNX has no operator that solves its linear systems"

    def frozen(self) -> dict[str, str]:
        """The backbone, if there is one; the pixels space stores its own network."""
        return self.restorer.frozen()


def _spread(values: Float[Tensor, "n t"]) -> Float[Tensor, " t"]:
    return values.std(0, correction=0).clamp(min=1e-6)
