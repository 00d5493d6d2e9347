"""COCO and Datumaro trees: labels and outlines from JSON, and the annotations of other programs by name."""

import copy
import json
import random

import numpy as np
import pytest

from trees import failure, put
from unmask import datasets
from unmask.datasets.layouts.annotations import subset_of
from unmask.datasets.layouts.outlines import runs_in
from unmask.errors import DatasetError

SHAPE = np.zeros((80, 100), bool)
SHAPE[30:50, 40:60] = True
SQUARE = [40, 30, 60, 30, 60, 50, 40, 50]
# pycocotools 2.0.11 wrote these for SHAPE, and for the 12 x 15 pixels of default_rng(0).random((12, 15)) < 0.4.
SHORT = "nT3d0l10000000000000000000000000000000000000RS3"
NOISE = "1160K20040LN000020N10O2050K2OO3OM0O00100;OE120O1ON121NN010O050K00020O070K0M10O71J11"
LONG = [40 * 80 + 30, *[20, 60] * 19, 20, 30 + 40 * 80]


def coco(folder, names, annotations=(), categories=("scratch", "good"), file="annotations/instances_default.json"):
    """Write a COCO file of images of 100 x 80 pixels; annotations are (image, category, further keys)."""
    content = {
        "images": [{"id": n, "file_name": name, "width": 100, "height": 80} for n, name in enumerate(names, 5)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(categories)],
        "annotations": [
            {"id": n, "image_id": names.index(name) + 5, "category_id": categories.index(category), **keys}
            for n, (name, category, keys) in enumerate(annotations)
        ],
    }
    return write(folder / file, content)


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def pictures(folder, *names):
    for name in names:
        put(folder / name, size=(100, 80))
    return list(names)


def refused(path):
    with pytest.raises(DatasetError) as caught:
        datasets.load(path)
    message = str(caught.value)
    assert len(message) <= 300
    assert "\n" not in message
    return message


def kinds(split):
    return {sample.path.name: sample.kind for sample in split.test if sample.anomalous}


def areas(split):
    return {s.path.name: int(datasets.read_mask(s, 80, 100).sum()) for s in split.test if s.anomalous}


NAMES = [f"{number}.png" for number in range(8)]


@pytest.mark.parametrize("place", ["images", "images/default", "default", ".", "data"])
def test_coco_without_subsets(tmp_path, place):
    pictures(tmp_path / place, *NAMES)
    marks = [("7.png", "scratch", {"segmentation": [SQUARE], "bbox": [40, 30, 20, 20]}), ("1.png", "good", {})]
    file = coco(tmp_path, NAMES, marks)
    for path in (tmp_path, file):
        split = datasets.load(path)
        assert (split.layout, split.has_masks, kinds(split)) == ("COCO", True, {"7.png": "scratch"})
        assert len(split.normals) + len(split.held_out) + len(split.test) == 8
        assert any(not sample.anomalous for sample in split.test)
        assert np.array_equal(datasets.read_mask(split.test[-1], 80, 100), SHAPE)
        assert len(datasets.fingerprint(split)) == 12
        assert datasets.summary(split)["masks"] == 1


@pytest.mark.parametrize("name", ["result.json", "annotations.json", "_annotations.coco.json", "labels.json"])
def test_coco_beside_its_images(tmp_path, name):
    pictures(tmp_path / "images", *NAMES)
    names = [f"images\\{name}" for name in NAMES]
    coco(tmp_path, names, [(names[3], "scratch", {"segmentation": [SQUARE]})], file=name)
    assert kinds(datasets.load(tmp_path)) == {"3.png": "scratch"}


