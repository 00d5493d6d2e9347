"""Public weights by timm's names. They are downloaded once, and never while a model file is opened."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import timm
import torch
from torch import nn

from unmask.errors import SettingError, WeightsError

PLAIN = re.compile(r"\w+(\.\w+)?", re.ASCII)
"""A name of timm's own list, with or without a tag: neither an address nor a repository nor a path."""
FILES = ("model.safetensors", "pytorch_model.bin")
"""What a repository of weights calls them, in the order in which timm looks for them."""

_is_offline: ContextVar[bool] = ContextVar("is_offline", default=False)


@contextmanager
def offline() -> Iterator[None]:
    """Within this context weights must be on this machine already: nothing is downloaded.

    Who made a model file chose the names in it; opening one must not reach for a network.
    """
    token = _is_offline.set(True)
    try:
        yield
    finally:
        _is_offline.reset(token)


def check_plain_name(name: str) -> None:
    """Raise SettingError unless a name could be one of timm's own: others would name a place to load code or data."""
    if not PLAIN.fullmatch(name):
        raise SettingError(
            f"timm:{' '.join(name.split())[:60]} is no plain name of timm; give one of its own, such as timm:resnet18"
        )


def pretrained_features(name: str, levels: tuple[int, ...]) -> nn.Module:
    """Build one of timm's networks with its public weights, as an extractor of feature maps.

    Args:
        name: one of timm's own names, such as "resnet18" or "resnet18.a1_in1k".
        levels: stages to return, rising.

    Raises:
        SettingError: timm has no such network, or the network no such level.
        WeightsError: the weights cannot be had: there is no network, or nothing may be downloaded here.
    """
    check_plain_name(name)
    if not timm.is_model(name):
        raise SettingError(f"timm has no network {name!r}; give one of timm.list_models(), such as timm:resnet18")
    try:
        source = {"file": str(_cached_weights(name))} if _is_offline.get() else None
        return features_only(name, levels, pretrained=True, pretrained_cfg_overlay=source)
    except (SettingError, WeightsError):
        raise
    except Exception as error:  # hub, network and timm raise many unrelated kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights of timm:{name} cannot be had ({reason}); use efficientnet_lite0, which needs no network"
        ) from error


def features_only(name: str, levels: tuple[int, ...], **options: Any) -> nn.Module:
    """One of timm's networks that returns the maps of some of its stages; without options its weights are random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm warns of weights that features do not need
        try:
            return timm.create_model(name, features_only=True, out_indices=levels, **options)
        except (IndexError, AssertionError) as error:
            raise SettingError(f"{name} has no level {max(levels)}; give other levels, such as 2,3") from error


def _cached_weights(name: str) -> Path:
    """The file of a network's weights, downloaded earlier.

    Raises:
        WeightsError: there is none.
    """
    from huggingface_hub import try_to_load_from_cache

    source = timm.get_pretrained_cfg(name)
    places: list[Any] = []
    if source is not None and source.hf_hub_id:
        repository, _, revision = source.hf_hub_id.partition("@")
        names = [source.hf_hub_filename] if source.hf_hub_filename else FILES
        places = [try_to_load_from_cache(repository, file, revision=revision or None) for file in names]
    if source is not None and source.url:
        places.append(Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(str(source.url)).path).name))
    for place in places:
        if isinstance(place, str | Path) and Path(place).is_file():
            return Path(place)
    raise WeightsError(
        f"the weights of timm:{name} are not on this machine, and opening a model file downloads nothing; download "
        f"them once: python -c \"import timm; timm.create_model('{name}', pretrained=True)\""
    )
