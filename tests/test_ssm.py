"""SSM: hides everything in turn, uncovers what came back, looks again; scores by what normal images score."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from tiny import SSM_FEATURES, SSM_PIXELS, Textures, planted, texture
from unmask.detectors import build, find, settings_of
from unmask.detectors.ssm import SSM
from unmask.detectors.ssm.refinement import Pass
from unmask.detectors.ssm.restorer import Encoded, Observe, Restorer
from unmask.errors import SettingError
from unmask.features.maps import Images
from unmask.training.trainer import Trainer, Training

SIDE = 32  # of the scripted grid: a block has 2 x 2 pixels
SCALES = (4, 8)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class Scripted(Restorer):
    """Restores nothing: errors are as written wherever the masks hide, 0 elsewhere; scale k makes k + 1 times as many.

    Args:
        script: of every pass (the last one goes on), the errors of every image. An image is known by its number.
    """

    side, cells, names, repairs = SIDE, SCALES, ("first", "second"), False

    def __init__(self, script: Tensor) -> None:
        super().__init__()
        self.script = script  # t b terms g g
        self.numbers: list[Tensor] = []
        self.visible: list[Tensor] = []
        self.weights: list[Tensor] = []

    def fit(self, images: Images, trainer: Trainer, observe: Observe) -> list[Encoded]:
        raise NotImplementedError

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(images, self.restore)

    def restore(self, numbers: Tensor, visible: Tensor) -> Tensor:
        self.numbers.append(numbers)
        self.visible.append(visible)
        return (~visible).any(2).float()  # b k g g

    def compare(self, numbers: Tensor, restored: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        self.weights.append(weights)
        errors = sum(weights[k] * (k + 1) * restored[:, k] for k in range(len(SCALES)))
        errors = errors[:, None] * self.script[min(len(self.numbers), len(self.script)) - 1, numbers]
        return errors, errors**2

    def picture(self, restored: Tensor) -> Tensor:
        raise NotImplementedError

    def frozen(self) -> dict[str, str]:
        return {}


def scripted(script: Tensor, *, tau: float = 0.5, **more: Any) -> SSM:
    """An SSM whose errors are as written; its two terms have scales 1 and 2."""
    options: dict[str, Any] = {"backbone": "tiny", "image_size": 512, "cells": (64, 128), "smoothing": 0.0, **more}
    detector = SSM(**options)
    detector.restorer = Scripted(script)
    detector.refinement.scale, detector.refinement.threshold = torch.tensor([1.0, 2.0]), torch.tensor(tau)
    detector.refinement.mask_seed = torch.tensor(3)
    return detector


def script_of(kind: str, t: int = 5, n: int = 4) -> Tensor:
    """Errors of t passes over n images: all high, all low, or low in other parts in each pass."""
    if kind != "mixed":
        return torch.full((t, n, 2, SIDE, SIDE), {"high": 5.0, "low": 0.01}[kind])
    script = 1 + uniform(t, n, 2, SIDE, SIDE)
    for image in range(2, n):
        areas = torch.randperm(16, generator=torch.Generator().manual_seed(image)).view(4, 4) % 8  # 2 of 16 a pass
        when = areas.repeat_interleave(8, 0).repeat_interleave(8, 1)
        spots = uniform(SIDE, SIDE, seed=image) < 0.05  # they never restore
        for now in range(t):
            script[now, image] *= torch.where((when == now) & ~spots, 0.1, 1.0)
    script[:, 0], script[:, 1] = 0.01, 5.0  # one comes back at once, one never does
    return script


class Naive(NamedTuple):
    maps: np.ndarray
    confirmed: np.ndarray


def naive_refinement(detector: SSM, script: Tensor, image: int, weights: list[float]) -> list[Naive]:
    """The loop of the specification, of one image, pixel by pixel and block by block."""
    visible, passes, kept = np.zeros((SIDE, SIDE), dtype=bool), [], None
    sigma = detector.smoothing * SIDE / detector.image_size
    for t in range(detector.passes):
        error = script[t, image].double().numpy() * sum((k + 1) * weights[k] for k in range(len(SCALES)))
        error = np.where(visible, 0.0 if kept is None or detector.uncovered == "zero" else kept, error)
        kept = error
        smooth = [ndimage.gaussian_filter(e, sigma, mode="nearest", truncate=3) if sigma else e for e in error]
        a = smooth[0] / 1 + smooth[1] / 2
        now = visible.copy()
        for y in range(0, SIDE, SIDE // 16):
            for x in range(0, SIDE, SIDE // 16):
                block = a[y : y + SIDE // 16, x : x + SIDE // 16]
                if (block < detector.refinement.threshold.item()).sum() / block.size > detector.block_share:
                    now[y : y + SIDE // 16, x : x + SIDE // 16] = True
        passes.append(Naive(np.stack(smooth), now))
        if (now == visible).all() or now.all():
            break
        visible = now
    return passes


def refine(detector: SSM, script: Tensor, numbers: list[int]) -> list[Pass]:
    detector.restorer = Scripted(script)
    return detector.refinement(detector.restorer, detector.restorer.encode(torch.tensor(numbers)))


@torch.inference_mode()
def passes_over(detector: SSM, images: Tensor) -> list[Pass]:
    return detector.refinement(detector.restorer, detector.restorer.encode(images))


# --- masks and presets ------------------------------------------------------------------------------------------------


def test_every_scale_of_a_pass_hides_everything_once() -> None:
    for one in refine(scripted(script_of("mixed"), passes=3), script_of("mixed"), [2]):
        assert one.random_masks.shape == (2, 3, SIDE, SIDE)
        assert ((~one.random_masks).sum(1) == 1).all()
        for masks, cell in zip(one.random_masks, SCALES, strict=True):
            cells = masks.unflatten(2, (-1, cell)).unflatten(1, (-1, cell))
            assert torch.equal(cells, cells[:, :, :1, :, :1].expand_as(cells))
            share = (~masks).float().mean((1, 2))
            assert (share - 1 / 3).abs().max() <= (cell / SIDE) ** 2  # a cell more or less


def test_masks_are_seeded_and_others_in_each_pass() -> None:
    script = script_of("mixed")
    detector = scripted(script, passes=3)
    first, again = refine(detector, script, [2, 3]), refine(detector, script, [2])
    for one, same in zip(first, again, strict=True):
        assert torch.equal(one.random_masks, same.random_masks)
    assert len({tuple(one.random_masks.flatten().tolist()) for one in first}) == 3
    detector.refinement.mask_seed = torch.tensor(4)
    assert not torch.equal(refine(detector, script, [2])[0].random_masks, first[0].random_masks)


def test_the_seed_of_a_fit_is_that_of_the_masks() -> None:
    masks = []
    for seed in (0, 0, 1):
        detector = build(find("ssm"), "fast", SSM_FEATURES)
        assert isinstance(detector, SSM)
        detector.fit(Textures(8), Training(seed=seed, device="cpu"))
        masks.append(passes_over(detector, texture(500)[None])[0].random_masks)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def preset(name: str) -> dict[str, Any]:
    return {**{key: one.default for key, one in settings_of(SSM).items()}, **SSM.presets[name]}


def test_the_presets_of_the_paper_say_what_it_says() -> None:
    paper = {
        "space": "pixels",
        "score": "pixels",
        "image_size": 128,
        "cells": (2, 4, 8),
        "epochs": 50,
        "batch": 32,
        "lr": 1e-4,
        "width": 1,
        "passes": 2,
        "weights": "squares",
        "tau": 0.0157,
        "block_share": 0.8,
        "uncovered": "zero",
        "smoothing": 7,
        "peak": 0,
        "mask_weight": 1,
    }
    assert {key: preset("paper")[key] for key in paper} == paper
    mvtec = {**paper, "image_size": 256, "cells": (2, 4, 8, 16), "epochs": 300, "smoothing": 14, "tau": 0}
    assert {key: preset("mvtec")[key] for key in mvtec} == mvtec


def test_the_light_and_the_fast_preset_fit_a_cpu() -> None:
    light = {"space": "pixels", "score": "both", "image_size": 128, "cells": (2, 4, 8), "smoothing": 7, "epochs": 0}
    assert {key: preset("light")[key] for key in light} == light
    assert preset("light")["width"] <= 1 / 4
    fast = {"space": "features", "score": "features", "backbone": "efficientnet_lite0", "passes": 2}
    assert {key: preset("fast")[key] for key in fast} == fast
    assert set(SSM.presets) == {"fast", "light", "paper", "mvtec"}


# --- refinement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("uncovered", ["kept", "zero"])
@pytest.mark.parametrize(("weights", "smoothing"), [("uniform", 0.0), ("squares", 16.0)])
def test_refinement_is_the_loop_of_the_specification(
    passes: int, uncovered: str, weights: str, smoothing: float
) -> None:
    script = script_of("mixed")
    detector = scripted(
        script, tau=1.0, passes=passes, uncovered=uncovered, weights=weights, smoothing=smoothing, block_share=0.7
    )
    shares = {"uniform": [1 / 2, 1 / 2], "squares": [1 / 5, 4 / 5]}[weights]  # cells of 64 and 128: 1 to 4
    found = refine(detector, script, [0, 1, 2, 3])
    expected = [naive_refinement(detector, script, image, shares) for image in range(4)]
    assert len(found) == max(map(len, expected))
    assert [len(one) for one in expected[:2]] == [1, 1]  # all came back, nothing did
    assert len(expected[2]) == passes
    for t, one in enumerate(found):
        for image, naive in enumerate(expected):
            then = naive[min(t, len(naive) - 1)]
            np.testing.assert_array_equal(one.confirmed[image], then.confirmed)
            np.testing.assert_allclose(one.maps[image], then.maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("uncovered", ["kept", "zero"])
def test_what_is_confirmed_stays_so_and_is_not_hidden_again(uncovered: str) -> None:
    script = script_of("mixed")  # what came back in one pass does not in the next
    detector = scripted(script, tau=1.0, passes=5, uncovered=uncovered, block_share=0.7)
    passes = refine(detector, script, [2, 3])
    assert len(passes) == 5
    stub = detector.restorer
    assert isinstance(stub, Scripted)
    assert ((~stub.visible[0]).sum(2) == 1).all()  # the first pass hides everything once a scale
    for before, after in pairwise(passes):
        assert torch.equal(after.visible, before.confirmed)
        assert (after.confirmed >= before.confirmed).all()
    for numbers, visible, one in zip(stub.numbers, stub.visible, passes, strict=True):
        hidden = (~visible).sum(2)  # b k g g
        uncovered_before = one.visible[numbers - 2]
        assert torch.equal(hidden, (~uncovered_before)[:, None].expand_as(hidden).long())


@pytest.mark.parametrize("kind", ["high", "low"])
def test_an_image_stops_where_nothing_changes_or_nothing_is_left(kind: str) -> None:
    detector = scripted(script_of(kind), passes=5)
    (only,) = refine(detector, script_of(kind), [0, 1])
    assert len(detector.restorer.numbers) == 1
    assert torch.equal(only.confirmed, torch.full((2, SIDE, SIDE), kind == "low"))


def test_only_images_that_go_on_are_hidden_again() -> None:
    detector = scripted(script_of("mixed"), tau=1.0, passes=3, block_share=0.7)
    refine(detector, script_of("mixed"), [1, 3, 0, 2])
    assert [numbers.tolist() for numbers in detector.restorer.numbers] == [[1, 3, 0, 2], [3, 2], [3, 2]]


@pytest.mark.parametrize("uncovered", ["kept", "zero"])
def test_a_batch_equals_its_images_one_by_one_whenever_they_stop(uncovered: str) -> None:
    script = script_of("mixed", n=6)
    script[2:, 2] = 5.0  # the third stops after the third pass
    detector = scripted(script, tau=1.0, passes=5, uncovered=uncovered, block_share=0.7, smoothing=16.0)
    together = refine(detector, script, list(range(6)))
    lengths = set()
    for image in range(6):
        alone = refine(detector, script, [image])
        lengths.add(len(alone))
        for name in ("visible", "errors", "squares", "maps", "confirmed", "restored"):
            torch.testing.assert_close(getattr(together[-1], name)[image], getattr(alone[-1], name)[0])
    assert lengths >= {1, 3, 5}


@pytest.mark.parametrize(
    ("low", "share", "confirmed"), [(3, 0.75, False), (3, 0.74, True), (4, 0.8, True), (3, 0.8, False), (0, 0.0, False)]
)
def test_a_block_needs_more_than_its_share_of_restored_pixels(low: int, share: float, confirmed: bool) -> None:
    script = torch.full((1, 1, 2, SIDE, SIDE), 5.0)
    for y, x in ((8, 6), (8, 7), (9, 6), (9, 7))[:low]:
        script[..., y, x] = 0.0
    (only, *_) = refine(scripted(script, block_share=share), script, [0])
    expected = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    expected[:, 8:10, 6:8] = confirmed
    assert torch.equal(only.confirmed, expected)


def test_a_pixel_at_tau_is_not_restored() -> None:
    script = torch.full((1, 1, 2, SIDE, SIDE), 1.0)  # joined: 1.5 * (1 / 1 + 1 / 2), both scales alike
    assert not refine(scripted(script, tau=2.25), script, [0])[0].confirmed.any()
    assert refine(scripted(script, tau=2.26), script, [0])[0].confirmed.all()


def test_what_was_uncovered_keeps_its_error_or_has_none() -> None:
    script = torch.full((2, 1, 2, SIDE, SIDE), 5.0)
    script[0, ..., :16, :], script[1] = 0.1, 0.3  # the upper half comes back at once
    for uncovered, upper in (("kept", 0.15), ("zero", 0.0)):  # 1.5 times: two scales, 1 and 2, weighted alike
        errors = refine(scripted(script, uncovered=uncovered), script, [0])[-1].errors
        torch.testing.assert_close(errors[..., :16, :], torch.full((1, 2, 16, SIDE), upper))
        torch.testing.assert_close(errors[..., 16:, :], torch.full((1, 2, 16, SIDE), 0.45))


@pytest.mark.parametrize(("weights", "expected"), [("uniform", [1 / 3] * 3), ("squares", [1 / 21, 4 / 21, 16 / 21])])
def test_scales_are_weighted_by_their_squares_or_alike(weights: str, expected: list[float]) -> None:
    detector = scripted(script_of("low"), cells=(16, 32, 64), weights=weights)
    refine(detector, script_of("low"), [0])
    assert detector.restorer.weights[0].tolist() == pytest.approx(expected)


# --- tau and scores ---------------------------------------------------------------------------------------------------


def calibrated(script: Tensor, **more: Any) -> SSM:
    """Images 0 to 5 are the validation images."""
    detector = scripted(script, **more)
    detector.fit_scores([detector.restorer.encode(numbers) for numbers in (torch.arange(4), torch.arange(4, 6))])
    return detector


def test_a_tau_that_is_given_is_used_as_it_is() -> None:
    script = uniform(1, 8, 2, SIDE, SIDE)
    assert calibrated(script, tau=0.0).refinement.threshold > 0
    detector = SSM(backbone="tiny", image_size=512, cells=(64, 128), tau=0.0157)
    detector.restorer = Scripted(script)
    detector.fit_scores([detector.restorer.encode(torch.arange(6))])
    assert detector.refinement.threshold.item() == pytest.approx(0.0157)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.8, 1.0])
def test_tau_is_a_quantile_of_normal_maps(q: float) -> None:
    script = uniform(1, 8, 2, SIDE, SIDE) * torch.tensor([1.0, 7.0]).view(2, 1, 1)
    detector = calibrated(script, tau_quantile=q)
    terms = 1.5 * script[0, :6].double().numpy()
    joined = (terms / terms.mean((0, 2, 3), keepdims=True)).sum(1)  # in units of their means: neither outvotes
    assert detector.refinement.threshold.item() == pytest.approx(
        np.quantile(joined, q, method="inverted_cdf"), rel=5e-3
    )
    assert detector.refinement.normal_map.tolist() == pytest.approx([2.0, joined.std()], rel=1e-3)
    assert detector.fitted


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_the_score_is_the_sum_of_standard_peaks_and_energies(share: float) -> None:
    script = uniform(1, 8, 2, SIDE, SIDE) ** 8
    detector = calibrated(script, passes=1, peak=share)
    maps = 1.5 * script[0].double().numpy()
    largest = np.sort(maps.reshape(8, 2, -1), axis=2)[..., -max(1, round(share * SIDE**2)) :].mean(2)
    energy = (maps**2).mean((2, 3))
    expected = np.zeros(8)
    for measure in (largest, energy):
        normal = measure[:6]
        expected += ((measure - normal.mean(0)) / normal.std(0)).sum(1)
    found = detector.scores(refine(detector, script, list(range(8)))[-1])
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)
    assert found[:6].mean().item() == pytest.approx(0, abs=1e-3)


def test_scores_are_standardised_on_the_last_pass() -> None:
    """Normal images are refined as new ones are."""
    script = uniform(1, 6, 2, SIDE, SIDE)
    detector = calibrated(script, passes=3, uncovered="zero", block_share=0.5, tau_quantile=0.6)
    last = refine(detector, script, list(range(6)))[-1]
    assert last.confirmed.any()
    scores = detector.scores(last)
    assert scores.mean().item() == pytest.approx(0, abs=1e-3)
    assert scores.std() > 0.1


# --- explanations -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[SSM_FEATURES, SSM_PIXELS], ids=["features", "pixels"])
def fitted(request: pytest.FixtureRequest) -> SSM:
    detector = build(find("ssm"), "fast", {**request.param, "passes": 4, "smoothing": 0.0, "block_share": 0.5})
    assert isinstance(detector, SSM)
    detector.fit(Textures(10), Training(device="cpu"))
    return detector


def covered(image: Tensor, picture: Tensor) -> Tensor:
    return (picture != image).any(0)


def test_an_explanation_is_a_step_a_pass(fitted: SSM) -> None:
    images = torch.stack([planted(texture(500)), texture(501)])
    told = fitted.explain(images)
    assert max(map(len, told)) > 1
    for image, steps in zip(images, told, strict=True):
        passes = passes_over(fitted, image[None])
        assert len(steps) == len(passes)
        assert [step.title for step in steps] == [f"pass {i + 1} of {len(steps)}" for i in range(len(steps))]
        for step in steps:
            assert list(step.pictures) == ["hidden", "restored", "stays covered"]
            assert list(step.maps) == ["error"]
            for drawn in (*step.pictures.values(), *step.maps.values()):
                assert 0 <= drawn.min() <= drawn.max() <= 1


def test_only_restored_pixels_are_offered_as_a_repair(fitted: SSM) -> None:
    restored = fitted.predict(texture(500)[None]).restored
    assert (restored is None) == (fitted.space == "features")


def test_the_covered_area_never_grows(fitted: SSM) -> None:
    image = planted(texture(500))
    (steps,) = fitted.explain(image[None])
    passes = passes_over(fitted, image[None])
    block = image.shape[-1] // fitted.restorer.side
    before = torch.ones_like(image[0], dtype=torch.bool)
    for step, one in zip(steps, passes, strict=True):
        hidden, after = covered(image, step.pictures["hidden"]), covered(image, step.pictures["stays covered"])
        assert hidden.any()
        assert (hidden <= before).all()  # what was uncovered is not hidden again
        assert (after <= before).all()
        expected = ~one.confirmed[0].repeat_interleave(block, 0).repeat_interleave(block, 1)
        assert torch.equal(after, expected)
        before = after
    assert 0 < before.float().mean() < 1


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"passes": 0}, "passes=0 .*1 .*5"),
        ({"passes": 6}, "passes=6 .*1 .*5"),
        ({"score": "pixels"}, "score=pixels .*space=pixels"),
        ({"score": "both"}, "score=both .*space=pixels"),
        ({"space": "voxels"}, "space=voxels .*give features or pixels"),
        ({"score": "taste"}, "score=taste .*give pixels, features or both"),
        ({"uncovered": "black"}, "uncovered=black .*give kept or zero"),
        ({"weights": "cubes"}, "weights=cubes .*give uniform or squares"),
        ({"width": 0.5}, "width=0.5 has no effect with space=features; give space=pixels, or leave width out"),
        ({"mask_weight": 0.5}, "mask_weight=0.5 has no effect with space=features"),
        ({"steps": 3}, "steps=3 has no effect with space=features"),
        ({"epochs": 3.0}, "epochs=3.0 has no effect with space=features"),
        ({"batch": 3}, "batch=3 has no effect with space=features"),
        ({"lr": 0.1}, "lr=0.1 has no effect with space=features"),
        ({"tau": 1.0, "tau_quantile": 0.5}, "tau_quantile=0.5 has no effect with tau=1.0; give tau=0.0"),
        ({"cells": ()}, "cells"),
        ({"cells": (24,)}, "cell of 24 pixels"),
        ({"image_size": 72}, "image_size=72"),
    ],
)
def test_a_wrong_setting_is_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message) as refusal:
        build(find("ssm"), "fast", {**SSM_FEATURES, **wrong})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rank": 9}, "rank=9 has no effect with space=pixels; give space=features, or leave rank out"),
        ({"variance_share": 0.9}, "variance_share=0.9 has no effect with space=pixels"),
        ({"backbone": "tiny"}, "backbone=tiny has no effect with score=pixels; give score=features or both"),
        ({"image_size": 40}, "image_size=40 .*a multiple of 16"),
        ({"batch": 0}, "batch=0 is out of range; give a whole number, 1 to 4096"),
    ],
)
def test_a_wrong_setting_of_the_pixels_space_is_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message) as refusal:
        build(find("ssm"), "fast", {**SSM_PIXELS, **wrong})
    assert "\n" not in str(refusal.value)


def test_a_training_that_diverges_is_one_line() -> None:
    made = SSM(**SSM_FEATURES)
    (first, *rest) = made.fit_restorer(Textures(12), Training(device="cpu"))
    with pytest.raises(SettingError, match=r"the training of ssm diverged.*smaller lr"):
        made.fit_scores([first._replace(values=first.values * torch.inf), *rest])


def test_too_few_images_are_refused() -> None:
    with pytest.raises(SettingError, match=r"at least 8 normal images .*got 7"):
        build(find("ssm"), "fast", SSM_FEATURES).fit(Textures(7), Training(device="cpu"))


# --- the whole --------------------------------------------------------------------------------------------------------


def test_the_mask_shrinks_on_to_the_defect() -> None:
    detector = SSM(backbone="tiny", image_size=128, cells=(16, 32, 64), rank=16)
    detector.fit(Textures(24, size=128), Training(device="cpu"))
    square = torch.zeros(8, 8, dtype=torch.bool)
    square[2:4, 4:6] = True  # tokens of 16 pixels
    images = torch.stack([planted(texture(500 + i, 128), x=64, y=32, side=32) for i in range(3)])
    last = passes_over(detector, images)[-1]
    said = detector.predict(images)
    for confirmed, map_ in zip(last.confirmed, said.maps, strict=True):
        assert not confirmed[square].any()
        y, x = divmod(int(map_.argmax()), 128)
        assert 32 - 16 <= y < 64 + 16
        assert 64 - 16 <= x < 96 + 16
    normal = torch.stack([texture(600 + i, 128) for i in range(3)])
    passes = passes_over(detector, normal)
    assert passes[-1].confirmed.float().mean() > 0.5
    assert (said.scores.min() > detector.predict(normal).scores.max()).item()


@pytest.mark.parametrize("side", [50, 33, 56, 16, 4])
def test_blocks_cover_any_grid(side: int) -> None:
    refinement = SSM(**SSM_FEATURES).refinement
    refinement.threshold = torch.tensor(0.5)
    assert refinement.restored_blocks(torch.zeros(1, side, side)).sum() == side**2
    assert not refinement.restored_blocks(torch.ones(1, side, side)).any()


@pytest.mark.parametrize(
    "wrong",
    [
        *({"cells": (0,)}, {"cells": (-16,)}, {"cells": (1024,)}, {"cells": (64,)}, {"cells": ()}, {"cells": "2,four"}),
        *({"tau": -1.0}, {"tau_quantile": 1.5}, {"block_share": 1.1}, {"peak": -0.1}, {"image_size": 100}),
    ],
    ids=str,
)
def test_a_setting_that_cannot_work_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as refusal:
        build(SSM, "fast", {**SSM_FEATURES, **wrong})
    assert "\n" not in str(refusal.value)


def test_the_fit_of_the_scores_reports_its_progress() -> None:
    made = SSM(**SSM_FEATURES)
    validation = made.fit_restorer(Textures(12), Training(device="cpu"))
    told: list[tuple[str, int, int]] = []
    made.fit_scores(validation, lambda stage, done, total, left: told.append((stage, done, total)))
    assert told == [("scores", i + 1, 8) for i in range(8)], "the first and the last pass over four folds"


def test_epochs_count_the_images_that_are_trained_on() -> None:
    made: Any = build(SSM, "fast", {**SSM_PIXELS, "steps": 0, "epochs": 2.0, "batch": 4})
    told: list[int] = []
    made.fit(Textures(10), Training(device="cpu", progress=lambda stage, done, total, left: told.append(total)))
    assert 4 in told, "2 epochs of 8 images, 4 at a time"
