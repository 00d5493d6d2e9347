"""Every layout as a tiny tree, and everything that can be wrong with one."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unmask import datasets
from unmask.datasets.found import listing, set_apart
from unmask.errors import DatasetError, SettingError
from unmask.types import Sample


def put(path, seed=None, size=(6, 4), value=None, mode="RGB"):
    """Write a w x h image: noise that differs from path to path, or one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    w, h = size
    if value is None:
        seed = int.from_bytes(hashlib.sha256(path.as_posix().encode()).digest()[:4]) if seed is None else seed
        pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)
    else:
        pixels = np.full((h, w), value, np.uint8)
    Image.fromarray(pixels).convert(mode if value is None else "L").save(path)
    return path


def put_many(folder, count, suffix=".png"):
    return [put(folder / f"{number:03d}{suffix}") for number in range(count)]


def names(paths):
    return sorted(path.name for path in paths)


@pytest.fixture
def mvtec(tmp_path):
    root = tmp_path / "bottle"
    put_many(root / "train/good", 10)
    put_many(root / "test/good", 2)
    put_many(root / "test/crack", 3)
    for number in range(3):
        put(root / f"ground_truth/crack/{number:03d}_mask.png", value=255)
    return root


def test_mvtec(mvtec):
    split = datasets.load(mvtec)
    assert (split.name, split.layout, split.has_masks, split.warnings) == ("bottle", "MVTec AD", True, ())
    assert names((*split.normals, *split.held_out)) == [f"{number:03d}.png" for number in range(10)]
    assert split.held_out
    assert not set(split.normals) & set(split.held_out)
    assert [(sample.kind, sample.anomalous) for sample in split.test] == [("crack", True)] * 3 + [("good", False)] * 2
    assert [len(sample.masks) for sample in split.test] == [1, 1, 1, 0, 0]
    assert split.test[1].masks[0] == mvtec / "ground_truth/crack/001_mask.png"
    assert datasets.load(str(mvtec)) == split


def test_mvtec_without_masks_and_without_a_test_set(mvtec):
    for mask in (mvtec / "ground_truth/crack").iterdir():
        mask.unlink()
    assert datasets.load(mvtec).has_masks is False
    (mvtec / "ground_truth/crack").rmdir()
    (mvtec / "ground_truth").rmdir()
    assert datasets.load(mvtec).has_masks is False
    (mvtec / "test").rename(mvtec.parent / "elsewhere")
    assert datasets.load(mvtec).test == ()


def test_mpdd_is_named_after_its_objects(mvtec):
    assert datasets.load(mvtec.rename(mvtec.parent / "metal_plate")).layout == "MPDD"


def test_mvtec_loco(tmp_path):
    root = tmp_path / "breakfast_box"
    put_many(root / "train/good", 4)
    put_many(root / "validation/good", 2)
    put_many(root / "test/good", 1)
    put_many(root / "test/logical_anomalies", 1)
    put_many(root / "test/structural_anomalies", 1)
    put(root / "ground_truth/logical_anomalies/000/000.png", value=255)
    put(root / "ground_truth/logical_anomalies/000/001.png", value=254)
    put(root / "ground_truth/structural_anomalies/000/000.png", value=253)
    rules = [("missing", 255, 0.5, True), ("extra", 254, 7, False), ("scratch", 253, 1000, False)]
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    config = root / "defects_config.json"
    config.write_text(json.dumps([dict(zip(keys, rule, strict=True)) for rule in rules]))

    split = datasets.load(root)
    assert split.layout == "MVTec LOCO AD"
    assert len(split.normals) == 4
    assert [path.parent.parent.name for path in split.held_out] == ["validation"] * 2
    by_kind = {sample.kind: sample for sample in split.test}
    assert [mask.name for mask in by_kind["logical_anomalies"].masks] == ["000.png", "001.png"]
    assert by_kind["logical_anomalies"].saturation == (12.0, 7.0)  # half of 24 pixels; 7 pixels
    assert by_kind["structural_anomalies"].saturation == (24.0,)  # never more than the area itself
    assert by_kind["good"].saturation == ()
    assert len(datasets.read_masks(by_kind["logical_anomalies"])) == 2

    put(root / "ground_truth/structural_anomalies/000/000.png", value=3)
    with pytest.raises(DatasetError, match=r"pixel value 3 is not in defects_config\.json"):
        datasets.load(root)
    config.write_text("[{}]")
    with pytest.raises(DatasetError, match="not MVTec LOCO's list of defects"):
        datasets.load(root)
    config.unlink()
    assert "saturation areas are unknown" in datasets.load(root).warnings[0]


