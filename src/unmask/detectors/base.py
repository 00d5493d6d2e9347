"""The contract of a detector: tensors in, anomaly maps out; no files, no labels, no thresholds."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unmask.detectors.settings import settings_of
from unmask.errors import ModelFileError, NotFittedError, SettingError
from unmask.features.backbones import Backbone
from unmask.features.groups import Fold, groups_of
from unmask.features.maps import CachedImages, FeatureMaps, Images
from unmask.training.checkpoints import Checkpoints
from unmask.training.trainer import Training
from unmask.types import Prediction, Step


class Detector(nn.Module):
    """Learns from normal images what is normal, and scores what is not.

    A subclass keeps its constructor's arguments under their own names (its settings are those and nothing else), puts
    what it learns into parameters and buffers, and implements `_fit` and `_predict`, or `score_maps` in place of
    `_predict` if it uses nothing but the feature maps of a frozen network.

    Attributes:
        name: on the command line and in model files.
        paper: where it comes from.
        presets: named settings; "fast" is the default on a CPU.
        least_images: the fewest images that it can learn from.
        trains_in_steps: whether a fit is a training in steps; only there do a time limit, several devices and a resumed
            fit mean anything.
        image_size: height and width of the images it takes, in pixels.
        maps: the frozen network whose maps are all that it uses; None where it uses pixels.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": {}}
    least_images: int = 1
    trains_in_steps: bool = False
    image_size: int
    maps: FeatureMaps | None
    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.maps = None
        self.register_buffer("fitted", torch.tensor(0, dtype=torch.uint8))

    @property
    def device(self) -> torch.device:
        """Where it computes; `to` moves it."""
        return self.fitted.device

    def fit(self, images: Images, training: Training | None = None) -> None:
        """Learn from normal images; a second call forgets the first.

        Args:
            images: n normal images of image_size x image_size.
            training: seed, device, time limit, checkpoints, progress; None = the defaults of `Training`.

        Raises:
            SettingError: too few images for this detector, or an option of the training that has no effect on it.
            TrainingStopped: interrupted; with checkpoints, the fit can be resumed.
        """
        training = training or Training()
        self._check(len(groups_of(images).unique()), training)
        self.fit_checked(images, training)

    @property
    def can_be_crossed(self) -> bool:
        """Whether it fits in seconds to maps that are computed once, so that it can be fitted again for each fold."""
        return self.maps is not None and not self.trains_in_steps

    def fit_crossed(
        self, images: Images, learned: Int[Tensor, " n"], folds: Sequence[Fold], training: Training
    ) -> Crossed:
        """Learn from normal images, and let a twin for each fold learn from all but the fold's.

        So every image is learned from, and is also scored by a detector that has not seen it. The maps of a frozen
        network are computed once for all of them.

        Args:
            images: normal images of image_size x image_size, and their copies.
            learned: rows of the images to learn from.
            folds: what each twin learns from, and what it has not seen.
            training: as of `fit`.

        Raises:
            SettingError: as of `fit`.
        """
        assert self.maps is not None, "see `can_be_crossed`"  # noqa: S101
        groups = groups_of(images)
        self._check(min(len(groups[fold.learned].unique()) for fold in folds), training)
        self.to(training.torch_device)
        cached = self.maps.with_cache(images, training)
        twins = [(self._twin(), fold) for fold in folds]
        self._fit_crossed(cached, learned, twins, training)
        return Crossed(cached, [(twin, fold.scored) for twin, fold in twins])

    def _fit_crossed(
        self, images: CachedImages, learned: Tensor, twins: Sequence[tuple[Detector, Fold]], training: Training
    ) -> None:
        for twin, fold in twins:
            twin.fit_checked(images.subset(fold.learned), training)
        self.fit_checked(images.subset(learned), training)

    def _twin(self) -> Detector:
        """Another detector with the same settings, which shares the frozen network."""
        shared = {id(part): part for part in self.modules() if isinstance(part, Backbone)}
        return copy.deepcopy(self, shared)

    def score_rows(self, images: CachedImages, rows: Int[Tensor, " b"]) -> Prediction:
        """Score some of the images of `fit_crossed`, whose maps are there already.

        Raises:
            NotFittedError: fit or restore comes first.
        """
        self.check_fitted()
        with torch.inference_mode():
            return self._score_cached(images, rows)

    def _score_cached(self, images: CachedImages, rows: Int[Tensor, " b"]) -> Prediction:
        """Score some images by their cached maps; see `score_rows`."""
        assert self.maps is not None  # noqa: S101 - their maps are of this detector
        return self.score_maps(images.cached.with_levels(self.maps.levels).maps_of(rows))

    def _check(self, n: int, training: Training) -> None:
        """Raise SettingError if a fit to n photographs is not possible; make its folder for checkpoints."""
        self.check_training(training)
        if n < self.least_images:
            wanted = f"{self.name} needs at least {self.least_images} normal images to learn from"
            raise SettingError(f"{wanted}, got {n}; give more")
        Checkpoints(training.checkpoints, training.identity, resume=training.resume).prepare()

    def check_training(self, training: Training) -> None:
        """Raise SettingError if this machine lacks the device, or an option would have no effect on this detector."""
        _ = training.torch_device
        options = {
            "devices": training.devices > 1,
            "nodes": training.nodes > 1,
            "max-minutes": training.max_minutes is not None,
            "resume": training.resume,
        }
        if not self.trains_in_steps and (given := [name for name, is_given in options.items() if is_given]):
            raise SettingError(f"{self.name} does not train in steps, so {given[0]} has no effect on it; leave it out")

    def fit_checked(self, images: Images, training: Training) -> None:
        """Learn on the device of the training, once `fit` has checked the options; a fusion's parts begin here."""
        self.to(training.torch_device)
        self._fit(images, training)
        self.to(training.torch_device).eval()
        self.mark_fitted()

    def predict(self, images: Float[Tensor, "b 3 s s"]) -> Prediction:
        """Score images.

        Args:
            images: RGB in [0, 1], image_size x image_size, on any device.

        Returns:
            Maps and scores on the device of the detector.

        Raises:
            NotFittedError: fit or restore comes first.
        """
        self.check_fitted()
        with torch.inference_mode():
            return self._predict(images.to(self.device))

    def _fit(self, images: Images, training: Training) -> None:
        """Learn from enough normal images on the device of the detector; see `fit`."""
        raise NotImplementedError

    def _predict(self, images: Float[Tensor, "b 3 s s"]) -> Prediction:
        """Score images on the device of the detector; see `predict`."""
        assert self.maps is not None, "a detector without maps has a _predict of its own"  # noqa: S101
        return self.score_maps(self.maps(images))

    def score_maps(self, maps: list[Tensor]) -> Prediction:
        """Score images by their feature maps, as `maps` makes them: several detectors can then share one network.

        Args:
            maps: (b, c, h, w) of each level, finest first.
        """
        raise NotImplementedError

    def explain(self, images: Float[Tensor, "b 3 s s"]) -> list[list[Step]]:
        """For each image, the steps that led to its map, to be shown to people; none, where a detector has none.

        It may be slower than `predict`, and changes nothing.

        Args:
            images: RGB in [0, 1], image_size x image_size, on any device.

        Returns:
            The steps of each image, on the CPU.

        Raises:
            NotFittedError: fit or restore comes first.
        """
        self.check_fitted()
        with torch.inference_mode():
            return [[_on_cpu(step) for step in steps] for steps in self._explain(images.to(self.device))]

    def _explain(self, images: Float[Tensor, "b 3 s s"]) -> list[list[Step]]:
        """The steps of each image, on the device of the detector; see `explain`."""
        return [[] for _ in images]

    def not_exportable(self) -> str:
        """Why `predict` cannot become a graph that runs without torch; empty if it can."""
        return ""

    def params(self) -> dict[str, Any]:
        """The constructor's arguments with their present values."""
        return {key: getattr(self, key) for key in settings_of(type(self))}

    def frozen(self) -> dict[str, str]:
        """Name and checksum of pre-trained weights that are used as they are; they are named in a file, not stored."""
        return {} if self.maps is None else {self.maps.backbone.name: self.maps.backbone.checksum}

    def learned(self) -> dict[str, Tensor]:
        """All tensors that `restore` needs, on the CPU: everything but frozen, named weights."""
        self.check_fitted()
        return {key: value.detach().cpu() for key, value in self.state_dict().items() if not _is_frozen(key)}

    def restore(self, tensors: Mapping[str, Tensor]) -> Detector:
        """Take over what another instance with equal params has learned.

        Raises:
            ModelFileError: the tensors are not those of this detector with these settings.
        """
        own = {key: value for key, value in self.state_dict().items() if not _is_frozen(key)}
        if wrong := sorted(set(own) ^ set(tensors)):
            raise ModelFileError(f"the file's tensors are not those of {self.name}: {', '.join(wrong[:3])}; fit again")
        for key, value in tensors.items():
            self._check_shape(key, value, own[key])
        buffers = dict(self.named_buffers())
        for key, value in tensors.items():
            if key in buffers:
                owner, _, name = key.rpartition(".")
                setattr(self.get_submodule(owner), name, value.to(buffers[key], copy=True))
            else:
                self.get_parameter(key).data.copy_(value)
        return self.eval()

    def _check_shape(self, key: str, value: Tensor, expected: Tensor) -> None:
        """Raise ModelFileError unless a tensor fits; of a buffer (n, c), n may differ, and of another any size."""
        is_buffer = key not in dict(self.named_parameters())
        grows = is_buffer and (expected.dim() != 2 or expected.shape[1] == value.shape[-1])
        if not grows and expected.shape != value.shape:
            wanted = f"tensor {key} is {tuple(value.shape)}, expected {tuple(expected.shape)}"
            raise ModelFileError(f"{wanted}; fit again")

    def mark_fitted(self) -> None:
        """Allow `predict`: all that it needs has been learned."""
        self.set_buffers(fitted=torch.ones_like(self.fitted))

    def check_fitted(self) -> None:
        """Raise NotFittedError before the first fit."""
        if not torch.compiler.is_exporting() and not bool(self.fitted):
            raise NotFittedError(
                f"{type(self).__name__} has learned nothing yet; call fit(images) or load a model first"
            )

    def set_buffers(self, **buffers: Tensor) -> None:
        """Set buffers to new values of any shape, on the device of the detector."""
        for key, value in buffers.items():
            setattr(self, key, value.detach().to(self.device, copy=True))


class Crossed(NamedTuple):
    """What `Detector.fit_crossed` leaves for a calibration.

    Attributes:
        images: all images, with their maps.
        twins: detectors, each with the rows of the images that it has not seen.
    """

    images: CachedImages
    twins: list[tuple[Detector, Int[Tensor, " _b"]]]


def _on_cpu(step: Step) -> Step:
    pictures = {caption: picture.cpu() for caption, picture in step.pictures.items()}
    return Step(step.title, pictures, {caption: one.cpu() for caption, one in step.maps.items()})


def _is_frozen(key: str) -> bool:
    """Named weights live in a module called `backbone`."""
    return "backbone" in key.split(".")[:-1]
