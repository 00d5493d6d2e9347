"""Disturbances do what they say, by as much as they say, and are drawn alike from equal seeds."""

from __future__ import annotations

import numpy as np
import pytest

from unmask.imaging import disturbances

AMOUNTS = {
    "blur": 0.01,
    "jpeg": 50,
    "noise": 0.02,
    "motion": 0.05,
    "light": 0.2,
    "color": 0.1,
    "shift": 0.1,
    "turn": 10,
    "zoom": 0.1,
}


@pytest.fixture
def image() -> np.ndarray:
    """A colourful picture with structure, 60 x 80 pixels, with no value near black or white."""
    y, x = np.mgrid[0:60, 0:80] / 60
    waves = [0.5 + 0.2 * np.sin(6 * (k * x + y)) + 0.1 * np.cos(40 * x * k) for k in (1, 2, 3)]
    return np.stack(waves).astype(np.float32)


def test_every_kind_has_an_amount_here() -> None:
    assert set(AMOUNTS) == set(disturbances.TAUGHT)
    assert set(disturbances.MOVES) < set(disturbances.TAUGHT)


@pytest.mark.parametrize("kind", AMOUNTS)
def test_a_copy_is_another_image_of_the_same_kind_and_equal_for_equal_seeds(kind: str, image: np.ndarray) -> None:
    before = image.copy()
    copy, again, other = (
        disturbances.drawn(image, kind, AMOUNTS[kind], np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert copy.shape == image.shape
    assert copy.dtype == np.float32
    assert copy.min() >= 0
    assert copy.max() <= 1
    assert np.array_equal(image, before)
    assert np.array_equal(copy, again)
    assert not np.array_equal(copy, other)
    assert np.abs(copy - image).max() > 0.005


@pytest.mark.parametrize("kind", AMOUNTS)
def test_an_image_of_8_bits_gives_a_copy_of_8_bits(kind: str, image: np.ndarray) -> None:
    levels = np.rint(255 * image) / np.float32(255)
    copy = 255 * disturbances.drawn(levels.astype(np.float32), kind, AMOUNTS[kind], np.random.default_rng(0))
    assert np.abs(copy - np.rint(copy)).max() < 1e-3
    if kind != "jpeg":
        finer = 255 * disturbances.drawn(image, kind, AMOUNTS[kind], np.random.default_rng(0))
        assert np.abs(finer - np.rint(finer)).max() > 0.1


@pytest.mark.parametrize("kind", [kind for kind in AMOUNTS if kind != "color"])
def test_a_grey_image_stays_grey(kind: str, image: np.ndarray) -> None:
    grey = np.broadcast_to(image[:1], image.shape)
    copy = disturbances.drawn(grey, kind, AMOUNTS[kind], np.random.default_rng(0))
    assert np.array_equal(copy[0], copy[1])
    assert np.array_equal(copy[0], copy[2])


def test_a_blurred_point_has_the_standard_deviation_asked_for() -> None:
    image = np.zeros((3, 101, 101), np.float32)
    image[:, 50, 50] = 1
    point = disturbances.blurred(image, 0.03)[0]
    y, x = np.mgrid[0:101, 0:101] - 50
    assert point.sum() == pytest.approx(1, abs=1e-5)
    assert np.sqrt((point * x**2).sum()) == pytest.approx(3.03, rel=0.02)
    assert np.sqrt((point * y**2).sum()) == pytest.approx(3.03, rel=0.02)


@pytest.mark.parametrize("degrees", [0.0, 90.0, 30.0])
def test_motion_smears_a_point_into_a_line(degrees: float) -> None:
    image = np.zeros((3, 101, 101), np.float32)
    image[:, 50, 50] = 1
    line = disturbances.smeared(image, 0.2, degrees)[0]
    y, x = np.mgrid[0:101, 0:101] - 50
    along = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    across = y * np.cos(np.radians(degrees)) - x * np.sin(np.radians(degrees))
    assert line.sum() == pytest.approx(1, abs=1e-5)
    assert np.sqrt((line * along**2).sum()) == pytest.approx(20.2 / np.sqrt(12), rel=0.06)
    assert np.sqrt((line * across**2).sum()) < 0.6


def test_content_moves_by_shares_of_the_sides_and_no_edge_is_black(image: np.ndarray) -> None:
    moved = disturbances.moved(image, right=0.1, down=0.05)  # 8 and 3 pixels
    np.testing.assert_allclose(moved[:, 3:, 8:], image[:, :-3, :-8], atol=1e-5)
    assert moved.min() > 0.1


def test_turned_by_a_quarter_is_rot90(image: np.ndarray) -> None:
    square = image[:, :60, :60]
    np.testing.assert_allclose(disturbances.moved(square, degrees=90), np.rot90(square, axes=(1, 2)), atol=1e-4)


def test_zoom_enlarges_about_the_centre() -> None:
    image = np.zeros((3, 100, 100), np.float32)
    image[:, 40:60, 40:60] = 1
    assert disturbances.moved(image, zoom=1.5)[0].sum() == pytest.approx(900, rel=0.02)


def test_light_gains_are_factors_and_end_at_white(image: np.ndarray) -> None:
    np.testing.assert_allclose(disturbances.lit(image, 1.1), np.minimum(1.1 * image, 1), atol=1e-6)
    sided = disturbances.lit_from_a_side(np.full((3, 50, 50), 0.5, np.float32), 0.2, 0.0)[0]
    assert sided[:, 0] == pytest.approx(0.4)
    assert sided[:, -1] == pytest.approx(0.6)


def test_what_no_fit_draws_changes_the_image_as_its_name_says(image: np.ndarray) -> None:
    np.testing.assert_allclose(disturbances.curved(image, 2), image**2, rtol=1e-5)
    vignetted = disturbances.vignetted(np.ones((3, 51, 51), np.float32), 0.3)[0]
    assert vignetted[25, 25] == pytest.approx(1)
    assert vignetted[0, 0] == pytest.approx(0.7)
    fringed = disturbances.fringed(image, 0.05)  # 4 pixels of 80
    np.testing.assert_allclose(fringed[0, :, 10:-10], image[0, :, 8:-12], atol=1e-5)
    np.testing.assert_allclose(fringed[2, :, 10:-10], image[2, :, 12:-8], atol=1e-5)
    assert np.array_equal(fringed[1], image[1])
    fine = np.abs(np.diff(image[2])).mean()
    assert np.abs(np.diff(disturbances.resampled(image, 3)[2])).mean() < 0.8 * fine
    salted = disturbances.salted(image, 0.1, np.random.default_rng(0))
    assert (salted != image).any(axis=0).mean() == pytest.approx(0.1, abs=0.02)
    assert set(np.unique(salted[:, (salted != image).any(axis=0)])) == {0.0, 1.0}
