"""FRE: a fast method for anomaly detection and segmentation (Ndiour, Ahuja, Genc, Tickoo; arXiv 2211.12650).

1. A layer's feature map, pooled and flattened whole, is one vector an image (3.1).
2. PCA of the normal images' vectors keeps a share of their variance (3.2).
3. What the principal subspace cannot express of a new image is the anomaly: summed over the channels it is the map, in
   total the score (3.3, eq. 3 and 4).

Beyond the paper, several layers may be judged together, each with the same weight, and each channel may be
standardised.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from unmask.detectors.base import Detector
from unmask.detectors.scoring import top_mean
from unmask.detectors.settings import AtLeast, Between, Share, check_settings
from unmask.features.maps import MOST_LEVEL, MOST_PIXELS, CachedValue, FeatureMaps, Images
from unmask.features.neighbours import sample_rows
from unmask.features.standard_maps import StandardMaps
from unmask.features.subspace import Subspace, principal_subspace
from unmask.training.losses import gaussian_blur
from unmask.training.trainer import Training, generator_for
from unmask.types import Prediction

LEAST_IMAGES = 4
FAST: dict[str, Any] = {}
PAPER = {"levels": (3,), "standardise": False, "pool": 2, "peak": 1.0, "smoothing": 0.0}


class FRE(Detector):
    """Fits a PCA to whole feature maps of normal images; what it cannot reconstruct of a new image is the anomaly.

    Args:
        image_size: Side of the square input in pixels.
        backbone: The frozen network; see `backbones.load`.
        levels: Stages of the network whose maps are reconstructed.
        standardise: Whether each channel is standardised over the normal images before the PCA; not in the paper.
        pool: Cells along a side that are averaged into one before the PCA.
        variance_share: Share of the variance that the PCA keeps, in (0, 1].
        images: The most images that the PCA is fitted to; its time grows with their cube.
        smoothing: Standard deviation of the Gaussian over the map, in pixels.
        peak: Share of the map whose mean is the image's score; 1 = the mean of all cells, which orders images as the
            paper's total does.
    """

    name = "fre"
    least_images = LEAST_IMAGES
    paper = "Ndiour, Ahuja, Genc, Tickoo: FRE: a fast method for anomaly detection and segmentation, arXiv 2211.12650"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": FAST, "paper": PAPER}

    mean: Tensor
    maps: FeatureMaps
    basis: Tensor

    def __init__(
        self,
        *,
        image_size: Annotated[int, Between(1, MOST_PIXELS)] = 256,
        backbone: str = "efficientnet_lite0",
        levels: Annotated[tuple[int, ...], Between(0, MOST_LEVEL)] = (3, 4),
        standardise: bool = True,
        pool: Annotated[int, AtLeast(1)] = 2,
        variance_share: Annotated[float, Share()] = 0.97,
        images: Annotated[int, AtLeast(LEAST_IMAGES)] = 2_000,
        smoothing: Annotated[float, Between(0, 1000)] = 8.0,
        peak: Annotated[float, Between(0, 1)] = 0.1,
    ) -> None:
        check_settings(FRE, locals())
        super().__init__()
        self.image_size, self.backbone, self.levels, self.pool = image_size, backbone, tuple(levels), pool
        self.variance_share, self.images, self.smoothing, self.peak = variance_share, images, smoothing, peak
        self.standardise = standardise
        self.standard = StandardMaps(backbone, image_size, levels, standardise=standardise)
        self.maps = self.standard.features
        self.sides = [max(1, side // pool) for _, side in self.standard.shapes]
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("basis", torch.empty(0, dtype=torch.float16))
        self.basis_in_full = CachedValue(Tensor.float)

    # --- the subspace -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _fit(self, images: Images, training: Training) -> None:
        """Find the principal subspace of the normal images; see `Detector.fit`."""
        self.standard.fit(images, training)
        rows = sample_rows(len(images), self.images, generator_for(training.seed, "subspace"))
        vectors = torch.cat([self._vectors(self.standard.maps_of(part)) for part in rows.split(64)])
        self.standard.release()
        found = principal_subspace(vectors, self.variance_share)
        self.set_buffers(mean=found.mean, basis=found.basis.half())

    def _vectors(self, maps: list[Tensor]) -> Float[Tensor, "b d"]:
        """The whole image as one vector, in which each level has the same weight."""
        pooled = [F.adaptive_avg_pool2d(x, side) for x, side in zip(maps, self.sides, strict=True)]
        return torch.cat([x.flatten(1) / math.prod(x.shape[1:]) ** 0.5 for x in pooled], dim=1)

    # --- the score ----------------------------------------------------------------------------------------------------

    def score_maps(self, maps: list[Tensor]) -> Prediction:
        """Score images by their maps, as the backbone gives them at `levels`."""
        vectors = self._vectors(self.standard.standardised(maps))
        missed = (vectors - Subspace(self.mean, self.basis_in_full(self.basis)).project(vectors)).pow(2)
        sizes = [c * side**2 for (c, _), side in zip(self.standard.shapes, self.sides, strict=True)]
        grid = self.sides[0]
        levels = [
            F.interpolate(part.unflatten(1, (-1, side, side)).sum(1, keepdim=True) * side**2, grid, mode="bilinear")
            for part, side in zip(missed.split(sizes, dim=1), self.sides, strict=True)
        ]
        summed = torch.cat(levels, dim=1).mean(1)  # b g g: 1 = all of the variance of standardised channels
        smooth = gaussian_blur(summed, self.smoothing * grid / self.image_size)
        sized = F.interpolate(smooth[:, None], size=self.image_size, mode="bilinear")[:, 0]
        return Prediction(sized, top_mean(smooth, self.peak))
