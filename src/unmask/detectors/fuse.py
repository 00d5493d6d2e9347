"""Fuse: several detectors on the features of one network, their scores put on one scale and averaged.

1. The network runs once over every normal image, at all levels that any part wants.
2. Each part learns from four fifths of the images. The fifth that was set aside says what its maps and scores are like
   on normal images it has not seen: their median becomes 0, and a high quantile 1.
3. Each part learns again, from all images.

A part counts by how far it leaves its own normal range. No label and no defect is involved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.detectors.base import Detector, build
from unmask.detectors.fre import FRE
from unmask.detectors.isstad import ISSTAD
from unmask.detectors.patchcore import PatchCore
from unmask.detectors.protoad import ProtoAD
from unmask.detectors.settings import AtLeast, check_settings
from unmask.detectors.ssm import SSM
from unmask.errors import SettingError
from unmask.features.maps import BATCH, CachedImages, FeatureMaps, Images
from unmask.training.trainer import Training, generator_for
from unmask.types import Prediction, Step

PARTS: dict[str, type[Detector]] = {part.name: part for part in (ISSTAD, SSM, PatchCore, FRE, ProtoAD)}
LEAST_IMAGES = 8  # so that the parts learn from six, and two say what is normal
ASIDE = 5  # every so many-th image is set aside for the scales
MOST_ASIDE = 200  # of them are looked at
LOW = 0.5  # the quantile of normal maps and of normal scores that becomes 0
HIGH = (0.99, 0.9)  # those of maps and of scores that become 1: few images say nothing of a rarer score
STEP = 4  # every so many-th row and column of a map stands for it
FULL = 10.0  # spans above normal at which the map of an explanation is full


class Fuse(Detector):
    """Asks several detectors, and takes the mean of what they say.

    Args:
        parts: names joined by "+", such as "patchcore+fre"; a name may come twice.
        image_size: pixels along a side, for all parts.
        backbone: for all parts.
        settings: of the parts, such as {"patchcore.bank_size": 4000}; "patchcore" means each part of that name, and
            "2.bank_size" the second part.
    """

    name = "fuse"
    least_images = LEAST_IMAGES
    paper = (
        "none; the parts' own. Scores of single-class detectors averaged: Aggarwal and Sathe, SIGKDD Explorations 2015"
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": {}}

    low: Tensor
    high: Tensor
    maps: FeatureMaps

    def __init__(
        self,
        *,
        parts: str = "patchcore+fre",
        image_size: Annotated[int, AtLeast(1)] = 256,
        backbone: str = "efficientnet_lite0",
        settings: Any = None,
    ) -> None:
        check_settings(Fuse, locals())
        super().__init__()
        self.parts, self.image_size, self.backbone = parts, image_size, backbone
        if not isinstance(settings, Mapping | None):
            raise SettingError(f"settings={settings} is no mapping; write --set PART.NAME=VALUE, such as fre.pool=1")
        self.settings: dict[str, Any] = dict(settings or {})
        names = [name.strip() for name in parts.split("+")]
        if unknown := [name for name in names if name not in PARTS]:
            raise SettingError(f"parts={parts}: {unknown[0]!r} cannot be a part; there are: {', '.join(PARTS)}")
        self.members = [self._member(number, name) for number, name in enumerate(names, 1)]
        self.networks = nn.ModuleList(self.members)
        self.settings = {key: self._in_use(key) for key in self.settings}
        wanted = {level for part in self.members if part.maps is not None for level in part.maps.levels}
        self.maps = FeatureMaps(backbone, image_size, sorted(wanted or (2, 3)))
        self._share()
        self.register_buffer("low", torch.zeros(2, len(names)))  # of maps, of scores
        self.register_buffer("high", torch.ones(2, len(names)))

    def _member(self, number: int, name: str) -> Detector:
        """A part with the settings that are meant for it."""
        mine: dict[str, Any] = {}
        for whose in (name, str(number)):  # what is meant for one part counts for more
            prefix = f"{whose}."
            mine |= {key.removeprefix(prefix): v for key, v in self.settings.items() if key.startswith(prefix)}
        if fixed := sorted({"image_size", "backbone"} & set(mine)):
            raise SettingError(f"{fixed[0]} is one for all parts of a fusion; set it without a part's name")
        return build(PARTS[name], "fast", {**mine, "image_size": self.image_size, "backbone": self.backbone})

    def _in_use(self, key: str) -> Any:
        """A part's setting as the part understood it."""
        whose, _, setting = key.partition(".")
        meant = [part for number, part in enumerate(self.members, 1) if whose in (part.name, str(number))]
        if not meant or not setting:
            raise SettingError(f"the setting {key} is of no part of {self.parts}; write PART.NAME, such as fre.pool")
        own = [
            part
            for part in meant
            if whose != part.name or f"{self.members.index(part) + 1}.{setting}" not in self.settings
        ]
        return getattr(own[0], setting) if own else self.settings[key]

    def _share(self) -> None:
        """One network for all parts; those that build themselves anew in a fit bring one of their own each time."""
        for part in self.members:
            if part.maps is not None:
                part.maps.share(self.maps)

    # --- learning -----------------------------------------------------------------------------------------------------

    def _fit(self, images: Images, training: Training) -> None:
        """Learn what is normal for each part, then learn from all images; see `Detector.fit`."""
        encoded = CachedImages(images, self.maps.cache(images, training))
        order = torch.randperm(len(images), generator=generator_for(training.seed, "set aside"))
        is_aside = torch.arange(len(order)) % ASIDE == 0
        self._learn(encoded.subset(order[~is_aside].sort().values), training, "scale")
        self._take_scales(encoded.subset(order[is_aside][:MOST_ASIDE].sort().values))
        self._learn(encoded, training, "all")

    def _learn(self, images: CachedImages, training: Training, stage: str) -> None:
        """Every part, with its share of the time and a folder of its own for checkpoints."""
        minutes = None if training.max_minutes is None else training.max_minutes / 2 / len(self.members)
        for number, part in enumerate(self.members, 1):
            name = f"{number}-{stage}"
            folder = None if training.checkpoints is None else training.checkpoints / name
            identity = f"{training.identity} {name}"
            own = replace(training, max_minutes=minutes, checkpoints=folder, identity=identity, observer=None)
            part.fit(images, own)
        self._share()

    @torch.no_grad()
    def _take_scales(self, images: CachedImages) -> None:
        """What the maps and scores of each part are on normal images."""
        said = []
        for start in range(0, len(images), BATCH):
            rows = torch.arange(start, min(start + BATCH, len(images)))
            said.append(self._each(torch.stack([images[int(i)] for i in rows]), images.cached.maps_of(rows)))
        low, high = torch.zeros_like(self.low), torch.ones_like(self.high)
        for i, mine in enumerate(zip(*said, strict=True)):
            maps = torch.cat([one.maps[:, ::STEP, ::STEP].flatten() for one in mine])
            scores = torch.cat([one.scores for one in mine])
            for kind, values in enumerate((maps, scores)):
                low[kind, i], high[kind, i] = torch.quantile(values, torch.tensor([LOW, HIGH[kind]]))
        self.set_buffers(low=low, high=torch.maximum(high, low + 1e-6))

    # --- the score ----------------------------------------------------------------------------------------------------

    def _predict(self, images: Float[Tensor, "b 3 s s"]) -> Prediction:
        """The mean of what the parts say, each on its own scale; see `Detector.predict`."""
        said = self._each(images, self.maps(images))
        low, span = self.low, self.high - self.low
        maps = [(one.maps - low[0, i]) / span[0, i] for i, one in enumerate(said)]
        scores = [(one.scores - low[1, i]) / span[1, i] for i, one in enumerate(said)]
        return Prediction(torch.stack(maps).mean(0), torch.stack(scores).mean(0))

    def _each(self, images: Tensor, maps: list[Tensor]) -> list[Prediction]:
        at = dict(zip(self.maps.levels, maps, strict=True))
        return [
            part._predict(images) if part.maps is None else part.score_maps([at[level] for level in part.maps.levels])
            for part in self.members
        ]

    @torch.inference_mode()
    def explain(self, images: Float[Tensor, "b 3 s s"]) -> list[list[Step]]:
        """What each part says by itself: 0 = as on normal images, 1 = ten times as far from them as they go."""
        self.check_fitted()
        said = self._each(images, self.maps(images))
        span = self.high[0] - self.low[0]
        maps = [(one.maps - self.low[0, i]) / span[i] / FULL for i, one in enumerate(said)]
        names = [f"{number} {part.name}" for number, part in enumerate(self.members, 1)]
        return [
            [Step("parts", {}, {name: one[i].clamp(0, 1) for name, one in zip(names, maps, strict=True)})]
            for i in range(len(images))
        ]

    def not_exportable(self) -> str:
        """As its parts."""
        return next((why for part in self.members if (why := part.not_exportable())), "")

    def frozen(self) -> dict[str, str]:
        """The shared backbone, and what parts name that do not share it."""
        named = {self.maps.backbone.name: self.maps.backbone.checksum}
        for part in self.members:
            named |= part.frozen()
        return named
