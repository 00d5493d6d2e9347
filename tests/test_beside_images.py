"""What lies beside images and may mark defects is read, refused or left out with a note: never learned as good."""

import json
from pathlib import Path

import pytest

from trees import mark, names, put, put_many, write_mvtec
from unmask import datasets
from unmask.errors import DatasetError
from unmask.imaging.listing import gather


def refused(root):
    with pytest.raises(DatasetError) as caught:
        datasets.load(root)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def kinds(split):
    """How many good images there are, and the kinds of the defective ones."""
    good = len(split.normals) + len(split.held_out) + sum(not sample.anomalous for sample in split.test)
    return good, [sample.kind for sample in split.test if sample.anomalous]


def coco(images, defective):
    """COCO of so many images of 6 x 4 pixels, the first of them with a scratch."""
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 2 + i, 2], "segmentation": []}
        for i in range(defective)
    ]
    listed = [{"id": i, "file_name": f"{i:03d}.png", "width": 6, "height": 4} for i in range(images)]
    return {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "scratch"}]}


def datumaro(images, defective):
    items = [
        {
            "id": f"{i:03d}",
            "annotations": [{"type": "bbox", "label_id": 0, "bbox": [0, 0, 2 + i, 2]}] if i < defective else [],
            "image": {"path": f"{i:03d}.png", "size": [4, 6]},
        }
        for i in range(images)
    ]
    return {"items": items, "categories": {"label": {"labels": [{"name": "scratch"}]}}}


@pytest.mark.parametrize(
    ("images", "file"),
    [
        (".", "labels_my-project_2024-01-01.json"),
        (".", "instances_default.json"),
        ("images", "labels/coco.json"),
        ("images", "Annotations.json"),
        ("images", "Annotations/instances_default.json"),
        ("images", "ANNOTATIONS/Instances_Train.JSON"),
        ("images", "export/coco/all.json"),
    ],
)
@pytest.mark.parametrize("content", [coco, datumaro])
def test_annotation_files_of_any_name_are_read(tmp_path, images, file, content):
    put_many(tmp_path / images, 10)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    if file.startswith("export"):
        (tmp_path / images).rename(tmp_path / "export/images")
    (tmp_path / file).write_text(json.dumps(content(10, 3)))
    assert kinds(datasets.load(tmp_path)) == (7, ["scratch"] * 3)


def test_of_several_annotation_files_one_is_to_be_given(tmp_path):
    put_many(tmp_path, 10)
    for name in ("first.json", "second.json"):
        (tmp_path / name).write_text(json.dumps(coco(10, 3)))
    assert "in 2 files (first.json, second.json); give one of them" in refused(tmp_path)


@pytest.mark.parametrize("name", ["annotations.json", "anything.json"])
def test_coco_without_annotations_is_refused_by_name(tmp_path, name):
    put_many(tmp_path, 10)
    content = coco(10, 0)
    del content["annotations"]
    (tmp_path / name).write_text(json.dumps(content))
    assert f"{name}: COCO without a list of annotations" in refused(tmp_path)


def test_other_json_files_are_no_annotations(tmp_path):
    put_many(tmp_path, 4)
    (tmp_path / "camera.json").write_text('{"images": 4, "exposure": 0.5}')
    (tmp_path / "list.json").write_text('["images", "annotations"]')
    assert kinds(datasets.load(tmp_path)) == (4, [])


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("JPEGImages", "SegmentationClass"),
        ("default", "defaultannot"),
        ("ds0/img", "ds0/masks_machine"),
        ("images", "masks"),
        ("day1/images", "day1/GroundTruth"),
        ("img", "binary_mask"),
        ("images", "labels"),
    ],
)
def test_folders_of_masks_that_mark_something_are_refused(tmp_path, images, masks):
    put_many(tmp_path / images, 6)
    for number in range(6):
        mark(tmp_path / masks / f"{number:03d}.png", 5 if number < 2 else 0)
    assert f"{masks}/ marks defects in 2 of 6 images; sort the images into good/ and bad/" in refused(tmp_path)


@pytest.mark.parametrize("ending", ["_mask", "_GT", "_gt", "_label", "-seg", ".mask", " Mask", "_mask_1", "_labelIds"])
@pytest.mark.parametrize("place", [".", "good", "train/good"])
def test_masks_beside_their_images_are_no_photographs(tmp_path, ending, place):
    put_many(tmp_path / place, 5)
    for number in (1, 2):
        mark(tmp_path / place / f"{number:03d}{ending}.png", number)
    assert f"001{ending}.png looks like the mask of 001.png (2 such pairs)" in refused(tmp_path)


def test_a_jpeg_and_a_mask_of_one_name(tmp_path):
    for number in range(3):
        put(tmp_path / f"{number}.jpg")
        mark(tmp_path / f"{number}.png", number)
    assert "0.png looks like the mask of 0.jpg (3 such pairs)" in refused(tmp_path)
    for number in range(3):
        put(tmp_path / f"{number}.png")  # the photograph as it was before it was saved as JPEG
    assert kinds(datasets.load(tmp_path)) == (6, [])


