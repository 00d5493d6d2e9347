"""Plain measures of a photograph: each tells what it is named for, at any size, and is not moved by the others."""

import numpy as np
import pytest

from unmask.imaging.disturbances import blurred, compressed, lit, lit_from_a_side, moved, noisy, tinted
from unmask.imaging.images import resize
from unmask.imaging.measures import View, brightened, shift_of, view_of


def part(side: int = 128) -> np.ndarray:
    """A bright disc with stripes, left of the middle, on a dark ground with a little noise: (3, side, side)."""
    y, x = np.mgrid[:side, :side] / side
    disc = (x - 0.42) ** 2 + (y - 0.5) ** 2 < 0.3**2
    grey = 0.2 + 0.4 * disc + 0.1 * disc * np.sin(60 * (x + 0.2 * y))
    noise = 0.01 * np.random.default_rng(0).standard_normal((side, side))
    return np.clip(np.broadcast_to(grey + noise, (3, side, side)), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return part()


@pytest.fixture(scope="module")
def view(image: np.ndarray) -> View:
    return view_of(image)


def test_brightness_and_contrast_are_those_of_the_pixels(image: np.ndarray, view: View) -> None:
    assert view.measures.brightness == pytest.approx(image.mean(), rel=1e-4)
    assert view.measures.contrast == pytest.approx(image.mean(axis=0).std(), rel=1e-3)
    assert view_of(lit(image, 0.5)).measures.brightness == pytest.approx(view.measures.brightness / 2, rel=1e-3)


def test_blur_takes_sharpness_and_light_does_not(image: np.ndarray, view: View) -> None:
    assert view_of(blurred(image, 0.01)).measures.sharpness < 0.8 * view.measures.sharpness
    assert view_of(lit(image, 0.8)).measures.sharpness == pytest.approx(view.measures.sharpness, rel=0.01)


def test_noise_is_in_proportion_to_its_deviation(image: np.ndarray) -> None:
    flat, random = np.full((3, 64, 64), 0.5, np.float32), np.random.default_rng(1)
    little, much = (view_of(noisy(flat, sigma, random)).measures.noise for sigma in (0.01, 0.03))
    assert view_of(flat).measures.noise == 0
    assert much / little == pytest.approx(3, rel=0.1)


def test_blocks_are_seen_where_jpeg_left_them_and_only_there(image: np.ndarray, view: View) -> None:
    bad = compressed(image, 20)
    assert view.measures.blocks == pytest.approx(1, abs=0.1)
    assert view_of(bad).measures.blocks > 1.3
    assert view_of(bad, (3, 5, 128, 128)).measures.blocks > 1.3, "they are counted from the image's corner"
    assert view_of(np.roll(bad, 4, (1, 2))).measures.blocks < 1.1


def test_colour_is_a_ratio_to_green(image: np.ndarray, view: View) -> None:
    tinted_view = view_of(tinted(image, np.array([1.1, 1.0, 0.8])))
    assert (view.measures.red, view.measures.blue) == (1, 1)
    assert tinted_view.measures.red == pytest.approx(1.1, rel=0.01)
    assert tinted_view.measures.blue == pytest.approx(0.8, rel=0.01)


@pytest.mark.parametrize(("right", "down"), [(0.03, 0.0), (-0.05, 0.0), (0.0, 0.02), (0.04, -0.04)])
def test_a_shift_is_found_and_light_from_a_side_is_none(
    image: np.ndarray, view: View, right: float, down: float
) -> None:
    def place(other: np.ndarray) -> tuple[float, float]:
        found = view_of(other)
        return shift_of(found.across, view.across), shift_of(found.down, view.down)

    assert place(moved(image, right=right, down=down)) == pytest.approx((right, down), abs=0.006)
    assert place(lit_from_a_side(image, 0.2, 30)) == pytest.approx((0, 0), abs=0.006)


def test_light_from_the_right_is_light_x(image: np.ndarray, view: View) -> None:
    lit_right = view_of(lit_from_a_side(image, 0.2, 0)).measures
    assert lit_right.light_x > view.measures.light_x + 0.1
    assert lit_right.light_y == pytest.approx(view.measures.light_y, abs=0.02)


def test_a_turn_is_direction_and_a_zoom_is_extent(image: np.ndarray, view: View) -> None:
    clockwise, counter = (view_of(moved(image, degrees=degrees)).measures.direction for degrees in (-10, 10))
    assert abs(clockwise - counter) > 0.05
    assert view_of(moved(image, zoom=0.8)).measures.extent < view.measures.extent


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 3), (40, 1), (700, 300), (1500, 1000)])
def test_an_image_of_any_size_is_measured(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    found = view_of(random)
    assert np.isfinite([*found.measures, found.constant, *found.across, *found.down, *found.texture]).all()


def test_a_larger_copy_measures_alike(image: np.ndarray, view: View) -> None:
    large = view_of(resize(image, 600, 600))
    assert large.measures.brightness == pytest.approx(view.measures.brightness, rel=0.01)
    assert shift_of(large.across, view.across) == pytest.approx(0, abs=0.005)
    assert large.texture[6:] == pytest.approx(view.texture[6:], abs=0.4)


@pytest.mark.parametrize("rows", [0, 16, 64, 120])
def test_rows_of_one_colour_are_counted_from_the_bottom(image: np.ndarray, rows: int) -> None:
    cut = image.copy()
    cut[:, 128 - rows :] = 0.5
    cut[:, :8] = 0.1
    assert view_of(cut).constant == pytest.approx(max(rows, 1) / 128, abs=1 / 128)


def test_brightened_is_as_if_the_image_had_been_brighter(image: np.ndarray, view: View) -> None:
    dark = view_of(image / 4).brightened(4)
    for name, value in view.measures._asdict().items():
        assert getattr(dark.measures, name) == pytest.approx(value, rel=0.02, abs=0.01), name
    assert dark.across == pytest.approx(view.across, abs=1e-5)
    assert dark.texture == pytest.approx(view.texture, abs=0.05)
    assert brightened(np.stack([view.texture] * 2), 1.0) == pytest.approx(np.stack([view.texture] * 2))
