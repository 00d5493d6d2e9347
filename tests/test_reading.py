"""Pages, bands, the largest size and damaged files, from `fit` over the model file to `inspect` and its command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unmask
from files import saved, tiff
from tiny import PATCHCORE, SIZE, as_picture, planted, run_python, texture, write_textures
from unmask.errors import DatasetError, ImageError, SettingError
from unmask.inspection.inspector import Inspector
from unmask.types import FailedImage

QUICK: dict[str, Any] = {"detector": "patchcore", "settings": PATCHCORE, "false_alarm_rate": 0.2}
SETTINGS = [f"--set={key}={value}" for key, value in PATCHCORE.items()]


def picture(number: int) -> np.ndarray:
    return np.asarray(as_picture(texture(number)))


def write_stacks(folder: Path, n: int, pages: int = 3, first: int = 0) -> list[Path]:
    """TIFF files of several pages, every one another texture."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:02d}.tif" for number in range(n)]
    for number, path in enumerate(paths):
        path.write_bytes(
            tiff(np.stack([picture(first + pages * number + page) for page in range(pages)]), photometric="rgb")
        )
    return paths


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    return unmask.fit(write_textures(tmp_path_factory.mktemp("good"), 24), **QUICK)


# --- pages ------------------------------------------------------------------------------------------------------------


def test_each_page_is_an_image(tmp_path: Path) -> None:
    paths = write_stacks(tmp_path / "good", 10)
    with pytest.raises(ImageError, match=r"10 of 10 images cannot be used: .*holds 3 pictures"):
        unmask.fit(paths, **QUICK)
    fitted = unmask.fit(paths, page="all", **QUICK)
    assert fitted.facts["n_normal"] + fitted.facts["n_held_out"] == 30
    assert fitted.facts["n_held_out"] % 3 == 0, "pages of one file stay on one side"
    fitted.save(tmp_path / "a.unmask")
    for judge in (fitted, unmask.load(tmp_path / "a.unmask")):
        results = list(judge.inspect_many([*paths[:2], picture(50)]))
        assert [(result.path, result.page) for result in results] == [
            *((path, page) for path in paths[:2] for page in (1, 2, 3)),
            (None, None),
        ]
        assert results[1].score == pytest.approx(judge.inspect(picture(1)).score, rel=1e-5)
        photograph = judge.photograph(results[1])
        assert photograph is not None
        np.testing.assert_allclose(photograph.transpose(1, 2, 0), picture(1) / 255, atol=1e-6)
        with pytest.raises(ImageError, match="holds 3 pictures, each a result of its own; call inspect_many"):
            judge.inspect(paths[0])


def test_one_page_is_taken(tmp_path: Path, inspector: Inspector) -> None:
    (stack,) = write_stacks(tmp_path / "new", 1)
    inspector.save(tmp_path / "a.unmask")
    with pytest.raises(ImageError, match=r"00.tif: holds 3 pictures; choose one"):
        inspector.inspect(stack)
    result = unmask.load(tmp_path / "a.unmask", page=2).inspect(stack)
    assert (result.page, result.to_dict()["page"]) == (2, 2)
    assert result.score == inspector.inspect(picture(1)).score
    with pytest.raises(SettingError, match="page='two' is unknown"):
        unmask.load(tmp_path / "a.unmask", page="two")
    failed = list(unmask.load(tmp_path / "a.unmask", page=4).inspect_many([stack], on_error="record"))
    assert isinstance(failed[0], FailedImage)
    assert failed[0].to_dict()["page"] == 4


def test_a_folder_of_stacks_is_divided_by_files(tmp_path: Path) -> None:
    write_stacks(tmp_path / "good", 10)
    fitted = unmask.fit(tmp_path / "good", page="all", **QUICK)
    assert fitted.facts["n_normal"] + fitted.facts["n_held_out"] == 30
    assert fitted.facts["n_held_out"] % 3 == 0


def test_the_commands_take_pages(tmp_path: Path) -> None:
    write_stacks(tmp_path / "good", 10)
    fit = ["-m", "unmask", "fit", tmp_path / "good", "-o", tmp_path / "a.unmask", "--detector", "patchcore", *SETTINGS]
    assert "--page all" in run_python(*fit).stderr
    assert run_python(*fit, "--page", "all").returncode == 0
    inspect = ["-m", "unmask", "inspect", tmp_path / "a.unmask", tmp_path / "good/00.tif"]
    done = run_python(*inspect, "--report", tmp_path / "report")
    assert [f"00.tif, page {page}" in done.stdout for page in (1, 2, 3)] == [True] * 3
    results = json.loads((tmp_path / "report/results.json").read_text())["results"]
    assert [(image["page"], image["name"]) for image in results] == [
        (page, f"00.tif, page {page}") for page in (1, 2, 3)
    ]
    (line,) = run_python(*inspect, "--json", "--page", "3").stdout.splitlines()
    assert json.loads(line)["page"] == 3


# --- bands, and the largest size --------------------------------------------------------------------------------------


