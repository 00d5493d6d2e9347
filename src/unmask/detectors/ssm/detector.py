"""SSM: self-supervised masking (Huang, Xu, Wang, Wang, Zhang; arXiv 2205.06568, IEEE TMM 2022).

1. Disjoint random masks of several scales together hide every part of an image once.
2. What they hide is restored. Normal parts come back as they were; an anomaly does not.
3. Blocks that came back well are uncovered for good, and what is left is hidden and restored again. The mask shrinks on
   to the anomaly (progressive mask refinement).
4. The last pass makes the map. The image's score joins the map's peak and the mean squared error, both standardised on
   held-out normal images.

`space="pixels"` is the paper: a conditional autoencoder restores pixels. `space="features"`, the default on a CPU,
hides tokens of the cached feature maps of a frozen network and restores them by a conditional Gaussian. One pass is
RIAD.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.detectors.base import Detector
from unmask.detectors.scoring import top_mean
from unmask.detectors.settings import one_of
from unmask.detectors.ssm.feature_restorer import FeatureRestoration
from unmask.detectors.ssm.pixel_restorer import PixelRestoration, n_learned
from unmask.detectors.ssm.refinement import Pass, step_of
from unmask.errors import SettingError
from unmask.features.maps import Images
from unmask.training.clock import Clock
from unmask.training.losses import gaussian_blur
from unmask.training.masking import MASKS, check_cells, disjoint_masks
from unmask.training.trainer import Progress, Trainer, Training, generator_for, silent
from unmask.types import Prediction, Step

BLOCKS = 16  # along a side: what is uncovered, or not, as a whole
MOST_PASSES = 5
LEAST_IMAGES = 8
FAR = 10.0  # standard deviations above normal images at which the map of an explanation is full

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
MVTEC = {**PAPER, "image_size": 256, "cells": (2, 4, 8, 16), "epochs": 300.0, "smoothing": 14.0, "tau": 0.0}
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
    """Hides everything in turn, looks at what restores well, uncovers it, and looks again.

    Args:
        space: "features" (cached feature maps of `backbone`) or "pixels" (the paper: a conditional autoencoder).
        score: of the pixels space: restored against original in "pixels" (MSGMS, squared error), in the backbone's
            "features", or "both". The features space knows features only.
        passes: T, how often to hide and restore, 1 to 5; 1 = no refinement.
        image_size: pixels along a side.
        backbone: of the features space, and of `score`; see `backbones.load`.
        cells: k, sides of the cells that a mask hides, in pixels: a scale each.
        weights: of the scales in the map: "uniform", or "squares" (of k, the release).
        tau: below it a pixel of the map counts as restored; 0 = take `tau_quantile`. 0.0157 is the release's, for
            score "pixels"; the other maps are sums in units of their means on normal images.
        tau_quantile: of the map's pixels on held-out normal images: tau.
        uncovered: error of what was uncovered: "kept", the one it was uncovered with, or "zero" (the paper), as R = I.
        block_share: of a block's pixels that must be restored for it to be uncovered; a block has 1/16 of the side.
        smoothing: sigma of the gaussian over the map, in pixels.
        peak: share of the map whose mean is its peak; 0 = its largest value alone (the paper).
        width: of the network's channels (pixels space); 1 is the paper.
        mask_weight: of the predicted mask in the loss (pixels space).
        steps: least number of steps (pixels space).
        epochs: least number of passes over the images (pixels space).
        batch: images of a training step (pixels space).
        lr: highest learning rate (pixels space).
        variance_share: that the Gaussian keeps (features space).
        rank: directions that it keeps, at the most (features space).
    """

    name = "ssm"
    least_images = LEAST_IMAGES
    paper = "Huang, Xu, Wang, Wang, Zhang: Self-supervised masking for unsupervised anomaly detection, arXiv 2205.06568"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": FAST, "light": LIGHT, "paper": PAPER, "mvtec": MVTEC}

    scale: Tensor
    threshold: Tensor
    normal_map: Tensor
    peak_mean: Tensor
    peak_std: Tensor
    energy_mean: Tensor
    energy_std: Tensor
    mask_seed: Tensor

    def __init__(
        self,
        *,
        space: str = "features",
        score: str = "features",
        passes: int = 2,
        image_size: int = 256,
        backbone: str = "efficientnet_lite0",
        cells: tuple[int, ...] = (32, 64, 128),
        weights: str = "uniform",
        tau: float = 0.0,
        tau_quantile: float = 0.8,
        block_share: float = 0.8,
        uncovered: str = "kept",
        smoothing: float = 16.0,
        peak: float = 0.02,
        width: float = 0.25,
        mask_weight: float = 1.0,
        steps: int = 250,
        epochs: float = 0.0,
        batch: int = 8,
        lr: float = 1e-3,
        variance_share: float = 0.97,
        rank: int = 192,
    ) -> None:
        super().__init__()
        one_of("space", space, ("features", "pixels"))
        one_of("score", score, ("pixels", "features", "both"))
        one_of("uncovered", uncovered, ("kept", "zero"))
        one_of("weights", weights, ("uniform", "squares"))
        if space == "features" and score != "features":
            raise SettingError(f"score={score} needs restored pixels; give space=pixels, or score=features")
        if not 1 <= passes <= MOST_PASSES:
            raise SettingError(f"passes={passes} is out of range; give 1 (no refinement) to {MOST_PASSES}")
        for key, value in (("tau_quantile", tau_quantile), ("block_share", block_share), ("peak", peak)):
            if not 0 <= value <= 1:
                raise SettingError(f"{key}={value} is no share; give one in [0, 1]")
        if image_size % BLOCKS or tau < 0:
            raise SettingError(f"image_size={image_size}, tau={tau}: give a multiple of {BLOCKS}, and 0 or more")
        check_cells(cells, image_size, MASKS)
        self.space, self.score, self.passes, self.image_size = space, score, passes, image_size
        self.backbone, self.cells, self.weights = backbone, tuple(cells), weights
        self.tau, self.tau_quantile, self.block_share = tau, tau_quantile, block_share
        self.uncovered, self.smoothing, self.peak = uncovered, smoothing, peak
        self.width, self.mask_weight = width, mask_weight
        self.steps, self.epochs, self.batch, self.lr = steps, epochs, batch, lr
        self.variance_share, self.rank = variance_share, rank
        self._build(seed=0)

    def _build(self, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.restoration = self._feature_restoration() if self.space == "features" else self._pixel_restoration()
        self.maps = self.restoration.maps.features if isinstance(self.restoration, FeatureRestoration) else None
        terms = torch.zeros(len(self.restoration.names))
        for name in ("scale", "peak_mean", "peak_std", "energy_mean", "energy_std"):
            self.register_buffer(name, terms.clone())
        self.register_buffer("threshold", torch.tensor(0.0))  # tau
        self.register_buffer("normal_map", torch.zeros(2))  # mean and deviation of A, first pass
        self.register_buffer("mask_seed", torch.tensor(seed))

    def _feature_restoration(self) -> FeatureRestoration:
        return FeatureRestoration(
            self.backbone, self.image_size, cells=self.cells, variance_share=self.variance_share, rank=self.rank
        )

    def _pixel_restoration(self) -> PixelRestoration:
        return PixelRestoration(
            self.image_size,
            cells=self.cells,
            width=self.width,
            mask_weight=self.mask_weight,
            score=self.score,
            backbone=self.backbone,
        )

    # --- learn to restore what random masks hide ----------------------------------------------------------------------

    def _fit(self, images: Images, training: Training) -> None:
        """Learn to restore, then measure on normal images that were not learned from; see `Detector.fit`."""
        self.learn(images, training)
        self.settle(training.progress)
        self.restoration.forget_images()

    def learn(self, images: Images, training: Training) -> None:
        """The first half of `fit`; the normal images are kept for `settle`, which other passes can follow as well."""
        self._build(training.seed)
        trainer = Trainer(training, precise=True)  # bfloat16 restored pixels with 5 times the squared error
        if isinstance(self.restoration, FeatureRestoration):
            self.restoration.learn(images, trainer)
        else:
            steps = max(self.steps, round(self.epochs * n_learned(len(images)) / self.batch))

            def show(step: int) -> None:
                self.eval()
                self.settle()
                if training.observer is not None:
                    training.observer(self, step, steps)

            self.restoration.learn(images, trainer, steps=steps, batch=self.batch, lr=self.lr, show=show)
        self.to("cpu").eval()

    @torch.inference_mode()
    def settle(self, progress: Progress = silent) -> None:
        """Take tau and the spread of the scores from normal images that were not learned from."""
        unseen = list(self.restoration.unseen())
        clock = Clock(2 * len(unseen), math.inf)

        def told(one: Pass) -> Pass:
            clock.tick()
            progress("measure", clock.done, clock.steps, clock.seconds_left())
            return one

        first = [told(self._look(model, seen, None, 0)) for model, seen in unseen]
        maps = torch.cat([one.maps for one in first])
        several = len(self.restoration.names) > 1
        self.set_buffers(scale=maps.mean((0, 2, 3)).clamp(min=1e-12) if several else torch.ones(1))
        joined = self._joined(maps)
        tau = torch.tensor(self.tau) if self.tau > 0 else _quantile(joined, self.tau_quantile)
        self.set_buffers(threshold=tau, normal_map=torch.stack([joined.mean(), joined.std()]))
        self.standardise([told(self.refine(model, seen)[-1]) for model, seen in unseen])
        self.mark_fitted()

    def standardise(self, last: list[Pass]) -> None:
        """Take the spread of the scores from the last passes over normal images."""
        peaks = torch.cat([self._peaks(one) for one in last])
        energies = torch.cat([one.squares.mean((2, 3)) for one in last])
        self.set_buffers(peak_mean=peaks.mean(0), peak_std=_spread(peaks))
        self.set_buffers(energy_mean=energies.mean(0), energy_std=_spread(energies))

    # --- hide, restore, progressively uncover -------------------------------------------------------------------------

    def refine(self, model: Any, seen: Tensor) -> list[Pass]:
        """Passes 1 to T; an image stops early when nothing changed or everything is uncovered."""
        passes = [self._look(model, seen, None, 0)]
        for t in range(1, self.passes):
            last = passes[-1]
            changed = (last.confirmed & ~last.visible).flatten(1).any(1)
            going = (changed & ~last.confirmed.flatten(1).all(1)).nonzero()[:, 0]
            if len(going) == 0:
                break
            passes.append(last.updated(going, self._look(model, seen[going], last.only(going), t)))
        return passes

    def _look(self, model: Any, seen: Tensor, last: Pass | None, t: int) -> Pass:
        """One pass: hide all that is not confirmed in turn, restore it, and confirm what came back."""
        masks = self._masks(t)
        visible = torch.zeros(len(seen), *masks.shape[2:], dtype=torch.bool) if last is None else last.confirmed
        restored = self.restoration.restore(model, seen, masks | visible[:, None, None])
        errors, squares = self.restoration.differ(seen, restored, self._weights())
        if last is not None and self.uncovered == "kept":
            errors, squares = (
                torch.where(visible[:, None], old, new) for old, new in ((last.errors, errors), (last.squares, squares))
            )
        sigma = self.smoothing * self.restoration.side / self.image_size
        maps = gaussian_blur(errors.flatten(0, 1), sigma).unflatten(0, errors.shape[:2])
        confirmed = visible | self._restored_blocks(self._joined(maps))
        return Pass(visible, masks, errors, squares, maps, confirmed, restored.mean(1))

    def _masks(self, t: int) -> Bool[Tensor, "k n g g"]:
        """Disjoint masks of every scale, others in each pass, the same for every image."""
        side = self.restoration.side
        seed = int(self.mask_seed)
        return torch.stack(
            [disjoint_masks(side, cell, MASKS, generator_for(seed, "pass", t, cell)) for cell in self.restoration.cells]
        )

    def _weights(self) -> Float[Tensor, " k"]:
        weights = torch.tensor([float(cell**2) if self.weights == "squares" else 1.0 for cell in self.cells])
        return weights / weights.sum()

    def _joined(self, maps: Float[Tensor, "b t g g"]) -> Float[Tensor, "b g g"]:
        """A: one term as it is; several in units of their mean on normal images, added."""
        return (maps / self.scale[:, None, None]).sum(1)

    def _restored_blocks(self, a: Float[Tensor, "b g g"]) -> Bool[Tensor, "b g g"]:
        side = a.shape[-1]
        block = max(1, side // BLOCKS)
        share = F.avg_pool2d((a < self.threshold).float(), block, ceil_mode=True)  # the last one may be cut off
        return (share > self.block_share).repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :side, :side]

    # --- the score ----------------------------------------------------------------------------------------------------

    def _predict(self, images: Float[Tensor, "b 3 s s"]) -> Prediction:
        """Score images by restoring what masks hide of them; see `Detector.predict`."""
        return self._judged(*self.restoration.look(images))

    def score_maps(self, maps: list[Tensor]) -> Prediction:
        """Score images by their maps (features space); see `Detector.score_maps`."""
        assert isinstance(self.restoration, FeatureRestoration), "maps is None"  # noqa: S101
        return self._judged(*self.restoration.look_at(maps))

    def _judged(self, model: Any, seen: Tensor) -> Prediction:
        last = self.refine(model, seen)[-1]
        maps = F.interpolate(self._joined(last.maps)[:, None], size=self.image_size, mode="bilinear")[:, 0]
        shown = self.restoration.picture(last.restored) if self.space == "pixels" else None  # a blur is no repair
        return Prediction(maps, self.scores(last), shown)

    def scores(self, last: Pass) -> Float[Tensor, " b"]:
        """z(max A) + z(mean error), summed over the terms."""
        peaks = (self._peaks(last) - self.peak_mean) / self.peak_std
        return (peaks + (last.squares.mean((2, 3)) - self.energy_mean) / self.energy_std).sum(1)

    def _peaks(self, last: Pass) -> Float[Tensor, "b t"]:
        return top_mean(last.maps, self.peak)

    @torch.inference_mode()
    def explain(self, images: Float[Tensor, "b 3 s s"]) -> list[list[Step]]:
        """A step a pass: what one mask hid, what was restored, the error, and what stays covered."""
        self.check_fitted()
        return [self._told(image) for image in images]

    def _told(self, image: Float[Tensor, "3 s s"]) -> list[Step]:
        passes = self.refine(*self.restoration.look(image[None]))
        mean, std = self.normal_map
        steps = []
        for number, one in enumerate(passes, 1):
            error = ((self._joined(one.maps) - mean) / std.clamp(min=1e-12) / FAR).clamp(0, 1)
            error = F.interpolate(error[:, None], size=self.image_size, mode="bilinear")[0, 0]
            restored = self.restoration.picture(one.restored)[0]
            steps.append(step_of(f"pass {number} of {len(passes)}", one, image, restored, error))
        return steps

    def not_exportable(self) -> str:
        """What is hidden in a pass depends on the pass before, image by image, and features need a solver each time."""
        return "its passes branch on each image, and ONNX has no operator that solves its linear systems"

    def frozen(self) -> dict[str, str]:
        """The backbone, if there is one; the pixels space stores its own network."""
        space = self.restoration
        backbone = space.maps.backbone if isinstance(space, FeatureRestoration) else space.backbone
        return {} if backbone is None else {backbone.name: backbone.checksum}


def _quantile(values: Tensor, q: float) -> Tensor:
    """Of any number of values; torch's own refuses more than 2^24."""
    flat = values.flatten()
    return flat.kthvalue(max(1, min(len(flat), round(q * len(flat))))).values


def _spread(values: Float[Tensor, "n t"]) -> Float[Tensor, " t"]:
    return values.std(0, correction=0).clamp(min=1e-6)
