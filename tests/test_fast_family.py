"""patchcore, fre, protoad and their fusion: each equation by another way, and what a fusion must not do twice."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from tiny import FEATURES, FRE, FUSE, PATCHCORE, PROTOAD, SIZE, Textures, planted, texture
from unmask.detectors import Detector, build, find, fre, make
from unmask.detectors.fuse import ASIDE, Fuse
from unmask.detectors.patchcore import PatchCore
from unmask.errors import SettingError
from unmask.features.backbones import Backbone
from unmask.features.finch import finch
from unmask.features.maps import FeatureMaps
from unmask.features.turned import Turned
from unmask.training.trainer import Training

CPU = Training(device="cpu")
ISSTAD = {f"isstad.{key}": value for key, value in FEATURES.items() if key not in ("backbone", "image_size")}
SMOOTHINGS_AND_PEAKS = [(0.0, 0.0), (8.0, 0.1), (20.0, 1.0)]


def fitted(name: str, overrides: dict[str, Any], images: Any = None, training: Training = CPU) -> Any:
    detector: Any = make(name, "fast", overrides)
    detector.fit(Textures(20) if images is None else images, training)
    return detector


def new_images() -> Tensor:
    images = torch.stack([texture(500 + i) for i in range(3)])
    images[1] = planted(images[1])
    return images


def stripes(degrees: float, phase: float = 0.0, size: int = SIZE) -> Tensor:
    """A grating whose normal stands at an angle to the x axis; y goes down. Its parts differ in colour, not in kind."""
    y, x = torch.meshgrid(torch.arange(size) - (size - 1) / 2, torch.arange(size) - (size - 1) / 2, indexing="ij")
    along = x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees))
    return torch.stack([0.5 + 0.3 * torch.sin(0.35 * along + phase + turn) for turn in (0, 1, 2)])


class Listed:
    """Given images."""

    def __init__(self, *images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


# --- oracles ----------------------------------------------------------------------------------------------------------


def patches(detector: Any, images: Tensor) -> np.ndarray:
    """3 x 3 means of each level, on the grid of the finest: (b, cells, channels)."""
    joined = []
    for one in detector.maps(images):
        mean = ndimage.uniform_filter(one.numpy(), size=(1, 1, 3, 3), mode="constant")
        joined.append(F.interpolate(torch.from_numpy(mean), size=detector.grid, mode="bilinear"))
    return torch.cat(joined, dim=1).flatten(2).transpose(1, 2).double().numpy()


def assert_says(detector: Any, images: Tensor, grids: np.ndarray, tolerance: float = 1e-4) -> None:
    """A detector's maps and scores are those of these grids: the maps smoothed, the scores as `score_from` has it."""
    said = detector.predict(images)
    sigma = detector.smoothing * grids.shape[-1] / SIZE
    smooth = np.stack([ndimage.gaussian_filter(one, sigma, mode="nearest", truncate=3) for one in grids])
    scored = grids if getattr(detector, "score_from", "smoothed") == "raw" else smooth
    ordered = np.sort(scored.reshape(len(grids), -1), axis=1)[:, ::-1]
    scores = ordered[:, : max(1, round(detector.peak * ordered.shape[1]))].mean(1)
    maps = F.interpolate(torch.from_numpy(smooth)[:, None], size=SIZE, mode="bilinear")[:, 0]
    scale = float(smooth.max())
    torch.testing.assert_close(said.maps.double(), maps, rtol=0, atol=tolerance * scale)
    torch.testing.assert_close(said.scores.double(), torch.from_numpy(scores), rtol=0, atol=tolerance * scale)


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


# --- patchcore --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("smoothing", "peak"), SMOOTHINGS_AND_PEAKS)
@pytest.mark.parametrize("levels", [(2, 3), (3,)])
def test_patchcore_is_the_distance_to_the_nearest(levels: tuple[int, ...], smoothing: float, peak: float) -> None:
    detector = fitted("patchcore", {**PATCHCORE, "levels": levels, "smoothing": smoothing, "peak": peak})
    images = new_images()
    found = [cdist(one, detector.bank.double().numpy()).min(1) for one in patches(detector, images)]
    assert_says(detector, images, np.stack(found).reshape(3, detector.grid, detector.grid), tolerance=1e-3)