def test_coco_as_roboflow_writes_it(tmp_path):
    square = {"segmentation": [SQUARE]}
    for subset, count in (("train", 6), ("valid", 3), ("test", 3)):
        names = pictures(tmp_path / subset, *[f"{subset}{number}.jpg" for number in range(count)])
        coco(tmp_path, names, [(names[0], "scratch", square)], file=f"{subset}/_annotations.coco.json")
    split = datasets.load(tmp_path)
    assert [path.name for path in split.normals] == [f"train{number}.jpg" for number in range(1, 6)]
    assert [path.name for path in split.held_out] == ["valid1.jpg", "valid2.jpg"]
    assert areas(split) == {"test0.jpg": 400}
    assert "2 defective images outside of the test set are not used" in split.warnings
    assert [one.reason for one in split.skipped if one.path.suffix == ".jpg"] == [
        "defective image outside of the test set"
    ] * 2
    (tmp_path / "test/_annotations.coco.json").unlink()
    assert areas(datasets.load(tmp_path)) == {"valid0.jpg": 400}


def test_coco_with_files_for_each_subset(tmp_path):
    for subset in ("train2017", "val2017"):
        names = pictures(tmp_path / subset, *NAMES[:4])
        marks = [] if subset == "train2017" else [("2.png", "scratch", {"segmentation": [SQUARE]})]
        coco(tmp_path, names, marks, file=f"annotations/instances_{subset}.json")
        write(tmp_path / f"annotations/captions_{subset}.json", {"images": [], "annotations": []})
    split = datasets.load(tmp_path)
    assert len(split.normals) + len(split.held_out) == 4
    assert areas(split) == {"2.png": 400}
    assert len(split.test) == 4


@pytest.mark.parametrize(
    ("keys", "area"),
    [
        ({"segmentation": [SQUARE]}, 400),
        ({"segmentation": SQUARE}, 400),
        ({"segmentation": [SQUARE, [0, 0, 10, 0, 10, 10, 0, 10]]}, 500),
        ({"segmentation": [[value + 0.25 for value in SQUARE]]}, 400),
        ({"segmentation": {"size": [80, 100], "counts": LONG}, "iscrowd": 1}, 400),
        ({"segmentation": {"size": [80, 100], "counts": SHORT}}, 400),
        ({"segmentation": [], "bbox": [40, 30, 20, 20]}, 400),
        ({"segmentation": [SQUARE, []]}, 400),
        ({"segmentation": [[]], "bbox": [40, 30, 20, 20]}, 400),
        ({"bbox": [40.0, 30.0, 20.0, 20.0]}, 400),
        ({"segmentation": [[10, 10, 90, 15, 30, 70]]}, 2360),  # pixels whose centre is inside; 2350 by geometry
    ],
)
def test_outlines_of_coco(tmp_path, keys, area):
    pictures(tmp_path / "images", *NAMES)
    coco(tmp_path, NAMES, [("0.png", "scratch", keys)])
    split = datasets.load(tmp_path)
    assert areas(split)["0.png"] == pytest.approx(area, abs=4)
    told = "1 images have boxes and no shapes, and all of a box counts as defective: 0.png"
    assert (told in split.warnings) == ("bbox" in keys)


def test_the_short_form_of_runs():
    wanted = np.random.default_rng(0).random((12, 15)) < 0.4
    runs = runs_in({"size": [12, 15], "counts": NOISE}, (15, 12))
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(15, 12).T, wanted)


def test_images_with_a_label_and_no_outline(tmp_path):
    pictures(tmp_path / "images", *NAMES)
    coco(tmp_path, NAMES, [("0.png", "scratch", {}), ("1.png", "good", {})])
    split = datasets.load(tmp_path)
    assert (split.has_masks, kinds(split)) == (False, {"0.png": "scratch"})


def test_outlines_on_a_photograph_that_exif_turns(tmp_path):
    from PIL import Image

    pictures(tmp_path / "images", *NAMES)
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(np.dstack([SHAPE.astype(np.uint8) * 255] * 3)).save(tmp_path / "images/0.png", exif=exif)
    coco(tmp_path, NAMES, [("0.png", "scratch", {"segmentation": [SQUARE]})])
    (sample,) = (sample for sample in datasets.load(tmp_path).test if sample.anomalous)
    assert np.array_equal(datasets.read_mask(sample, 100, 80), np.rot90(SHAPE, -1))


