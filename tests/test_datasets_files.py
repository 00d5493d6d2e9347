"""Every file of a data set is used or skipped with a reason: folders in folders, several of a kind, masks, links."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from trees import mark, names, put, put_many, write_mvtec
from unmask import datasets
from unmask.errors import DatasetError
from unmask.types import Skip

DOCUMENT = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("reason", Skip)
def test_the_docs_name_every_reason(reason):
    assert f"`{reason}`" in DOCUMENT


def used(split):
    masks = {mask for sample in split.test for mask in sample.masks}
    return {*split.normals, *split.held_out, *(sample.path for sample in split.test), *masks}


def reasons(split):
    """Counts of the reasons; the sums are right, and nothing is both used and skipped."""
    assert split.seen == len(used(split)) + len(split.skipped)
    assert not used(split) & {one.path for one in split.skipped}
    return dict(Counter(str(one.reason) for one in split.skipped))


@pytest.fixture
def mvtec(tmp_path):
    return write_mvtec(tmp_path / "bottle")


def test_a_folder_ok_beside_good_and_folders_in_both(tmp_path):
    for folder, count in {"good": 24, "good/day2": 6, "OK": 10, "bad": 3, "bad/scratch/cam1": 2}.items():
        for number in range(count):
            put(tmp_path / folder / f"{number}.png")
    split = datasets.load(tmp_path)
    assert (split.seen, split.skipped, len(used(split))) == (45, (), 45)
    assert [sample.kind for sample in split.test if sample.anomalous] == ["bad"] * 3 + ["scratch"] * 2
    assert "good and OK are all folders of good images, and all are used" in split.warnings
    flat = datasets.load(tmp_path, recursive=False)
    assert reasons(flat) == {"nested folder": 8}


@pytest.mark.parametrize("folders", [("Good", "good"), ("good ", "OK"), ("NORMAL", "ok", "Good")])
def test_names_of_folders_in_any_case_and_with_spaces(tmp_path, folders):
    for folder in folders:
        put_many(tmp_path / folder, 4)
    for folder in ("NG", "bad ", "Defects"):
        put_many(tmp_path / folder, 2)
    split = datasets.load(tmp_path)
    assert (split.layout, reasons(split)) == ("good and bad", {})
    assert split.seen == 4 * len(folders) + 6
    assert {sample.kind for sample in split.test if sample.anomalous} == {"NG", "bad", "Defects"}


def test_the_tree_of_mvtec_in_any_case_with_two_good_folders(mvtec):
    put_many(mvtec / "train/OK", 5)
    put_many(mvtec / "train/good/day2/cam1", 3)
    put_many(mvtec / "train/bad", 2)
    (mvtec / "train").rename(mvtec / "Train")
    (mvtec / "test").rename(mvtec / "TEST ")
    (mvtec / "ground_truth/crack").rename(mvtec / "ground_truth/Crack")
    (mvtec / "ground_truth").rename(mvtec / "Ground Truth")
    split = datasets.load(mvtec)
    assert (split.layout, len(split.normals) + len(split.held_out), split.has_masks) == ("MVTec AD", 18, True)
    assert reasons(split) == {"folder named like defects": 2}
    assert split.warnings == (
        "good and OK are all folders of good images, and all are used",
        "images in folders named like defects are not taken for good ones: bad (2)",
    )


def test_names_keep_their_side_when_another_folder_of_good_images_comes(mvtec):
    before = datasets.load(mvtec)
    put_many(mvtec / "train/ok", 7)
    put_many(mvtec / "train/good/day2", 7)
    assert set(before.held_out) <= set(datasets.load(mvtec).held_out)


def test_folders_below_a_kind_keep_the_kind_and_its_masks(mvtec):
    for camera, pixels in (("cam1", 5), ("cam2", 6)):
        put(mvtec / f"test/scratch/{camera}/000.png")
        mark(mvtec / f"ground_truth/scratch/{camera}/000_mask.png", pixels)
    put(mvtec / "test/scratch/cam2/deep/only.png")
    mark(mvtec / "ground_truth/scratch/only_mask.png", 7)
    put(mvtec / "test/good/cam1/000.png")
    split = datasets.load(mvtec)
    assert (split.layout, reasons(split)) == ("MVTec AD", {})
    found = [sample for sample in split.test if sample.kind == "scratch"]
    assert [int(datasets.read_mask(sample, 4, 6).sum()) for sample in found] == [5, 6, 7]
    assert sum(not sample.anomalous for sample in split.test) == 3


def test_a_folder_of_good_images_in_a_kind_is_refused(mvtec):
    put_many(mvtec / "test/cam1/good", 2)
    put_many(mvtec / "test/cam1/scratch", 2)
    with pytest.raises(DatasetError, match="would be a kind of defect, but a folder good lies in it"):
        datasets.load(mvtec)
    split = datasets.load(mvtec, recursive=False)
    assert (len(split.test), sum(reasons(split).values())) == (5, 4)


def test_defects_in_a_folder_of_good_test_images_are_no_good_ones(mvtec):
    put_many(mvtec / "test/good/cam1", 2)
    put_many(mvtec / "test/good/NG", 2)
    split = datasets.load(mvtec)
    assert sum(not sample.anomalous for sample in split.test) == 4
    assert reasons(split) == {"folder named like defects": 2}


@pytest.mark.parametrize("second", ["test/crack/cam1/000.png", "test/crack/000.bmp"])
def test_two_images_never_share_a_mask(mvtec, second):
    put(mvtec / second)
    with pytest.raises(DatasetError, match=r"masks have no test image|defective images have no mask"):
        datasets.load(mvtec)


def test_masks_below_a_kind_do_not_make_it_loco(mvtec):
    for number in range(3):
        (mvtec / f"test/crack/{number:03d}.png").unlink()
        put(mvtec / f"test/crack/cam1/{number:03d}.png")
        (mvtec / f"ground_truth/crack/{number:03d}_mask.png").unlink()
        mark(mvtec / f"ground_truth/crack/cam1/{number:03d}_mask.png", 3 + number)
    split = datasets.load(mvtec)
    assert split.layout == "MVTec AD"
    assert [int(datasets.read_mask(sample, 4, 6).sum()) for sample in split.test[:3]] == [3, 4, 5]


def test_a_kind_of_defect_may_be_named_label(mvtec):
    put_many(mvtec / "test/label", 2)
    mark(mvtec / "ground_truth/label/000_mask.png", 3)
    mark(mvtec / "ground_truth/label/001_mask.png", 3)
    assert [sample.kind for sample in datasets.load(mvtec).test].count("label") == 2


def test_masks_beside_the_images_of_a_kind_are_no_test_images(mvtec):
    mark(mvtec / "test/crack/masks/000.png", 3)
    split = datasets.load(mvtec)
    assert len(split.test) == 5
    assert reasons(split) == {"mask": 1}


def test_days_in_a_folder_of_photographs(tmp_path):
    put_many(tmp_path / "day1", 4)
    put_many(tmp_path / "day2/cam1", 4)
    split = datasets.load(tmp_path)
    assert (split.layout, len(used(split)), reasons(split)) == ("a folder of good images", 8, {})
    assert split.warnings == ("images in day1, day2 are learned from as good ones as well",)
    with pytest.raises(DatasetError, match="no layout recognised"):
        datasets.load(tmp_path, recursive=False)


@pytest.mark.parametrize("folder", ["bad", "NG", "scratch", "Scratches_2", "defectParts", "not good", "day1_rejected"])
def test_folders_named_like_defects_are_not_learned_from(tmp_path, folder):
    put_many(tmp_path, 4)
    put_many(tmp_path / "day1", 4)
    put_many(tmp_path / folder, 3)
    put_many(tmp_path / "day1" / folder / "deep", 2)
    split = datasets.load(tmp_path)
    assert len(used(split)) == 8
    assert reasons(split) == {"folder named like defects": 5}
    assert any("named like defects are not taken for good ones" in line and folder in line for line in split.warnings)


@pytest.mark.parametrize(
    "folder", ["defect-free", "pos1", "Pos_2", "no defects", "without_scratches", "day 2", "screws", "goodness"]
)
def test_other_folders_are(tmp_path, folder):
    put_many(tmp_path / folder, 4)
    assert len(used(datasets.load(tmp_path))) == 4


def test_masks_and_labels_beside_photographs_are_not_learned_from(tmp_path):
    put_many(tmp_path / "images", 4)
    for number in range(4):
        mark(tmp_path / f"masks/{number:03d}.png", 0)
    split = datasets.load(tmp_path)
    assert {path.parent.name for path in used(split)} == {"images"}
    assert reasons(split) == {"mask": 4}
    assert any("named like masks or labels are not used" in line and "masks (4)" in line for line in split.warnings)


def test_parts_of_a_data_set_are_not_taken_for_photographs(tmp_path):
    put_many(tmp_path / "train", 4)
    put_many(tmp_path / "test", 4)
    with pytest.raises(DatasetError, match="no layout recognised"):
        datasets.load(tmp_path)


def test_a_folder_without_images_says_what_was_seen(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        DatasetError, match=r"no images in it\. Saw 1 file: used 0, skipped 1 \(1 not an image \(\.txt\)\)"
    ):
        datasets.load(tmp_path)


def test_what_a_layout_has_no_use_for(tmp_path):
    root = tmp_path / "bagel"
    for part, count in (("train/good", 5), ("test/good", 2), ("test/crack", 3)):
        put_many(root / part / "rgb", count)
        for number in range(count):
            put(root / part / f"xyz/{number:03d}.tiff")
            if part.startswith("test"):
                mark(root / part / f"gt/{number:03d}.png", 5 if part == "test/crack" else 0)
    assert reasons(datasets.load(root)) == {"depth image": 10, "mask of a good image": 2}

    root = write_mvtec(tmp_path / "can")
    (root / "test").rename(root / "test_public")
    (root / "ground_truth").rename(root / "test_public/ground_truth")
    put_many(root / "test_private/mixed", 4)
    put_many(root / "extra", 2)
    assert reasons(datasets.load(root)) == {"private test image": 4, "not part of the layout": 2}

    root = tmp_path / "KSDD2"
    for part in ("train", "test"):
        for number in range(4):
            put(root / part / f"2{number:04d}.png")
            mark(root / part / f"2{number:04d}_GT.png", 4 if number == 2 else 0)
    assert reasons(datasets.load(root)) == {
        "defective image of the training part": 2,
        "mask of a good image": 6,
    }


def test_copies_are_skipped_also_by_links(mvtec):
    good = mvtec / "train/good"
    (good / "again.png").write_bytes((good / "000.png").read_bytes())
    (good / "link.png").symlink_to("001.png")
    os.link(good / "002.png", good / "hard.png")
    split = datasets.load(mvtec)
    assert reasons(split) == {"copy of another image": 3}
    assert names(one.path for one in split.skipped) == ["again.png", "hard.png", "link.png"]


def test_folders_that_are_links(mvtec, tmp_path):
    """Data sets are put together from links, also to folders elsewhere."""
    root = tmp_path / "linked"
    root.mkdir()
    for name in ("train", "test", "ground_truth"):
        (root / name).symlink_to(mvtec / name)
    (root / "round").symlink_to(".")
    split = datasets.load(root)
    assert (split.layout, len(split.test), reasons(split)) == ("MVTec AD", 5, {"link in a circle": 1})


def test_a_table_names_its_files(tmp_path):
    put_many(tmp_path, 5)
    table = tmp_path / "table.csv"
    rows = ["path,label,split", *(f"{number:03d}.png,good,train" for number in range(3)), "004.png,dent,test"]
    table.write_text("\n".join(rows))
    split = datasets.load(table)
    assert (split.seen, split.skipped) == (4, ())


def test_a_table_beside_a_folder_that_is_given_by_a_relative_path(tmp_path, monkeypatch):
    top = tmp_path / "VisA"
    rows = ["object,split,label,image,mask"]
    for number in range(6):
        put(top / f"candle/Data/Images/Normal/{number}.JPG")
        rows.append(f"candle,train,normal,candle/Data/Images/Normal/{number}.JPG,")
    put(top / "candle/Data/Images/Normal/extra.JPG")
    (top / "split_csv").mkdir()
    (top / "split_csv/1cls.csv").write_text("\n".join(rows))
    monkeypatch.chdir(top)
    split = datasets.load("candle")
    assert (split.layout, split.seen, len(split.normals) + len(split.held_out)) == ("VisA", 7, 6)
    assert [(one.path.name, one.reason) for one in split.skipped] == [("extra.JPG", "not part of the layout")]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_one_character_or_in_two(tmp_path, form):
    """The same names hold out the same images, whatever system wrote them, and masks are found."""
    sides = []
    for folder, written in (("one", "NFC"), ("other", form)):
        root = tmp_path / folder
        for number in range(30):
            put(root / "train/good" / unicodedata.normalize(written, f"Prüfteil_é{number}.png"), seed=number)
        put(root / "test/kratzer" / unicodedata.normalize(written, "süß.png"), seed=50)
        put(root / "ground_truth/kratzer" / unicodedata.normalize("NFD", "süß_mask.png"), value=255)
        split = datasets.load(root)
        assert split.has_masks
        sides.append({unicodedata.normalize("NFC", path.name) for path in split.held_out})
    assert sides[0] == sides[1]
    assert 1 < len(sides[0]) < 15


def test_names_that_are_not_utf_8_are_held_out_too(tmp_path):
    for number in range(4):
        put(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9%d.png" % number))
    split = datasets.load(tmp_path)
    assert len(split.normals) + len(split.held_out) == 4
    assert len(datasets.fingerprint(split)) == len(datasets.contents(split)) == 12


def test_contents_see_another_picture_of_the_same_size(mvtec):
    split = datasets.load(mvtec)
    before, sizes = datasets.contents(split), datasets.fingerprint(split)
    assert datasets.contents(datasets.load(mvtec, seed=5)) == before
    for path in (split.test[0].path, split.test[0].masks[0], split.normals[0]):
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
        assert datasets.fingerprint(split) == sizes
        assert datasets.contents(split) != before
        before = datasets.contents(split)
