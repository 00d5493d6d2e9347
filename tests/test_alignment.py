"""Parts that do not lie still: their pose is found, the map comes back, and what is not a part is said not to be."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unmask
from tiny import PATCHCORE, Run, texture
from unmask.errors import SettingError
from unmask.imaging.alignment import Alignment
from unmask.imaging.disturbances import moved
from unmask.imaging.images import decode, to_uint8
from unmask.imaging.poses import NOT_FOUND, OUT_OF_VIEW, Pose, brought, returned, returned_picture
from unmask.inspection.inspector import Inspector
from unmask.inspection.scoring import Reading
from unmask.inspection.torch_backend import judged_by
from unmask.inspection.usual_pose import usual_pose, would_help

H, W = 96, 128
QUICK: dict[str, Any] = {"detector": "patchcore", "settings": PATCHCORE, "false_alarm_rate": 0.2}
MOVES = [(0.0, 0.0, 0.0), (0.2, -0.1, 0.0), (-0.25, 0.25, 0.0), (0.05, 0.02, 0.0)]
TURNS = [(0.0, 0.0, 25.0), (0.1, -0.1, 100.0), (-0.15, 0.05, -170.0), (0.02, 0.2, -60.0)]


def part(seed: int, h: int = H, w: int = W) -> np.ndarray:
    """A dark bracket with a hole and a bar, not alike in any other pose, on a bright ground with noise of its own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    y, x = (y - h / 2) * 96 / h, (x - w / 2) * 96 / h
    dark = (abs(x) < 24) & (abs(y + 8) < 8) | (abs(x + 18) < 6) & (abs(y) < 24)
    dark = dark & ((x - 14) ** 2 + (y + 8) ** 2 > 16)
    bar = (abs(x - 8) < 10) & (abs(y - 14) < 3)
    cloud = sum(random.uniform(-0.03, 0.03) * np.sin(k * x / 20 + random.uniform(0, 6) + y / (9 + k)) for k in range(5))
    image = np.where(dark, 0.2, np.where(bar, 0.45, 0.8)) + cloud + 0.01 * random.standard_normal((h, w))
    return np.repeat(np.clip(image, 0, 1)[None].astype(np.float32), 3, axis=0)


PARTS = [part(seed) for seed in range(12)]


@pytest.fixture(scope="module")
def shifts() -> Alignment:
    return usual_pose(PARTS.__getitem__, range(len(PARTS)), "shift")


@pytest.fixture(scope="module")
def turns() -> Alignment:
    return usual_pose(PARTS.__getitem__, range(len(PARTS)), "turn")


# --- the pose ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "moves"), [("shift", MOVES), ("turn", MOVES + TURNS)])
def test_a_known_pose_is_recovered(way: str, moves: list[tuple[float, float, float]], request: Any) -> None:
    alignment = request.getfixturevalue(f"{way}s")
    for right, down, degrees in moves:
        pose = alignment.pose_of(moved(part(99), right, down, degrees))
        assert pose is not None
        assert math.hypot((pose.right - right) * W, (pose.down - down) * H) < 1
        assert abs((pose.degrees - degrees + 180) % 360 - 180) < 1


def test_light_and_contrast_do_not_move_a_part(shifts: Alignment) -> None:
    pose = shifts.pose_of(0.3 * moved(part(99), right=0.1) + 0.05)
    assert pose is not None
    assert abs(pose.right - 0.1) * W < 1


@pytest.mark.parametrize("size", [(96, 128), (480, 640), (200, 100)])
def test_photographs_of_any_size_have_a_pose(size: tuple[int, int]) -> None:
    images = [part(seed, *size) for seed in range(4)]
    alignment = usual_pose(images.__getitem__, range(4), "shift")
    pose = alignment.pose_of(moved(part(9, *size), down=0.1))
    assert pose is not None
    assert abs(pose.down - 0.1) < 0.01


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, H, W), np.float32),
        np.ones((3, H, W), np.float32),
        np.random.default_rng(0).random((3, H, W), np.float32),
        texture(1, 96).numpy(),
    ],
    ids=["black", "white", "noise", "another product"],
)
def test_what_shows_no_part_is_judged_as_it_lies_and_says_so(image: np.ndarray, turns: Alignment) -> None:
    posed = turns.posed(image)
    assert posed.pose is None
    assert posed.image is image
    assert posed.notes == (NOT_FOUND,)


# --- there and back ---------------------------------------------------------------------------------------------------


def test_a_part_at_rest_keeps_every_pixel() -> None:
    image = part(1)
    assert np.array_equal(brought(image, Pose()), image)
    assert np.array_equal(brought(image, Pose(right=0.001)), image)