@pytest.mark.parametrize("smoothing", [4.0, 20.0])
def test_patchcore_s_paper_scores_by_the_largest_raw_distance(smoothing: float) -> None:
    """Equation 6: the map is smoothed, the score is not."""
    detector: Any = build(find("patchcore"), "paper", {**PATCHCORE, "coreset": 0.1, "smoothing": smoothing})
    detector.fit(Textures(8), CPU)
    images = new_images()
    bank = detector.bank.double()
    expected = [torch.cdist(torch.from_numpy(one), bank).amin(1).max() for one in patches(detector, images)]
    found = detector.predict(images)
    torch.testing.assert_close(found.scores.double(), torch.stack(expected), rtol=1e-3, atol=1e-4)
    assert (found.scores > 1.02 * found.maps.amax((1, 2))).all()


def test_protoad_s_paper_scores_by_the_largest_raw_distance() -> None:
    detector: Any = build(find("protoad"), "paper", PROTOAD)
    detector.fit(Textures(8), CPU)
    images = new_images()
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in patches(detector, images)]
    expected = [1 - (one @ detector.kernels.double().numpy().T).max(1).min() for one in unit]
    found = detector.predict(images)
    torch.testing.assert_close(found.scores.double(), torch.tensor(expected).double(), rtol=1e-3, atol=1e-5)
    assert (found.scores > 1.02 * found.maps.amax((1, 2))).all()


def test_one_far_patch_decides_the_raw_score_alone() -> None:
    """By hand: a bank of (0, ...), and patches at distance 0 but for one at 3."""
    raw, smoothed = (
        build(find("patchcore"), "paper", {"backbone": "tiny", "image_size": SIZE, "levels": (2,), "score_from": name})
        for name in ("raw", "smoothed")
    )
    maps = torch.zeros(1, 8, 8, 8)
    maps[0, 0, 3:6, 2:5] = 3.0  # only the cell in the middle has a 3 x 3 mean of 3
    for detector in (raw, smoothed):
        detector.set_buffers(bank=torch.zeros(1, 8).half(), fitted=torch.ones(()).byte())
    assert raw.score_maps([maps]).scores.item() == pytest.approx(3.0)
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / 0.5) ** 2)  # 4 pixels are half a cell; three sigmas are two cells
    kernel /= kernel.sum()
    cells = np.array([1, 2, 3, 2, 1]) @ kernel / 3
    assert smoothed.score_maps([maps]).scores.item() == pytest.approx(3 * cells**2, rel=1e-5)
    assert torch.equal(raw.score_maps([maps]).maps, smoothed.score_maps([maps]).maps)


