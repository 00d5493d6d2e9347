"""PatchCore: towards total recall in industrial anomaly detection (Roth, Pemula, Zepeda and others; arXiv 2106.08265).

1. Mid-level feature maps of a frozen network; each position takes the mean of its neighbourhood (3.1, eq. 2 and 3).
2. A coreset of the normal vectors: each chosen one is the farthest from those before it (3.2, algorithm 1).
3. A position's score is the distance to the nearest vector of the coreset, an image's the largest of its positions
   (3.3, eq. 6; without the re-weighting of eq. 7).

With one to ten normal images, `rotations` also puts turned and mirrored copies into the bank (HTDG, arXiv 2104.14535;
AnomalyDINO, arXiv 2405.14529).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from unmask.detectors.base import Detector
from unmask.detectors.scoring import top_mean
from unmask.detectors.settings import AtLeast, Between, Share, check_settings
from unmask.features.coreset import greedy_coreset
from unmask.features.maps import MOST_LEVEL, MOST_PIXELS, CachedValue, FeatureMaps, Images
from unmask.features.neighbours import bank_columns, candidates, nearest, patch_vectors
from unmask.features.turned import Turned
from unmask.training.losses import gaussian_blur
from unmask.training.trainer import Training, generator_for
from unmask.types import Prediction

FAST: dict[str, Any] = {}
PAPER = {
    "coreset": 0.01,
    "bank_size": 1_000_000,
    "candidates": 100_000_000,
    "smoothing": 4.0,
    "score_from": "raw",
    "peak": 0.0,
}
FEW = {"rotations": 8, "selection": "random", "bank_size": 20_000}


class PatchCore(Detector):
    """Keeps a bank of normal patches, and measures how far each new patch is from the nearest of them.

    Args:
        image_size: Side of the square input in pixels.
        backbone: The frozen network; see `backbones.load`.
        levels: Stages of the network whose maps are joined; the finest one sets the grid.
        selection: How the bank is chosen: by the "greedy" coreset of the paper, or at "random".
        coreset: Share of the candidates that the bank keeps; the paper tries 0.25, 0.1 and 0.01.
        bank_size: The most vectors that the bank keeps.
        candidates: The most vectors that the bank is chosen from; they are drawn at random.
        smoothing: Standard deviation of the Gaussian over the map, in pixels.
        score_from: The map that gives the image's score: the "smoothed" one, or the "raw" distances of the patches (the
            paper).
        peak: Share of that map whose mean is the image's score; 0 = its largest value alone (the paper).
        rotations: Number of angles by which each normal image is also turned, as it is and mirrored; 0 = none.
    """

    name = "patchcore"
    paper = "Roth, Pemula, Zepeda, Schölkopf, Brox, Gehler: Towards total recall in industrial AD, arXiv 2106.08265"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": FAST, "paper": PAPER, "few": FEW}

    bank: Tensor
    maps: FeatureMaps

    def __init__(
        self,
        *,
        image_size: Annotated[int, Between(1, MOST_PIXELS)] = 256,
        backbone: str = "efficientnet_lite0",
        levels: Annotated[tuple[int, ...], Between(0, MOST_LEVEL)] = (2, 3),
        selection: Literal["greedy", "random"] = "greedy",
        coreset: Annotated[float, Share()] = 1.0,
        bank_size: Annotated[int, AtLeast(1)] = 4_000,
        candidates: Annotated[int, AtLeast(1)] = 100_000,
        smoothing: Annotated[float, Between(0, 1000)] = 8.0,
        score_from: Literal["smoothed", "raw"] = "smoothed",
        peak: Annotated[float, Between(0, 1)] = 0.01,
        rotations: Annotated[int, Between(0, 360)] = 0,
    ) -> None:
        check_settings(PatchCore, locals())
        super().__init__()
        self.image_size, self.backbone, self.levels = image_size, backbone, tuple(levels)
        self.selection, self.coreset, self.bank_size, self.candidates = selection, coreset, bank_size, candidates
        self.smoothing, self.score_from, self.peak, self.rotations = smoothing, score_from, peak, rotations
        self.maps = FeatureMaps(backbone, image_size, levels)
        self.grid = self.maps.shapes[0][1]
        channels = sum(c for c, _ in self.maps.shapes)
        self.register_buffer("bank", torch.empty(0, channels, dtype=torch.float16))
        self.columns = CachedValue(bank_columns)

    # --- the bank -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _fit(self, images: Images, training: Training) -> None:
        """Keep a coreset of the normal patches; see `Detector.fit`. One image is enough."""
        cached = self.maps.cache(Turned(images, self.rotations) if self.rotations else images, training)
        vectors, _ = candidates(
            len(cached), cached.chunks(), self._patches, self.candidates, generator_for(training.seed, "candidates")
        )
        size = max(1, min(self.bank_size, round(self.coreset * len(vectors))))
        generator = generator_for(training.seed, "coreset")
        if self.selection == "greedy":
            chosen = greedy_coreset(vectors.float(), size, generator, progress=training.progress)
        else:
            chosen = torch.randperm(len(vectors), generator=generator)[:size].to(vectors.device)
        self.set_buffers(bank=vectors[chosen])

    def _patches(self, maps: list[Tensor]) -> Float[Tensor, "b n c"]:
        return patch_vectors(maps, self.grid)

    # --- the score ----------------------------------------------------------------------------------------------------

    def score_maps(self, maps: list[Tensor]) -> Prediction:
        """Score images by their maps, as the backbone gives them at `levels`."""
        distances = nearest(self._patches(maps), self.columns(self.bank)).unflatten(1, (self.grid, self.grid))
        smooth = gaussian_blur(distances, self.smoothing * self.grid / self.image_size)
        sized = F.interpolate(smooth[:, None], size=self.image_size, mode="bilinear")[:, 0]
        return Prediction(sized, top_mean(smooth if self.score_from == "smoothed" else distances, self.peak))
