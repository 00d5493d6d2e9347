"""Manifests, masks, fingerprints, and everything that can be wrong with a data set."""

import numpy as np
import pytest
from PIL import Image

from trees import names, put, write_mvtec
from unmask import datasets
from unmask.datasets.inventory import abbreviated
from unmask.errors import DatasetError, SettingError
from unmask.types import Sample


@pytest.fixture
def mvtec(tmp_path):
    return write_mvtec(tmp_path / "bottle")


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetError, match="no such folder or manifest"):
        datasets.load(tmp_path / "nothing")
    with pytest.raises(DatasetError, match=r"no layout recognised \(or the folder is empty\); known are MVTec AD"):
        datasets.load(tmp_path)
    (tmp_path / "train/good").mkdir(parents=True)
    with pytest.raises(DatasetError, match="MVTec AD, but no good images to learn from"):
        datasets.load(tmp_path)
    with pytest.raises(SettingError, match="held_out_share is 1"):
        datasets.load(tmp_path, held_out_share=1.0)


def test_a_folder_of_data_sets_names_them(mvtec):
    with pytest.raises(DatasetError, match=r"holds several data sets \(bottle\); give one, such as .*bottle"):
        datasets.load(mvtec.parent)


def test_all_unreadable_files_are_named_at_once(mvtec):
    for number in range(12):
        (mvtec / f"train/good/bad{number:02d}.png").write_bytes(b"no image")
    with pytest.raises(
        DatasetError, match=r"12 files cannot be used: .*bad00\.png: not an image.* and 2 more"
    ) as caught:
        datasets.load(mvtec)
    assert "\n" not in str(caught.value)
    assert "bad10" not in str(caught.value)


def test_masks_and_images_must_belong_together(mvtec):
    put(mvtec / "ground_truth/crack/009_mask.png", value=255)
    with pytest.raises(DatasetError, match=r"1 masks have no test image: .*009_mask\.png"):
        datasets.load(mvtec)
    (mvtec / "ground_truth/crack/009_mask.png").unlink()
    for number in (0, 2):
        (mvtec / f"ground_truth/crack/00{number}_mask.png").unlink()
    with pytest.raises(DatasetError, match=r"2 defective images have no mask .*000\.png, .*002\.png"):
        datasets.load(mvtec)


def test_mask_sizes(mvtec):
    put(mvtec / "ground_truth/crack/001_mask.png", value=255, size=(4, 6))
    with pytest.raises(DatasetError, match=r"001_mask\.png 4 x 6 for an image 6 x 4"):
        datasets.load(mvtec)


def test_images_of_different_sizes_are_fine(mvtec):
    put(mvtec / "train/good/large.png", size=(30, 20))
    split = datasets.load(mvtec)
    assert "large.png" in names((*split.normals, *split.held_out))


def test_read_mask(tmp_path):
    sample = Sample(tmp_path / "image.png", True, "crack")
    assert not datasets.read_mask(sample, 4, 6).any()
    left, index = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    left[:, :2], index[0, 5] = 255, 3
    Image.fromarray(left).save(tmp_path / "left.png")
    palette = Image.fromarray(index).convert("P")
    palette.putpalette([0, 0, 0] * 4)  # an index counts, whatever its colour
    palette.save(tmp_path / "index.png")
    Image.fromarray(left).resize((60, 40), Image.Resampling.NEAREST).save(tmp_path / "left.jpg")
    opaque = np.dstack([left, left, left, np.full_like(left, 255)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    two = Sample(sample.path, True, "crack", (tmp_path / "left.png", tmp_path / "index.png"))
    assert np.array_equal(datasets.read_mask(two, 4, 6), (left > 0) | (index > 0))
    assert [mask.sum() for mask in datasets.read_masks(two)] == [8, 1]
    for name in ("left.jpg", "opaque.png"):
        one = Sample(sample.path, True, "crack", (tmp_path / name,))
        assert np.array_equal(datasets.read_mask(one, 4, 6), left > 0)
    (tmp_path / "left.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"left\.png: the mask cannot be read"):
        datasets.read_mask(two, 4, 6)


def test_fingerprint(mvtec):
    first = datasets.fingerprint(datasets.load(mvtec))
    assert len(first) == 12
    assert datasets.fingerprint(datasets.load(mvtec, seed=5)) == first
    moved = mvtec.rename(mvtec.parent / "moved")
    split = datasets.load(moved)
    assert datasets.fingerprint(split) == first
    split.normals[0].write_bytes(split.normals[0].read_bytes() + b"\0")
    assert datasets.fingerprint(split) != first
    split.normals[0].unlink()
    with pytest.raises(DatasetError, match="load the data set again"):
        datasets.fingerprint(split)


def test_many_items_are_abbreviated():
    assert abbreviated([1, 2]) == "1, 2"
    assert abbreviated(range(5), 2) == "0, 1 ... and 3 more"
