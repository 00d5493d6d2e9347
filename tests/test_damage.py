"""Damage of images and of feature maps: seeded, inside its box, marked exactly where it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unmask.detectors.isstad import damage as image_damage
from unmask.detectors.isstad.damage import damage_image, object_box
from unmask.detectors.isstad.feature_damage import AREA, Kind, damage_features
from unmask.errors import SettingError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(h: int = 64, w: int = 80) -> torch.Tensor:
    """A coloured slope with some noise: almost every version of it differs almost everywhere."""
    y, x = torch.linspace(0, 1, h)[:, None].expand(h, w), torch.linspace(0, 1, w).expand(h, w)
    return (0.8 * torch.stack([y, x, 1 - y]) + 0.2 * torch.rand(3, h, w, generator=seeded())).clamp(0, 1)


# --- images ---


def test_the_seed_alone_decides() -> None:
    image, state = picture(), torch.get_rng_state()
    kept = image.clone()
    results = [damage_image(image, seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][1], results[2][1])
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(image, kept)


def test_the_mask_is_where_the_image_changed() -> None:
    image, some = picture(), 0
    for seed in range(40):
        damaged, mask = damage_image(image, seeded(seed))
        assert torch.equal((damaged != image).any(0), mask)
        assert damaged.min() >= 0
        assert damaged.max() <= 1
        some += bool(mask.any())
    assert some > 35


def test_shapes_stay_in_their_box() -> None:
    image, box = picture(), (13, 7, 61, 40)
    touched = torch.zeros(64, 80, dtype=torch.bool)
    for seed in range(150):
        touched |= damage_image(image, seeded(seed), box=box)[1]
    rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == box  # inside, and up to its edges


def test_shapes_are_at_least_ten_pixels_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_damage, "_other_version", lambda image, generator: 1 - image)
    image = torch.zeros(3, 100, 100)
    areas = []
    for seed in range(100):
        mask = damage_image(image, seeded(seed))[1]
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert min(rows.max() - rows.min(), columns.max() - columns.min()) + 1 >= 5  # a triangle fills half of its box
        areas.append(mask.float().mean().item())
    assert min(areas) < 0.05 < max(areas) < 0.75


def test_a_box_smaller_than_a_shape_is_filled_as_far_as_it_goes() -> None:
    mask = damage_image(picture(), seeded(3), box=(5, 5, 9, 9))[1]
    assert mask.any()
    assert not mask[9:].any()
    assert not mask[:, 9:].any()


@pytest.mark.parametrize("box", [(10, 10, 10, 20), (-1, 0, 10, 10), (0, 0, 81, 64)])
def test_a_box_outside_the_image_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(SettingError, match="80 x 64"):
        damage_image(picture(), seeded(), box=box)


def test_all_kinds_of_filling_come_up() -> None:
    """Grey, mirrored, noise and colour leave different traces of one image."""
    image = picture()
    versions = [image_damage._other_version(image, seeded(seed)) for seed in range(80)]
    grey = sum(bool((v[0] == v[1]).all()) for v in versions)
    mirrored = sum(any(torch.equal(v, image.flip(axes)) for axes in ((1,), (2,), (1, 2))) for v in versions)
    smooth = sum(bool(v.diff(dim=2).abs().amax() < 0.02) for v in versions)
    assert min(grey, mirrored, smooth) >= 4
    assert grey + mirrored + smooth < 75


def test_an_image_without_colour_made_grey_is_called_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_damage, "_other_version", image_damage._grey)
    image = picture().mean(0, keepdim=True).repeat(3, 1, 1)
    damaged, mask = damage_image(image, seeded())
    assert torch.equal(damaged, image)
    assert not mask.any()


def naive_otsu(levels: np.ndarray) -> int:
    """Largest level of the darker side, by trying all of them."""

    def between(level: int) -> float:
        low, high = levels[levels <= level], levels[levels > level]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    return max(range(255), key=between)


def test_otsu_parts_the_pixels_as_trying_all_levels_does() -> None:
    random = np.random.default_rng(0)
    for spread in (10, 30, 60):
        levels = np.concatenate([random.normal(70, spread, 300), random.normal(180, spread, 500)])
        levels = levels.round().clip(0, 255).astype(int).reshape(20, 40)
        grey = ((levels + 0.5) / 256).astype(np.float32)
        np.testing.assert_array_equal(grey >= image_damage._otsu(grey), levels > naive_otsu(levels))


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize(
    ("padding", "box"), [(0.0, (30, 20, 60, 60)), (0.1, (27, 16, 63, 64)), (0.2, (24, 12, 66, 68))]
)
def test_the_object_is_found_and_padded(dark: bool, padding: float, box: tuple[int, int, int, int]) -> None:
    image = torch.full((3, 80, 100), 0.1)
    image[:, 20:60, 30:60] = 0.9
    image[:, 30:50, 35:50] = 0.1  # a hole does not make it smaller
    image[:, 5:8, 90:95] = 0.9  # nor does a speck move it
    assert object_box(1 - image if dark else image, padding) == box


def test_a_thin_ring_counts_with_what_it_encloses() -> None:
    image = torch.full((3, 80, 100), 0.1)
    image[:, 20:60, 30:60] = 0.9
    image[:, 21:59, 31:59] = 0.1  # the ring alone has 1.7 % of the pixels
    assert object_box(image, 0.0) == (30, 20, 60, 60)


@pytest.mark.parametrize("case", ["flat", "noise", "speck", "cross", "full"])
def test_without_an_object_the_box_is_the_image(case: str) -> None:
    image = torch.full((3, 60, 60), 0.2)
    if case == "noise":
        image = torch.rand(3, 60, 60, generator=seeded())
    elif case == "speck":
        image[:, 10:20, 10:20] = 0.9
    elif case == "cross":
        image[:, 25:35], image[:, :, 25:35] = 0.9, 0.9
    elif case == "full":
        image[:, 1:59, 1:59] = 0.9
    assert object_box(image) == (0, 0, 60, 60)


def test_images_smaller_than_the_damage_do_not_fail() -> None:
    for seed in range(20):
        damaged, mask = damage_image(picture(6, 9), seeded(seed))
        assert damaged.shape == (3, 6, 9)
        assert mask.shape == (6, 9)


# --- feature maps ---


def levels(b: int = 32, seed: int = 9) -> list[torch.Tensor]:
    generator = seeded(seed)
    return [torch.randn(b, c, n, n, generator=generator) for c, n in ((4, 32), (6, 16), (2, 8))]


def test_feature_damage_is_decided_by_the_seed_and_leaves_its_input() -> None:
    maps, state = levels(), torch.get_rng_state()
    kept = [level.clone() for level in maps]
    (first, mask), (again, same), (other, _) = (damage_features(maps, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(mask, same)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert all(torch.equal(a, b) for a, b in zip(maps, kept, strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_each_level_changes_where_the_mask_is_and_nowhere_else() -> None:
    for seed in range(10):
        maps = levels()
        damaged, mask = damage_features(maps, seeded(seed))
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        for level, after, factor in zip(maps, damaged, (1, 2, 4), strict=True):
            expected = mask.unfold(1, factor, factor).unfold(2, factor, factor).amax((3, 4)) > 0
            assert torch.equal((after != level).any(1), expected)


def test_shares_of_whole_images_and_of_strokes() -> None:
    b = 4000
    maps = [torch.randn(b, 1, 16, 16, generator=seeded())]

    def whole(whole_share: float, stroke_share: float = 0.3) -> float:
        mask = damage_features(maps, seeded(5), stroke_share=stroke_share, whole_share=whole_share)[1]
        return (mask.sum((1, 2)) == 0).float().mean().item()

    assert whole(0.0) == 0
    assert whole(0.0, stroke_share=1.0) == 0
    assert whole(1.0) == 1
    assert whole(0.25) == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / b))
    # A stroke of this grid has 12 x 1.9 cells at most; blobs go far beyond.
    areas = [
        damage_features(maps, seeded(5), stroke_share=share, whole_share=0)[1].sum((1, 2)) for share in (0.0, 0.4, 1.0)
    ]
    large = [(a > 24).float().mean().item() for a in areas]
    assert large[2] == 0
    assert large[1] == pytest.approx(0.6 * large[0], abs=5 * math.sqrt(0.25 / b))


def test_blobs_cover_one_to_thirty_seven_percent_log_uniformly() -> None:
    maps = [torch.zeros(2000, 1, 32, 32)]
    mask = damage_features(maps, seeded(), stroke_share=0, whole_share=0)[1]
    area = mask.mean((1, 2)).double()
    cell = 1 / 1024
    assert AREA[0] - cell <= area.min() < 0.012
    assert 0.33 < area.max() <= AREA[1] + cell
    position = (area / AREA[0]).log() / math.log(AREA[1] / AREA[0])  # uniform in [0, 1]
    ranks = (torch.arange(2000) + 0.5) / 2000
    assert (position.sort().values - ranks).abs().max() < 0.05
    often = mask.mean(0)
    edge = torch.cat([often[0], often[-1], often[:, 0], often[:, -1]]).mean()
    assert 0.9 < edge / often[8:-8, 8:-8].mean() < 1.3  # noise that ended at the edges would give 0.7


def test_strokes_are_thin_and_connected() -> None:
    from scipy import ndimage

    maps = [torch.zeros(300, 1, 32, 32)]
    mask = damage_features(maps, seeded(), stroke_share=1, whole_share=0)[1]
    pieces = [ndimage.label(m, structure=np.ones((3, 3)))[1] for m in mask.numpy()]
    assert np.mean(np.array(pieces) == 1) > 0.97
    # No 3 x 3 neighbourhood is full: nowhere is a stroke three cells wide.
    full = mask.unfold(1, 3, 1).unfold(2, 3, 1).amin((3, 4))
    assert full.sum() == 0


def only(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every image be filled in one way, at full opacity."""
    from unmask.detectors.isstad import feature_damage

    draw = feature_damage._draw_filling

    def drawn(b: int, bh: int, bw: int, generator: torch.Generator) -> feature_damage.Filling:
        for _ in range(1000):
            filling = draw(b, bh, bw, generator)
            if (filling.kind == kind).all():
                return filling
        raise AssertionError(f"{kind} never came up")

    monkeypatch.setattr(feature_damage, "_draw_filling", drawn)
    monkeypatch.setattr(feature_damage, "OPACITY", (1.0, 1.0))


