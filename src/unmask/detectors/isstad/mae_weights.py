"""Public weights of masked autoencoders into a `MaskedAutoencoder`: every tensor checked by name and shape."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unmask.detectors.isstad.mae import MaskedAutoencoder
from unmask.detectors.isstad.transformer import sincos_positions
from unmask.errors import WeightsError
from unmask.features.hub import check_plain_name

TABLES = ("pos_embed", "decoder_pos_embed")

CLASSIFIER = re.compile(r"(head|fc_norm)\.")
"""What fine-tuning puts behind the encoder; it holds no place in an autoencoder."""


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor.

    Attributes:
        loaded: names of the tensors that now hold the file's values.
        recomputed: position tables that the file has for another grid; ours were computed for this one.
        afresh: names of the tensors that the file does not hold: they start as they were initialised.
        unused: names of the file's tensors that the model does not have.
    """

    loaded: tuple[str, ...]
    recomputed: tuple[str, ...]
    afresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors were loaded"]
        if any(name.startswith("decoder_embed") for name in self.afresh):
            parts.append("the file holds no decoder: it starts at random")
        elif blocks := [name for name in self.afresh if _is_of_decoder(name)]:
            parts.append(f"the file holds no {_listed(blocks)}: they start at random")
        if "norm.weight" in self.afresh:
            parts.append("the file holds no final norm of the encoder: it starts at one and zero")
        if self.recomputed:
            parts.append(f"recomputed for this grid: {_listed(self.recomputed)}")
        if self.unused:
            parts.append(f"not used: {_listed(self.unused)}")
        return "; ".join(parts)


def load_mae(model: MaskedAutoencoder, path: str | Path) -> LoadReport:
    """Read a public MAE checkpoint into `model`; reading one cannot run code.

    A file may hold encoder and decoder (`mae_visualize_vit_*.pth`), the encoder alone (`mae_pretrain_vit_*.pth`) or a
    fine-tuned classifier, whose `head` and `fc_norm` are left out. Of a decoder with another depth, the blocks that
    both have are loaded. Nothing is changed when the file does not fit.

    Args:
        model: changed in place.
        path: .safetensors, or .pth/.pt with the tensors at its top or under "model".

    Raises:
        WeightsError: the file is missing, holds more than plain tensors, or is of another layout.
    """
    path = Path(path)
    return _copy(model, _read(path), path.name)


def load_timm(model: MaskedAutoencoder, name: str) -> LoadReport:
    """Fetch encoder weights by timm's name, such as "vit_base_patch16_224.mae"; needs a network the first time.

    Raises:
        SettingError: the name is no plain one of timm's.
        WeightsError: the weights cannot be had, or are of another layout.
    """
    import timm

    check_plain_name(name)
    try:
        tensors = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # hub, network and timm raise many unrelated kinds
        raise WeightsError(
            f"the weights of timm's {name} cannot be had ({_first_line(error)}); give the path of a checkpoint file"
        ) from error
    return _copy(model, tensors, name)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; give the path of a MAE checkpoint (.pth, .pt or .safetensors)")
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except Exception as error:  # both readers raise several unrelated kinds
        raise WeightsError(
            f"{path} cannot be read as a checkpoint of plain tensors ({_first_line(error)}); "
            "give a .pth or .safetensors file that holds nothing else"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise WeightsError(
            f"{path} is no table of named tensors; give one with the tensors at its top or under 'model'"
        )
    return content


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


def _read_pickle(path: Path) -> object:
    # Training scripts keep their command line beside the weights. A Namespace has no code to run when it is unpickled:
    # it only stores what it is given, and that must be plain as well.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True, map_location="cpu")


def _copy(model: MaskedAutoencoder, tensors: Mapping[str, Tensor], source: str) -> LoadReport:
    """Check every name and shape, then copy."""
    own = model.state_dict()
    recomputed = {name for name in TABLES if name in tensors and _is_of_another_grid(tensors[name], own[name])}
    loaded = own.keys() & tensors.keys() - recomputed
    afresh = {name for name in own.keys() - tensors.keys() if _may_be_absent(name, tensors)}
    unused = {name for name in tensors.keys() - own.keys() if _may_be_extra(name)}
    faults = [f"{name} is missing" for name in own if name not in loaded | afresh | recomputed]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in loaded and tensors[name].shape != own[name].shape
    ]
    faults += [f"{name} is unknown" for name in tensors if name not in loaded | unused | recomputed]
    if faults:
        raise WeightsError(
            f"{source} does not fit this autoencoder: {_listed(faults)}; "
            "give a checkpoint in the public MAE layout and of the same size"
        )
    model.load_state_dict({name: tensors[name] for name in loaded}, strict=False)
    return LoadReport(
        loaded=tuple(name for name in own if name in loaded),
        recomputed=tuple(name for name in own if name in recomputed),
        afresh=tuple(name for name in own if name in afresh and name not in TABLES),
        unused=tuple(name for name in tensors if name in unused),
    )


def _is_of_another_grid(table: Tensor, own: Tensor) -> bool:
    """Whether a table holds the fixed positions, of more or fewer patches; a learned one cannot be recomputed."""
    if table.ndim != 3 or table.shape == own.shape or table.shape[2] != own.shape[2]:
        return False
    grid = math.isqrt(table.shape[1] - 1)
    fixed = sincos_positions(table.shape[2], grid)
    return table[0, 1:].shape == fixed.shape and torch.allclose(table[0, 1:].float(), fixed, atol=2e-3)


def _may_be_absent(name: str, tensors: Mapping[str, Tensor]) -> bool:
    if name.startswith("norm."):
        return "fc_norm.weight" in tensors  # a fine-tuned encoder averages its tokens before the norm
    if not _is_of_decoder(name):
        return False
    block = re.match(r"decoder_blocks\.\d+\.", name)
    if block is not None and "decoder_embed.weight" in tensors:
        return not any(other.startswith(block[0]) for other in tensors)  # a shallower decoder; half a block is a fault
    return not any(_is_of_decoder(other) for other in tensors)


def _may_be_extra(name: str) -> bool:
    return bool(CLASSIFIER.match(name)) or name.startswith("decoder_blocks.")


def _is_of_decoder(name: str) -> bool:
    return name.startswith("decoder_") or name == "mask_token"


def _listed(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