@pytest.mark.parametrize("selection", ["greedy", "random"])
@pytest.mark.parametrize(
    ("more", "size"),
    [
        ({"bank_size": 30}, 30),
        ({"bank_size": 10_000, "coreset": 0.25}, 100),
        ({"bank_size": 10_000, "coreset": 0.25, "candidates": 10_000}, 20 * 64 // 4),
        ({"bank_size": 10_000, "coreset": 1e-6}, 1),
    ],
)
def test_the_bank_is_normal_patches(selection: str, more: dict[str, Any], size: int) -> None:
    detector = fitted("patchcore", {**PATCHCORE, "selection": selection, **more})
    assert (len(detector.bank), detector.bank.dtype) == (size, torch.float16)
    normal = patches(detector, torch.stack(Textures(20).images)).reshape(-1, detector.bank.shape[1])
    away = cdist(detector.bank.double().numpy(), normal)
    assert away.min(1).max() < 1e-3, "each is a patch of a normal image"
    assert len(np.unique(away.argmin(1))) == size, "and none twice"


def test_a_greedy_bank_covers_better_than_a_random_one() -> None:
    radii = {}
    for selection in ("greedy", "random"):
        detector = fitted("patchcore", {**PATCHCORE, "selection": selection, "bank_size": 40, "candidates": 10_000})
        normal = patches(detector, torch.stack(Textures(20).images)).reshape(-1, detector.bank.shape[1])
        radii[selection] = cdist(normal, detector.bank.double().numpy()).min(1).max()
    assert radii["greedy"] < 0.9 * radii["random"]


def test_candidates_come_from_all_images() -> None:
    images = Textures(6)
    images.images[-1] = planted(images.images[-1])
    detector = fitted("patchcore", {**PATCHCORE, "candidates": 200, "bank_size": 200, "peak": 0.0}, images)
    without = fitted("patchcore", {**PATCHCORE, "candidates": 200, "bank_size": 200, "peak": 0.0}, Textures(6))
    last = images.images[-1][None]
    assert detector.predict(last).scores < 0.5 * without.predict(last).scores


# --- a few images, turned ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angles", [1, 3, 4, 8])
def test_turned_images_are_counted(angles: int) -> None:
    images = Textures(3)
    turned = Turned(images, angles)
    assert len(turned) == 3 * angles * 2
    for number in range(3):
        versions = [turned[number * angles * 2 + i] for i in range(angles * 2)]
        assert {tuple(one.shape) for one in versions} == {(3, SIZE, SIZE)}
        torch.testing.assert_close(versions[0], images[number], rtol=0, atol=0)
        for i, one in enumerate(versions):
            assert all(not torch.allclose(one, other, atol=0.05) for other in versions[:i])


@pytest.mark.parametrize("size", [64, 72, 24])
def test_right_angles_and_mirrors(size: int) -> None:
    image = texture(3, size)
    turned = Turned(Listed(image), 4)
    for step in range(4):
        expected = torch.rot90(image, step, (1, 2))
        torch.testing.assert_close(turned[2 * step], expected, rtol=0, atol=1e-3)
        torch.testing.assert_close(turned[2 * step + 1], turned[2 * step].flip(2), rtol=0, atol=0)


@pytest.mark.parametrize(("angles", "step"), [(8, 1), (8, 3), (12, 1), (5, 2)])
def test_other_angles_turn_what_is_in_the_middle(angles: int, step: int) -> None:
    turned = Turned(Listed(stripes(20)), angles)[2 * step]
    expected = stripes(20 - 360 * step / angles)  # anticlockwise, where y goes down
    at = torch.arange(SIZE) - (SIZE - 1) / 2
    inside = (at[:, None] ** 2 + at**2).sqrt() < SIZE / 2 - 2
    assert (turned - expected).abs().mean(0)[inside].max() < 0.03


@pytest.mark.parametrize("angles", [3, 8, 7])
def test_no_corner_is_empty(angles: int) -> None:
    for image in (Turned(Listed(torch.full((3, SIZE, SIZE), 0.7)), angles)[i] for i in range(2 * angles)):
        torch.testing.assert_close(image, torch.full((3, SIZE, SIZE), 0.7))


def test_corners_show_the_image_mirrored() -> None:
    """Half black, half white, turned by an eighth: the corners keep to the side they are on."""
    image = torch.zeros(3, SIZE, SIZE)
    image[:, :, SIZE // 2 :] = 1
    turned = Turned(Listed(image), 8)[2]
    assert turned.unique().numel() > 2
    corners = turned[0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners[1] > 0.9, "the upper right was the right"
    assert corners[2] < 0.1, "the lower left was the left"


def test_turned_copies_are_in_the_bank(seen: list[int]) -> None:
    """The preset for few images."""
    plain = fitted("patchcore", {**PATCHCORE, "bank_size": 5_000}, Textures(1))
    few: Any = build(find("patchcore"), "few", {"backbone": "tiny", "image_size": SIZE})
    seen.clear()
    few.fit(Textures(1), CPU)
    assert few.rotations > 0
    assert sum(seen) == 2 * few.rotations
    assert (len(plain.bank), len(few.bank)) == (64, 2 * few.rotations * 64)
    spread = [torch.pdist(bank[torch.randperm(len(bank))[:64]].float()).mean() for bank in (plain.bank, few.bank)]
    assert few.bank.unique(dim=0).shape[0] > 4 * plain.bank.unique(dim=0).shape[0]
    assert spread[1] > 0.5 * spread[0], "they differ as much as those of the image"
    assert cdist(plain.bank.double().numpy(), few.bank.double().numpy()).min(1).max() < 1e-3, "it has the image too"


@pytest.mark.parametrize("seed", range(3))
def test_a_turned_normal_image_is_normal_to_it(seed: int) -> None:
    normal = Listed(stripes(20, phase=seed), stripes(20, phase=seed + 2))
    settings = {**PATCHCORE, "bank_size": 5_000, "candidates": 100_000}
    scores = {
        rotations: fitted("patchcore", {**settings, "rotations": rotations}, normal)
        .predict(torch.stack([torch.rot90(stripes(20, seed + 1), 1, (1, 2)), stripes(20, seed + 1).flip(2)]))
        .scores
        for rotations in (0, 1, 4)
    }
    assert (scores[4] < 0.6 * scores[0]).all()
    assert scores[1][1] < 0.6 * scores[0][1], "mirrored copies are in the bank even where nothing is turned"


def test_a_bank_of_turned_copies_still_sees_a_defect() -> None:
    detector = fitted("patchcore", {**PATCHCORE, "rotations": 4, "bank_size": 5_000}, Textures(2))
    said = detector.predict(new_images())
    assert said.scores[1] > 2 * said.scores[[0, 2]].max()


# --- fre --------------------------------------------------------------------------------------------------------------


def kept_maps(level: int, images: list[Tensor]) -> np.ndarray:
    """As features are kept: in half precision."""
    (one,) = FeatureMaps("tiny", SIZE, (level,))(torch.stack(images))
    return one.half().double().numpy()


def pooled(maps: np.ndarray, pool: int) -> np.ndarray:
    b, c, h, w = maps.shape
    return maps.reshape(b, c, h // pool, pool, w // pool, pool).mean((3, 5))


def fre_grids(
    levels: tuple[int, ...], pool: int, share: float, train: list[Tensor], new: list[Tensor], *, standard: bool = True
) -> np.ndarray:
    """Reconstruction errors of scikit-learn's PCA: each level's mean square, cell by cell, and the levels' mean."""
    vectors: dict[str, list[np.ndarray]] = {"train": [], "new": []}
    shapes = []
    for level in levels:
        normal = kept_maps(level, train)
        mean, std = normal.mean((0, 2, 3), keepdims=True), normal.std((0, 2, 3), keepdims=True).clip(1e-3)
        mean, std = (mean, std) if standard else (np.zeros(1), np.ones(1))
        for name, images in (("train", train), ("new", new)):
            small = pooled((kept_maps(level, images) - mean) / std, pool)
            vectors[name].append(small.reshape(len(images), -1) / math.sqrt(small[0].size))
        shapes.append(small.shape[1:])
    joined = {name: np.concatenate(parts, axis=1) for name, parts in vectors.items()}
    pca = PCA(n_components=share, svd_solver="full").fit(joined["train"])
    missed = (joined["new"] - pca.inverse_transform(pca.transform(joined["new"]))) ** 2
    sizes = [math.prod(shape) for shape in shapes]
    grids = []
    for part, (c, h, w) in zip(np.split(missed, np.cumsum(sizes)[:-1], axis=1), shapes, strict=True):
        cells = part.reshape(-1, c, h, w).sum(1, keepdims=True) * h * w
        grids.append(F.interpolate(torch.from_numpy(cells), size=shapes[0][1], mode="bilinear")[:, 0].numpy())
    return np.asarray(np.mean(grids, axis=0))


@pytest.mark.parametrize(("levels", "pool"), [((3,), 1), ((3,), 2), ((2,), 2), ((2, 3), 1), ((2, 3), 2)])
@pytest.mark.parametrize(("smoothing", "peak"), SMOOTHINGS_AND_PEAKS)
def test_fre_is_what_a_pca_cannot_express(levels: tuple[int, ...], pool: int, smoothing: float, peak: float) -> None:
    overrides = {**FRE, "levels": levels, "pool": pool, "smoothing": smoothing, "peak": peak, "variance_share": 0.8}
    detector = fitted("fre", overrides)
    images = new_images()
    grids = fre_grids(levels, pool, 0.8, Textures(20).images, list(images))
    assert_says(detector, images, grids, tolerance=5e-3)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_fre_s_paper_is_a_pca_of_the_map_as_it_is(share: float) -> None:
    """One layer, pooled, its channels not standardised; the score is the total error over the number of values."""
    detector: Any = build(find("fre"), "paper", {"backbone": "tiny", "image_size": SIZE, "variance_share": share})
    detector.fit(Textures(20), CPU)
    images = new_images()
    train, new = (pooled(kept_maps(3, some), 2).reshape(len(some), -1) for some in (Textures(20).images, list(images)))
    pca = PCA(n_components=share, svd_solver="full").fit(train)
    assert detector.basis.shape[1] == pca.n_components_
    totals = ((new - pca.inverse_transform(pca.transform(new))) ** 2).sum(1)
    torch.testing.assert_close(
        detector.predict(images).scores.double(), torch.from_numpy(totals / train.shape[1]), rtol=1e-2, atol=0
    )
    grids = fre_grids((3,), 2, share, Textures(20).images, list(images), standard=False)
    assert_says(detector, images, grids, tolerance=5e-3)
    standard = make("fre", "fast", {**FRE, "levels": (3,), "variance_share": share})
    standard.fit(Textures(20), CPU)
    assert not torch.equal(standard.get_buffer("standard.std0"), torch.ones(16, 1, 1))


def test_fre_knows_its_own_images_by_heart() -> None:
    detector = fitted("fre", {**FRE, "variance_share": 1.0})
    own, new = (torch.stack(Textures(8, first).images) for first in (0, 500))
    assert detector.predict(own).scores.max() < 0.01 * detector.predict(new).scores.min()


def test_fre_knows_the_images_that_it_drew() -> None:
    detector = fitted("fre", {**FRE, "variance_share": 1.0, "images": 5})
    scores = detector.predict(torch.stack(Textures(20).images)).scores
    assert int((scores < 0.01 * scores.max()).sum()) == 5
    assert detector.basis.shape[1] == 4


def test_a_pool_averages() -> None:
    """A pattern that the cells of a pool cancel is not seen, the same of one sign is."""
    image = 0.5 * torch.ones(3, SIZE, SIZE)
    detectors = {pool: fitted("fre", {**FRE, "levels": (2,), "pool": pool}) for pool in (1, 2, 4, 8)}
    sides = {pool: detector.sides for pool, detector in detectors.items()}
    assert sides == {1: [8], 2: [4], 4: [2], 8: [1]}
    raw = detectors[2].maps(image[None])
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
    for pool, detector in detectors.items():
        plain, checked, raised = (
            detector.score_maps([raw[0] + change]).scores for change in (torch.zeros(8, 8), 0.1 * checks, 0.1)
        )
        assert (raised - plain).abs() > 1e-2
        assert ((checked - plain).abs() > 1e-2) == (pool == 1)


# --- protoad ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("smoothing", "peak"), SMOOTHINGS_AND_PEAKS)
@pytest.mark.parametrize("levels", [(2, 3), (2,)])
def test_protoad_is_one_minus_the_largest_cosine(levels: tuple[int, ...], smoothing: float, peak: float) -> None:
    detector = fitted("protoad", {**PROTOAD, "levels": levels, "smoothing": smoothing, "peak": peak})
    images = new_images()
    kernels = detector.kernels.double().numpy()
    found = [1 - cosine_similarity(one, kernels).max(1) for one in patches(detector, images)]
    assert_says(detector, images, np.stack(found).reshape(3, detector.grid, detector.grid), tolerance=2e-2)
    exact = [
        1 - (one / np.linalg.norm(one, axis=1, keepdims=True) @ kernels.T).max(1) for one in patches(detector, images)
    ]
    assert_says(detector, images, np.stack(exact).reshape(3, detector.grid, detector.grid), tolerance=1e-3)


@pytest.mark.parametrize("most", [20, 100, 200, 100_000])
def test_prototypes_are_the_finest_partition_that_is_small_enough(most: int) -> None:
    images = Textures(6)
    detector = fitted("protoad", {**PROTOAD, "prototypes": most, "candidates": 100_000}, images)
    assert len(detector.kernels) <= most
    torch.testing.assert_close(
        detector.kernels.float().norm(dim=1), torch.ones(len(detector.kernels)), rtol=0, atol=2e-3
    )
    vectors = patches(detector, torch.stack(images.images)).reshape(6 * 64, -1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    partitions = [labels.numpy() for labels in finch(torch.from_numpy(unit).float())]
    small = [labels for labels in partitions if labels.max() < most]
    if small:
        means = np.stack([unit[small[0] == k].mean(0) for k in range(small[0].max() + 1)])
        assert len(detector.kernels) == len(means)
        assert cosine_similarity(means, detector.kernels.double().numpy()).max(1).min() > 1 - 1e-4


def test_patches_count_by_direction() -> None:
    detector = fitted("protoad", PROTOAD)
    maps = detector.maps(new_images())
    torch.testing.assert_close(detector.score_maps([3 * one for one in maps]).maps, detector.score_maps(maps).maps)


# --- a fusion: its parts ----------------------------------------------------------------------------------------------


def test_names_joined_by_plus_are_a_fusion() -> None:
    detector: Any = make("patchcore+fre", "fast", FUSE)
    assert (type(detector), detector.parts) == (Fuse, "patchcore+fre")
    assert [type(part).name for part in detector.members] == ["patchcore", "fre"]
    assert find("protoad+isstad") is find("fuse") is Fuse
    assert type(make("patchcore", "fast", PATCHCORE)) is PatchCore
    three: Any = make("fre + protoad+fre", "fast", {"backbone": "tiny", "image_size": SIZE})
    assert [type(part).name for part in three.members] == ["fre", "protoad", "fre"]


def test_a_dotted_setting_reaches_its_part() -> None:
    base = {"backbone": "tiny", "image_size": SIZE}
    detector: Any = make(
        "fre+patchcore+fre", "fast", {**base, "fre.variance_share": 0.5, "3.pool": 4, "2.coreset": "0.5"}
    )
    first, bank, third = detector.members
    assert (first.variance_share, third.variance_share) == (0.5, 0.5)
    assert (first.pool, third.pool) == (fre.FRE().pool, 4)
    assert bank.coreset == 0.5
    assert {part.image_size for part in detector.members} == {SIZE}
    assert {part.backbone for part in detector.members} == {"tiny"}


def test_settings_may_come_as_one() -> None:
    base = {"backbone": "tiny", "image_size": SIZE}
    dotted = make("fuse", "fast", {**base, "fre.pool": "4", "patchcore.levels": "2,3"})
    together = make("fuse", "fast", {**base, "settings": {"fre.pool": 4, "patchcore.levels": [2, 3]}})
    mixed = make("fuse", "fast", {**base, "settings": {"fre.pool": 4}, "patchcore.levels": (2, 3)})
    assert dotted.params() == together.params() == mixed.params()
    assert dotted.params()["settings"] == {"fre.pool": 4, "patchcore.levels": (2, 3)}


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("patchcore+resnet", {}, "'resnet' cannot be a part"),
        ("patchcore+", {}, "'' cannot be a part"),
        ("patchcore+fuse", {}, "'fuse' cannot be a part"),
        ("patchcore+fre", {"protoad.prototypes": 5}, "protoad.prototypes"),
        ("patchcore+fre", {"3.pool": 5}, "3.pool"),
        ("patchcore+fre", {"0.pool": 5}, "0.pool"),
        ("patchcore+fre", {"fre.poll": 5}, "poll"),
        ("patchcore+fre", {"1.pool": 5}, "pool"),
        ("patchcore+fre", {"fre.pool": "many"}, "pool=many"),
        ("patchcore+fre", {"fre.pool": 0}, "pool"),
        ("patchcore+fre", {"fre.": 5}, "no setting ''"),
        ("patchcore+fre", {"pool": 5}, "pool"),
        ("patchcore+fre", {"settings": {"pool": 5}}, "pool"),
        ("patchcore+fre", {"fre.backbone": "tiny"}, "backbone is one for all parts"),
        ("patchcore+fre", {"2.image_size": 32}, "image_size is one for all parts"),
        ("patchcore+fre", {"image_size": 56}, "56"),
        ("patchcore+fre", {"backbone": "resnet"}, "resnet"),
    ],
    ids=str,
)
def test_a_wrong_fusion_is_one_line(name: str, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError) as caught:
        make(name, "fast", {"backbone": "tiny", "image_size": SIZE, **wrong})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("more", [{}, {"fre.pool": 1}], ids=str)
def test_settings_that_are_no_settings_are_one_line(more: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        make("fuse", "fast", {"backbone": "tiny", "image_size": SIZE, "settings": "fre", **more})


@pytest.mark.parametrize(
    ("parts", "more"),
    [
        ("patchcore+fre", {"patchcore.bank_size": 50, "fre.pool": "1"}),
        ("fre+fre", {"2.pool": 4, "fre.variance_share": "0.9"}),
        ("protoad+isstad", ISSTAD),
        ("patchcore+fre", {"fre.levels": (2, 3), "1.levels": "2"}),
        ("ssm", {"ssm.cells": (16, 32)}),
    ],
)
def test_its_arguments_rebuild_it_after_json(parts: str, more: dict[str, Any]) -> None:
    detector: Any = make("fuse", "fast", {"backbone": "tiny", "image_size": SIZE, "parts": parts, **more})
    again: Any = make("fuse", "fast", json.loads(json.dumps(detector.params())))
    assert again.params() == detector.params()
    assert [part.params() for part in again.members] == [part.params() for part in detector.members]


@pytest.mark.parametrize("general_first", [True, False])
def test_a_part_s_own_setting_counts_more_than_its_name_s(general_first: bool) -> None:
    own, general = ("1.pool", 1), ("fre.pool", 4)
    pairs = dict([general, own] if general_first else [own, general])
    detector: Any = make("fre+fre", "fast", {"backbone": "tiny", "image_size": SIZE, **pairs})
    again: Any = make("fuse", "fast", json.loads(json.dumps(detector.params())))
    assert [part.pool for part in detector.members] == [1, 4]
    assert [part.pool for part in again.members] == [1, 4]


# --- a fusion: its scale ----------------------------------------------------------------------------------------------


THREE = {
    "parts": "patchcore+fre+protoad",
    "backbone": "tiny",
    "image_size": SIZE,
    "patchcore.bank_size": 100,
    "patchcore.levels": (2,),
    "fre.levels": (3,),
    "protoad.prototypes": 100,
}


@pytest.fixture(scope="module")
def three() -> Any:
    """Parts that look at different levels; tests only look at it."""
    return fitted("fuse", THREE)


def test_it_is_the_mean_of_the_scaled_parts(three: Any) -> None:
    images = new_images()
    said = [part.predict(images) for part in three.members]
    maps = [(one.maps - low) / (high - low) for one, low, high in zip(said, three.low[0], three.high[0], strict=True)]
    scores = [
        (one.scores - low) / (high - low) for one, low, high in zip(said, three.low[1], three.high[1], strict=True)
    ]
    found = three.predict(images)
    torch.testing.assert_close(found.maps, sum(maps) / 3, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.scores, sum(scores) / 3, rtol=1e-4, atol=1e-4)
    assert all(not torch.allclose(found.scores, one, rtol=0.05) for one in scores), "no part speaks for all"


def test_low_becomes_0_and_high_becomes_1() -> None:
    detector = fitted("fuse", THREE)
    image = new_images()[:1]
    scores = torch.cat([part.predict(image).scores for part in detector.members])
    for low, high, expected in [(scores, scores + 2, 0), (scores - 2, scores, 1), (scores - 1, scores + 1, 0.5)]:
        detector.set_buffers(low=torch.stack([detector.low[0], low]), high=torch.stack([detector.high[0], high]))
        torch.testing.assert_close(detector.predict(image).scores, torch.tensor([float(expected)]), rtol=0, atol=1e-4)


def test_scales_come_from_images_that_the_parts_had_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part by itself, fitted to four fifths, asked about the fifth."""
    images = Textures(23)
    shown: list[list[int]] = []
    fit = fre.FRE.fit_checked

    def watched(self: fre.FRE, some: Any, training: Training) -> None:
        shown.append([next(i for i, one in enumerate(images.images) if one is some[k]) for k in range(len(some))])
        fit(self, some, training)

    monkeypatch.setattr(fre.FRE, "fit_checked", watched)
    detector = fitted("fuse", THREE, images)
    monkeypatch.undo()
    first, last = shown
    aside = sorted(set(range(23)) - set(first))
    assert (len(set(first)), last) == (len(first), list(range(23)))
    assert len(aside) == math.ceil(23 / ASIDE)
    assert aside != list(range(0, 23, ASIDE)), "drawn: neighbours on a line are alike"
    for i, (name, overrides) in enumerate(
        [
            ("patchcore", {"bank_size": 100, "levels": (2,)}),
            ("fre", {"levels": (3,)}),
            ("protoad", {"prototypes": 100}),
        ]
    ):
        alone = fitted(
            name, {"backbone": "tiny", "image_size": SIZE, **overrides}, Listed(*(images[k] for k in sorted(first)))
        )
        said = alone.predict(torch.stack([images[k] for k in aside]))
        maps, scores = said.maps[:, ::4, ::4].numpy(), said.scores.numpy()
        expected = [
            [np.quantile(maps, 0.5), np.quantile(maps, 0.99)],
            [np.quantile(scores, 0.5), np.quantile(scores, 0.9)],
        ]
        found = torch.stack([detector.low[:, i], detector.high[:, i]], dim=1).numpy()
        np.testing.assert_allclose(found, expected, rtol=2e-2, err_msg=name)


def test_normal_images_are_on_a_scale_from_0_to_1(three: Any) -> None:
    said = three.predict(torch.stack(Textures(40, 3000).images))
    assert said.scores.median().abs() < 1
    assert said.maps.median().abs() < 0.5
    assert 0.5 < said.maps.quantile(0.99) < 2
    assert three.predict(new_images()).scores[1] > 3


def test_a_part_s_unit_does_not_matter(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    score_maps, expected = fre.FRE.score_maps, three.predict(new_images())

    def elsewhere(self: fre.FRE, maps: list[Tensor]) -> Any:
        said = score_maps(self, maps)
        return said._replace(maps=1000 * said.maps + 5, scores=300 * said.scores - 7)

    monkeypatch.setattr(fre.FRE, "score_maps", elsewhere)
    found = fitted("fuse", THREE).predict(new_images())
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-2)


def test_a_part_that_comes_twice_counts_twice() -> None:
    base = {"backbone": "tiny", "image_size": SIZE, "fre.levels": (3,)}
    once, twice, more = (
        fitted("fuse", {**base, "parts": parts}).predict(new_images())
        for parts in ("fre", "fre+fre", "fre+protoad+fre")
    )
    other = fitted("fuse", {"backbone": "tiny", "image_size": SIZE, "parts": "protoad"}).predict(new_images())
    torch.testing.assert_close(twice.scores, once.scores)
    torch.testing.assert_close(twice.maps, once.maps)
    torch.testing.assert_close(more.scores, (2 * once.scores + other.scores) / 3, rtol=1e-4, atol=1e-4)


def test_images_without_any_spread_have_a_scale() -> None:
    same = Listed(*[texture(0)] * 20)
    said = fitted("fuse", FUSE, same).predict(new_images())
    assert said.scores.isfinite().all()
    assert said.maps.isfinite().all()


# --- a fusion: one network --------------------------------------------------------------------------------------------


def test_a_prediction_runs_the_network_once(three: Any, seen: list[int]) -> None:
    three.predict(new_images())
    assert seen == [3]
    three.predict(new_images()[:1])
    assert seen == [3, 1]


@pytest.mark.parametrize(
    ("parts", "more"),
    [
        ("patchcore+fre", {"fre.levels": (3,)}),
        ("protoad+fre+patchcore+protoad", {"protoad.levels": (2,), "fre.levels": (2, 3)}),
        ("isstad+patchcore", ISSTAD),
        ("fre+isstad", {**ISSTAD, "fre.levels": (3,)}),
    ],
)
def test_a_fit_runs_the_network_once_over_each_image(parts: str, more: dict[str, Any], seen: list[int]) -> None:
    detector = fitted("fuse", {"backbone": "tiny", "image_size": SIZE, "parts": parts, **more}, Textures(21))
    assert sum(seen) == 21
    networks = {id(module) for module in detector.modules() if isinstance(module, Backbone)}
    assert networks == {id(detector.maps.backbone)}, "one in memory serves all parts"
    seen.clear()
    detector.predict(new_images())
    assert seen == [3]


def test_turned_copies_are_seen_by_their_part_alone(seen: list[int]) -> None:
    fitted("fuse", {**FUSE, "patchcore.rotations": 2}, Textures(20))
    assert sum(seen) == 20 + 4 * (16 + 20)


def test_parts_see_only_their_levels(three: Any) -> None:
    images = new_images()
    assert three.maps.levels == (2, 3)
    assert [part.maps.levels for part in three.members] == [(2,), (3,), (2, 3)]
    alone: Any = make("patchcore", "fast", {**PATCHCORE, "levels": (2,)})
    alone.set_buffers(bank=three.members[0].bank, fitted=torch.tensor(1, dtype=torch.uint8))
    torch.testing.assert_close(three.members[0].predict(images).scores, alone.predict(images).scores)


def test_parts_have_their_share_of_the_time_and_their_own_checkpoints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Two of the three train in steps, and every part is fitted twice."""
    given: list[Training] = []
    fit = Detector.fit_checked

    def watched(self: Detector, some: Any, training: Training) -> None:
        if not isinstance(self, Fuse):
            given.append(training)
        fit(self, some, training)

    monkeypatch.setattr(Detector, "fit_checked", watched)
    training = Training(seed=3, device="cpu", max_minutes=12, checkpoints=tmp_path / "own", identity="this fit")
    fitted("isstad+fre+isstad", {"backbone": "tiny", "image_size": SIZE, **ISSTAD}, training=training)
    assert [one.max_minutes for one in given] == [3.0] * 6
    assert {one.seed for one in given} == {3}
    assert len({one.checkpoints for one in given}) == 6
    assert {one.checkpoints.parent for one in given if one.checkpoints} == {tmp_path / "own"}
    assert {one.identity for one in given} == {"this fit"}
    assert {one.scratch for one in given} == {tmp_path}, "not inside the checkpoints"
    given.clear()
    fitted("fre", {"backbone": "tiny", "image_size": SIZE})
    assert (given[0].max_minutes, given[0].checkpoints) == (None, None)
