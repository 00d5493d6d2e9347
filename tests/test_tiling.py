"""Images of any size to squares and back: tiles without seams, aspect kept, regions of interest."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unmask.errors import ImageError, SettingError
from unmask.imaging.images import resize
from unmask.imaging.region import region_of
from unmask.imaging.tiling import Tiling, merge, split
from unmask.inspection.scoring import Reading, Scored, score_images
from unmask.types import ArrayPrediction

RANDOM = np.random.default_rng(0)


def ramp(h: int, w: int) -> np.ndarray:
    """An image whose brightness says where a pixel lies."""
    y, x = np.mgrid[:h, :w]
    return np.stack([y / h, x / w, (y + x) / (h + w)]).astype(np.float32)


def squares_of(tiling: Tiling, image: np.ndarray) -> list[np.ndarray]:
    squares = list(split(image, tiling))
    assert all(square.shape == (3, tiling.size, tiling.size) for square in squares)
    return squares


def merged(tiling: Tiling, image: np.ndarray) -> np.ndarray:
    """The map of a detector whose map is the square's first channel."""
    h, w = image.shape[1:]
    return merge((square[0] for square in split(image, tiling)), tiling, h, w)


def scored(tiling: Tiling, image: np.ndarray) -> Scored:
    """By a detector whose map is the square's first channel, and whose score is its maximum."""

    def predict(squares: np.ndarray) -> ArrayPrediction:
        return ArrayPrediction(squares[:, 0], squares[:, 0].max((1, 2)))

    (found,) = score_images(predict, Reading(tiling), [image.transpose(1, 2, 0)], batch=2)
    assert isinstance(found, Scored)
    return found


def test_squashed_is_what_resize_gives() -> None:
    image = RANDOM.random((3, 40, 70), np.float32)
    (square,) = squares_of(Tiling(32), image)
    assert np.array_equal(square, resize(image, 32, 32))
    assert merged(Tiling(32), image).shape == (40, 70)