@pytest.mark.parametrize("name", ["masks", "ground_truth", "SegmentationClass"])
def test_a_folder_of_masks_by_itself(tmp_path, name):
    for number in range(3):
        mark(tmp_path / name / f"{number}.png", number)
    assert "is named like a folder of masks" in refused(tmp_path / name)


def test_masks_beside_defective_images_are_refused_too(tmp_path):
    put_many(tmp_path / "good", 5)
    put_many(tmp_path / "bad", 2)
    mark(tmp_path / "bad/000_mask.png", 3)
    assert "000_mask.png looks like the mask of 000.png" in refused(tmp_path)


def test_the_training_folder_of_kolektor_by_itself(tmp_path):
    for number in range(4):
        put(tmp_path / f"train/{number}.png")
        mark(tmp_path / f"train/{number}_GT.png", number)
    assert "looks like the mask" in refused(tmp_path / "train")


@pytest.mark.parametrize("name", ["gt", "x_label.png", "masked_000", "part_1_gasket"])
def test_other_names_are_no_masks(tmp_path, name):
    put_many(tmp_path, 3)
    put(tmp_path / f"{name.removesuffix('.png')}.png")
    assert kinds(datasets.load(tmp_path)) == (4, [])


VIA = "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
EMPTY_TASKS = [{"id": i, "annotations": [{"result": [], "created_at": "2024"}]} for i in range(200)]
EMPTY_REGIONS = {f"{i}.png1": {"filename": f"{i}.png", "size": 1, "regions": []} for i in range(200)}
FOREIGN = {
    "YOLO": ("000.txt", "0 0.5 0.5 1 1\n"),
    "YOLO ": ("000.txt", "0 0 0 1 0 1 1 0 1"),
    "YOLO  ": ("000.txt", "0 0.5 0.5 0.1 0.1"),
    "Label Studio": (
        "tasks.json",
        json.dumps([*EMPTY_TASKS, {"annotations": [{"result": [{"from_name": "label"}]}]}]),
    ),
    "Label Studio ": ("min.json", json.dumps([{"image": "000.png", "choice": "bad", "lead_time": 2.5}])),
    "VGG Image Annotator": (
        "via.json",
        json.dumps({**EMPTY_REGIONS, "z.png": {"regions": [{"shape_attributes": {"name": "rect"}}]}}),
    ),
    "VGG Image Annotator ": ("via.csv", f'{VIA}000.png,1,"{{}}",1,0,"{{""name"":""rect""}}","{{}}"\n'),
    "CVAT": ("job_12.xml", "<?xml version='1.0'?>\n<annotations><version>1.1</version></annotations>"),
    "CreateML": ("x.json", '[{"image": "0.png", "annotations": [{"label": "a", "coordinates": {"x": 1}}]}]'),
    "Roboflow": ("_classes.csv", "Pixel Value, Class\n0, background\n1, scratch\n"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_annotations_of_other_programs(tmp_path, kind):
    put_many(tmp_path, 4)
    name, content = FOREIGN[kind]
    (tmp_path / name).write_text(content)
    assert f"{kind.strip()} annotations ({name}) are not read" in refused(tmp_path)


def test_few_filled_label_files_among_many_empty_ones(tmp_path):
    put_many(tmp_path / "images", 4)
    (tmp_path / "labels").mkdir()
    for number in range(300):
        (tmp_path / f"labels/{number:03d}.txt").write_text("0 0.5 0.5 0.1 0.1\n" if number in (0, 299) else "")
    assert "YOLO annotations" in refused(tmp_path)


@pytest.mark.parametrize("text", ["1 2 3 4 5\n", "0.5 0.5 0.5 0.5 0.5\n", "0 1 0 1 0\n", "12.5 C\n"])
def test_other_texts_are_no_annotations(tmp_path, text):
    put_many(tmp_path, 4)
    (tmp_path / "notes.txt").write_text(text)
    assert kinds(datasets.load(tmp_path)) == (4, [])


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        *(("ok_front", "def_front"), ("Gutteile", "Ausschuss"), ("OK", "NotOK"), ("good_images", "bad_images")),
        *(("Non-Anomaly", "Anomaly"), ("good_day1", "bad"), ("iO Teile", "niO Teile"), ("ok2", "NG_cam1")),
    ],
)
def test_folders_that_say_good_and_bad_in_other_words(tmp_path, good, bad):
    put_many(tmp_path / good, 5)
    put_many(tmp_path / bad, 3)
    assert kinds(datasets.load(tmp_path)) == (5, [bad] * 3)


