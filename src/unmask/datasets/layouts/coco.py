"""COCO and Datumaro: images beside JSON files that hold their labels and outlines."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unmask.datasets.inventory import Inventory
from unmask.datasets.json_files import read_json
from unmask.datasets.labels import meaning
from unmask.datasets.layouts.annotations import Annotated, folders_in, found, inventory_of, subset_of
from unmask.datasets.layouts.beside import annotation_files
from unmask.datasets.layouts.folder_names import is_good
from unmask.datasets.layouts.outlines import Shape, ellipse_in, joined, shape_in, size_in
from unmask.datasets.layouts.trees import Tree
from unmask.datasets.wording import listed, placed, shortened
from unmask.errors import DatasetError
from unmask.imaging.images import size_of
from unmask.imaging.mask_folders import is_mask_folder

ROBOFLOW = "_annotations.coco.json"
NAMES = ("annotations.json", "result.json", "labels.json", "coco.json", ROBOFLOW)
ANNOTATION_FOLDERS = ("coco", "datumaro", "json", "jsons", "ann", "anns", "anno", "annos", "meta")
WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError)


def annotated(tree: Tree) -> Inventory | None:
    """COCO or Datumaro, by a folder or by one of its JSON files.

        train/_annotations.coco.json, train/000.png        and valid/, test/: COCO as Roboflow writes it
        annotations/instances_<subset>.json                COCO, with images/, images/<subset>/ or <subset>/
        annotations.json or result.json, images/000.png    COCO as Label Studio and others write it
        annotations/<subset>.json, images/<subset>/        Datumaro

    An image without annotations, or with those of a category such as good or normal, is good. Polygons, runs of pixels
    and, for want of them, boxes are its masks.

    Raises:
        DatasetError: a JSON file is damaged or contradicts itself, or its images are not there.
    """
    root = tree.root
    if root.is_file():
        return _annotated(root, [root]) if root.suffix.lower() == ".json" else None
    return _annotated(root, list(_files(root))) or _annotated(root, _others(tree))


def _annotated(root: Path, files: list[Path]) -> Inventory | None:
    images: list[Annotated] = []
    layout = ""
    for file in files:
        content = read_json(file)
        if not isinstance(content, dict):
            continue
        _check_lists(file, content)
        if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
            images += _read(file, content, "COCO")
            layout = layout or "COCO"
        elif isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict):
            images += _read(file, content, "Datumaro")
            layout = layout or "Datumaro"
    return inventory_of(layout, root if root.is_dir() else root.parent, images) if layout else None


def _check_lists(file: Path, content: dict[str, Any]) -> None:
    """Refuse COCO that says of no image what is in it.

    Raises:
        DatasetError: the list of annotations is missing.
    """
    images = content.get("images")
    if not isinstance(images, list) or isinstance(content.get("annotations"), list):
        return
    if "categories" in content or any(isinstance(one, dict) and "file_name" in one for one in images):
        raise DatasetError(
            f"{placed(file)}: COCO without a list of annotations; export it again with them, or move it away"
        )


def _others(tree: Tree) -> list[Path]:
    """Find the one JSON file of any other name that holds COCO or Datumaro.

    Raises:
        DatasetError: there are several.
    """
    files = [file for file in annotation_files(tree) if _holds_annotations(read_json(file))]
    if len(files) > 1:
        names = listed((file.relative_to(tree.root).as_posix() for file in files), 80)
        raise DatasetError(
            f"{placed(tree.root)} holds COCO or Datumaro annotations in {len(files)} files ({names}); give one of them"
        )
    return files


def _holds_annotations(content: Any) -> bool:
    return isinstance(content, dict) and (
        (isinstance(content.get("images"), list) and not content.keys().isdisjoint(("annotations", "categories")))
        or (isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict))
    )


def _files(root: Path) -> Iterator[Path]:
    """List the JSON files of a folder that may hold annotations; none where folders of good images say what is good."""
    folders = folders_in(root)
    trains = [inside for folder in folders if folder.name.lower() == "train" for inside in folders_in(folder)]
    if any(is_good(folder.name) for folder in (*folders, *trains)):
        return
    parts = [folder / ROBOFLOW for folder in folders if (folder / ROBOFLOW).is_file()]
    places = [folder for folder in folders if folder.name.lower() == "annotations"]
    inside = sorted(file for place in places for file in place.glob("*.[jJ][sS][oO][nN]"))
    instances = [file for file in inside if file.name.lower().startswith("instances")]
    beside = sorted(file for file in root.glob("*.[jJ][sS][oO][nN]") if file.name.lower() in NAMES)
    yield from parts or instances or inside or beside


def _read(file: Path, content: dict[str, Any], kind: str) -> list[Annotated]:
    try:
        return list(_of_coco(file, content) if kind == "COCO" else _of_datumaro(file, content))
    except WRONG as error:
        reason = shortened(str(error), 120) if type(error) is ValueError else "it has an entry of another form"
        raise DatasetError(f"{placed(file)}: not read as {kind}: {reason}; export it again") from error


@contextmanager
def _naming(what: str, entry: Any) -> Iterator[None]:
    """Name the entry, an image or an annotation, in whatever is wrong with it.

    Raises:
        ValueError: anything is.
    """
    try:
        yield
    except WRONG as error:
        reason = str(error) if type(error) is ValueError else "another form"
        reason = f"no {shortened(str(error.args[0]))}" if type(error) is KeyError else reason
        number = shortened(str(entry.get("id", "without an id"))) if isinstance(entry, dict) else "that is no object"
        raise ValueError(f"{what} {number} has {reason}") from error


def _places(file: Path, subset: str) -> list[Path]:
    """List the folders in which the images of an annotation file may lie, the likeliest first."""
    here, above = file.parent, file.parent.parent
    stem = re.sub(r"^instances_", "", file.stem, flags=re.IGNORECASE)
    tops = [above, here] if is_mask_folder(here.name) or here.name.lower() in ANNOTATION_FOLDERS else [here]
    names = (f"images/{stem}", stem, f"images/{subset}", subset, "images", "data", ".")
    return list(dict.fromkeys(top / name for top in tops for name in names if name))


def _of_coco(file: Path, content: dict[str, Any]) -> Iterator[Annotated]:
    subset = subset_of(file.parent.name if file.name == ROBOFLOW else file.stem)
    categories = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    names = {}
    for image in content["images"]:
        with _naming("image", image):
            names[image["id"]] = str(image["file_name"])
    for annotation in content["annotations"]:
        with _naming("annotation", annotation):
            if annotation["image_id"] not in names:
                raise ValueError(f"image {shortened(str(annotation['image_id']))}, which is not listed")
            if annotation["category_id"] not in categories:
                raise ValueError(f"category {shortened(str(annotation['category_id']))}, which is not listed")
            by_image[annotation["image_id"]].append(annotation)
    if len(names) < len(content["images"]):
        raise ValueError("it has two images of one id")
    paths = found(file, names.values(), _places(file, subset))
    for path, image in zip(paths, content["images"], strict=True):
        annotations = by_image[image["id"]]
        labels = tuple(categories[one["category_id"]] for one in annotations)
        marked = [one for one, label in zip(annotations, labels, strict=True) if meaning(label) != "good"]
        with _naming("image", image):
            size = size_in(image.get("width"), image.get("height")) or size_of(path)
        shapes = []
        for one in marked:
            with _naming("annotation", one):
                shapes.append(shape_in(one.get("segmentation"), one.get("bbox"), size))
        yield Annotated(path, subset, labels, *joined(file, size, shapes))


def _of_datumaro(file: Path, content: dict[str, Any]) -> Iterator[Annotated]:
    subset = subset_of(file.stem)
    labels = [str(one["name"]) for one in content["categories"]["label"]["labels"]]
    names = []
    for item in content["items"]:
        with _naming("item", item):
            names.append(str(_media(item).get("path") or item["id"]))
    for path, item in zip(found(file, names, _places(file, subset)), content["items"], strict=True):
        with _naming("item", item):
            yield _of_item(file, path, item, labels, subset)


def _media(item: dict[str, Any]) -> dict[str, Any]:
    return item.get("image") or item.get("media") or {}


def _of_item(file: Path, path: Path, item: dict[str, Any], labels: list[str], subset: str) -> Annotated:
    """Read an item of Datumaro; captions say nothing about defects, and lines and points mark no area."""
    size = size_in(*reversed(_media(item).get("size") or (None, None))) or size_of(path)
    names: list[str] = []
    shapes: list[Shape] = []
    no_areas: list[str] = []
    for one in item.get("annotations") or []:
        if one.get("type") == "caption":
            continue
        names.append(labels[_index(one["label_id"], labels)])
        kind = one["type"]
        if meaning(names[-1]) == "good" or kind == "label":
            continue
        if kind == "polygon":
            shapes.append(shape_in([one["points"]], None, size))
        elif kind == "ellipse":
            shapes.append(Shape((ellipse_in(one["points"]),)))
        elif kind in ("mask", "bbox"):
            shapes.append(shape_in(one.get("rle"), one.get("bbox"), size))
        else:
            no_areas.append(shortened(str(kind)))
    return Annotated(path, subset, tuple(names), *joined(file, size, shapes), tuple(no_areas))


def _index(number: Any, names: list[str]) -> int:
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise ValueError(f"the label {shortened(str(number))}, which is not listed")
    return number