def test_btad_finds_masks_of_either_suffix(tmp_path):
    root = tmp_path / "01"
    put_many(root / "train/ok", 3, ".bmp")
    put_many(root / "test/ok", 1, ".bmp")
    put_many(root / "test/ko", 2, ".bmp")
    put(root / "ground_truth/ko/000.png", value=255)
    put(root / "ground_truth/ko/001.bmp", value=255)
    split = datasets.load(root)
    assert (split.layout, split.has_masks) == ("BTAD", True)
    assert [(sample.kind, sample.anomalous, len(sample.masks)) for sample in split.test] == [
        ("ko", True, 1),
        ("ko", True, 1),
        ("ok", False, 0),
    ]


def test_oct2017_learns_from_train_normal_only(tmp_path):
    for part in ("train", "val", "test"):
        for kind in ("NORMAL", "CNV", "DME", "DRUSEN"):
            put_many(tmp_path / "OCT2017" / part / kind, 3, ".jpeg")
    split = datasets.load(tmp_path / "OCT2017")
    assert (split.layout, split.has_masks, len(split.test)) == ("OCT2017", False, 12)
    assert {path.parent for path in (*split.normals, *split.held_out)} == {tmp_path / "OCT2017/train/NORMAL"}
    assert {sample.kind for sample in split.test if not sample.anomalous} == {"NORMAL"}
    assert split.warnings == ("val/ is not used",)


@pytest.fixture
def visa(tmp_path):
    root = tmp_path / "VisA"
    lines = ["object,split,label,image,mask"]
    for part, label, folder, count in (
        ("train", "normal", "Normal", 5),
        ("test", "normal", "Normal", 2),
        ("test", "anomaly", "Anomaly", 2),
    ):
        for number in range(count):
            image = f"candle/Data/Images/{folder}/{part}{number}.JPG"
            mask = f"candle/Data/Masks/Anomaly/{part}{number}.png" if label == "anomaly" else ""
            put(root / image)
            if mask:
                put(root / mask, value=1 + number)
            lines.append(f"candle,{part},{label},{image},{mask}")
    lines.append("pcb1,train,normal,pcb1/Data/Images/Normal/0.JPG,")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(lines))
    return root


def test_visa_by_its_table(visa):
    for path in (visa, visa / "candle"):
        split = datasets.load(path)
        assert (split.layout, split.has_masks) == ("VisA", True)
        assert len(split.normals) + len(split.held_out) == 5
        assert [sample.anomalous for sample in split.test] == [False, False, True, True]
    assert datasets.read_mask(split.test[2], 4, 6).all()  # its masks hold small numbers, not 255
    (visa / "pcb1").mkdir()
    with pytest.raises(DatasetError, match=r"holds 2 objects \(candle, pcb1\); give the folder of one"):
        datasets.load(visa)


def test_visa_by_its_tree(visa):
    (visa / "split_csv/1cls.csv").unlink()
    split = datasets.load(visa / "candle")
    assert (split.layout, split.has_masks) == ("VisA", True)
    good = [sample for sample in split.test if not sample.anomalous]
    assert len(split.normals) + len(split.held_out) + len(good) == 7
    assert len(good) >= 1
    assert "were set apart as the test set's good images" in split.warnings[0]


def test_good_and_bad(tmp_path):
    put_many(tmp_path / "good", 40)
    put_many(tmp_path / "bad", 2)
    put_many(tmp_path / "bad/scratch", 3)
    splits = [datasets.load(tmp_path, seed=seed) for seed in (0, 1)]
    assert splits[0].layout == "good and bad"
    assert [sample.kind for sample in splits[0].test if sample.anomalous] == ["bad"] * 2 + ["scratch"] * 3
    assert splits[0].test == splits[1].test  # a seed holds out others and leaves the test set alone
    assert splits[0].held_out != splits[1].held_out
    apart = {f"{number:03d}.png" for number in range(40) if fraction("test", f"{number:03d}.png") < 0.2}
    assert apart
    assert set(names(sample.path for sample in splits[0].test if not sample.anomalous)) == apart
    parts = [splits[0].normals, splits[0].held_out, [sample.path for sample in splits[0].test if not sample.anomalous]]
    assert all(parts)
    assert names(path for part in parts for path in part) == [f"{number:03d}.png" for number in range(40)]


