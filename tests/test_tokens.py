"""ISSTAD's tokens: what stage 2 draws from normal images, what the scores are fitted to, what a fit leaves behind."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import FEATURES, PIXELS, SIZE, Textures
from unmask.detectors import build, find, settings_of
from unmask.detectors.isstad import ISSTAD, detector, feature_tokens, pixel_tokens
from unmask.detectors.isstad.feature_tokens import FOLDS
from unmask.detectors.isstad.mae import SIZES, MaskedAutoencoder
from unmask.detectors.isstad.pixel_tokens import NormalImages, PixelTokens
from unmask.detectors.isstad.tokens import NormalTokens, Stage
from unmask.errors import SettingError
from unmask.training.trainer import Trainer, Training

pytestmark = pytest.mark.filterwarnings("ignore:no pre-trained weights")


def grey(n: int) -> Textures:
    """Flat images that are told apart by their grey."""
    images = Textures(0)
    images.images = [torch.full((3, SIZE, SIZE), (i + 1) / (n + 1)) for i in range(n)]
    return images


def normals_of(settings: dict[str, Any], images: Textures, seed: int = 0) -> tuple[ISSTAD, NormalTokens]:
    """After a stage 1 of no steps."""
    made = ISSTAD(**settings)
    trainer = Trainer(Training(seed=seed, device="cpu"))
    return made, made.tokens.fit(images, made.decoder, trainer, Stage(steps=0, batch=4, lr=1e-3, mask_ratio=0.5))


def damaged_images(settings: dict[str, Any], images: Textures, steps: int, seed: int = 0) -> list[tuple[Tensor, ...]]:
    """(repair target, where it is damaged) of each image that stage 2 shows; the target is the shown image itself."""
    made, normals = normals_of(settings, images, seed)
    assert isinstance(made.tokens, PixelTokens)
    found: list[tuple[Tensor, ...]] = []
    for step in range(steps):
        batch = normals.damaged_batch(step, 8, "input")
        found += zip(made.tokens.mae.unpatchify(batch.wanted) / 2 + 0.5, batch.damaged, strict=True)
    return found


# --- damage in pixels -------------------------------------------------------------------------------------------------


def test_the_paper_draws_damage_anew_in_every_epoch() -> None:
    """Of 3 images, 200 are shown: no two damaged ones are alike, and about one in three is whole."""
    assert ISSTAD.presets["paper"]["versions"] is None
    assert ISSTAD.presets["base"].get("versions", settings_of(ISSTAD)["versions"].default) == 6
    images = Textures(3)
    shown = damaged_images({**PIXELS, "versions": None}, images, steps=25)
    damaged = [one for one, mask in shown if mask.any()]
    assert len({tuple(one.flatten()[::5].tolist()) for one in damaged}) == len(damaged) > 100
    whole = sum(not bool(mask.any()) for _, mask in shown) / len(shown)
    assert whole == pytest.approx(1 / 3, abs=0.17)
    for one, mask in shown:
        own = min(images.images, key=lambda image: float((image - one).abs().mean()))
        torch.testing.assert_close(one[:, mask == 0], own[:, mask == 0], atol=1e-5, rtol=0)


def test_versions_are_few_and_come_again() -> None:
    shown = damaged_images({**PIXELS, "versions": 4}, Textures(3), steps=25)
    assert len({tuple(one.flatten()[::5].tolist()) for one, mask in shown if mask.any()}) <= 6, (
        "two of four are damaged"
    )


@pytest.mark.parametrize("versions", [None, 3])
def test_a_batch_of_stage_2_follows_from_seed_and_step_alone(versions: int | None) -> None:
    images, settings = Textures(5), {**PIXELS, "versions": versions}
    made, normals = normals_of(settings, images)
    batch, again = (one.damaged_batch(7, 4, "clean") for one in (normals, normals_of(settings, images)[1]))
    assert all(torch.equal(one, other) for one, other in zip(batch, again, strict=True))
    other = normals_of(settings, images, seed=1)[1].damaged_batch(7, 4, "clean")
    assert not torch.equal(batch.damaged, other.damaged)
    assert isinstance(made.tokens, PixelTokens)
    shown = made.tokens.mae.unpatchify(normals.damaged_batch(7, 4, "input").wanted) / 2 + 0.5
    torch.testing.assert_close(batch.latents, made.tokens.latents(shown), atol=5e-3, rtol=0)  # cached in half precision
    whole = made.tokens.mae.unpatchify(batch.wanted) / 2 + 0.5
    assert torch.equal((shown != whole).any(1).float() * batch.damaged, batch.damaged), "clean is repaired to the image"


def test_the_encoder_is_frozen_when_damage_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ISSTAD(**{**PIXELS, "versions": None, "stage2_steps": 5})
    encoders: list[Tensor] = []
    draw = NormalImages.damaged_batch

    def spy(self: NormalImages, step: int, size: int, target: str) -> Any:
        encoders.append(torch.cat([p.detach().flatten() for p in self.tokens.mae.blocks.parameters()]))
        batch = draw(self, step, size, target)
        assert not batch.latents.requires_grad
        return batch

    monkeypatch.setattr(NormalImages, "damaged_batch", spy)
    made.fit(Textures(9), Training(device="cpu"))
    assert len(encoders) == 5
    assert all(torch.equal(one, encoders[0]) for one in encoders)


# --- what the scores are fitted to ------------------------------------------------------------------------------------


def greys_of(normals: NormalTokens, made: ISSTAD) -> set[int]:
    assert isinstance(made.tokens, PixelTokens)
    return {
        round(float(image.mean()) * 31)
        for view in normals.views()
        for image in made.tokens.mae.unpatchify(view.wanted) / 2 + 0.5
    }


def test_the_scores_are_fitted_to_images_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the first ones by name."""
    monkeypatch.setattr(pixel_tokens, "VIEWS", 8)
    drawn = []
    for seed in (0, 0, 1, 2):
        made, normals = normals_of({**PIXELS, "versions": None}, grey(30), seed)
        drawn.append(greys_of(normals, made))
    assert [len(one) for one in drawn] == [8] * 4
    assert drawn[0] == drawn[1]
    assert len({tuple(sorted(one)) for one in drawn}) == 3
    assert max(map(max, drawn)) > 20


