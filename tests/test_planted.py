"""Planted marks have the size, the contrast and the place that were asked for."""

import itertools
import math

import numpy as np
import pytest

from unmask.imaging.planted import (
    BRIGHT,
    DARK,
    KINDS,
    MISSING,
    MOVED,
    SCRATCH,
    SLENDERNESS,
    Place,
    part_of,
    placed,
    planted,
    with_room,
)

GREY = np.full((3, 120, 160), 0.5, np.float32)


def random_picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (3, 96, 96)).astype(np.float32)


@pytest.mark.parametrize("size", [0.4, 0.8, 1.5, 3.0, 7.3, 20.0, 51.0])
@pytest.mark.parametrize("x", [60.5, 61.0, 60.13])
def test_a_spot_has_the_diameter_asked_for_even_below_a_pixel(size: float, x: float) -> None:
    copy, cover = planted(GREY, Place(DARK, x, 50.3), size, contrast=0.4)
    area = math.pi * size**2 / 4
    assert cover.sum() == pytest.approx(area, rel=0.06)
    assert (GREY - copy).sum() == pytest.approx(3 * 0.2 * cover.sum(), rel=1e-3)
    rows, columns = np.indices(cover.shape) + 0.5
    centre = (rows * cover).sum() / cover.sum(), (columns * cover).sum() / cover.sum()
    assert centre == pytest.approx((50.3, x), abs=0.5 if size < 1 else 0.15), (
        "a pixel cannot say where in it a mark lies"
    )


@pytest.mark.parametrize("size", [8.0, 16.0, 48.0])
@pytest.mark.parametrize("turn", [0.0, 0.7, math.pi / 2])
def test_a_scratch_has_the_length_and_the_width_asked_for(size: float, turn: float) -> None:
    cover = planted(GREY, Place(SCRATCH, 80.0, 60.0, turn), size, contrast=0.4)[1]
    assert cover.sum() == pytest.approx(size * size / SLENDERNESS, rel=0.08)
    rows, columns = np.nonzero(cover > 0.05)
    assert np.hypot(np.ptp(rows), np.ptp(columns)) == pytest.approx(size, abs=5)


@pytest.mark.parametrize(("kind", "value"), [(DARK, 0.3), (BRIGHT, 0.7)])
def test_contrast_is_the_share_of_the_way_to_black_or_white(kind: str, value: float) -> None:
    copy = planted(GREY, Place(kind, 80.0, 60.0), 20, contrast=0.4)[0]
    assert copy[:, 60, 80] == pytest.approx(value, abs=1e-6)
    assert (copy[:, 0] == 0.5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_mark_covers_a_smaller_one_and_nothing_leaves_the_range(kind: str) -> None:
    picture = random_picture()
    before = picture.copy()
    place = placed(kind, picture, np.ones((96, 96), bool), np.random.default_rng(3))
    covers = []
    for size in (2, 5, 12, 30, 80):
        copy, cover = planted(picture, place, size, 0.8)
        assert copy.dtype == np.float32
        assert copy.min() >= -1e-6
        assert copy.max() <= 1 + 1e-6
        assert ((copy == picture) | (cover > 0)).all(), "nothing changes elsewhere"
        covers.append(cover)
    for small, large in itertools.pairwise(covers[1:]):
        assert (large[small > 0.99] > 0.9).all()
    assert (picture == before).all()


def test_a_missing_piece_shows_what_surrounds_it() -> None:
    picture = np.full((3, 80, 80), 0.7, np.float32)
    picture[:, 34:46, 34:46] = 0.1
    copy = planted(picture, Place(MISSING, 40.0, 40.0), 24)[0]
    assert copy[:, 30:50, 30:50] == pytest.approx(0.7, abs=0.06)


def test_a_moved_piece_comes_from_elsewhere_in_the_picture() -> None:
    picture = random_picture()
    copy = planted(picture, Place(MOVED, 40.5, 40.5, source=(20, -10)), 12)[0]
    assert copy[:, 40, 40] == pytest.approx(picture[:, 30, 60], abs=1e-6)


def test_a_piece_is_planted_where_it_changes_the_picture() -> None:
    picture = np.full((3, 96, 96), 0.5, np.float32)
    picture[:, 40:56, 40:56] = 0.0
    places = [placed(MISSING, picture, np.ones((96, 96), bool), np.random.default_rng(seed)) for seed in range(20)]
    near = [30 < place.x < 66 and 30 < place.y < 66 for place in places]
    assert np.mean(near) > 0.6, "of places at random, a seventh"


def test_the_part_is_told_from_a_plain_background() -> None:
    picture = np.full((3, 128, 128), 0.9, np.float32)
    picture[:, 40:90, 30:100] = 0.3
    part = part_of(picture)
    assert part[50:80, 40:90].all()
    assert not part[:30].any()


@pytest.mark.parametrize("kind", ["texture", "flat"])
def test_a_texture_is_part_everywhere(kind: str) -> None:
    picture = random_picture() if kind == "texture" else GREY
    assert part_of(picture).all()


def test_marks_keep_away_from_the_edges() -> None:
    assert not with_room(np.ones((100, 50), bool))[:4].any()
    only_edge = np.zeros((100, 100), bool)
    only_edge[0] = True
    assert with_room(only_edge)[50, 50], "a part that lies at the edge alone leaves the whole middle"
