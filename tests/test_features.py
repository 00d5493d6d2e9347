"""Features that are kept: the same in memory and in a file, the same at fewer levels, and never computed twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny import SIZE, Textures, texture
from unmask.errors import SettingError
from unmask.features.backbones import Backbone
from unmask.features.maps import CachedImages, CachedMaps, CachedValue, FeatureMaps, batches, encode
from unmask.training.trainer import Training

N = 19  # no multiple of a batch
CPU = Training(device="cpu")


def rows(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def directly(images: Any, numbers: list[int], levels: tuple[int, ...] = (2, 3)) -> list[Tensor]:
    """The network's maps of these images, one after the other, in full precision."""
    maps = FeatureMaps("tiny", SIZE, levels)
    each = [maps(images[i][None]) for i in numbers]
    return [torch.cat(level) for level in zip(*each, strict=True)]


def assert_near(found: list[Tensor], expected: list[Tensor]) -> None:
    """As near as half precision comes."""
    assert [one.dtype for one in found] == [torch.float32] * len(expected)
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-3, atol=1e-5)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each run of a network took."""
    counts: list[int] = []
    forward = Backbone.forward

    def counted(self: Backbone, images: Tensor) -> list[Tensor]:
        counts.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Backbone, "forward", counted)
    return counts


@pytest.fixture(scope="module")
def images() -> Textures:
    return Textures(N)


@pytest.fixture(scope="module")
def kept(images: Textures) -> CachedMaps:
    return FeatureMaps("tiny", SIZE, (2, 3)).cache(images, CPU)


# --- encoding ---------------------------------------------------------------------------------------------------------


def test_encode_sees_every_image_once_in_order(images: Textures) -> None:
    told: list[tuple[str, int, int]] = []
    sizes: list[int] = []

    def progress(stage: str, done: int, total: int, seconds_left: float) -> None:
        assert seconds_left >= 0
        told.append((stage, done, total))

    def encoder(stack: Tensor) -> Tensor:
        sizes.append(len(stack))
        return stack.mean((2, 3))

    kept = encode(images, encoder, stage="look", training=Training(device="cpu", progress=progress))
    assert torch.equal(kept[torch.arange(N)], torch.stack([one.mean((1, 2)) for one in images.images]).half())
    assert sizes == [8, 8, 3]
    assert told == [("look", 8, N), ("look", 16, N), ("look", N, N)]


def test_batches_are_the_images(images: Textures) -> None:
    stacks = list(batches(images, 5))
    assert [len(stack) for stack in stacks] == [5, 5, 5, 4]
    assert torch.equal(torch.cat(stacks), torch.stack(images.images))


# --- the maps ---------------------------------------------------------------------------------------------------------


def test_fewer_levels_are_the_same_levels() -> None:
    new = torch.stack([texture(7), texture(8)])
    both = FeatureMaps("tiny", SIZE, (2, 3))
    assert (both.levels, both.shapes) == ((2, 3), [(8, 8), (16, 4)])
    assert [tuple(one.shape) for one in both(new)] == [(2, 8, 8, 8), (2, 16, 4, 4)]
    for level, expected in zip((2, 3), both(new), strict=True):
        alone = FeatureMaps("tiny", SIZE, (level,))
        assert (alone.levels, alone.shapes) == ((level,), [tuple(expected.shape[1:3])])
        (found,) = alone(new)
        assert torch.equal(found, expected)


def test_a_real_network_s_levels_too() -> None:
    new = torch.stack([texture(7), texture(8)])
    three = FeatureMaps("efficientnet_lite0", SIZE, (2, 3, 4))
    assert (three.levels, [side for _, side in three.shapes]) == ((2, 3, 4), [8, 4, 2])
    for level, expected in zip(three.levels, three(new), strict=True):
        (found,) = FeatureMaps("efficientnet_lite0", SIZE, (level,))(new)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("level", [2, 3])
def test_a_shared_network_is_the_other_s(level: int) -> None:
    new = texture(7)[None]
    mine, both = FeatureMaps("tiny", SIZE, (level,)), FeatureMaps("tiny", SIZE, (2, 3))
    for parameter in both.parameters():
        parameter.data = parameter.data + 0.01  # to be told apart
    mine.share(both)
    assert mine.backbone is both.backbone
    assert (mine.levels, len(mine.shapes)) == ((level,), 1)
    (found,) = mine(new)
    assert torch.equal(found, both(new)[level - 2])


@pytest.mark.parametrize("levels", [(), (3, 2), (2, 2), (2, 3, 3)])
def test_levels_that_do_not_rise_are_one_line(levels: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match=f"levels={','.join(map(str, levels))} do not rise") as caught:
        FeatureMaps("tiny", SIZE, levels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [(2, 9), (9,)])
def test_levels_that_there_are_not_are_one_line(levels: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match="9") as caught:
        FeatureMaps("efficientnet_lite0", SIZE, levels)
    assert "\n" not in str(caught.value)


def test_a_size_must_fit_the_coarsest_stride() -> None:
    assert FeatureMaps("tiny", 56, (2,)).shapes == [(8, 7)]
    with pytest.raises(SettingError, match=r"image_size 56 is no multiple of 16") as caught:
        FeatureMaps("tiny", 56, (2, 3))
    assert "\n" not in str(caught.value)


# --- kept maps --------------------------------------------------------------------------------------------------------


def test_kept_maps_are_the_network_s(images: Textures, kept: CachedMaps) -> None:
    assert len(kept) == N
    assert_near(kept.maps_of(rows(4, 0, 18, 4)), directly(images, [4, 0, 18, 4]))


def test_other_levels_and_some_of_the_images(images: Textures, kept: CachedMaps) -> None:
    for levels in ((2,), (3,), (2, 3)):
        assert_near(kept.with_levels(levels).maps_of(rows(11, 2)), directly(images, [11, 2], levels))
    some = kept.subset(rows(17, 5, 9, 1))
    assert len(some) == 4
    assert_near(some.maps_of(rows(0, 3)), directly(images, [17, 1]))
    assert_near(some.subset(rows(2, 1)).with_levels((3,)).maps_of(rows(0, 1)), directly(images, [9, 5], (3,)))
    assert (len(kept), len(kept.maps_of(torch.arange(N)))) == (N, 2), "the others are as they were"


@pytest.mark.parametrize("size", [1, 6, N, 64])
def test_chunks_are_all_of_them_in_order(images: Textures, kept: CachedMaps, size: int) -> None:
    chunks = list(kept.chunks(size))
    assert [start for start, _ in chunks] == list(range(0, N, size))
    assert [len(maps[0]) for _, maps in chunks] == [min(size, N - start) for start, _ in chunks]
    joined = [torch.cat(level) for level in zip(*(maps for _, maps in chunks), strict=True)]
    assert_near(joined, directly(images, list(range(N))))
    numbers = [16, 3, 8]
    ((_, found),) = kept.subset(rows(*numbers)).with_levels((2,)).chunks()
    assert_near(found, directly(images, numbers, (2,)))


# --- images whose maps are known --------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(2,), (3,), (2, 3)])
def test_known_maps_are_not_computed_again(
    images: Textures, kept: CachedMaps, seen: list[int], levels: tuple[int, ...]
) -> None:
    found = FeatureMaps("tiny", SIZE, levels).cache(CachedImages(images, kept), CPU)
    some = FeatureMaps("tiny", SIZE, levels).cache(CachedImages(images, kept).subset(rows(6, 1)).subset(rows(1)), CPU)
    assert seen == []
    assert (len(found), len(some)) == (N, 1)
    assert_near(found.maps_of(rows(13, 0)), directly(images, [13, 0], levels))
    assert_near(some.maps_of(rows(0)), directly(images, [1], levels))


def test_unknown_maps_are_computed(images: Textures, kept: CachedMaps, seen: list[int]) -> None:
    some = CachedImages(images, FeatureMaps("tiny", SIZE, (3,)).cache(images, CPU)).subset(rows(6, 1, 12))
    for levels in ((2,), (2, 3)):
        seen.clear()
        found = FeatureMaps("tiny", SIZE, levels).cache(some, CPU)
        assert sum(seen) == 3
        assert_near(found.maps_of(rows(0, 2)), directly(images, [6, 12], levels))
    seen.clear()
    FeatureMaps("efficientnet_lite0", SIZE, (2,)).cache(some, CPU)
    assert sum(seen) == 3, "another network's maps are others"


def test_another_size_s_maps_are_others(kept: CachedMaps) -> None:
    assert kept.serves(FeatureMaps("tiny", SIZE, (3,)))
    assert not kept.serves(FeatureMaps("tiny", 2 * SIZE, (3,)))
    assert not kept.with_levels((2,)).serves(FeatureMaps("efficientnet_lite0", SIZE, (2,)))


def test_encoded_images_are_images(images: Textures, kept: CachedMaps) -> None:
    whole = CachedImages(images, kept)
    some = whole.subset(rows(9, 2, 5)).subset(rows(2, 0))
    assert (len(whole), len(some)) == (N, 2)
    assert torch.equal(whole[4], images[4])
    assert torch.equal(some[0], images[5])
    assert torch.equal(some[1], images[9])


def test_a_network_runs_once_over_each_image(images: Textures, seen: list[int]) -> None:
    maps = FeatureMaps("tiny", SIZE, (2, 3)).cache(images, CPU)
    for _ in range(2):
        list(maps.chunks(4))
        maps.with_levels((3,)).maps_of(rows(1))
    assert sum(seen) == N


# --- what is made of a buffer -----------------------------------------------------------------------------------------


def test_a_derived_value_is_made_once_and_anew_after_a_change() -> None:
    made: list[Tensor] = []

    def double(source: Tensor) -> Tensor:
        made.append(source)
        return 2 * source

    derived, buffer = CachedValue(double), torch.ones(3)
    for _ in range(3):
        assert derived(buffer).tolist() == [2, 2, 2]
    assert len(made) == 1
    buffer[0] = 5
    assert derived(buffer).tolist() == [10, 2, 2]
    assert derived(torch.zeros(3)).tolist() == [0, 0, 0]
    assert derived(torch.zeros(4)).tolist() == [0, 0, 0, 0]


def test_a_derived_value_is_not_that_of_a_buffer_long_gone() -> None:
    """As after fit, predict, fit, fit, predict: the third bank may lie where the first one lay."""
    derived = CachedValue(torch.neg)
    place = np.zeros(3, dtype=np.float32)  # stands for an allocator that gives it twice
    assert derived(torch.from_numpy(place)).tolist() == [0, 0, 0]
    place[:] = 7
    assert derived(torch.from_numpy(place)).tolist() == [-7, -7, -7]