@pytest.mark.parametrize(
    ("first", "second"), [("0", "1"), ("class_0", "class_1"), ("good_x", "other"), ("ok_housing", "day2")]
)
@pytest.mark.parametrize("place", [".", "line1"])
def test_folders_of_which_one_may_be_defective_are_refused(tmp_path, first, second, place):
    put_many(tmp_path / place / first, 5)
    put_many(tmp_path / place / second, 3)
    assert f"which of {first} and {second} are good? name them good/ and bad/" in refused(tmp_path)


@pytest.mark.parametrize("second", ["good2", "good_day2", "OK images", "Good cam 3"])
def test_a_second_folder_of_good_images_is_used(tmp_path, second):
    put_many(tmp_path / "good", 5)
    put_many(tmp_path / second, 4)
    put_many(tmp_path / "bad", 2)
    assert kinds(datasets.load(tmp_path)) == (9, ["bad"] * 2)

    root = write_mvtec(tmp_path / "bottle")
    put_many(root / "train" / second, 4)
    put_many(root / "test" / second, 3)
    assert kinds(datasets.load(root)) == (19, ["crack"] * 3)


def test_folders_beside_good_and_bad_that_mean_neither_are_noted(tmp_path):
    for folder in ("good", "bad", "spalling"):
        put_many(tmp_path / folder, 3)
    split = datasets.load(tmp_path)
    assert any("mean neither good nor bad: spalling" in line for line in split.warnings)


def test_a_kind_that_begins_with_good_and_goes_on_is_refused(tmp_path):
    root = write_mvtec(tmp_path / "bottle")
    put_many(root / "test/good_xyz", 3)
    assert "are these images good, or a kind of defect?" in refused(root)


@pytest.mark.parametrize("folder", ["labels", "annotations", "masks", "SegmentationClass"])
def test_masks_in_folders_of_defective_images_are_noted(tmp_path, folder):
    put_many(tmp_path / "good", 5)
    put_many(tmp_path / "bad", 2)
    mark(tmp_path / "bad" / folder / "000.png", 3)
    root = write_mvtec(tmp_path / "bottle")
    mark(root / "test" / folder / "000.png", 3)
    for split, count in ((datasets.load(tmp_path, recursive=True), 2), (datasets.load(root), 3)):
        assert len(kinds(split)[1]) == count
        assert any("masks or labels are not used" in line and folder in line for line in split.warnings)


@pytest.mark.parametrize("folder", ["masks", "GroundTruth", "gt", "Ground-Truth"])
def test_ground_truth_under_another_name(tmp_path, folder):
    root = write_mvtec(tmp_path / "bottle")
    (root / "ground_truth").rename(root / folder)
    split = datasets.load(root)
    assert split.has_masks
    assert not split.warnings


def test_masks_without_folders_of_kinds_are_noted(tmp_path):
    root = write_mvtec(tmp_path / "bottle")
    (root / "ground_truth/crack").rename(root / "masks")
    split = datasets.load(root)
    assert not split.has_masks
    assert any("masks belong into ground_truth/<kind>/: masks (3)" in line for line in split.warnings)


def test_a_folder_is_read_in_the_place_of_a_link_that_says_what_it_is(tmp_path):
    put_many(tmp_path / "all/day1", 6)
    put_many(tmp_path / "test/scratch", 2)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/good").symlink_to("../all")
    split = datasets.load(tmp_path)
    assert (split.layout, kinds(split)) == ("MVTec AD", (6, ["scratch"] * 2))
    assert (split.seen, split.skipped) == (8, ())

    put_many(tmp_path / "two/pictures", 6)
    put_many(tmp_path / "two/bad", 2)
    (tmp_path / "two/good").symlink_to("pictures")
    assert kinds(datasets.load(tmp_path / "two")) == (6, ["bad"] * 2)


def test_a_link_to_a_folder_that_has_a_meaning_of_its_own_is_named(tmp_path):
    put_many(tmp_path / "test/cam1", 4)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/good").symlink_to("../test/cam1")
    assert "the link train/good leads to a folder that is read under its own name" in refused(tmp_path)


def test_masks_are_not_judged_unless_they_are_given(tmp_path):
    root = write_mvtec(tmp_path / "bottle")
    put_many(root / "test/label", 2)
    listing = gather([root])
    assert len(listing.files) == 17
    assert {one.reason for one in listing.skipped} == {"mask"}
    assert names(gather([root / "ground_truth"]).files) == [f"{number:03d}_mask.png" for number in range(3)]
    assert gather([Path(root / "ground_truth/crack/000_mask.png")]).seen == 1


@pytest.mark.parametrize("name", ["non_conforme", "non conforming", "not_okay", "nicht in Ordnung", "Not acceptable 2"])
def test_a_folder_that_denies_in_several_words_is_not_learned_from(tmp_path, name):
    put_many(tmp_path / "set", 6)
    put_many(tmp_path / "set" / name, 3)
    split = datasets.load(tmp_path / "set")
    assert not any(path.parent.name == name for path in (*split.normals, *split.held_out))
