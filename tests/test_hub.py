"""Public weights: plain names only, and no network is reached for while a model file is opened."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

import unmask
from tiny import PATCHCORE, SIZE, write_textures
from unmask.detectors import make
from unmask.errors import SettingError, UnmaskError, WeightsError
from unmask.features import backbones, hub
from unmask.inspection import model_file

NETWORK = "test_resnet"  # timm's own small one
FULL = "test_resnet.r160_in1k"


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a network was asked for."""
    asked: list[Any] = []

    def refuse(*what: Any, **more: Any) -> Any:
        asked.append((what, more))
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Empty folders of downloaded weights."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """Those of a network, drawn from a seed."""
    torch.manual_seed(3)
    made = timm.create_model(NETWORK, pretrained=False).state_dict()
    return {key: value.clone().contiguous() for key, value in made.items()}


def put_into_hub(cache: Path, weights: dict[str, Tensor], file: str) -> None:
    """As `huggingface_hub` lays a download out."""
    repository = cache / "hub" / f"models--timm--{FULL}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    place = repository / "snapshots" / ("0" * 40) / file
    place.parent.mkdir(parents=True)
    if file.endswith(".safetensors"):
        save_file(weights, place)
    else:
        torch.save(weights, place)


def put_into_torch(cache: Path, weights: dict[str, Tensor]) -> None:
    """As `torch.hub` lays a download out."""
    source = timm.get_pretrained_cfg(FULL)
    place = cache / "torch" / "checkpoints" / Path(source.url or "x").name
    place.parent.mkdir(parents=True)
    torch.save(weights, place)


def model_file_with(backbone: str, folder: Path) -> Path:
    """A model file that names another backbone than it was fitted with."""
    paths = write_textures(folder / "good", 12)
    made = unmask.fit(paths, detector="patchcore", settings=PATCHCORE, false_alarm_rate=0.5, device="cpu")
    made.save(folder / "model.unmask")
    facts, tensors = model_file.read(folder / "model.unmask")
    facts["params"]["backbone"] = backbone
    model_file.write(folder / "model.unmask", facts, tensors)
    return folder / "model.unmask"


def one_line(error: pytest.ExceptionInfo[UnmaskError], *words: str) -> None:
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_the_guard_sees_a_network(reached: list[Any]) -> None:
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen("http://unmask.invalid")
    assert reached


# --- names ------------------------------------------------------------------------------------------------------------

STRANGE = [
    "timm:hf_hub:someone/something",
    "timm:hf-hub:someone/something@main",
    "timm:HF_HUB:someone/something",
    "timm:local-dir:/tmp/weights",
    "timm:https://example.com/weights.pth",
    "timm:someone/something",
    "timm:../weights",
    "timm:C:weights",
    "timm:two\nlines",
    "timm:",
    "timm:resnet18.a.b",
    "timm:résnet",
]


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("detector", ["patchcore", "fre", "protoad", "fuse"])
def test_a_name_that_is_not_plain_is_one_line_in_a_fit(detector: str, name: str, reached: list[Any]) -> None:
    with pytest.raises(SettingError) as caught:
        make(detector, "fast", {"backbone": name, "image_size": SIZE})
    one_line(caught, "plain name")
    assert reached == []


def test_a_name_that_timm_has_not_is_one_line(reached: list[Any]) -> None:
    for name in ("timm:resnet_of_mine", "timm:resnet18.of_mine"):
        with pytest.raises((SettingError, WeightsError)) as caught:
            backbones.load(name)
        one_line(caught, "of_mine")
    assert reached == []


# --- opening a model file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["timm:hf_hub:someone/something", f"timm:{NETWORK}", f"timm:{FULL}", "timm:gcvit_tiny"]
)
def test_opening_a_model_file_reaches_for_no_network(
    name: str, reached: list[Any], caches: Path, tmp_path: Path
) -> None:
    """Weights that are not there are one line, whatever the file names."""
    path = model_file_with(name, tmp_path)
    with pytest.raises(UnmaskError) as caught:
        unmask.load(path, device="cpu")
    one_line(caught, "plain name" if "hf_hub" in name else "not on this machine")
    assert reached == []


def test_building_for_a_fit_may_download(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fail(name: str, **options: Any) -> None:
        asked.append((name, options["pretrained"], options["pretrained_cfg_overlay"]))
        raise OSError("no route\nto the hub")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(WeightsError, match=r"cannot be had \(no route\)") as caught:
        backbones.load(f"timm:{FULL}", (1, 2))
    one_line(caught, "efficientnet_lite0")
    assert asked == [(FULL, True, None)]


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "torch"])
@pytest.mark.parametrize("name", [NETWORK, FULL])
def test_weights_that_are_on_this_machine_are_used_without_a_network(
    file: str, name: str, reached: list[Any], caches: Path, weights: dict[str, Tensor]
) -> None:
    if file == "torch":
        if not timm.get_pretrained_cfg(FULL).url:
            pytest.skip("timm names no address for it")
        put_into_torch(caches, weights)
    else:
        put_into_hub(caches, weights, file)
    with hub.offline():
        found = backbones.load(f"timm:{name}", (1, 2))
    torch.testing.assert_close(found.net.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])
    assert reached == []


def test_offline_ends_with_its_block(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after an error."""
    monkeypatch.setattr(timm, "create_model", lambda name, **options: 1 / 0)
    with pytest.raises(WeightsError, match="downloads nothing"), hub.offline():
        backbones.load(f"timm:{FULL}", (1, 2))
    with pytest.raises(WeightsError, match="division by zero"):
        backbones.load(f"timm:{FULL}", (1, 2))


@pytest.mark.parametrize("level", [6, 9])
def test_a_level_that_the_network_lacks_is_one_line(
    level: int, caches: Path, reached: list[Any], weights: dict[str, Tensor]
) -> None:
    put_into_hub(caches, weights, "model.safetensors")
    with pytest.raises(SettingError) as caught, hub.offline():
        backbones.load(f"timm:{FULL}", (1, level))
    one_line(caught, f"no level {level}")