@pytest.mark.parametrize(("views", "n"), [(200, 13), (8, 30)])
def test_feature_views_leave_each_image_s_own_fold_out(monkeypatch: pytest.MonkeyPatch, views: int, n: int) -> None:
    monkeypatch.setattr(feature_tokens, "VIEWS", views)
    _, normals = normals_of(FEATURES, Textures(n))
    assert isinstance(normals, feature_tokens.NormalFeatures)
    used: list[tuple[int, int]] = []
    view_of = feature_tokens.FeatureTokens.view_of

    def spy(self: Any, levels: Any, subspace: Any, images: Any = None) -> Any:
        fold = next(k for k, one in enumerate(normals.subspaces) if one is subspace)
        used.extend((int(image), fold) for image in images)
        return view_of(self, levels, subspace, images)

    monkeypatch.setattr(feature_tokens.FeatureTokens, "view_of", spy)
    list(normals.views())
    assert len({image for image, _ in used}) == len(used) == min(n, views)
    assert all(image % FOLDS == fold for image, fold in used)
    assert n == 13 or {image for image, _ in used} != set(range(8)), "not the first ones by name"


def test_a_training_that_diverges_is_one_line() -> None:
    made, normals = normals_of(FEATURES, Textures(9))
    with torch.no_grad():
        made.decoder.repair.weight.fill_(torch.nan)
    with pytest.raises(SettingError, match="training of isstad diverged") as refusal:
        made.fit_scores(normals)
    assert "\n" not in str(refusal.value)


# --- weights ----------------------------------------------------------------------------------------------------------


def checkpoint(path: Path, *, decoder: bool) -> str:
    torch.manual_seed(5)
    nano = MaskedAutoencoder(
        **SIZES["vit_nano"]._asdict(), image_size=SIZE, decoder_dim=32, decoder_heads=2, decoder_depth=1
    )
    kept = {key: one for key, one in nano.state_dict().items() if decoder or not key.startswith(("decoder", "mask"))}
    torch.save({"model": kept}, path)
    return str(path)