def test_outlines_of_another_size(tmp_path):
    pictures(tmp_path / "images", *NAMES)
    put(tmp_path / "images/0.png", size=(200, 160))
    coco(tmp_path, NAMES, [("0.png", "scratch", {"segmentation": [SQUARE]})])
    split = datasets.load(tmp_path)
    assert datasets.read_mask(split.test[-1], 160, 200).sum() == 1600
    assert "1 masks differ in size from their images and are scaled to them: images/0.png" in split.warnings
    put(tmp_path / "images/0.png", size=(100, 100))
    assert "1 masks differ in aspect from their images: images/0.png 100 x 80" in refused(tmp_path)


def datumaro(folder, marks, file="annotations/default.json", media="image"):
    """Write a Datumaro file of NAMES; marks are the annotations of an image."""
    items = [
        {"id": name[0], "annotations": marks.get(name, []), media: {"path": name, "size": [80, 100]}} for name in NAMES
    ]
    labels = [{"name": name, "parent": ""} for name in ("Normal", "Anomalous")]
    return write(folder / file, {"info": {}, "categories": {"label": {"labels": labels}}, "items": items})


@pytest.mark.parametrize("media", ["image", "media"])
@pytest.mark.parametrize(
    ("mark", "area"),
    [
        ({"type": "polygon", "points": SQUARE}, 400),
        ({"type": "mask", "rle": {"size": [80, 100], "counts": SHORT}}, 400),
        ({"type": "bbox", "bbox": [40, 30, 20, 20]}, 400),
        ({"type": "label"}, 0),
    ],
)
def test_datumaro(tmp_path, mark, area, media):
    pictures(tmp_path / "images/default", *NAMES)
    marks = {name: [{"id": 0, "type": "label", "label_id": 0}] for name in NAMES[:6]}
    datumaro(tmp_path, {**marks, "7.png": [{**mark, "label_id": 1}], "6.png": [{**mark, "label_id": 1}]}, media=media)
    split = datasets.load(tmp_path)
    assert (split.layout, split.has_masks) == ("Datumaro", bool(area))
    assert kinds(split) == {"6.png": "Anomalous", "7.png": "Anomalous"}
    assert areas(split) == {"6.png": area, "7.png": area}


def test_datumaro_without_names_of_files(tmp_path):
    pictures(tmp_path / "images", *NAMES)
    file = datumaro(tmp_path, {"7.png": [{"type": "label", "label_id": 1}]})
    content = json.loads(file.read_text())
    for item in content["items"]:
        del item["image"]
    write(file, content)
    assert kinds(datasets.load(tmp_path)) == {"7.png": "Anomalous"}