def test_a_shift_moves_whole_pixels_and_changes_none() -> None:
    image = np.random.default_rng(0).random((3, H, W), np.float32)
    found = brought(image, Pose(right=10 / W, down=-5 / H))
    assert np.array_equal(found[:, 6:, : W - 12], image[:, 1 : H - 5, 10 : W - 2])


@pytest.mark.parametrize("pose", [Pose(0.2, -0.1), Pose(0.1, 0.05, 40.0), Pose(0, 0, 180.0)])
def test_a_map_comes_back_to_where_it_was(pose: Pose) -> None:
    spot = np.zeros((H, W), np.float32)
    spot[38:46, 60:68] = 1
    image = np.repeat(spot[None], 3, axis=0)
    back = returned(brought(image, pose)[0].copy(), pose)
    assert abs(np.argwhere(back > 0.5).mean(0) - np.argwhere(spot > 0.5).mean(0)).max() < 0.6
    picture = to_uint8(brought(image, pose))
    assert returned_picture(picture, pose).shape == picture.shape


def test_what_is_out_of_view_is_filled_from_a_good_part(shifts: Alignment) -> None:
    image = moved(part(5), right=0.2)
    posed = shifts.posed(image)
    assert posed.pose is not None
    usual = shifts.posed(part(5)).image
    assert np.abs(posed.image - usual).mean() < 0.03


def test_a_piece_out_of_view_is_a_note(shifts: Alignment) -> None:
    assert shifts.posed(moved(part(5), right=0.28)).notes == (OUT_OF_VIEW,)
    assert shifts.posed(part(5)).notes == ()


def test_grey_images_stay_grey(turns: Alignment) -> None:
    found = turns.posed(moved(part(3), 0.1, 0.1, 30)).image
    assert np.array_equal(found[0], found[1])
    assert found.shape == (3, H, W)
    assert found.dtype == np.float32
    assert found.flags.writeable


def test_pixels_beyond_the_view_have_the_least_value(turns: Alignment) -> None:
    view = np.zeros(turns.judged.shape, bool)
    view[10:20, 10:20] = True
    narrow = Alignment.of("turn", turns.matcher.fine.template, view, turns.good_parts)
    anomaly = np.ones((H, W), np.float32)
    anomaly[:2] = 0.5
    found = narrow.returned(anomaly, Pose())
    assert set(np.unique(found)) == {np.float32(0.5), np.float32(1)}
    assert 0 < (found == 1).mean() < 0.05


# --- a model ----------------------------------------------------------------------------------------------------------


def as_array(image: np.ndarray) -> np.ndarray:
    return to_uint8(image)


def scratched(seed: int) -> np.ndarray:
    """A part with a bright square on its foot, at x = 42 to 52, y = 56 to 66."""
    image = part(seed).copy()
    image[:, 56:66, 42:52] = 1
    return image


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    return unmask.fit([as_array(part(seed)) for seed in range(30)], align="turn", **QUICK)


def test_the_map_peaks_at_the_defect_in_the_photograph(inspector: Inspector) -> None:
    right, down, degrees = 0.1, -0.05, 120.0
    result = inspector.inspect(as_array(moved(scratched(50), right, down, degrees)))
    x, y = 47 - W / 2, 61 - H / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    there = W / 2 + right * W + cos * x + sin * y, H / 2 + down * H - sin * x + cos * y
    peak_y, peak_x = np.unravel_index(int(result.map.argmax()), result.map.shape)
    assert result.map.shape == (H, W)
    assert math.hypot(peak_x - there[0], peak_y - there[1]) < 14
    assert result.pose is not None
    assert abs(result.pose["degrees"] - degrees) < 1.5
    assert json.loads(json.dumps(result.to_dict()))["pose"] == result.pose


def test_a_displaced_good_part_scores_as_one_at_rest(inspector: Inspector) -> None:
    resting = inspector.inspect(as_array(part(60)))
    turned = inspector.inspect(as_array(moved(part(60), 0.05, 0.05, -75)))
    plain = Inspector(
        inspector.backend, inspector.calibration, replace(inspector.reading, alignment=None), inspector.facts
    )
    unaligned = plain.inspect(as_array(moved(part(60), 0.05, 0.05, -75)))
    assert unaligned.pose is None
    assert abs(turned.score - resting.score) < 0.5 * abs(unaligned.score - resting.score)


def test_an_image_without_a_part_has_a_verdict_and_a_note(inspector: Inspector) -> None:
    result = inspector.inspect(np.zeros((H, W, 3), np.uint8), refuse=False)
    assert result.pose is None
    assert NOT_FOUND in result.notes
    assert result.is_anomalous


def test_saved_and_loaded_gives_equal_numbers(inspector: Inspector, tmp_path: Path) -> None:
    inspector.save(tmp_path / "part.unmask")
    loaded = unmask.load(tmp_path / "part.unmask")
    image = as_array(moved(scratched(50), 0.1, 0.1, 45))
    one, other = inspector.inspect(image), loaded.inspect(image)
    assert one.score == other.score
    assert one.pose == other.pose
    assert np.array_equal(one.map, other.map)
    assert loaded.reading.alignment == inspector.reading.alignment