@pytest.mark.parametrize("decoder", [True, False])
def test_a_file_without_a_decoder_is_said(decoder: bool, tmp_path: Path) -> None:
    settings = {**PIXELS, "weights": checkpoint(tmp_path / "mae.pth", decoder=decoder)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        normals_of(settings, Textures(9))
    messages = [str(one.message) for one in caught if "decoder" in str(one.message)]
    if decoder:
        assert messages == []
    else:
        (message,) = messages
        assert "the file holds no decoder: it starts at random" in message
        assert "mae.pth" in message
        assert "\n" not in message


# --- settings ---------------------------------------------------------------------------------------------------------


def test_every_size_of_the_encoder_is_a_choice() -> None:
    assert settings_of(ISSTAD)["encoder"].choices == tuple(SIZES)


@pytest.mark.parametrize(
    ("base", "wrong", "message"),
    [
        (FEATURES, {"encoder": "vit_large"}, "encoder=vit_large has no effect with space=features; give space=pixels"),
        (FEATURES, {"weights": "mae.pth"}, "weights=mae.pth has no effect with space=features"),
        (FEATURES, {"versions": 3}, "versions=3 has no effect with space=features"),
        (FEATURES, {"versions": None}, "versions=None has no effect with space=features"),
        (FEATURES, {"power_p": 2.0}, "power_p=2.0 has no effect with combine=fused; give combine=extended"),
        (FEATURES, {"power_r": 2.0, "combine": "product"}, "power_r=2.0 has no effect with combine=product"),
        (PIXELS, {"backbone": "tiny"}, "backbone=tiny has no effect with space=pixels; give space=features"),
        (PIXELS, {"variance_share": 0.9}, "variance_share=0.9 has no effect with space=pixels"),
        (PIXELS, {"bank_size": 100}, "bank_size=100 has no effect with space=pixels"),
        (PIXELS, {"mlp_ratio": 4.0}, "mlp_ratio=4.0 has no effect with space=pixels"),
        (PIXELS, {"versions": 1}, "versions=1 is out of range; give a whole number, 2 to 1000, or none"),
        (PIXELS, {"image_size": 72}, "image of 72 pixels cannot be cut into patches of 16"),
        (FEATURES, {"image_size": 72}, "image_size=72 holds no whole tokens; give a multiple of 16"),
        (FEATURES, {"mask_ratio": 0.001}, "mask_ratio=0.001 hides no token of 16"),
        (FEATURES, {"batch": 0}, "batch=0 is out of range"),
        (FEATURES, {"decoder_dim": 0}, "decoder_dim=0 is out of range; give a whole number, a multiple of 4"),
        (FEATURES, {"decoder_heads": 0}, "decoder_heads=0 is out of range"),
        (FEATURES, {"decoder_heads": 5}, "5 heads cannot share 32 dimensions"),
        (FEATURES, {"lr": float("nan")}, "lr=nan is out of range"),
        (FEATURES, {"stage2_epochs": float("inf")}, "stage2_epochs=inf is out of range"),
    ],
)
def test_a_wrong_setting_is_one_line(base: dict[str, Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message) as refusal:
        build(find("isstad"), "fast", {**base, **wrong})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("base", "edge"),
    [
        (FEATURES, {"stage1_steps": 0, "stage2_steps": 0, "fresh_blocks": 0}),
        (FEATURES, {"decoder_dim": 4, "decoder_heads": 1, "first_blocks": 1, "mlp_ratio": 0.25, "batch": 1}),
        (FEATURES, {"mask_ratio": 1.0, "variance_share": 1.0, "bank_size": 100, "smoothing": 0.0, "image_size": 32}),
        (FEATURES, {"image_size": 16, "smoothing": 1000.0, "combine": "extended", "power_p": 0.0, "power_r": 10.0}),
        (PIXELS, {"versions": 2, "image_size": 16, "batch": 1, "mask_ratio": 1.0}),
    ],
)
def test_the_ends_of_the_ranges_work(base: dict[str, Any], edge: dict[str, Any]) -> None:
    made = ISSTAD(**{**base, **edge})
    made.fit(Textures(9, size=made.image_size), Training(device="cpu"))
    found = made.predict(torch.stack([Textures(1, 500, made.image_size)[0]]))
    assert found.maps.isfinite().all()
    assert found.scores.isfinite().all()


# --- a fit as a whole -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [FEATURES, PIXELS, {**PIXELS, "versions": None}], ids=["features", "pixels", "anew"]
)
def test_a_fit_leaves_nothing_behind_but_what_it_learned(settings: dict[str, Any]) -> None:
    made = ISSTAD(**settings)

    def names() -> set[tuple[str, str]]:
        return {(path, name) for path, module in made.named_modules() for name in vars(module)}

    before = names()
    made.fit(Textures(9), Training(device="cpu"))
    assert names() == before


PLACES = [
    *product((FEATURES, PIXELS, {**PIXELS, "versions": None}), ("stage 1", "stage 2"), (1, 2)),
    *product((FEATURES, PIXELS), ("encode",), (8,)),
]


@pytest.mark.filterwarnings("ignore:there is no checkpoint")
@pytest.mark.parametrize(("settings", "stage", "done"), PLACES)
def test_a_fit_that_was_killed_anywhere_resumes(
    settings: dict[str, Any], stage: str, done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.training.trainer.CHECKPOINT_SECONDS", 0.0)

    class Killed(Exception):  # noqa: N818
        pass

    def kill(now: str, step: int, total: int, left: float) -> None:
        if (now, step) == (stage, done):
            raise Killed

    def training(**more: Any) -> Training:
        return Training(device="cpu", checkpoints=tmp_path, identity="it", **more)

    with pytest.raises(Killed):
        ISSTAD(**settings).fit(Textures(9), training(progress=kill))
    resumed, whole = ISSTAD(**settings), ISSTAD(**settings)
    resumed.fit(Textures(9), training(resume=True))
    whole.fit(Textures(9), Training(device="cpu"))
    assert all(torch.equal(resumed.learned()[key], one) for key, one in whole.learned().items())


def test_stage_1_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: dict[str, float] = {}
    run = Trainer.run

    def spy(self: Trainer, stage: str, *parts: Any, **how: Any) -> None:
        shares[stage] = how["time_share"]
        run(self, stage, *parts, **how)

    monkeypatch.setattr(Trainer, "run", spy)
    for settings, first in ((FEATURES, 0.25), (PIXELS, 0.5)):
        detector.ISSTAD(**settings).fit(Textures(9), Training(device="cpu"))
        assert shares == {"stage 1": first, "stage 2": 1 - first}
