"""Annotations of other programs beside images: refused by name, for without them every image would count as good."""

from __future__ import annotations

import re
from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.layouts.beside import start_of, text_files
from unmask.datasets.layouts.trees import Tree, stem_of
from unmask.datasets.manifests import COLUMNS, GOOD_LABEL, LABEL, PATH
from unmask.datasets.tables import read_table
from unmask.datasets.wording import placed, shortened
from unmask.errors import DatasetError

MOST_TABLES = 20
START = 4096
SHARE = rb"(?:0|1|[01]?\.\d+|[01]\.\d*|\d(?:\.\d+)?e-\d+)"  # a number from 0 to 1
YOLO = re.compile(rb"\A\s*\d+(?:[ \t]+" + SHARE + rb"){4,}\s*(?:[\r\n]|\Z)", re.IGNORECASE)


def foreign(tree: Tree) -> Inventory | None:
    """YOLO, LabelMe, Pascal VOC, Supervisely, Label Studio, VIA, CVAT's own XML and others are not read.

    Raises:
        DatasetError: the folder holds such annotations, or a table of labels, which is to be given in place of it; the
            message says which and what to do.
    """
    root = tree.root
    if not root.is_dir():
        return None
    if found := _first(tree):
        kind, file = found
        raise DatasetError(
            f"{placed(root)}: {kind} annotations ({shortened(file.name, 40)}) are not read; export them as COCO or as "
            "mask images, or sort the images into good/ and bad/"
        )
    if table := _table(tree):
        name = table.relative_to(root).as_posix()
        raise DatasetError(
            f"{placed(root)} holds a table of labels; give that file ({shortened(name, 60)}), or move it away"
        )
    return None


def _table(tree: Tree) -> Path | None:
    """Find a table with a column of images and one of labels."""
    for file in text_files(tree, ".csv", ".tsv")[:MOST_TABLES]:
        try:
            header = set(read_table(file, COLUMNS).header)
        except DatasetError:
            continue
        if not header.isdisjoint(PATH) and not header.isdisjoint((*LABEL, *GOOD_LABEL)):
            return file
    return None


def _first(tree: Tree) -> tuple[str, Path] | None:
    """Find a file of annotations, and of which program it is."""
    for suffix, kinds in KINDS.items():
        for file in text_files(tree, suffix):
            content = start_of(file) if suffix == ".json" else start_of(file, START)
            if kind := next((kind for kind, pattern in kinds if pattern.search(content)), None):
                return kind, file
    images = {stem_of(path) for path in tree.listing.files}
    for file in text_files(tree, ".txt"):
        content = start_of(file, START)
        if YOLO.search(content) and (b"." in content or stem_of(file) in images):
            return "YOLO", file
    return None


KINDS = {  # by the suffixes of names: programs, and what their files hold
    ".xml": (("CVAT", re.compile(rb"<annotations\b")), ("Pascal VOC", re.compile(rb"<annotation\b"))),
    ".json": (
        ("Supervisely", re.compile(rb'"geometryType"|"classTitle"')),
        ("LabelMe", re.compile(rb'"shapes"\s*:')),
        (
            "Label Studio",
            re.compile(rb'"from_name"\s*:|"(?:rectangle|polygon|brush|ellipse)labels"\s*:|"lead_time"\s*:'),
        ),
        ("VGG Image Annotator", re.compile(rb'"shape_attributes"|"_via_|"file_attributes"\s*:\s*\{\s*"')),
        ("CreateML", re.compile(rb'"coordinates"\s*:\s*\{')),
        ("JSON", re.compile(rb'"(?:bbox|bounding_?boxe?s?|polygons?|segmentations?)"\s*:\s*[\[{]\s*[^\s\]}]', re.I)),
    ),
    ".csv": (
        ("VGG Image Annotator", re.compile(rb"region_shape_attributes")),
        ("Roboflow", re.compile(rb"\A\s*Pixel Value\s*,\s*Class\b", re.I)),
    ),
}