def test_what_contradicts_itself_is_refused(tmp_path):
    pictures(tmp_path / "images", *NAMES)
    coco(tmp_path, NAMES, [("0.png", "scratch", {"bbox": [1, 1, 9, 9]}), ("0.png", "good", {})])
    assert "0.png is annotated as good and as scratch" in refused(tmp_path)
    coco(tmp_path, [*NAMES, "8.png", "9.png"])
    assert "2 of its images are not there: 8.png, 9.png; put them into" in refused(tmp_path)
    coco(tmp_path, [*NAMES, "./0.png"])
    assert "0.png is listed twice" in refused(tmp_path)
    coco(tmp_path, NAMES, [("0.png", "scratch", {"bbox": [1, 1, 9, 9]}), ("1.png", "scratch", {})])
    assert "1 defective images have no mask while others have: images/1.png" in refused(tmp_path)
    coco(tmp_path, NAMES, [(name, "scratch", {"bbox": [1, 1, 9, 9]}) for name in NAMES])
    assert "no good images to learn from" in refused(tmp_path)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "a polygon of 7 coordinates"),
        ({"segmentation": [[1, 2, "3", 4, 5, 6]]}, "no list of numbers"),
        ({"segmentation": [[1, 2, 1e300, 4, 5, 6]]}, "far outside"),
        ({"segmentation": [[1, 2, float("nan"), 4, 5, 6]]}, "far outside"),
        ({"segmentation": {"size": [80, 100], "counts": [10, 20]}}, "do not fill"),
        ({"segmentation": {"size": [100, 80], "counts": LONG}}, "of another size"),
        ({"segmentation": {"size": [80, 100], "counts": "\u20ac"}}, "short form"),
        ({"segmentation": {"size": [80, 100], "counts": [-1, 8001]}}, "do not fill"),
        ({"segmentation": 7}, "annotation 0 has a segmentation of another form"),
        ({"segmentation": [SQUARE, 7]}, "annotation 0 has an outline that is no list of numbers"),
        ({"bbox": [1, 2, -3, 4]}, "a box"),
        ({"image_id": -4}, "annotation 0 has image -4, which is not listed"),
        ({"category_id": 10**400}, "annotation 0 has category 1000"),
        ({"category_id": [1]}, "annotation 0 has another form"),
    ],
)
def test_annotations_that_are_refused(tmp_path, keys, reason):
    pictures(tmp_path / "images", *NAMES)
    coco(tmp_path, NAMES, [("0.png", "scratch", keys)])
    message = refused(tmp_path)
    assert "instances_default.json: not read as COCO: annotation 0 has" in message
    assert reason in message


@pytest.mark.parametrize("size", [(0, 80), (-100, 80), ("100", 80), (10**9, 8 * 10**8), (10**400, 1), (95.5, 80)])
def test_sizes_that_are_refused(tmp_path, size):
    pictures(tmp_path / "images", *NAMES)
    file = coco(tmp_path, NAMES, [("0.png", "scratch", {"segmentation": [SQUARE]})])
    content = json.loads(file.read_text())
    content["images"][0] |= {"width": size[0], "height": size[1]}
    write(file, content)
    assert "not read as COCO: image 5 has a" in refused(tmp_path)


@pytest.mark.parametrize(
    "size", [{"width": 100.0, "height": 80.0}, {"width": None, "height": None}, {"width": 100}, {}]
)
def test_sizes_that_are_whole_or_missing(tmp_path, size):
    pictures(tmp_path / "images", *NAMES)
    file = coco(tmp_path, NAMES, [("0.png", "scratch", {"segmentation": [SQUARE]})])
    content = json.loads(file.read_text())
    content["images"][0] = {"id": 5, "file_name": "0.png", **size}
    write(file, content)
    assert areas(datasets.load(tmp_path)) == {"0.png": 400}


def test_an_annotation_without_a_key_is_named(tmp_path):
    pictures(tmp_path / "images", *NAMES)
    file = coco(tmp_path, NAMES, [("0.png", "scratch", {"segmentation": [SQUARE], "id": 77})])
    for part, key, named in (("annotations", "category_id", "annotation 77"), ("images", "file_name", "image 5")):
        content = json.loads(file.read_text())
        del content[part][0][key]
        write(tmp_path / "other.json", content)
        assert f"{named} has no {key}; export it again" in refused(tmp_path / "other.json")


@pytest.mark.parametrize("line", [[[1, 2, 3, 4]], [[1, 2]], [1, 2, 3, 4]])
def test_polygons_of_two_corners_have_no_area(tmp_path, line):
    pictures(tmp_path / "images", *NAMES)
    coco(
        tmp_path,
        NAMES,
        [("0.png", "scratch", {"segmentation": line}), ("0.png", "scratch", {"segmentation": [SQUARE]})],
    )
    assert areas(datasets.load(tmp_path)) == {"0.png": 400}
    coco(tmp_path, NAMES, [("0.png", "scratch", {"segmentation": line, "bbox": [40, 30, 20, 20]})])
    assert areas(datasets.load(tmp_path)) == {"0.png": 400}
    coco(
        tmp_path,
        NAMES,
        [("0.png", "scratch", {"segmentation": line}), ("1.png", "scratch", {"segmentation": [SQUARE]})],
    )
    split = datasets.load(tmp_path)
    assert "1 of 2 defective images have a mask that marks nothing: images/0.png" in split.warnings