def test_a_graph_without_torch_aligns_too(inspector: Inspector, tmp_path: Path) -> None:
    inspector.save(tmp_path / "part.unmask")
    from unmask.inspection.export import export

    export(tmp_path / "part.unmask", images=[as_array(part(seed)) for seed in range(30)])
    exported = unmask.load(tmp_path / "part.onnx")
    image = as_array(moved(scratched(50), 0.1, 0.1, 45))
    one, other = inspector.inspect(image), exported.inspect(image)
    assert one.pose == other.pose
    assert other.score == pytest.approx(one.score, rel=1e-3)


@pytest.mark.parametrize("options", [{"tile": 48}, {"region": (30, 20, 100, 80)}, {"resize": "fit"}])
def test_aligned_images_are_cut_and_framed_as_others_are(options: dict[str, Any]) -> None:
    found = unmask.fit([as_array(part(seed)) for seed in range(24)], align="shift", **options, **QUICK)
    result = found.inspect(as_array(moved(scratched(50), right=0.1, down=0.05)))
    y, x = np.unravel_index(int(result.map.argmax()), result.map.shape)
    assert result.map.shape == (H, W)
    assert math.hypot(x - 47 - 0.1 * W, y - 61 - 0.05 * H) < 12


def test_without_an_alignment_nothing_changes() -> None:
    images = [as_array(part(seed)) for seed in range(24)]
    plain, none = unmask.fit(images, **QUICK), unmask.fit(images, align="none", **QUICK)
    assert plain.reading == Reading(plain.tiling, plain.reading.options)
    assert "alignment" not in judged_by(plain)
    image = as_array(moved(part(50), 0.1))
    assert plain.inspect(image).score == none.inspect(image).score
    assert plain.inspect(image).pose is None


def test_an_unknown_way_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="align=sideways is unknown; give none, shift or turn"):
        unmask.fit([as_array(one) for one in PARTS], align="sideways", **QUICK)
    done = run("fit", tmp_path, "-o", tmp_path / "part.unmask", "--align", "sideways")
    assert done.code == 2
    assert "align=sideways is unknown" in done.err


def test_the_command_line_aligns_and_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for seed in range(12):
        Image.fromarray(as_array(part(seed))).save(tmp_path / "good" / f"{seed:02d}.png")
    settings = [word for name, value in PATCHCORE.items() for word in ("--set", f"{name}={value}")]
    model = tmp_path / "part.unmask"
    fitted = run(
        "fit",
        tmp_path / "good",
        "-o",
        model,
        "--detector",
        "patchcore",
        "--align",
        "turn",
        "--false-alarm-rate",
        "0.2",
        *settings,
    )
    assert fitted.code == 0, fitted.err
    assert "turn; a part is found from a similarity of" in run("info", model).out
    (line,) = run("inspect", model, tmp_path / "good" / "00.png", "--json").out.splitlines()
    assert abs(json.loads(line)["pose"]["degrees"]) < 1


# --- whether it would help --------------------------------------------------------------------------------------------


def displaced(n: int, way: str) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    moves = random.uniform(-0.15, 0.15, (n, 2)) if way == "shift" else np.zeros((n, 2))
    turned = random.uniform(-30, 30, n) if way == "turn" else np.zeros(n)
    return [moved(part(i), x, y, degrees) for i, ((x, y), degrees) in enumerate(zip(moves, turned, strict=True))]


@pytest.mark.parametrize("way", ["shift", "turn"])
def test_parts_that_lie_apart_are_told(way: str) -> None:
    line = would_help(displaced(9, way))
    assert line is not None
    assert f"align='{way}' would help" in line


def test_parts_at_rest_and_textures_are_not_told() -> None:
    assert would_help(PARTS[:9]) is None
    assert would_help([texture(seed).numpy() for seed in range(9)]) is None
    assert would_help(displaced(8, "shift")) is None, "too few to tell"


def test_a_fit_says_that_an_alignment_would_help() -> None:
    images = [as_array(one) for one in displaced(20, "shift")]
    with pytest.warns(UserWarning, match="align='shift' would help"):
        unmask.fit(images, **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unmask.fit(images, align="shift", **QUICK)


def test_the_same_picture_is_decoded_from_a_model_file() -> None:
    alignment = usual_pose(PARTS.__getitem__, range(4), "turn")
    assert Alignment.from_dict(json.loads(json.dumps(alignment.to_dict()))) == alignment
    assert np.abs(alignment.good_parts[0] - decode(as_array(brought(PARTS[0], Pose())))).mean() < 0.04