def write_bands(folder: Path, n: int) -> list[Path]:
    """TIFF files of five bands: red, nothing, green, nothing, blue."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:02d}.tif" for number in range(n)]
    for number, path in enumerate(paths):
        bands = np.zeros((SIZE, SIZE, 5), np.uint16)
        bands[..., ::2] = picture(number).astype(np.uint16) * 257
        path.write_bytes(tiff(bands, photometric="minisblack", planarconfig="contig", extrasamples=[0] * 4))
    return paths


def test_bands_are_kept_in_the_model_file(tmp_path: Path, inspector: Inspector) -> None:
    paths = write_bands(tmp_path / "good", 24)
    fitted = unmask.fit(paths, bands=(1, 3, 5), **QUICK)
    fitted.save(tmp_path / "a.unmask")
    again = unmask.load(tmp_path / "a.unmask")
    assert again.reading.options.bands == (1, 3, 5)
    np.testing.assert_allclose(again.reading.decode(paths[3]).transpose(1, 2, 0), picture(3) / 255, atol=1e-6)
    assert again.inspect(paths[3]).score == fitted.inspect(paths[3]).score
    with pytest.raises(ImageError, match="holds 3 bands, wanted"):
        again.inspect(saved(picture(3)))
    with pytest.raises(ImageError, match=r"holds 5 bands and no word .* --bands 3,2,1"):
        inspector.inspect(paths[3])


def test_the_largest_size_is_kept_in_the_model_file(tmp_path: Path, inspector: Inspector) -> None:
    large = tmp_path / "large.png"
    as_picture(texture(1, 2 * SIZE)).save(large)
    inspector.save(tmp_path / "a.unmask")
    strict = unmask.load(tmp_path / "a.unmask", max_pixels=SIZE**2)
    with pytest.raises(ImageError, match=rf"128 x 128 pixels, the limit is {SIZE**2}; .* --max-pixels 16384"):
        strict.inspect(large)
    strict.save(tmp_path / "b.unmask")
    assert unmask.load(tmp_path / "b.unmask").reading.options.max_pixels == SIZE**2
    assert unmask.load(tmp_path / "b.unmask", max_pixels=1e9).inspect(large).score > 0
    with pytest.raises(ImageError, match="the limit is 100;"):
        unmask.fit([large] * 20, max_pixels=100, **QUICK)


# --- damage -----------------------------------------------------------------------------------------------------------


def test_damaged_images_are_not_learned_from_but_judged_with_a_note(tmp_path: Path, inspector: Inspector) -> None:
    paths = write_textures(tmp_path / "good", 24)
    content = saved(picture(1), "JPEG", quality=95)
    half = len(content) // 2
    damaged = tmp_path / "good/damaged.jpg"
    damaged.write_bytes(content[:half] + bytes(300) + content[half + 300 :])
    with pytest.raises(ImageError, match=r"1 of 25 images cannot be used: .*damaged.jpg: data of this JPEG is lost"):
        unmask.fit([*paths, damaged], **QUICK)
    result = inspector.inspect(damaged)
    assert result.notes[0] == "data of this JPEG is lost, so a part of the picture is garbled"
    assert "the good images were PNG" in result.notes[1]
    assert result.to_dict()["notes"] == list(result.notes)
    assert inspector.inspect(paths[0]).notes == ()


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_the_range_of_a_camera_is_learned_beside_alpha_and_from_signed_values() -> None:
    def twelve_bits(number: int) -> np.ndarray:
        return (picture(number).astype(np.uint16) * 16).astype(np.uint16)

    alpha = np.full((SIZE, SIZE, 1), 65535, np.uint16)
    fitted = unmask.fit([np.dstack([twelve_bits(number), alpha]) for number in range(24)], **QUICK)
    assert fitted.reading.intensity is not None
    assert fitted.reading.intensity.high == 4095
    signed = unmask.fit([twelve_bits(number).astype(np.int16) for number in range(24)], **QUICK)
    assert signed.reading.intensity == fitted.reading.intensity
    both = (signed.reading.decode(twelve_bits(30).astype(np.int16)), fitted.reading.decode(twelve_bits(30)))
    np.testing.assert_array_equal(*both)


def test_a_defect_on_an_old_model_file_is_still_found(tmp_path: Path, inspector: Inspector) -> None:
    inspector.save(tmp_path / "a.unmask")
    from unmask.inspection import model_file

    facts, arrays = model_file.read(tmp_path / "a.unmask")
    del facts["reading"]
    model_file.write(tmp_path / "old.unmask", facts, arrays)
    old = unmask.load(tmp_path / "old.unmask")
    assert old.reading == inspector.reading
    image = planted(texture(40))
    assert old.inspect(image).score == inspector.inspect(image).score > inspector.calibration.threshold


def test_labels_belong_to_files(tmp_path: Path) -> None:
    fitted = unmask.fit(write_stacks(tmp_path / "part/train/good", 10), page="all", **QUICK)
    write_stacks(tmp_path / "part/test/good", 2, first=100)
    write_stacks(tmp_path / "part/test/bad", 2, pages=2, first=200)
    with pytest.raises(DatasetError, match=r"holds \d pictures where one has a label; choose it with --page 1"):
        unmask.evaluate(fitted, tmp_path / "part")
    fitted.save(tmp_path / "a.unmask")
    figures = unmask.evaluate(unmask.load(tmp_path / "a.unmask", page=2), tmp_path / "part")
    assert figures["n_test"] == 4
