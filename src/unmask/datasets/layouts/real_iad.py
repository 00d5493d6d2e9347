"""Real-IAD (arXiv 2403.12580): a JSON file for each object lists its training and test images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unmask.datasets.inventory import Inventory
from unmask.datasets.json_files import read_json
from unmask.datasets.layouts.annotations import is_file
from unmask.datasets.layouts.trees import DEFECTIVE, Tree, defective_in_training
from unmask.datasets.wording import placed, shortened
from unmask.errors import DatasetError
from unmask.types import Sample


class Table(NamedTuple):
    """What a JSON file of Real-IAD holds.

    Attributes:
        prefix: the folder of images that it names.
        good: the class of good images.
        train: one mapping for each training image.
        test: the same of the test images.
    """

    prefix: str
    good: str
    train: list[dict[str, Any]]
    test: list[dict[str, Any]]


def real_iad(tree: Tree) -> Inventory | None:
    """Real-IAD, by an object's JSON file or by the folder of its images.

        realiad_jsons/realiad_jsons/audiojack.json
        realiad_1024/audiojack/OK/S0001/audiojack_0001_OK_C1_....jpg
        realiad_1024/audiojack/NG/QS/S0002/audiojack_0002_QS_C1_....jpg and its mask .png

    The JSON file holds "meta" ("normal_class", and "prefix": a folder of images) and the lists "train" and "test" of
    {"image_path", "mask_path" or null, "anomaly_class"}. A JSON file of another form is an error when it is what was
    given, and is passed over when it merely lies beside the folder that was given.

    Raises:
        DatasetError: the JSON file that was given has another form, or its images are not found.
    """
    root = tree.root
    if root.is_file() and root.suffix.lower() == ".json":
        table = _read(root)
        if table is None:
            raise DatasetError(
                f"{placed(root)}: not a JSON file of Real-IAD (train and test with texts image_path, anomaly_class), "
                "COCO or Datumaro; give one, or a CSV manifest"
            )
        return _inventory(table, _folder_of_images(root, table))
    if root.is_dir():
        for file in _files_beside(root.resolve()):
            table = _read(file)
            if table is not None and is_file(root / table.train[0]["image_path"]):
                return _inventory(table, root)
    return None


def _files_beside(folder: Path) -> Iterator[Path]:
    """List the places where the JSON file of a folder of images may lie."""
    for top in (folder, folder.parent, folder.parent.parent):
        for inside in (".", "realiad_jsons", "realiad_jsons/realiad_jsons"):
            if is_file(file := top / inside / f"{folder.name}.json"):
                yield file


def _read(file: Path) -> Table | None:
    """Read a JSON file; None when it has another form than Real-IAD's, or lists no training images."""
    try:
        content = read_json(file)
        meta, train, test = content["meta"], content["train"], content["test"]
        fits = isinstance(train, list) and isinstance(test, list) and all(map(_is_row, (*train, *test)))
        prefix, good = str(meta.get("prefix") or file.stem), str(meta.get("normal_class") or "OK")
    except (DatasetError, KeyError, TypeError, AttributeError):
        return None
    return Table(prefix, good, train, test) if train and fits else None


def _is_row(row: Any) -> bool:
    """Say whether an entry names an image and its class, and a mask or none, each in a text that a path may be."""
    texts = (row.get("image_path"), row.get("anomaly_class"), row.get("mask_path") or "none")
    return all(isinstance(text, str) and text and "\0" not in text for text in texts)


def _folder_of_images(file: Path, table: Table) -> Path:
    """Find the folder that the paths of a JSON file are relative to, in the folders around the file."""
    first, tops = table.train[0]["image_path"], file.resolve().parents[:3]
    places = [top / name for name in (table.prefix, file.stem) for top in tops]
    places += [folder / file.stem for top in tops for folder in sorted(top.glob("realiad_*"))]
    for folder in places:
        if is_file(folder / first):
            return folder
    raise DatasetError(
        f"{placed(file)}: {shortened(first, 60)} is in no folder {shortened(file.stem)}/ beside it; give the folder of "
        "images instead"
    )


def _inventory(table: Table, folder: Path) -> Inventory:
    normals = [folder / row["image_path"] for row in table.train if row["anomaly_class"] == table.good]
    test = []
    for row in table.test:
        bad = row["anomaly_class"] != table.good
        masks = (folder / row["mask_path"],) if bad and row.get("mask_path") else ()
        test.append(Sample(folder / row["image_path"], bad, row["anomaly_class"] if bad else "good", masks))
    unused = {
        folder / name: DEFECTIVE
        for row in table.train
        if row["anomaly_class"] != table.good
        for name in (row["image_path"], row.get("mask_path"))
        if name
    }
    warnings = defective_in_training(len(table.train) - len(normals))
    return Inventory("Real-IAD", folder, tuple(normals), tuple(test), warnings=warnings, unused=unused)
