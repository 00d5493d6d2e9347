"""Every detector is fitted and predicts on an accelerator, and gives the numbers of the CPU; see `fake_device`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unmask
from fake_device import DEVICE
from tiny import (
    FEATURES,
    FRE,
    FUSE,
    PATCHCORE,
    PIXELS,
    PROTOAD,
    SIZE,
    SSM_FEATURES,
    SSM_PIXELS,
    Textures,
    texture,
    write_textures,
)
from unmask.detectors import DETECTORS, Detector, make
from unmask.errors import SettingError
from unmask.features.backbones import Backbone
from unmask.training import devices, trainer
from unmask.training.trainer import Training

CPU = Training(device="cpu")
FITS: dict[str, dict[str, Any]] = {
    "patchcore": PATCHCORE,
    "patchcore turned": {**PATCHCORE, "rotations": 2, "selection": "random"},
    "patchcore raw": {**PATCHCORE, "score_from": "raw"},
    "fre": FRE,
    "fre plain": {**FRE, "standardise": False},
    "protoad": PROTOAD,
    "fuse": FUSE,
    "fre+patchcore+protoad": {"backbone": "tiny", "image_size": SIZE, "fre.levels": (2, 3)},
    "isstad features": FEATURES,
    "isstad pixels": PIXELS,
    "isstad pixels with fresh damage": {**PIXELS, "versions": None},
    "ssm features": SSM_FEATURES,
    "ssm pixels": SSM_PIXELS,
    "ssm pixels and features": {**SSM_PIXELS, "backbone": "tiny", "score": "both", "passes": 3, "tau": 1.0},
}


def fitted(name: str, training: Training = CPU) -> Detector:
    detector = make(name.split(" ")[0], "fast", FITS[name])
    with warnings.catch_warnings(action="ignore"):
        detector.fit(Textures(20), training)
    return detector


def new_images() -> Tensor:
    return torch.stack([texture(500 + i) for i in range(3)])


# --- the fake device refuses what CUDA refuses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: here @ there.T,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: torch.where(here > 0, here, there),
        lambda here, there: torch.searchsorted(here, there),
        lambda here, there: there.gather(1, here.long()),
        lambda here, there: torch.quantile(here, there[0]),
        lambda here, there: here.numpy(),
        lambda here, there: np.asarray(here),
        lambda here, there: torch.from_numpy(np.ones(2)).to(here).numpy(),
        lambda here, there: torch.rand(2, generator=torch.Generator(), device=DEVICE),
        lambda here, there: here.random_(generator=torch.Generator()),
    ],
)
def test_the_fake_device_refuses_what_cuda_refuses(mixed: Any) -> None:
    there = torch.eye(3)
    with pytest.raises((RuntimeError, TypeError)):
        mixed(there.to(DEVICE), there)


def test_the_fake_device_computes() -> None:
    there = torch.arange(6.0).view(2, 3)
    here = there.to(DEVICE)
    assert here.device == DEVICE
    assert (here @ here.T + 1).cpu().tolist() == (there @ there.T + 1).tolist()
    row = here[1]
    row += torch.tensor(5.0)  # a number may come from the CPU
    assert here.cpu()[1].tolist() == [8, 9, 10], "views share their values"
    assert here[torch.tensor([1])].tolist() == [[8, 9, 10]], "indices may come from the CPU"
    assert torch.zeros(2, device=DEVICE).device == DEVICE
    assert float(here.sum()) == 30


# --- detectors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FITS)
def test_a_detector_learns_and_predicts_where_it_is_told(name: str, fake_device: torch.device) -> None:
    accelerated, images = fitted(name, Training()), new_images()
    assert {tensor.device for tensor in accelerated.state_dict().values()} == {fake_device}
    assert accelerated.device == fake_device
    found = accelerated.predict(images)
    assert {one.device for one in found if one is not None} == {fake_device}
    on_cpu = accelerated.learned()
    assert {type(tensor) for tensor in on_cpu.values()} == {Tensor}, "on the CPU"
    for steps in accelerated.explain(images):
        for step in steps:
            assert {type(one) for one in (*step.pictures.values(), *step.maps.values())} == {Tensor}
    restored = make(name.split(" ")[0], "fast", FITS[name]).to(fake_device)
    again = restored.restore(on_cpu).predict(images.to(fake_device))
    torch.testing.assert_close(again.maps.cpu(), found.maps.cpu(), rtol=0, atol=0)
    back = accelerated.to("cpu").predict(images)
    torch.testing.assert_close(back.scores, found.scores.cpu())


@pytest.mark.parametrize("name", FITS)
def test_the_device_does_not_change_the_numbers(
    name: str, fake_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_fast_bf16", lambda device: False)  # or the CPU would round in training
    found = fitted(name, Training()).predict(new_images())
    with monkeypatch.context() as inner:
        inner.setattr(trainer, "resolve_device", devices.resolve_device)
        expected = fitted(name).predict(new_images())
    assert (found.scores.device, expected.scores.device) == (fake_device, torch.device("cpu"))
    for here, there in zip(found[:2], expected[:2], strict=True):
        difference = (here.cpu() - there).abs().max()
        assert difference <= 1e-3 * there.abs().max()


@pytest.mark.parametrize(
    "name", [name for name in FITS if not name.startswith("isstad pixels") and name != "ssm pixels"]
)
def test_the_network_runs_on_the_device_only(
    name: str, fake_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[torch.device] = set()
    forward = Backbone.forward

    def watched(self: Backbone, images: Tensor) -> list[Tensor]:
        seen.add(images.device)
        return forward(self, images)

    monkeypatch.setattr(Backbone, "forward", watched)
    fitted(name, Training()).predict(new_images())
    assert seen == {fake_device}


@pytest.mark.parametrize("name", ["fuse", "isstad pixels", "ssm pixels"])
def test_an_inspector_is_fitted_saved_loaded_and_inspects_on_the_device(
    name: str, fake_device: torch.device, tmp_path: Path
) -> None:
    paths = write_textures(tmp_path / "good", 24)
    with warnings.catch_warnings(action="ignore"):
        made = unmask.fit(paths, detector=name.split(" ")[0], settings=FITS[name], false_alarm_rate=0.5, device="auto")
    made.save(tmp_path / "model.unmask")
    loaded = unmask.load(tmp_path / "model.unmask", backend="torch")
    assert made.backend.device == loaded.backend.device == str(fake_device)
    found, again = (one.inspect(paths[0], explain=True) for one in (made, loaded))
    assert found.score == again.score
    assert np.array_equal(found.map, again.map)


# --- names of devices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "mps", "name", "expected"),
    [
        (True, True, "auto", "cuda:0"),
        (False, True, "auto", "mps"),
        (False, False, "auto", "cpu"),
        (True, True, "cpu", "cpu"),
        (True, True, "mps", "mps"),
        (True, False, "cuda", "cuda:0"),
    ],
)
def test_a_name_stands_for_a_device(
    cuda: bool, mps: bool, name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.resolve_device(name) == torch.device(expected)


def test_each_process_has_its_own_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert devices.resolve_device("auto") == torch.device("cuda", 3)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_one_line_before_anything_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for detector in DETECTORS:
        with pytest.raises(SettingError, match=f"no device {name} here") as caught:
            make(detector.name, "fast", TINY[detector.name]).fit(Untouched(), Training(device=name))
        assert "\n" not in str(caught.value)


# --- options that only training in steps has --------------------------------------------------------------------------

TINY = {"patchcore": PATCHCORE, "fre": FRE, "protoad": PROTOAD, "fuse": FUSE, "isstad": FEATURES, "ssm": SSM_FEATURES}


class Untouched:
    """Images that must not be opened."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Tensor:
        raise AssertionError("an image was opened")