def test_an_image_of_another_folder_is_not_taken_for_a_missing_one(tmp_path):
    pictures(tmp_path / "images/day1", *NAMES)
    pictures(tmp_path / "images", "25.png")
    names = [*(f"day1/{name}" for name in NAMES), "day2/25.png"]
    coco(tmp_path, names, [("day2/25.png", "scratch", {"segmentation": [SQUARE]})])
    assert "1 of its images are not there: day2/25.png" in refused(tmp_path)
    pictures(tmp_path / "elsewhere/images", *NAMES)
    coco(tmp_path / "elsewhere", [f"day1/{name}" for name in NAMES])
    assert len(datasets.load(tmp_path / "elsewhere").normals) > 0


def test_equal_outlines_of_several_images_count_for_each(tmp_path):
    pictures(tmp_path / "images", *NAMES)
    coco(tmp_path, NAMES, [(name, "scratch", {"segmentation": [SQUARE]}) for name in NAMES[:3]])
    assert datasets.summary(datasets.load(tmp_path))["masks"] == 3


def test_shapes_of_datumaro_that_are_no_polygons(tmp_path):
    pictures(tmp_path / "images/default", *NAMES)
    caption = {"id": 0, "type": "caption", "caption": "x"}
    ellipse = {"id": 1, "type": "ellipse", "points": [30, 20, 70, 60], "label_id": 1}
    line = {"id": 2, "type": "polyline", "points": [1, 2, 30, 40], "label_id": 1}
    datumaro(tmp_path, {"0.png": [caption], "7.png": [ellipse, caption], "6.png": [ellipse, line]})
    split = datasets.load(tmp_path)
    assert areas(split) == {name: pytest.approx(np.pi * 400, abs=8) for name in ("6.png", "7.png")}
    assert "1 images have shapes without an area, which mark no pixel: 6.png (polyline)" in split.warnings
    datumaro(tmp_path, {"7.png": [{**ellipse, "label_id": None}]})
    assert "item 7 has the label None, which is not listed" in refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b'{"images": [], "annotations": [',
        b'{"a": 1e999999}',
        b"nul",
        b"7",
        b"[]",
    ],
)
def test_damaged_json(tmp_path, content):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_bytes(content)
    assert refused(tmp_path / "annotations/instances_train.json")
    assert refused(tmp_path)


