"""A data set that a CSV file describes."""

from __future__ import annotations

import csv
from pathlib import Path

from unmask.datasets.inventory import Inventory, abbreviated
from unmask.errors import DatasetError
from unmask.types import Sample

GOOD_LABELS = ("good", "normal", "ok", "0")


def manifest(file: Path) -> Inventory | None:
    """A CSV file with the columns path, label and split and, where they apply, mask and group.

    Paths are relative to the manifest's folder. A label is good, normal, ok or 0, or anything else for a defect, whose
    kind it names. The split is train or test. Images of one group (a patient, a lot, a burst) stay on one side; an
    empty cell means that the image is in no group.

    Raises:
        DatasetError: the file is no such CSV, or a row contradicts itself.
    """
    if not file.is_file():
        return None
    normals, test, groups = [], [], {}
    for number, row in read_rows(file, ("path", "label", "split")):
        label, mask = row["label"], row.get("mask", "")
        bad = label.lower() not in GOOD_LABELS
        _check_row(f"{file}, line {number}", row, bad)
        path, masks = file.parent / row["path"], (file.parent / mask,) if mask else ()
        if row.get("group"):
            groups[path] = row["group"]
        if row["split"].lower() == "train":
            normals.append(path)
        else:
            test.append(Sample(path, bad, label if bad else "good", masks))
    return Inventory("manifest", file.parent, tuple(normals), tuple(test), groups=groups)


def read_rows(file: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file with a header to (line number, row) pairs, the cells without surrounding spaces.

    Raises:
        DatasetError: the file is no CSV in UTF-8, or lacks one of the columns.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{file}: no column {abbreviated(missing)}; wanted a CSV with {', '.join(columns)}")
            return [(reader.line_num, {k: v.strip() for k, v in row.items() if k}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file}: cannot be read as CSV ({error}); save it as UTF-8 with commas") from error


def _check_row(where: str, row: dict[str, str], bad: bool) -> None:
    split, mask = row["split"].lower(), row.get("mask", "")
    if not row["path"] or not row["label"] or split not in ("train", "test"):
        raise DatasetError(f"{where}: wanted a path, a label and train or test as split, got {list(row.values())}")
    if split == "train" and bad:
        raise DatasetError(
            f"{where}: {row['path']} is labelled {row['label']} but split is train; learn from good images"
        )
    if mask and not bad:
        raise DatasetError(f"{where}: {row['path']} is good and has a mask {mask}; empty one of the two cells")
