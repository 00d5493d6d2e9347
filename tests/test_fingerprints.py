"""Which pictures count as the same: equal pixels in any file format, and near-duplicates by their signatures."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unmask.imaging.fingerprints import MOST_PAIRS, content_hash, near_duplicates, signature
from unmask.imaging.images import decode, to_uint8
from unmask.imaging.listing import list_images


def part(seed: int, size: int = 128) -> np.ndarray:
    """One of a series of parts in the same pose: a plate with a hole, its own grain, stains and glare."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    plate = 0.9 - 0.6 * (np.hypot(x - 0.5, y - 0.5) < 0.4) + 0.4 * (np.hypot(x - 0.5, y - 0.5) < 0.1)
    for _ in range(20):
        at, width = rng.uniform(0.1, 0.9, 2), rng.uniform(0.03, 0.1)
        plate = plate + rng.uniform(-0.15, 0.15) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / width**2)
    noisy = plate + rng.normal(0, 1 / 255, plate.shape)
    return np.repeat(np.clip(noisy, 0, 0.98)[None], 3, axis=0).astype(np.float32)


def saved(image: np.ndarray, kind: str, **options: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, kind, **options)
    return decode(file.getvalue())


def changed(image: np.ndarray) -> list[np.ndarray]:
    """The same photograph after everything that must not hide it."""
    noise = np.random.default_rng(0).normal(0, 1 / 255, image.shape)
    return [
        saved(image, "JPEG", quality=95),
        saved(image, "JPEG", quality=60),
        np.roll(image, 1, axis=1),
        np.roll(image, -1, axis=2),
        np.clip(image * np.float32(1.02), 0, 1),
        image * np.float32(0.98),
        np.clip(image + noise, 0, 1).astype(np.float32),
    ]


PARTS = [signature(part(seed)) for seed in range(40)]


def test_equal_pixels_have_equal_hashes() -> None:
    pixels = to_uint8(part(0))
    assert content_hash(pixels) == content_hash(pixels.copy())
    assert len(content_hash(pixels)) == 16
    assert content_hash(pixels[..., 0]) == content_hash(pixels), "grey is equal to the same grey in three channels"
    other = pixels.copy()
    other[5, 5, 0] ^= 1
    assert content_hash(other) != content_hash(pixels)
    assert content_hash(pixels.astype(np.uint16)) != content_hash(pixels)
    assert content_hash(np.zeros((4, 6, 3), np.uint8)) != content_hash(np.zeros((6, 4, 3), np.uint8))


def test_different_parts_in_one_pose_are_no_near_duplicates() -> None:
    assert near_duplicates(PARTS) == []


@pytest.mark.parametrize("number", range(7))
def test_the_same_photograph_is_found_again(number: int) -> None:
    copies = [signature(changed(part(seed))[number]) for seed in (3, 17)]
    assert near_duplicates([*PARTS, *copies]) == [(3, 40), (17, 41)]


def test_a_burst_is_found_in_a_small_set_and_pairs_rise() -> None:
    frames = [signature(changed(part(0))[number]) for number in (1, 2)]
    assert near_duplicates([PARTS[0], PARTS[1], *frames, PARTS[2]]) == [(0, 2), (0, 3), (2, 3)]
    assert near_duplicates([PARTS[0], frames[0]]) == []
    assert near_duplicates([]) == []


def test_two_kinds_of_parts_in_one_folder_are_no_near_duplicates_of_their_kind() -> None:
    others = [signature(1 - part(seed)[:, ::-1]) for seed in range(100, 140)]
    assert near_duplicates([*PARTS, *others]) == []


def test_images_without_content_are_no_near_duplicates() -> None:
    flat = [signature(np.full((3, 50, 70), value, np.float32)) for value in (0, 0.5, 1, 0, 0)]
    assert near_duplicates([*flat, PARTS[0]]) == []


def test_a_signature_does_not_depend_on_the_size_of_the_image() -> None:
    large = np.repeat(np.repeat(part(0), 3, axis=1), 2, axis=2)
    assert signature(large).shape == (40, 40)
    np.testing.assert_allclose(signature(large), signature(part(0)), atol=2e-3)
    assert np.isfinite(signature(np.ones((3, 1, 2), np.float32))).all()
    np.testing.assert_allclose(signature(np.full((3, 33, 500), 0.25, np.float32)), 0.25, atol=1e-3)


def test_the_number_of_pairs_has_a_limit() -> None:
    copies = [PARTS[0]] * 700 + PARTS[1:]
    pairs = near_duplicates(copies)
    assert len(pairs) == MOST_PAIRS
    assert {j for i, j in pairs if i == 0} == set(range(1, 700)), "the first of a burst names all the others"


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("mvtec_bottle", [("069", "070")]),  # one bottle, photographed twice: the same fibre lies on it
        ("mvtec_transistor_nomask", []),
        ("mpdd_metal_plate", []),
        ("elpv_solar_mono", []),
    ],
)
def test_real_parts(name: str, pairs: list[tuple[str, str]], real_images: Path) -> None:
    paths = list_images(real_images / name / "train" / "good")
    signatures = [signature(decode(path)) for path in paths]
    assert [(paths[i].stem, paths[j].stem) for i, j in near_duplicates(signatures)] == pairs
    for one in (5, 25, 45):
        copies = [signature(copy) for copy in changed(decode(paths[one]))]
        found = near_duplicates([*signatures, *copies])
        assert {(one, len(paths) + number) for number in range(len(copies))} <= set(found)
