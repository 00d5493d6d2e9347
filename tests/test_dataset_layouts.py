"""Every layout as a tiny tree: what is learned from, held out and tested on, and which masks belong to it."""

import hashlib
import inspect
import json
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trees import mark, names, put, put_many, write_mvtec
from unmask import datasets
from unmask.cli.app import app
from unmask.datasets.layouts import LAYOUTS
from unmask.errors import DatasetError
from unmask.samples import render


@pytest.fixture
def mvtec(tmp_path):
    return write_mvtec(tmp_path / "bottle")


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


def fraction(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


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
    assert "were set apart as the test set's good images" in split.warnings[-1]


def test_good_and_bad(tmp_path):
    put_many(tmp_path / "good", 40)
    put_many(tmp_path / "bad", 2)
    put_many(tmp_path / "bad/scratch", 3)
    splits = [datasets.load(tmp_path, seed=seed) for seed in (0, 1)]
    assert splits[0].layout == "good and bad"
    assert [sample.kind for sample in splits[0].test if sample.anomalous] == ["bad"] * 2 + ["scratch"] * 3
    assert splits[0].test == splits[1].test  # a seed holds out others and leaves the test set alone
    assert splits[0].held_out != splits[1].held_out
    apart = {name for name in (f"{number:03d}.png" for number in range(40)) if fraction(f"test/{name}") < 0.2}
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


def roles(split):
    """How many images are learned from, held out, and tested: good, anomalous by kind."""
    kinds = sorted(sample.kind for sample in split.test if sample.anomalous)
    return len(split.normals), len(split.held_out), sum(not sample.anomalous for sample in split.test), kinds


def areas(split):
    """The defective pixels of every test image, in order."""
    return [int(datasets.read_mask(sample, 4, 6).sum()) for sample in split.test]


def test_the_plain_tree_with_a_validation_folder_is_not_loco(mvtec):
    put_many(mvtec / "validation/good", 4)
    mark(mvtec / "ground_truth/crack/001_mask.png", 7)
    split = datasets.load(mvtec)
    assert (split.layout, split.warnings) == ("MVTec AD", ())
    assert roles(split) == (10, 4, 2, ["crack"] * 3)
    assert {path.parent for path in split.held_out} == {mvtec / "validation/good"}
    assert areas(split) == [5, 7, 7, 0, 0]


def test_mvtec_3d(tmp_path):
    root = tmp_path / "bagel"
    for part, count in (("train/good", 5), ("validation/good", 2), ("test/good", 2), ("test/crack", 3)):
        put_many(root / part / "rgb", count)
        for number in range(count):
            put(root / part / f"xyz/{number:03d}.tiff")
            if part.startswith("test"):
                mark(root / part / f"gt/{number:03d}.png", 5 + number if part == "test/crack" else 0)
    split = datasets.load(root)
    assert (split.layout, split.has_masks, split.warnings) == ("MVTec 3D-AD", True, ())
    assert roles(split) == (5, 2, 2, ["crack"] * 3)
    assert {path.suffix for path in (*split.normals, *split.held_out)} == {".png"}
    assert areas(split) == [5, 6, 7, 0, 0]
    assert [len(sample.masks) for sample in split.test] == [1, 1, 1, 0, 0]


def test_mvtec_ad_2(tmp_path):
    root = tmp_path / "can"
    for part, count in (("train/good", 6), ("validation/good", 3), ("test_public/good", 2), ("test_public/bad", 2)):
        for number in range(count):
            put(root / part / f"{number:03d}_regular.png")
    for number in range(2):
        mark(root / f"test_public/ground_truth/bad/{number:03d}_regular_mask.png", 3 + number)
    put_many(root / "test_private", 2)
    put_many(root / "test_private_mixed", 2)
    split = datasets.load(root)
    assert (split.layout, split.has_masks) == ("MVTec AD 2", True)
    assert roles(split) == (6, 3, 2, ["bad"] * 2)
    assert areas(split) == [3, 4, 0, 0]
    assert split.warnings == ("test_private and test_private_mixed have no public labels and are not judged",)
    (root / "test_public/ground_truth/bad/000_regular_mask.png").unlink()
    with pytest.raises(DatasetError, match="1 defective images have no mask"):
        datasets.load(root)


def test_visa_1cls(tmp_path):
    root = tmp_path / "1cls/candle"
    for part, count in (("train/good", 5), ("test/good", 2), ("test/bad", 2)):
        put_many(root / part, count, ".JPG")
    for number in range(2):
        mark(root / f"ground_truth/bad/{number:03d}.png", 8 + number)
    split = datasets.load(root)
    assert (split.layout, split.has_masks, split.warnings) == ("VisA (1cls)", True, ())
    assert roles(split)[2:] == (2, ["bad"] * 2)
    assert sum(roles(split)[:2]) == 5
    assert areas(split) == [8, 9, 0, 0]


@pytest.fixture
def real_iad(tmp_path):
    """A tree of Real-IAD: 4 good training images and 1 defective one; 2 good and 2 defective test images."""
    images = tmp_path / "Real-IAD/realiad_1024/audiojack"
    rows = {"train": [], "test": []}
    for part, kind, count in (("train", "OK", 4), ("train", "HS", 1), ("test", "OK", 2), ("test", "QS", 2)):
        for number in range(count):
            folder = f"OK/S{number:04d}" if kind == "OK" else f"NG/{kind}/S{number:04d}"
            image = f"{folder}/audiojack_{part}_{number:04d}_{kind}_C1.jpg"
            put(images / image)
            mask = None if kind == "OK" else image.replace(".jpg", ".png")
            if mask:
                mark(images / mask, 6 + number)
            row = {"category": "audiojack", "anomaly_class": kind, "image_path": image, "mask_path": mask}
            rows[part].append(row)
    table = tmp_path / "Real-IAD/realiad_jsons/realiad_jsons/audiojack.json"
    table.parent.mkdir(parents=True)
    table.write_text(json.dumps({"meta": {"normal_class": "OK", "prefix": "audiojack/"}, **rows}))
    return table, images


def test_real_iad(real_iad):
    table, images = real_iad
    for path in real_iad:
        split = datasets.load(path)
        assert (split.name, split.layout, split.has_masks) == ("audiojack", "Real-IAD", True)
        assert sum(roles(split)[:2]) == 4
        assert roles(split)[2:] == (2, ["QS"] * 2)
        assert areas(split) == [0, 0, 6, 7]
        assert split.warnings == (
            "1 defective images of the training part are not used: only good images are learned from",
        )
    images.rename(images.parents[2] / "elsewhere")
    with pytest.raises(DatasetError, match=r"audiojack_train_0000_OK_C1\.jpg is in no folder audiojack/ beside it"):
        datasets.load(table)


@pytest.mark.parametrize("content", ["{", "[]", '{"train": []}', '{"meta": {}, "train": [{}], "test": []}'])
def test_another_json_file_is_an_error_only_when_it_was_given(mvtec, content):
    (mvtec / "bottle.json").write_text(content)
    assert datasets.load(mvtec).layout == "MVTec AD"
    with pytest.raises(DatasetError, match=r"not a JSON file of Real-IAD|not JSON"):
        datasets.load(mvtec / "bottle.json")


def test_kolektor_sdd(tmp_path):
    root = tmp_path / "KolektorSDD"
    for folder in ("kos01", "kos02", "kos03"):
        for number in range(4):
            defective = (folder, number) in (("kos01", 2), ("kos03", 0))
            put(root / folder / f"Part{number}.jpg")
            mark(root / folder / f"Part{number}_label.bmp", 9 if defective else 0)
    put(root / "kos03/Part9.jpg")
    splits = [datasets.load(root, seed=seed) for seed in (0, 1)]
    assert (splits[0].layout, splits[0].has_masks) == ("KolektorSDD", True)
    learned, held_out, good, kinds = roles(splits[0])
    assert kinds == ["defect"] * 2
    assert min(learned, held_out, good) >= 1
    assert learned + held_out + good == 10
    assert [area for area in areas(splits[0]) if area] == [9, 9]
    assert splits[0].test == splits[1].test
    assert splits[0].warnings == (
        "1 images have no mask file and are not used: Part9.jpg",
        f"{good} of 10 good images were set apart as the test set's good images",
    )


def test_kolektor_sdd2(tmp_path):
    root = tmp_path / "KSDD2"
    for part, defective in (("train", (2,)), ("test", (0, 3))):
        for number in range(6):
            put(root / part / f"2{number:04d}.png")
            mark(root / part / f"2{number:04d}_GT.png", 4 + number if number in defective else 0)
    split = datasets.load(root)
    assert (split.layout, split.has_masks) == ("KolektorSDD2", True)
    assert sum(roles(split)[:2]) == 5
    assert roles(split)[2:] == (4, ["defect"] * 2)
    assert areas(split) == [0, 0, 0, 0, 4, 7]
    assert [sample.path.name for sample in split.test if sample.anomalous] == ["20000.png", "20003.png"]
    assert split.warnings == (
        "1 defective images of the training part are not used: only good images are learned from",
    )


def test_dagm(tmp_path):
    root = tmp_path / "Class1"
    for part, defective in (("Train", (3,)), ("Test", (1, 4))):
        for number in range(5):
            put(root / part / f"{number:04d}.PNG")
            if number in defective:
                mark(root / part / f"Label/{number:04d}_label.PNG", 10 + number)
    (root / "Train/Label/Labels.txt").write_text("1\n")
    split = datasets.load(root)
    assert (split.layout, split.has_masks) == ("DAGM", True)
    assert sum(roles(split)[:2]) == 4
    assert roles(split)[2:] == (3, ["defect"] * 2)
    assert areas(split) == [0, 0, 0, 11, 14]
    with pytest.raises(DatasetError, match=r"holds several data sets \(Class1\)"):
        datasets.load(tmp_path)


def test_a_layout_without_good_images_falls_through_to_the_next(tmp_path):
    (tmp_path / "train/good").mkdir(parents=True)
    put_many(tmp_path / "good", 4)
    put_many(tmp_path / "bad", 2)
    assert datasets.load(tmp_path).layout == "good and bad"


DOCUMENT = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "layout", [layout for layout in LAYOUTS if layout.__name__ not in ("manifest", "foreign", "flat")]
)
def test_the_docs_show_the_tree_of_every_layout(layout):
    tree = textwrap.dedent(inspect.getdoc(layout).split("\n\n")[1])
    assert f"```text\n{tree}\n```" in DOCUMENT


def test_the_example_of_the_docs_is_what_the_command_prints(tmp_path):
    render("part", tmp_path / "part", size=64)
    printed = CliRunner().invoke(app, ["data", str(tmp_path / "part")]).stdout.replace("64 x 64", "256 x 256")
    assert f"$ unmask data samples/part\n{printed}```" in DOCUMENT