def test_folders_of_good_images(tmp_path):
    put_many(tmp_path / "a/good", 3)
    put_many(tmp_path / "b", 3)
    for folder in ("a", "b"):
        split = datasets.load(tmp_path / folder)
        assert (split.layout, split.test) == ("a folder of good images", ())
        assert len(split.normals) + len(split.held_out) == 3
    put_many(tmp_path / "c", 1)
    split = datasets.load(tmp_path / "c")
    assert len(split.normals) == 1
    assert "none is held out" in split.warnings[0]


def test_manifest(tmp_path):
    put_many(tmp_path / "images", 5)
    put(tmp_path / "mask.png", value=255)
    table = tmp_path / "week 12.csv"
    rows = ["path,label,mask,split", "images/000.png,good,,train", "images/001.png,0,,train", "images/002.png,ok,,test"]
    table.write_text("\ufeff" + "\n".join([*rows, "images/003.png, dent ,mask.png,test"]), encoding="utf-8")
    split = datasets.load(table)
    assert (split.name, split.layout, split.has_masks) == ("week 12", "manifest", True)
    assert len(split.normals) == len(split.held_out) == 1
    assert split.test == (
        Sample(tmp_path / "images/002.png", False, "good"),
        Sample(tmp_path / "images/003.png", True, "dent", (tmp_path / "mask.png",)),
    )
    for row, reason in (
        ("images/004.png,bad,,train", "line 5: .* labelled bad but split is train"),
        ("images/004.png,good,mask.png,test", "line 5: .* is good and has a mask"),
        ("images/004.png,good,,valid", "line 5: wanted a path, a label and train or test"),
        ("images/004.png", "line 5: wanted a path"),
        ("images/nothing.png,good,,train", "nothing.png: cannot be read .No such file"),
    ):
        table.write_text("\n".join([*rows, row]))
        with pytest.raises(DatasetError, match=reason):
            datasets.load(table)
    table.write_text("file,label\na,b")
    with pytest.raises(DatasetError, match="no column path, split"):
        datasets.load(table)
    table.write_bytes(b"\xff\xfe\0")
    with pytest.raises(DatasetError, match="cannot be read as CSV"):
        datasets.load(table)


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


def test_a_test_image_that_was_trained_on(mvtec):
    copied = (mvtec / "train/good/003.png").read_bytes()
    (mvtec / "test/good/copy.png").write_bytes(copied)
    other = bytearray(copied)
    other[-20] ^= 1  # as long, other content; only headers are opened
    (mvtec / "test/good/other.png").write_bytes(other)
    (warning,) = datasets.load(mvtec).warnings
    assert warning.startswith("1 test images are also training images")
    assert "copy.png" in warning


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


def fraction(seed, name):
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big") / 2**64


NAMES = st.sets(st.text("abcdef0123456789_", min_size=1, max_size=6), min_size=2, max_size=30)


@settings(deadline=None, max_examples=200)
@given(old=NAMES, new=NAMES, seed=st.integers(0, 99), share=st.floats(0.05, 0.95))
def test_adding_images_moves_no_other(old, new, seed, share):
    root = Path("train")
    before = set_apart([root / name for name in old], root, share, str(seed))
    after = set_apart([root / name for name in old | new], root, share, str(seed))
    assert 1 <= len(before) < len(old)
    below = {root / name for name in old if fraction(seed, name) < share}
    if 1 <= len(below) < len(old):  # else the rule "at least one on either side" had to step in
        assert before == below
        assert {path for path in after if path.name in old} == before


def test_held_out_is_about_the_share_and_one_image_stays(mvtec):
    paths = [Path(f"train/{number}.png") for number in range(2000)]
    assert abs(len(set_apart(paths, Path("train"), 0.2, "0")) / 2000 - 0.2) < 0.03
    assert set_apart(paths[:1], Path("train"), 0.9, "0") == set()
    wanted = {path for path in (mvtec / "train/good").iterdir() if fraction(3, path.name) < 0.5}
    assert 0 < len(wanted) < 10
    assert set(datasets.load(mvtec, seed=3, held_out_share=0.5).held_out) == wanted


def test_listing():
    assert listing([1, 2]) == "1, 2"
    assert listing(range(5), 2) == "0, 1 ... and 3 more"
