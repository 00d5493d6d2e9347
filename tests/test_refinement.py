"""SSM's progressive refinement against the loop of the paper, written naively; and its network's triplets and loss."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tiny import SIZE, SSM_FEATURES, SSM_PIXELS, Textures, planted, texture
from unmask import losses
from unmask.detectors import build
from unmask.detectors.ssm import MASKS, SSM
from unmask.errors import SettingError
from unmask.pixel_restoration import ASIDE, PixelRestoration, RestorationLoss, feature_distance
from unmask.training import Trainer, Training

SIDE = 32  # a block has 2 x 2 pixels


class Stub:
    """Restores each image with an error that shrinks as more becomes visible; keeps what it was asked to restore."""

    side, cells, names = SIDE, (4, 8), ("error",)

    def __init__(self) -> None:
        self.asked: list[Tensor] = []

    def restore(self, model: None, seen: Tensor, visible: Tensor) -> Tensor:
        self.asked.append(visible)
        share = visible.float().mean((1, 2, 3, 4))  # b
        restored = seen * (1 - share)[:, None, None] ** 2  # the "restoration" is its own error
        return torch.where(visible.all(2), 0.0, restored[:, None])  # b k s s

    def differ(self, seen: Tensor, restored: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        errors = torch.einsum("bkhw,k->bhw", restored, weights)[:, None]
        return errors, errors**2


def stubbed(**more: Any) -> tuple[SSM, Stub]:
    settings = {**SSM_PIXELS, "image_size": SIDE, "cells": (4, 8), "smoothing": 0.0, **more}
    made: Any = build(SSM, "fast", settings)
    stub = Stub()
    made.__dict__["restoration"] = stub
    made._modules.pop("restoration")
    made.keep(scale=torch.ones(1), threshold=torch.tensor(0.2))
    return made, stub


def images() -> Tensor:
    """Errors of four images: nothing to uncover, everything, a part at once, and parts one after the other."""
    y, x = torch.meshgrid(torch.arange(SIDE) / SIDE, torch.arange(SIDE) / SIDE, indexing="ij")
    corner = torch.where((x > 0.7) & (y > 0.7), 5.0, 0.1)
    return torch.stack([torch.full_like(x, 9.0), torch.full_like(x, 0.01), corner, 2 * (x + y) ** 2])


def naive(ssm: SSM, stub: Stub, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The spec's loop for one image: (A, confirmed) of every pass."""
    visible, kept, told = torch.zeros(SIDE, SIDE, dtype=torch.bool), None, []
    weights = torch.tensor([16.0, 64.0]) if ssm.weights == "squares" else torch.tensor([1.0, 1.0])
    for t in range(ssm.passes):
        masks = ssm._masks(t)
        by_scale = [stub.restore(None, image[None], (masks | visible)[None])[0, k] for k in range(2)]
        a = sum(w * one for w, one in zip(weights, by_scale, strict=True)) / weights.sum()
        if kept is not None and ssm.uncovered == "kept":
            a = torch.where(visible, kept, a)
        grown = visible.clone()
        for y in range(0, SIDE, 2):
            for x in range(0, SIDE, 2):
                if (a[y : y + 2, x : x + 2] < float(ssm.threshold)).sum() > ssm.block_share * 4:
                    grown[y : y + 2, x : x + 2] = True
        told.append((a, grown))
        if bool((grown == visible).all()) or bool(grown.all()):
            break
        visible, kept = grown, a
    return told


