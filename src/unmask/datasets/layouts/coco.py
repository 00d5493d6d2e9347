"""COCO and Datumaro: images beside JSON files that hold their labels and outlines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unmask.datasets.inventory import Inventory
from unmask.datasets.json_files import read_json
from unmask.datasets.labels import meaning
from unmask.datasets.layouts.annotations import (
    Annotated,
    box_in,
    folders_in,
    found,
    inventory_of,
    polygon_in,
    runs_in,
    size_in,
    subset_of,
)
from unmask.datasets.layouts.trees import Tree
from unmask.datasets.wording import placed, shortened
from unmask.errors import DatasetError
from unmask.imaging.images import size_of
from unmask.types import Outlines

ROBOFLOW = "_annotations.coco.json"
NAMES = ("annotations.json", "result.json", "labels.json", "coco.json", ROBOFLOW)
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
    files = [root] if root.is_file() and root.suffix.lower() == ".json" else list(_files(root))
    images: list[Annotated] = []
    layout = ""
    for file in files:
        content = read_json(file)
        if not isinstance(content, dict):
            continue
        if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
            images += _read(file, content, "COCO")
            layout = layout or "COCO"
        elif isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict):
            images += _read(file, content, "Datumaro")
            layout = layout or "Datumaro"
    return inventory_of(layout, root if root.is_dir() else root.parent, images) if layout else None


def _files(root: Path) -> Iterator[Path]:
    """List the JSON files of a folder that may hold annotations; none where folders of good images say what is good."""
    if not root.is_dir() or any(
        meaning(folder.name) == "good" for folder in (*folders_in(root), *folders_in(root / "train"))
    ):
        return
    parts = [folder / ROBOFLOW for folder in folders_in(root) if (folder / ROBOFLOW).is_file()]
    inside = sorted((root / "annotations").glob("*.json"))
    instances = [file for file in inside if file.name.startswith("instances")]
    beside = [root / name for name in NAMES if (root / name).is_file()]
    yield from parts or instances or inside or beside


def _read(file: Path, content: dict[str, Any], kind: str) -> list[Annotated]:
    try:
        return list(_of_coco(file, content) if kind == "COCO" else _of_datumaro(file, content))
    except WRONG as error:
        reason = shortened(str(error), 80) if type(error) is ValueError else "an entry of another form"
        raise DatasetError(f"{placed(file)}: not read as {kind}: it has {reason}; export it again") from error


def _places(file: Path, subset: str) -> list[Path]:
    """List the folders in which the images of an annotation file may lie, the likeliest first."""
    here, above = file.parent, file.parent.parent
    stem = file.stem.removeprefix("instances_")
    tops = [here] if file.parent.name != "annotations" else [above, here]
    names = (f"images/{stem}", stem, f"images/{subset}", subset, "images", "data", ".")
    return list(dict.fromkeys(top / name for top in tops for name in names if name))


def _of_coco(file: Path, content: dict[str, Any]) -> Iterator[Annotated]:
    subset = subset_of(file.parent.name if file.name == ROBOFLOW else file.stem)
    categories = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    known = {one["id"] for one in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in known:
            raise ValueError(f"an annotation of image {annotation['image_id']}, which is not listed")
        if annotation["category_id"] not in categories:
            raise ValueError(f"an annotation of category {annotation['category_id']}, which is not listed")
        by_image[annotation["image_id"]].append(annotation)
    if len(known) < len(content["images"]):
        raise ValueError("two images of one id")
    paths = found(file, (str(one["file_name"]) for one in content["images"]), _places(file, subset))
    for path, image in zip(paths, content["images"], strict=True):
        annotations = by_image[image["id"]]
        labels = tuple(categories[one["category_id"]] for one in annotations)
        marked = [one for one, label in zip(annotations, labels, strict=True) if meaning(label) != "good"]
        size = size_in(image["width"], image["height"]) if "width" in image else size_of(path)
        outlines, has_boxes = _outlines(file, size, [(one.get("segmentation"), one.get("bbox")) for one in marked])
        yield Annotated(path, subset, labels, outlines, has_boxes)


def _of_datumaro(file: Path, content: dict[str, Any]) -> Iterator[Annotated]:
    subset = subset_of(file.stem)
    names = [str(one["name"]) for one in content["categories"]["label"]["labels"]]
    items = content["items"]
    media = [item.get("image") or item.get("media") or {} for item in items]
    files = (str(one.get("path") or item["id"]) for item, one in zip(items, media, strict=True))
    for path, item, one in zip(found(file, files, _places(file, subset)), items, media, strict=True):
        annotations = item.get("annotations", [])
        labels = tuple(names[_index(annotation["label_id"], names)] for annotation in annotations)
        marked = [one for one, label in zip(annotations, labels, strict=True) if meaning(label) != "good"]
        size = size_in(*reversed(one["size"])) if one.get("size") else size_of(path)
        shapes = [
            ([mark["points"]] if mark["type"] == "polygon" else mark.get("rle"), mark.get("bbox"))
            for mark in marked
            if mark["type"] in ("polygon", "mask", "bbox")
        ]
        outlines, has_boxes = _outlines(file, size, shapes)
        yield Annotated(path, subset, labels, outlines, has_boxes)


def _index(number: Any, names: list[str]) -> int:
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise ValueError(f"the label {shortened(str(number))}, which is not listed")
    return number


def _outlines(file: Path, size: tuple[int, int], shapes: list[tuple[Any, Any]]) -> tuple[Outlines | None, bool]:
    """Make outlines of (segmentation, box) pairs, and say whether a box had to stand for a shape."""
    polygons: list[tuple[float, ...]] = []
    runs: list[tuple[int, ...]] = []
    has_boxes = False
    for segmentation, box in shapes:
        if isinstance(segmentation, dict):
            runs.append(runs_in(segmentation, size))
        elif segmentation and segmentation != [[]]:
            several = segmentation if isinstance(segmentation[0], list) else [segmentation]
            polygons += [polygon_in(polygon) for polygon in several]
        elif box:
            polygons.append(box_in(box))
            has_boxes = True
    return (Outlines(file, size, tuple(polygons), tuple(runs)) if polygons or runs else None), has_boxes
