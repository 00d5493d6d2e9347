"""Fuse: several detectors on the features of one network, their scores put on one scale and averaged.

1. The network runs once over every normal image, at all levels that any part uses.
2. Each part is fitted to four fifths of the images. Its maps and scores on the fifth that was set aside give its scale:
   their median becomes 0, and a high quantile 1.
3. Each part is fitted again, to all images.

A part counts by how far it leaves its own normal range. No label and no defect is involved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.detectors.base import Detector
from unmask.detectors.building import build
from unmask.detectors.fre import FRE
from unmask.detectors.isstad import ISSTAD
from unmask.detectors.patchcore import PatchCore
from unmask.detectors.protoad import ProtoAD
from unmask.detectors.settings import Between, check_settings, settings_of
from unmask.detectors.ssm import SSM
from unmask.errors import SettingError
from unmask.features.groups import Fold, groups_of, set_aside
from unmask.features.maps import BATCH, MOST_PIXELS, CachedImages, FeatureMaps, Images
from unmask.features.neighbours import sample_rows
from unmask.features.store import scratch_folder
from unmask.training.trainer import Training, generator_for
from unmask.types import Prediction, Step

PARTS: dict[str, type[Detector]] = {part.name: part for part in (ISSTAD, SSM, PatchCore, FRE, ProtoAD)}
LEAST_IMAGES = 8  # so that the parts are fitted to six, and the scales to two
ASIDE = 5  # every ASIDE-th image is set aside for the scales
MOST_ASIDE = 200  # images that the scales are taken from
LOW = 0.5  # the quantile of normal maps and of normal scores that becomes 0
HIGH = (0.99, 0.9)  # those of maps and of scores that become 1: few images do not show a rarer score
STEP = 4  # every STEP-th row and column of a map stands for it
FULL = 10.0  # spans above normal at which the map of an explanation is full


class Fuse(Detector):
    """Fits several detectors, and predicts the mean of their predictions, each on its own scale.

    Args:
        parts: Names of detectors joined by "+", such as "patchcore+fre"; a name may come twice.
        image_size: Side of the square input of all parts, in pixels.
        backbone: The frozen network of all parts; see `backbones.load`.
        settings: Settings of parts, such as {"patchcore.bank_size": 4000}; "patchcore" is each part of that name, and
            "2.bank_size" the second part.
    """

    name = "fuse"
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
        image_size: Annotated[int, Between(1, MOST_PIXELS)] = 256,
        backbone: str = "efficientnet_lite0",
        settings: Any = None,
    ) -> None:
        check_settings(Fuse, locals())
        super().__init__()
        self.parts, self.image_size, self.backbone = parts, image_size, backbone
        if not isinstance(settings, Mapping | None):
            raise SettingError(f"settings={settings!r} is no table; write --set PART.NAME=VALUE, such as fre.pool=1")
        self.settings = {str(key): value for key, value in (settings or {}).items()}
        names = [name.strip() for name in parts.split("+")]
        if unknown := [name for name in names if name not in PARTS]:
            raise SettingError(f"parts={parts!r}: {unknown[0]!r} cannot be a part; there are: {', '.join(PARTS)}")
        self.members = [self._build_part(number, name) for number, name in enumerate(names, 1)]
        self.networks = nn.ModuleList(self.members)
        self.settings = {key: self._converted(key) for key in self.settings}
        wanted = {level for part in self.members if part.maps is not None for level in part.maps.levels}
        self.maps = FeatureMaps(backbone, image_size, sorted(wanted or (2, 3)))
        self._share_network()
        self.trains_in_steps = any(part.trains_in_steps for part in self.members)
        self.least_images = _least_images(max(part.least_images for part in self.members))
        self.register_buffer("low", torch.zeros(2, len(names)))  # of maps, of scores
        self.register_buffer("high", torch.ones(2, len(names)))

    def _build_part(self, number: int, name: str) -> Detector:
        """A part with the settings that are meant for it."""
        own: dict[str, Any] = {}
        for prefix in (f"{name}.", f"{number}."):  # what is meant for one part counts for more
            own |= {key.removeprefix(prefix): v for key, v in self.settings.items() if key.startswith(prefix)}
        if fixed := sorted({"image_size", "backbone"} & set(own)):
            raise SettingError(f"{fixed[0]} is one for all parts of a fusion; set it without a part's name")
        if _uses_backbone(PARTS[name], own):
            own["backbone"] = self.backbone
        return build(PARTS[name], "fast", {**own, "image_size": self.image_size})

    def _converted(self, key: str) -> Any:
        """The value of a part's setting as the part converted it.

        Raises:
            SettingError: no part has such a setting.
        """
        prefix, _, setting = key.partition(".")
        meant = [part for number, part in enumerate(self.members, 1) if prefix in (part.name, str(number))]
        if not meant or not setting:
            raise SettingError(
                f"the setting {key!r} is of no part of {self.parts!r}; write PART.NAME, such as fre.pool"
            )
        follow = [
            part
            for part in meant
            if prefix != part.name or f"{self.members.index(part) + 1}.{setting}" not in self.settings
        ]
        return getattr(follow[0], setting) if follow else self.settings[key]

    def _share_network(self) -> None:
        """One network serves all parts; those that are built anew in a fit bring one of their own each time."""
        for part in self.members:
            if part.maps is not None:
                part.maps.share(self.maps)

    @property
    def can_be_crossed(self) -> bool:
        """Whether each part fits in seconds; see `Detector.can_be_crossed`."""
        return super().can_be_crossed and all(part.can_be_crossed for part in self.members)

    # --- the fit ------------------------------------------------------------------------------------------------------

    def _fit(self, images: Images, training: Training) -> None:
        """Fit the parts for their scales, then to all images; see `Detector.fit`."""
        cached = self.maps.with_cache(images, training)
        fold = set_aside(groups_of(cached), ASIDE, generator_for(training.seed, "set aside"))
        self._fit_crossed(cached, torch.arange(len(cached)), [(self, fold)], training)

    def _fit_crossed(
        self, images: CachedImages, learned: Tensor, twins: Sequence[tuple[Detector, Fold]], training: Training
    ) -> None:
        """Fit the parts without each fold, take the scales from what they say of the folds, then fit to all images."""
        said: list[list[Prediction]] = []
        for twin, fold in twins:
            assert isinstance(twin, Fuse)  # noqa: S101 - it is a copy of this one
            twin._fit_parts(images.subset(fold.learned), training, "scale")
            shown = sample_rows(len(fold.scored), MOST_ASIDE // len(twins), generator_for(training.seed, "scales"))
            said += [twin._predict_rows(images, rows) for rows in fold.scored[shown].split(BATCH)]
        low, high = self._scales(said)
        self._fit_parts(images.subset(learned), training, "all")
        for one in (self, *(twin for twin, _ in twins)):
            one.set_buffers(low=low, high=high)
            one.eval().mark_fitted()

    def _fit_parts(self, images: CachedImages, training: Training, stage: str) -> None:
        """Fit every part, with its share of the time and a folder of its own for checkpoints."""
        fits = 2 * sum(part.trains_in_steps for part in self.members)
        minutes = None if training.max_minutes is None else training.max_minutes / fits
        scratch = scratch_folder(training)
        for number, part in enumerate(self.members, 1):
            folder = None if training.checkpoints is None else training.checkpoints / f"{number}-{stage}"
            own = replace(training, max_minutes=minutes, checkpoints=folder, scratch=scratch, observer=None)
            part.fit_checked(images, own)
        self._share_network()

    @torch.no_grad()
    def _predict_rows(self, images: CachedImages, rows: Tensor) -> list[Prediction]:
        """The prediction of each part for some images whose maps are cached."""
        in_pixels = any(part.maps is None for part in self.members)
        stack = torch.stack([images[int(row)] for row in rows]).to(self.device) if in_pixels else None
        return self._predict_parts(stack, images.cached.maps_of(rows))

    def _scales(self, batches: list[list[Prediction]]) -> tuple[Float[Tensor, "2 p"], Float[Tensor, "2 p"]]:
        """The range of each part's maps and scores on normal images that it was not fitted to."""
        low, high = torch.zeros_like(self.low), torch.ones_like(self.high)
        for i, predictions in enumerate(zip(*batches, strict=True)):
            maps = torch.cat([one.maps[:, ::STEP, ::STEP].flatten() for one in predictions])
            scores = torch.cat([one.scores for one in predictions])
            for kind, values in enumerate((maps, scores)):
                low[kind, i], high[kind, i] = torch.quantile(values, torch.tensor([LOW, HIGH[kind]]).to(values))
        return low, torch.maximum(high, low + 1e-6)

    # --- the score ----------------------------------------------------------------------------------------------------

    def _predict(self, images: Float[Tensor, "b 3 s s"]) -> Prediction:
        """The mean of the parts' predictions, each on its own scale; see `Detector.predict`."""
        return self._joined(self._predict_parts(images, self.maps(images)))

    def _score_cached(self, images: CachedImages, rows: Tensor) -> Prediction:
        """As `_predict`, by cached maps; see `Detector.score_rows`."""
        return self._joined(self._predict_rows(images, rows))

    def _joined(self, predictions: list[Prediction]) -> Prediction:
        low, span = self.low, self.high - self.low
        maps = [(one.maps - low[0, i]) / span[0, i] for i, one in enumerate(predictions)]
        scores = [(one.scores - low[1, i]) / span[1, i] for i, one in enumerate(predictions)]
        return Prediction(torch.stack(maps).mean(0), torch.stack(scores).mean(0))

    def _predict_parts(self, images: Tensor | None, maps: list[Tensor]) -> list[Prediction]:
        """The prediction of each part, on its own scale; the network has made the maps already.

        Args:
            images: RGB in [0, 1]; None where each part has maps.
            maps: of all levels.
        """
        at = dict(zip(self.maps.levels, maps, strict=True))
        found = []
        for part in self.members:
            if part.maps is not None:
                found.append(part.score_maps([at[level] for level in part.maps.levels]))
            else:
                assert images is not None  # noqa: S101 - a part without maps sees them
                found.append(part._predict(images))
        return found

    def _explain(self, images: Float[Tensor, "b 3 s s"]) -> list[list[Step]]:
        """The map of each part by itself: 0 = as on normal images, 1 = ten times as far from them as they go."""
        predictions = self._predict_parts(images, self.maps(images))
        span = self.high[0] - self.low[0]
        maps = [(one.maps - self.low[0, i]) / span[i] / FULL for i, one in enumerate(predictions)]
        names = [f"{number} {part.name}" for number, part in enumerate(self.members, 1)]
        return [
            [Step("parts", {}, {name: one[i].clamp(0, 1) for name, one in zip(names, maps, strict=True)})]
            for i in range(len(images))
        ]

    def not_exportable(self) -> str:
        """The reason of the first part that cannot be exported; empty if all can."""
        return next((why for part in self.members if (why := part.not_exportable())), "")

    def frozen(self) -> dict[str, str]:
        """The shared backbone, and what parts name that do not share it."""
        named = super().frozen()
        for part in self.members:
            named |= part.frozen()
        return named


def _uses_backbone(part: type[Detector], own: Mapping[str, Any]) -> bool:
    """Whether a part with these settings uses a backbone: one that uses pixels alone has none."""
    declared = settings_of(part)
    values = {name: setting.default for name, setting in declared.items()} | part.presets["fast"] | dict(own)
    only = declared["backbone"].only_if
    return only is None or only.holds(values)


def _least_images(of_parts: int) -> int:
    """The fewest images that leave each part its own fewest after some are set aside."""
    least = max(LEAST_IMAGES, of_parts)
    while least - -(-least // ASIDE) < of_parts:
        least += 1
    return least