def numbered(b: int) -> list[torch.Tensor]:
    """Two levels whose tokens tell their image and place: channels image, y, x."""
    maps = []
    for n in (16, 8):
        y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
        maps.append(torch.stack([torch.stack([torch.full((n, n), i), y, x]) for i in range(b)]).float())
    return maps


@pytest.mark.parametrize("kind", [Kind.ELSEWHERE, Kind.FOREIGN, Kind.SHUFFLED])
def test_borrowed_tokens_come_from_where_the_kind_says(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    only(kind, monkeypatch)
    maps = numbered(2)
    (fine, coarse), mask = damage_features(maps, seeded(4), stroke_share=0, whole_share=0)
    for i in range(2):
        at = mask[i] > 0
        lent = fine[i][:, at]
        place = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij"))[:, at].float()
        assert (lent[0] == (1 - i if kind == Kind.FOREIGN else i)).all()
        assert torch.equal(lent[1:] % 2, place % 2)  # blocks of the coarser grid move as one
        steps = (lent[1:] - place) % 16
        assert len(steps.unique(dim=1).T) == 1 or kind == Kind.SHUFFLED
        assert (steps.abs().sum(0) > 0).all()
        # Where a coarse cell is wholly damaged, it comes from the same place as its four fine ones.
        wholly = torch.nn.functional.avg_pool2d(mask[i][None], 2)[0] == 1
        assert torch.equal(coarse[i][:, wholly][1:], (fine[i][1:, ::2, ::2] / 2)[:, wholly])
        assert (coarse[i][0][wholly] == lent[0, 0]).all()


def test_noise_has_unit_variance_and_a_shift_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = [torch.zeros(2, 200, 16, 16)]
    with monkeypatch.context() as patched:
        only(Kind.NOISE, patched)
        damaged, mask = damage_features(maps, seeded(), stroke_share=0, whole_share=0)
        values = damaged[0].permute(0, 2, 3, 1)[mask > 0]
        assert values.std().item() == pytest.approx(1, abs=0.05)
        assert values.std(0).mean() > 0.5
    with monkeypatch.context() as patched:
        only(Kind.SHIFT, patched)
        damaged, mask = damage_features(maps, seeded(), stroke_share=0, whole_share=0)
        for i in range(2):
            values = damaged[0][i][:, mask[i] > 0]
            assert torch.equal(values, values[:, :1].expand_as(values))
            assert values[:, 0].std().item() == pytest.approx(1, abs=0.25)
        assert not torch.equal(damaged[0][0].amax((1, 2)), damaged[0][1].amax((1, 2)))


def test_opacity_lies_between_its_ends_and_thins_out_on_coarse_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    from unmask.detectors.isstad import feature_damage

    monkeypatch.setattr(feature_damage.torch, "lerp", lambda clean, filler, weight: weight.expand_as(clean))
    maps = [torch.zeros(500, 1, 16, 16), torch.zeros(500, 1, 8, 8)]
    (fine, coarse), mask = damage_features(maps, seeded(), whole_share=0)
    opacity = fine.amax((1, 2, 3))
    assert 0.4 <= opacity.min() < 0.42
    assert 0.98 < opacity.max() <= 1
    torch.testing.assert_close(fine[:, 0], mask * opacity[:, None, None])
    torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(fine, 2))


@pytest.mark.parametrize("shapes", [[(1, 3, 1, 1)], [(1, 2, 7, 5)], [(3, 2, 12, 8), (3, 5, 6, 8), (3, 1, 4, 2)]])
def test_odd_grids_and_single_images(shapes: list[tuple[int, ...]]) -> None:
    maps = [torch.randn(shape, generator=seeded()) for shape in shapes]
    for seed in range(20):
        damaged, mask = damage_features(maps, seeded(seed))
        assert [level.shape for level in damaged] == [level.shape for level in maps]
        assert mask.shape == (shapes[0][0], *shapes[0][2:])


def test_half_precision_stays_half() -> None:
    damaged, mask = damage_features([level.half() for level in levels()], seeded())
    assert {level.dtype for level in damaged} == {torch.float16}
    assert mask.dtype == torch.float32


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="stroke_share"):
        damage_features(levels(2), seeded(), stroke_share=1.5)
    with pytest.raises(SettingError, match="whole_share"):
        damage_features(levels(2), seeded(), whole_share=-0.1)
    with pytest.raises(SettingError, match="does not divide"):
        damage_features([torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 8)], seeded())
    with pytest.raises(SettingError, match="at least one level"):
        damage_features([], seeded())