@pytest.mark.parametrize(("h", "w"), [(100, 40), (40, 100), (64, 64), (33, 90)])
def test_fit_keeps_the_aspect_and_finds_the_way_back(h: int, w: int) -> None:
    image = ramp(h, w)
    found = merged(Tiling(64, resize="fit"), image)
    assert found.shape == (h, w)
    assert np.abs(found - image[0]).max() < 0.05
    (square,) = squares_of(Tiling(64, resize="fit"), image)
    one = np.zeros((3, h, w), np.float32)
    one[:, h // 2 - 8 : h // 2 + 8, w // 2 - 8 : w // 2 + 8] = 1
    (square,) = squares_of(Tiling(64, resize="fit"), one)
    rows, columns = np.flatnonzero(square[0].max(1) > 0.5), np.flatnonzero(square[0].max(0) > 0.5)
    assert abs(len(rows) - len(columns)) <= 1, "a square stays a square"


def test_crop_judges_the_middle_and_says_least_of_the_rest() -> None:
    image = ramp(40, 100)
    found = merged(Tiling(40, resize="crop"), image)
    np.testing.assert_allclose(found[:, 30:70], image[0][:, 30:70], atol=1e-6)
    assert (found[:, :30] == found.min()).all()
    assert (found[:, 70:] == found.min()).all()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(("h", "w"), [(64, 64), (64, 200), (150, 331), (50, 40), (65, 64)])
def test_tiles_cover_everything_and_leave_no_seam(h: int, w: int, overlap: float) -> None:
    tiling = Tiling(64, tile=64, overlap=overlap)
    image = ramp(h, w)
    assert len(tiling.corners(h, w)) == len(squares_of(tiling, image))
    np.testing.assert_allclose(merged(tiling, image), image[0], atol=1e-5)
    for length in (h, w):
        starts = tiling.starts(length)
        assert starts[0] == 0
        assert starts[-1] == max(0, length - 64) or length <= 64
        steps = np.diff(starts)
        assert (steps <= 64 * (1 - overlap) + 1).all(), "neighbours overlap as much as was asked"


def test_the_score_of_tiles_is_their_highest_and_the_best_tile_is_remembered() -> None:
    image = np.zeros((3, 100, 300), np.float32)
    image[:, 40:50, 250:260] = 1
    found = scored(Tiling(64, tile=64), image)
    assert found.score == 1
    assert found.square.max() == 1
    assert found.size == (64, 64)
    np.testing.assert_allclose(found.map, image[0], atol=1e-5)


def test_tiles_where_maps_disagree_are_blended() -> None:
    tiling = Tiling(8, tile=32, overlap=0.5)
    assert len(squares_of(tiling, np.zeros((3, 32, 48), np.float32))) == 2
    row = merge([np.full((8, 8), value, np.float32) for value in (0, 1)], tiling, 32, 48)[16]
    assert (row[:16] == 0).all()
    assert (row[32:] == 1).all()
    assert (np.diff(row) >= -1e-6).all(), "it rises from one tile to the next"
    assert np.diff(row).max() < 0.1, "without a step"


def test_a_box_is_all_that_is_seen() -> None:
    image = ramp(60, 80)
    tiling = Tiling(20, box=(10, 20, 50, 60))
    (square,) = squares_of(tiling, image)
    assert np.array_equal(square, resize(image[:, 20:60, 10:50], 20, 20))
    found = merged(tiling, image)
    assert found.shape == (60, 80)
    outside = np.ones((60, 80), bool)
    outside[20:60, 10:50] = False
    assert (found[outside] == found.min()).all()
    with pytest.raises(ImageError, match=re.escape("is 40 x 30 pixels, the region 10,20,50,60 reaches beyond")):
        squares_of(tiling, ramp(30, 40))


def test_a_mask_hides_what_is_outside(tmp_path: Path) -> None:
    picture = np.zeros((30, 40), np.uint8)
    picture[5:25, 10:30] = 255
    picture[5:10, 10:15] = 0  # a corner is left out
    Image.fromarray(picture).save(tmp_path / "region.png")
    tiling = Tiling(20, **region_of(str(tmp_path / "region.png")))
    assert tiling.region(30, 40) == (10, 5, 30, 25)
    assert tiling.region(60, 80) == (20, 10, 60, 50), "it is stretched over images of other sizes"
    noise = RANDOM.random((3, 30, 40), np.float32)
    other = noise.copy()
    other[:, picture == 0] = 0
    a, b = (next(split(one, tiling)) for one in (noise, other))
    assert np.array_equal(a, b), "what is outside does not matter"
    found = merged(tiling, noise)
    assert (found[picture == 0] == found[picture > 0].min()).all()
    np.testing.assert_allclose(found[picture > 0], noise[0][picture > 0], atol=1e-6)
    again = Tiling.from_dict(tiling.to_dict())
    assert again == tiling
    assert np.array_equal(again.inside(30, 40), picture > 0)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"resize": "stretch"}, "stretch"),
        ({"tile": 8}, "8"),
        ({"tile": 64, "resize": "fit"}, "fit"),
        ({"overlap": 0.9}, "0.9"),
        ({"box": (5, 5, 5, 9)}, "5,5,5,9"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_line(settings: dict[str, object], word: str) -> None:
    with pytest.raises(SettingError) as caught:
        Tiling(64, **settings)  # type: ignore[arg-type]
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_region_is_four_numbers_or_a_picture(tmp_path: Path) -> None:
    assert region_of("1,2, 3,4") == {"box": (1, 2, 3, 4)}
    Image.new("L", (9, 9)).save(tmp_path / "black.png")
    for text in ("1,2,3", "everywhere", str(tmp_path / "black.png")):
        with pytest.raises(SettingError) as caught:
            region_of(text)
        assert text in str(caught.value)


def test_merging_twice_gives_the_same_map() -> None:
    tiling = Tiling(16, tile=32)
    maps = list(RANDOM.random((6, 16, 16), np.float32))
    h, w = 32, 150
    maps = maps[: len(tiling.corners(h, w))]
    assert np.array_equal(merge(maps, tiling, h, w), merge(maps, tiling, h, w)), "nothing is kept between calls"


@pytest.mark.parametrize("size", [(40, 30), (400, 300), (7, 5)])
def test_a_region_of_one_pixel_can_be_judged_at_every_size(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.zeros((300, 400), np.uint8)
    picture[100, 200] = 255
    Image.fromarray(picture).save(tmp_path / "dot.png")
    tiling = Tiling(16, **region_of(str(tmp_path / "dot.png")))
    w, h = size
    x0, y0, x1, y1 = tiling.region(h, w)
    assert (x0 <= 200 * w / 400 < x1, y0 <= 100 * h / 300 < y1) == (True, True), "what the region touches is in it"
    assert merged(tiling, ramp(h, w)).shape == (h, w)


def test_a_thin_region_survives_the_model_file(tmp_path: Path) -> None:
    picture = np.zeros((1500, 3000), np.uint8)
    picture[:, 1501] = 255
    Image.fromarray(picture).save(tmp_path / "line.png")
    tiling = Tiling(16, **region_of(str(tmp_path / "line.png")))
    assert tiling.inside(1500, 3000)[:, 1501].all()
    assert tiling.inside(1500, 3000).mean() < 0.005
