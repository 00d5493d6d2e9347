"""ProtoAD: a prototype-based neural network for anomaly detection and localization (Huang, Kang; arXiv 2310.02576).

1. Patch features of a frozen network, each of length one (3.1).
2. FINCH clusters those of all normal images; the clusters' means are the prototypes (3.2).
3. The prototypes are the kernels of a 1 x 1 convolution: a position's score is one minus its largest response, the
   cosine to the nearest prototype, an image's the largest of its positions (3.3).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from unmask.detectors.base import Detector
from unmask.detectors.scoring import top_mean
from unmask.detectors.settings import AtLeast, Between, check_settings
from unmask.features.finch import cluster_means, finch
from unmask.features.maps import MOST_LEVEL, MOST_PIXELS, CachedValue, FeatureMaps, Images
from unmask.features.neighbours import candidates, patch_vectors
from unmask.training.losses import gaussian_blur
from unmask.training.trainer import Training, generator_for
from unmask.types import Prediction

FAST: dict[str, Any] = {}
PAPER = {"smoothing": 4.0, "score_from": "raw", "peak": 0.0}


class ProtoAD(Detector):
    """Compares each patch with a few thousand prototypes of normal patches, by one convolution.

    Args:
        image_size: Side of the square input in pixels.
        backbone: The frozen network; see `backbones.load`.
        levels: Stages of the network whose maps are joined; the finest one sets the grid.
        prototypes: The most prototypes: FINCH's finest partition with no more clusters is taken, or else its coarsest.
        candidates: The most normal patches that are clustered; they are drawn at random.
        smoothing: Standard deviation of the Gaussian over the map, in pixels.
        score_from: The map that gives the image's score: the "smoothed" one, or the "raw" distances of the patches (the
            paper).
        peak: Share of that map whose mean is the image's score; 0 = its largest value alone (the paper).
    """

    name = "protoad"
    paper = "Huang, Kang: A prototype-based neural network for image anomaly detection, arXiv 2310.02576"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": FAST, "paper": PAPER}

    kernels: Tensor
    maps: FeatureMaps

    def __init__(
        self,
        *,
        image_size: Annotated[int, Between(1, MOST_PIXELS)] = 256,
        backbone: str = "efficientnet_lite0",
        levels: Annotated[tuple[int, ...], Between(0, MOST_LEVEL)] = (2, 3),
        prototypes: Annotated[int, AtLeast(1)] = 4_000,
        candidates: Annotated[int, AtLeast(1)] = 30_000,
        smoothing: Annotated[float, Between(0, 1000)] = 8.0,
        score_from: Literal["smoothed", "raw"] = "smoothed",
        peak: Annotated[float, Between(0, 1)] = 0.01,
    ) -> None:
        check_settings(ProtoAD, locals())
        super().__init__()
        self.image_size, self.backbone, self.levels = image_size, backbone, tuple(levels)
        self.prototypes, self.candidates = prototypes, candidates
        self.smoothing, self.score_from, self.peak = smoothing, score_from, peak
        self.maps = FeatureMaps(backbone, image_size, levels)
        self.grid = self.maps.shapes[0][1]
        channels = sum(c for c, _ in self.maps.shapes)
        self.register_buffer("kernels", torch.empty(0, channels, dtype=torch.float16))
        self.kernels_in_full = CachedValue(Tensor.float)

    # --- the prototypes -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _fit(self, images: Images, training: Training) -> None:
        """Cluster the normal patches; see `Detector.fit`."""
        cached = self.maps.cache(images, training)
        drawn, _ = candidates(
            len(cached), cached.chunks(), self._patches, self.candidates, generator_for(training.seed, "candidates")
        )
        vectors = F.normalize(drawn.float(), dim=1)
        means = vectors
        for labels in finch(vectors):
            means = cluster_means(vectors, labels)
            training.progress("cluster", len(means), len(means), 0.0)
            if len(means) <= self.prototypes:
                break
        self.set_buffers(kernels=F.normalize(means, dim=1).half())

    def _patches(self, maps: list[Tensor]) -> Float[Tensor, "b n c"]:
        return patch_vectors(maps, self.grid)

    # --- the score ----------------------------------------------------------------------------------------------------

    def score_maps(self, maps: list[Tensor]) -> Prediction:
        """Score images by their maps, as the backbone gives them at `levels`."""
        patches = F.normalize(self._patches(maps), dim=-1)
        responses = (patches @ self.kernels_in_full(self.kernels).T).amax(-1)  # the 1 x 1 convolution: b n
        distances = (1 - responses).unflatten(1, (self.grid, self.grid))
        smooth = gaussian_blur(distances, self.smoothing * self.grid / self.image_size)
        sized = F.interpolate(smooth[:, None], size=self.image_size, mode="bilinear")[:, 0]
        return Prediction(sized, top_mean(smooth if self.score_from == "smoothed" else distances, self.peak))