@pytest.mark.parametrize(
    "option", [{"devices": 2}, {"nodes": 2}, {"max_minutes": 1.0}, {"resume": True, "checkpoints": Path("a.partial")}]
)
@pytest.mark.parametrize(
    ("name", "in_steps"),
    [*((name, name.startswith(("isstad", "ssm pixels"))) for name in FITS), ("fre+isstad", True)],
)
def test_an_option_without_effect_is_one_line_before_anything_else(
    name: str, in_steps: bool, option: dict[str, Any]
) -> None:
    shared = {"backbone": "tiny", "image_size": SIZE}
    detector = make(name.split(" ")[0], "fast", FITS.get(name, shared))
    assert detector.trains_in_steps == in_steps
    if in_steps:
        detector.check_training(Training(device="cpu", **option))
        return
    with pytest.raises(SettingError, match="does not train in steps") as caught:
        detector.fit(Untouched(), Training(device="cpu", **option))
    assert next(iter(option)).replace("_", "-") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("n", "parts"), [(8, "fre+patchcore"), (10, "fre+isstad")])
def test_the_fewest_images_of_a_fusion_are_enough_for_its_parts(n: int, parts: str) -> None:
    """Two of ten are set aside, and isstad needs the eight that are left."""
    for images in (n - 1, n):
        detector = make(parts, "fast", {"backbone": "tiny", "image_size": SIZE, "fre.levels": (2, 3)})
        assert detector.least_images == n
        if images < n:
            with pytest.raises(SettingError, match=f"fuse needs at least {n} normal images .* got {images}"):
                detector.fit(Textures(images), CPU)
        elif parts == "fre+patchcore":
            detector.fit(Textures(images), CPU)
