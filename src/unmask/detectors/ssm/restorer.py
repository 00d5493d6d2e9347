"""The interface of SSM's restorers. There are two kinds: of cached feature maps, and of pixels.

Letters of the shapes: k scales of masks, n disjoint masks of each scale; masks live on a grid of g = `side` cells along
a side; t terms of the score. A restorer decides what an image is to it: "..." stands for that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from unmask.features.maps import FeatureMaps, Images
from unmask.training.trainer import Trainer


class Encoded(NamedTuple):
    """b images as a restorer has them, and what restores them.

    Attributes:
        values: what is hidden and restored: pixels, or whole feature maps as vectors.
        restore: (values, visible) -> R, values as restored under the mask that hides them, and as they are where no
            mask does: (b, k, ...) from masks (b, k, n, g, g), True = visible. It was fitted without these images.
    """

    values: Float[Tensor, "b ..."]
    restore: Callable[[Tensor, Tensor], Tensor]

    def subset(self, rows: Tensor) -> Encoded:
        """Some of the images."""
        return Encoded(self.values[rows], self.restore)


Observe = Callable[[int, int, Sequence[Encoded]], None]
"""Called in the middle of a training with the step, the number of steps, and the validation batches."""


class Restorer(nn.Module, ABC):
    """Restores what masks hide of images, and compares images with what was restored.

    Attributes:
        side: g, cells along a side of the grid that masks live on.
        cells: sides of the masks' square cells, in cells of that grid; one for each scale.
        names: names of the terms of the score.
        repairs: whether `picture` shows a repaired image; otherwise it is a guess for explanations alone.
    """

    side: int
    cells: tuple[int, ...]
    names: tuple[str, ...]
    repairs: ClassVar[bool]

    @abstractmethod
    def fit(self, images: Images, trainer: Trainer, observe: Observe) -> list[Encoded]:
        """Learn to restore normal images.

        Args:
            images: normal images.
            trainer: of this fit; the restorer is on its device.
            observe: called on the way by those that train in steps, if somebody observes.

        Returns:
            Validation batches: normal images, each with a restorer that was fitted without it.
        """

    @abstractmethod
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Encoded:
        """New images."""

    def encode_maps(self, maps: list[Tensor]) -> Encoded:
        """The same for images whose maps are known, as `features` makes them; only for restorers with `features`."""
        raise NotImplementedError

    @abstractmethod
    def compare(
        self, values: Float[Tensor, "b ..."], restored: Float[Tensor, "b k ..."], weights: Float[Tensor, " k"]
    ) -> tuple[Float[Tensor, "b t g g"], Float[Tensor, "b t g g"]]:
        """How far restored values are off.

        Args:
            values: of `Encoded`.
            restored: what `Encoded.restore` made of them.
            weights: weights of the scales; their sum is 1.

        Returns:
            The errors that make the map, and the squared errors whose mean joins the image's score.
        """

    @abstractmethod
    def picture(self, restored: Float[Tensor, "b ..."]) -> Float[Tensor, "b 3 h w"]:
        """Restored values as an image in [0, 1], for explanations."""

    @property
    def features(self) -> FeatureMaps | None:
        """The frozen network, if its maps are all that is restored; None where pixels are."""
        return None

    @abstractmethod
    def frozen(self) -> dict[str, str]:
        """Name and checksum of pre-trained weights that are used as they are; see `Detector.frozen`."""