def places_in(value, at=()):
    """Every place in a JSON value, as the keys that lead to it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*at, key)
        yield from places_in(child, (*at, key))


@pytest.mark.parametrize("kind", ["coco", "datumaro"])
def test_whatever_json_an_annotation_file_holds(tmp_path, kind):
    rng = random.Random(0)
    pictures(tmp_path / "images", *NAMES)
    if kind == "coco":
        square, runs = {"segmentation": [SQUARE]}, {"segmentation": {"size": [80, 100], "counts": SHORT}}
        file = coco(tmp_path, NAMES, [("0.png", "scratch", square), ("1.png", "scratch", runs)])
    else:
        file = datumaro(tmp_path, {"0.png": [{"type": "polygon", "points": SQUARE, "label_id": 1}]})
    whole = json.loads(file.read_text())
    places = list(places_in(whole))
    wrong = [
        None,
        -1,
        0,
        1.5,
        10**30,
        1e308,
        "",
        "x",
        "\0",
        [],
        [[]],
        {},
        {"a": 1},
        True,
        "x" * 5000,
        [None],
        float("nan"),
    ]
    for place in places:
        content = copy.deepcopy(whole)
        parent = content
        for key in place[:-1]:
            parent = parent[key]
        if rng.random() < 0.2:
            del parent[place[-1]]
        else:
            parent[place[-1]] = rng.choice(wrong)
        write(file, content)
        message = failure(file)
        assert len(message) <= 300
        assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("YOLO", "labels/0.txt", "0 0.5 0.5 0.1 0.2\n"),
        ("YOLO", "images/0.txt", "1 0.5 0.5 0.1 0.2 0.3 0.4\n"),
        ("YOLO", "train/labels/0.txt", "0 0.5 0.5 0.1 0.2\n"),
        ("LabelMe", "images/0.json", '{"version": "5", "shapes": [], "imagePath": "0.png"}'),
        ("Pascal VOC", "Annotations/0.xml", "<annotation><object/></annotation>"),
        ("Pascal VOC", "0.xml", "<?xml version='1.0'?>\n<annotation/>"),
        ("CVAT", "annotations.xml", "<?xml version='1.0'?><annotations><version>1.1</version></annotations>"),
        ("Supervisely", "ds0/ann/0.png.json", '{"objects": [{"classTitle": "scratch", "geometryType": "polygon"}]}'),
        ("Label Studio", "export.json", '[{"annotations": [{"result": [{"from_name": "label"}]}]}]'),
        ("VGG Image Annotator", "via.json", '{"0.png1": {"regions": [{"shape_attributes": {}}]}}'),
    ],
)
@pytest.mark.parametrize("place", [".", "images"])
def test_annotations_of_other_programs_are_refused_by_name(tmp_path, kind, name, content, place):
    pictures(tmp_path / place, *NAMES)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    message = refused(tmp_path)
    assert f"{kind} annotations ({name.rpartition('/')[2]}) are not read; export them as COCO" in message


@pytest.mark.parametrize("place", [".", "images"])
def test_a_table_of_labels_is_to_be_given_itself(tmp_path, place):
    pictures(tmp_path / place, *NAMES)
    (tmp_path / "labels.csv").write_text("filename;class\n0.png;bad\n")
    assert "holds a table of labels; give that file (labels.csv)" in refused(tmp_path)
    (tmp_path / "labels.csv").write_text("time,temperature\n1,20\n")
    if place == ".":
        assert datasets.load(tmp_path).layout == "a folder of good images"


def test_notes_beside_good_images_are_no_annotations(tmp_path):
    pictures(tmp_path, *NAMES)
    for name, content in (("notes.txt", "7 images"), ("camera.xml", "<camera/>"), ("settings.json", '{"gain": 1}')):
        (tmp_path / name).write_text(content)
    assert datasets.load(tmp_path).layout == "a folder of good images"


def test_folders_of_good_images_say_what_is_good(tmp_path):
    for name in ("train/good", "test/good", "test/scratch"):
        pictures(tmp_path / name, *NAMES)
    coco(tmp_path, NAMES, [])
    assert datasets.load(tmp_path).layout == "MVTec AD"


def test_names_of_subsets():
    names = ("train", "instances_train2017", "valid", "Validation", "my_test", "default", "contest", "restrained")
    assert [subset_of(name) for name in names] == ["train", "train", "val", "val", "test", "", "", ""]


@pytest.mark.parametrize("wrong", [None, 7, 1.5, "", [], ["a.png"], {}, True, "\0", "x" * 5000])
@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("key", ["image_path", "mask_path", "anomaly_class"])
def test_paths_of_real_iad_that_are_no_texts(tmp_path, wrong, part, key):
    pictures(tmp_path / "jack/OK", *NAMES)
    rows = [{"image_path": f"OK/{name}", "mask_path": None, "anomaly_class": "OK"} for name in NAMES]
    content = {"meta": {"normal_class": "OK"}, "train": rows[:4], "test": [*rows[4:7], {**rows[7]}]}
    content[part][-1] |= {"anomaly_class": "AK", "mask_path": "OK/0.png", key: wrong}
    write(tmp_path / "jack.json", content)
    for path in (tmp_path / "jack.json", tmp_path / "jack"):
        message = failure(path)
        assert len(message) <= 300
        assert "\n" not in message