@pytest.mark.parametrize("passes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("uncovered", ["kept", "zero"])
@pytest.mark.parametrize("weights", ["uniform", "squares"])
def test_it_is_the_paper_s_loop(passes: int, uncovered: str, weights: str) -> None:
    ssm, stub = stubbed(passes=passes, uncovered=uncovered, weights=weights)
    together = ssm.refine(None, images())
    lengths = []
    for i, image in enumerate(images()):
        expected = naive(ssm, stub, image)
        lengths.append(len(expected))
        alone = ssm.refine(None, image[None])
        assert len(alone) == len(expected)
        for one, (a, confirmed) in zip(alone, expected, strict=True):
            torch.testing.assert_close(one.maps[0, 0], a)
            assert torch.equal(one.confirmed[0], confirmed)
        torch.testing.assert_close(together[-1].maps[i], alone[-1].maps[0])
        assert torch.equal(together[-1].confirmed[i], alone[-1].confirmed[0])
    assert lengths[:2] == [1, 1], "nothing was uncovered, and everything was"
    assert max(lengths) == min(passes, max(lengths))
    assert passes == 1 or max(lengths) > 1


def test_uncovering_is_cumulative_and_nothing_uncovered_is_hidden_again() -> None:
    ssm, stub = stubbed(passes=5)
    passes = ssm.refine(None, images()[3:])
    assert len(passes) > 2
    for before, after, asked in zip(passes, passes[1:], stub.asked[1:], strict=False):
        assert (after.confirmed | before.confirmed).equal(after.confirmed)
        assert after.confirmed.sum() >= before.confirmed.sum()
        assert asked[:, :, :, before.confirmed[0]].all()


def test_the_first_pass_hides_every_pixel_once_a_scale() -> None:
    ssm, stub = stubbed()
    ssm.refine(None, images())
    assert stub.asked[0].shape == (4, 2, MASKS, SIDE, SIDE)
    assert ((~stub.asked[0]).sum(2) == 1).all()


def test_each_pass_has_masks_of_its_own_and_the_seed_decides() -> None:
    ssm, _ = stubbed()
    assert torch.equal(ssm._masks(0), ssm._masks(0))
    assert not torch.equal(ssm._masks(0), ssm._masks(1))
    before = ssm._masks(0)
    ssm.keep(mask_seed=torch.tensor(1))
    assert not torch.equal(ssm._masks(0), before)


def test_a_block_needs_more_than_its_share() -> None:
    ssm, _ = stubbed(block_share=0.75)
    a = torch.ones(1, SIDE, SIDE)
    a[0, :2, :2] = torch.tensor([[0.1, 0.1], [0.1, 0.9]])  # three of four: not above 0.75
    assert not ssm._restored_blocks(a).any()
    a[0, 1, 1] = 0.1
    assert ssm._restored_blocks(a).nonzero().tolist() == [[0, y, x] for y in range(2) for x in range(2)]


@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_tau_is_given_or_a_quantile_and_scores_are_z_scores(tau: float) -> None:
    made: Any = build(SSM, "fast", {**SSM_FEATURES, "tau": tau, "tau_quantile": 0.7, "passes": 1})
    made.learn(Textures(12), Training(device="cpu"))
    told: list[tuple[str, int, int]] = []
    made.settle(lambda stage, done, total, left: told.append((stage, done, total)))
    assert told == [("measure", i + 1, 8) for i in range(8)], "two looks at four folds"
    with torch.inference_mode():
        first = [made.refine(model, seen)[0] for model, seen in made.restoration.unseen()]
        maps = torch.cat([one.maps for one in first])
        energies = torch.cat([one.squares.mean((2, 3)) for one in first])
        a = (maps / maps.mean((0, 2, 3))[:, None, None]).sum(1)
        share = float((a < made.threshold).float().mean())
        assert share == pytest.approx(0.7, abs=0.01) if tau == 0 else float(made.threshold) == pytest.approx(tau)
        peaks = maps.flatten(2).amax(2)  # 2 % of 16 tokens is one
        scores = made.scores(first[0])
    expected = (peaks - peaks.mean(0)) / peaks.std(0, correction=0)
    expected = expected + (energies - energies.mean(0)) / energies.std(0, correction=0)
    torch.testing.assert_close(scores, expected.sum(1)[: len(scores)], rtol=1e-3, atol=1e-3)


def test_presets_are_the_spec_s() -> None:
    paper, mvtec = (build(SSM, name, {}).params() for name in ("paper", "mvtec"))
    wanted = {"space": "pixels", "image_size": 128, "cells": (2, 4, 8), "width": 1.0, "epochs": 50.0, "batch": 32}
    assert wanted.items() <= paper.items()
    assert (paper["lr"], paper["tau"], paper["smoothing"], paper["weights"]) == (1e-4, 0.0157, 7.0, "squares")
    assert (mvtec["image_size"], mvtec["cells"], mvtec["epochs"]) == (256, (2, 4, 8, 16), 300.0)
    assert (paper["passes"], paper["uncovered"], paper["peak"]) == (2, "zero", 0.0)
    assert paper["steps"] == mvtec["steps"] == 0, "epochs decide"
    assert build(SSM, "fast", {}).params()["space"] == "features"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"passes": 0}, {"passes": 6}, {"score": "both"}, {"space": "time"}, {"uncovered": "half"}),
        *({"weights": "cubes"}, {"tau_quantile": 1.5}, {"image_size": 100}, {"cells": "2,four"}, {"cells": ()}),
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        build(SSM, "fast", {**SSM_FEATURES, **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [SSM_FEATURES, SSM_PIXELS], ids=["features", "pixels"])
def test_an_explanation_is_a_step_a_pass(settings: dict[str, Any]) -> None:
    made: Any = build(SSM, "fast", {**settings, "passes": 3})
    made.fit(Textures(12), Training(device="cpu"))
    for image in (texture(500), planted(texture(501))):
        with torch.inference_mode():
            passes = made.refine(*made.restoration.look(image[None]))
        (steps,) = made.explain(image[None])
        assert [step.title for step in steps] == [f"pass {i + 1} of {len(passes)}" for i in range(len(passes))]
        for step, one in zip(steps, passes, strict=True):
            assert (list(step.pictures), list(step.maps)) == (["hidden", "restored", "stays covered"], ["error"])
            uncovered = F.interpolate(one.confirmed[None].float(), size=SIZE)[0, 0] > 0
            assert torch.equal(step.pictures["stays covered"][:, uncovered], image[:, uncovered])
            shown = one.random_masks[1, 0] | one.visible[0]
            hidden = F.interpolate((~shown)[None, None].float(), size=SIZE)[0, 0] > 0
            assert step.pictures["hidden"][:, hidden].std(1).max() == 0, "a coat of one colour"


def test_what_stays_covered_is_the_defect() -> None:
    made: Any = build(SSM, "fast", {**SSM_FEATURES, "image_size": 128, "tau_quantile": 0.95, "smoothing": 8.0})
    made.fit(Textures(24, size=128), Training(device="cpu"))
    image = planted(texture(600, 128), 48, 80, 16)
    last = made.refine(*made.restoration.look(image[None]))[-1]
    covered = ~last.confirmed[0]
    assert covered[5, 3], "the token of the square"
    assert covered.float().mean() < 0.35
    peak = int(made.predict(image[None]).maps[0].argmax())
    assert abs(peak // 128 - 88) <= 16
    assert abs(peak % 128 - 56) <= 16


# --- pixels ----------------------------------------------------------------------------------------------------------


def space(score: str = "pixels") -> PixelRestoration:
    torch.manual_seed(0)
    return PixelRestoration(32, cells=(4, 8), width=1 / 16, mask_weight=0.5, score=score, backbone="tiny").eval()


def some_masks(b: int) -> Tensor:
    ssm, _ = stubbed()
    return ssm._masks(0)[None].expand(b, -1, -1, -1, -1)


def test_all_masks_and_scales_of_an_image_are_one_batch_and_r_is_put_together_from_them() -> None:
    made, shown = space(), some_masks(2).clone()
    shown[1, :, :, :16] = True  # uncovered
    seen = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    batches: list[int] = []
    made.net.register_forward_pre_hook(lambda module, arguments: batches.append(len(arguments[0])))
    with torch.inference_mode():
        restored = made.restore(made.net, seen, shown)
        assert batches == [2 * MASKS] * 2
        for i in range(2):
            for k in range(2):
                r = torch.zeros(3, 32, 32)
                for m in shown[i, k]:
                    out, _ = made.net((seen[i] * m)[None], m[None, None].float())
                    r += out[0] * ~m
                r[:, shown[i, k].all(0)] = seen[i][:, shown[i, k].all(0)]
                torch.testing.assert_close(restored[i, k], r, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_sum_of_its_four_parts() -> None:
    made, shown = space(), some_masks(2)[:, 0]
    seen = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = RestorationLoss(made.net, 0.5)(seen, shown)
        restored, mask_part = torch.zeros_like(seen), 0.0
        for i in range(MASKS):
            m = shown[:, i : i + 1].float()
            out, predicted = made.net(seen * m, m)
            restored += out * (1 - m)
            mask_part += float(((predicted - m) ** 2).mean())
        expected = ((restored - seen) ** 2).mean() + losses.msgms(seen, restored) + 1 - losses.ssim(seen, restored)
    assert found.item() == pytest.approx(float(expected) + 0.5 * mask_part, rel=1e-4)


def test_every_fifth_image_is_not_learned_from() -> None:
    made, shown = space(), []
    stacks = [torch.full((3, 32, 32), i / 20) for i in range(12)]

    class Flat:
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> Tensor:
            return stacks[index]

    class Spy(Trainer):
        def run(self, stage: str, module: Any, batch_at: Any, **more: Any) -> None:
            shown.extend(batch_at(step)[0][:, 0, 0, 0] for step in range(3))

    made.learn(
        Flat(),
        Spy(Training(device="cpu")),
        lambda step: some_masks(1)[0, 0],
        lambda s, n: torch.arange(n),
        steps=3,
        lr=1.0,
    )
    learned = {round(20 * float(value)) for value in torch.cat(shown)}
    unseen = {round(20 * float(image[0, 0, 0])) for _, part in made.unseen() for image in part}
    assert unseen == set(range(0, 12, ASIDE))
    assert learned == set(range(12)) - unseen


@pytest.mark.parametrize(("score", "terms"), [("pixels", 1), ("features", 1), ("both", 2)])
def test_what_is_compared(score: str, terms: int) -> None:
    made = space(score)
    seen = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    restored = torch.stack([seen, 0.5 * seen], dim=1)
    errors, squares = made.differ(seen, restored, torch.tensor([0.2, 0.8]))
    assert errors.shape == squares.shape == (2, terms, 32, 32)
    if score != "features":
        torch.testing.assert_close(errors[:, 0], 0.8 * losses.msgms_map(seen, 0.5 * seen))
        torch.testing.assert_close(squares[:, 0], ((0.5 * seen) ** 2).mean(1) / 2)
    if score != "pixels":
        assert made.backbone is not None
        mean = 0.2 * seen + 0.8 * 0.5 * seen
        torch.testing.assert_close(errors[:, -1], feature_distance(made.backbone(seen), made.backbone(mean), 32))
    same, _ = made.differ(seen, torch.stack([seen, seen], dim=1), torch.tensor([0.5, 0.5]))
    assert same.abs().max() < 1e-5


def test_opposite_features_are_two_apart() -> None:
    x = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(feature_distance([x], [-x], 8), torch.full((1, 8, 8), 2.0))
