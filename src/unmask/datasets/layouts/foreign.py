"""Annotations of other programs beside images: refused by name, for without them every image would count as good."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from unmask.datasets.inventory import Inventory
from unmask.datasets.layouts.annotations import folders_in
from unmask.datasets.layouts.trees import Tree
from unmask.datasets.manifests import COLUMNS, GOOD_LABEL, LABEL, PATH
from unmask.datasets.tables import read_table
from unmask.datasets.wording import placed
from unmask.errors import DatasetError


def foreign(tree: Tree) -> Inventory | None:
    """YOLO, LabelMe, Pascal VOC, Supervisely, Label Studio, VIA and CVAT's own XML are not read.

    Raises:
        DatasetError: the folder holds such annotations, or a table of labels, which is to be given in place of it; the
            message says which and what to do.
    """
    root = tree.root
    if root.is_dir():
        if table := _table(root):
            raise DatasetError(
                f"{placed(root)} holds a table of labels; give that file ({table.name}), or move it away"
            )
        for kind, names, start in KINDS:
            if file := _first(root, names, start):
                raise DatasetError(
                    f"{placed(root)}: {kind} annotations ({file.name}) are not read; export them as COCO or as mask "
                    "images, or sort the images into good/ and bad/"
                )
    return None


def _table(root: Path) -> Path | None:
    """Find a table with a column of images and one of labels."""
    for file in islice(sorted(root.glob("*.[ct]sv")), 20):
        try:
            header = set(read_table(file, COLUMNS).header)
        except DatasetError:
            continue
        if not header.isdisjoint(PATH) and not header.isdisjoint((*LABEL, *GOOD_LABEL)):
            return file
    return None


def _first(root: Path, pattern: str, fits: re.Pattern[bytes]) -> Path | None:
    """Find a file whose start fits, in a folder or in the folders of its first two levels; 50 files a folder count."""
    places = [root, *folders_in(root), *(inside for folder in folders_in(root) for inside in folders_in(folder))]
    files = (file for place in places for file in islice(place.glob(pattern), 50))
    return next((file for file in files if not file.name.startswith(".") and fits.search(_start(file))), None)


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(4096)
    except OSError:
        return b""


KINDS = (  # the names of files and what they start with
    ("CVAT", "annotations.xml", re.compile(rb"<annotations\b")),
    ("Pascal VOC", "*.xml", re.compile(rb"<annotation\b")),
    ("Supervisely", "*.json", re.compile(rb'"geometryType"|"classTitle"')),
    ("LabelMe", "*.json", re.compile(rb'"shapes"\s*:')),
    ("Label Studio", "*.json", re.compile(rb'"from_name"\s*:')),
    ("VGG Image Annotator", "*.json", re.compile(rb'"shape_attributes"|"_via_')),
    ("YOLO", "*.txt", re.compile(rb"\A\s*\d+(\s+[01]?\.\d+){4,}\s")),
)
