"""A data set that a CSV file describes."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unmask.datasets.inventory import Inventory
from unmask.datasets.labels import Meaning, kind_of, meanings, plain, told
from unmask.datasets.masks import is_empty
from unmask.datasets.tables import Table, read_table
from unmask.datasets.wording import listed, placed, shortened
from unmask.errors import DatasetError
from unmask.types import Sample

# Of names that stand for one column, the first that a header has is taken.
PATH = (
    *("image_path", "path", "file_path", "filepath", "img_path", "filename", "file_name", "image_name", "image_file"),
    *("file", "image", "img"),
)
LABEL = (
    *("label", "class", "target", "category", "status", "verdict", "is_anomaly", "is_anomalous", "is_defective"),
    *("is_defect", "anomaly", "anomalous", "defective", "defect", "label_index"),
)
GOOD_LABEL = ("is_good", "is_ok", "is_normal", "good", "ok", "normal", "passed", "pass")  # true means good
SPLIT = ("split", "set", "subset", "partition", "fold", "phase")
MASK = ("mask", "mask_path", "mask_file", "ground_truth", "gt", "gt_path")
GROUP = ("group", "group_id")
COLUMNS = (*PATH, *LABEL, *GOOD_LABEL, *SPLIT, *MASK, *GROUP)

SPLITS = {
    **dict.fromkeys(("train", "training", "fit", "learn"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "held out", "holdout", "calibration"), "held out"),
}
DEFECTIVE = "defective image of the split val"
GOOD_MASK = "mask of a good image"
NO_MASK = ("", "none", "null", "nan", "na", "n/a", "-")


class Row(NamedTuple):
    """A row of a manifest.

    Attributes:
        line: its number in the file, from 1.
        path: the image.
        label: as written.
        split: "train", "test" or "held out"; empty where the manifest has no such column.
        mask: its file, or None.
        group: its name, or empty.
    """

    line: int
    path: Path
    label: str
    split: str
    mask: Path | None
    group: str


def manifest(file: Path) -> Inventory | None:
    """A CSV file with the columns path and label and, where they apply, split, mask and group.

    Paths are relative to the manifest's folder. What labels mean is in `unmask.datasets.labels`; one of no known
    meaning is a kind of defect, which a warning says. The split is train, test or val (held out); without that column
    all defective images are tested, and a share of the good ones. Rows that repeat an image add their masks to it.
    Images of one group (a patient, a lot, a burst) stay on one side; an empty cell means that the image is in no group.

    Raises:
        DatasetError: the file is no such table, files are missing, or rows contradict themselves or one another.
    """
    if not file.is_file():
        return None
    table = read_table(file, COLUMNS)
    rows, column = _rows(file, table)
    labels = [row.label for row in rows]
    found = meanings(labels, placed(file), true_is_good=column in GOOD_LABEL)
    _check_rows(file, rows, found)
    joined, notes = _joined(file, rows, found)
    inventory = _inventory(file, joined, found, (*table.notes, *told(labels, found), *notes))
    if not inventory.normals:
        _refuse_no_good(file, column, labels, found)
    return inventory


def read_rows(file: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Read a table with the columns that are named to (line number, row) pairs.

    Raises:
        DatasetError: the file is no table, or lacks one of the columns.
    """
    table = read_table(file, columns)
    missing = [name for name in columns if name not in table.header]
    if missing:
        raise DatasetError(f"{placed(file)}: no column {', '.join(missing)}; wanted a CSV with {', '.join(columns)}")
    return [(line, dict(zip(table.header, cells, strict=True))) for line, cells in table.rows]


def _rows(file: Path, table: Table) -> tuple[list[Row], str]:
    """Name the cells of a manifest, and the column that its labels come from."""
    path, label, split, mask, group = (
        _column(file, table.header, names) for names in (PATH, (*LABEL, *GOOD_LABEL), SPLIT, MASK, GROUP)
    )
    missing = [name for name, column in (("path", path), ("label", label)) if column is None]
    if path is None or label is None:
        header = listed(table.header, 60)
        raise DatasetError(
            f"{placed(file)}: no column {', '.join(missing)} among {header}; wanted a CSV with path, label, split"
        )
    if not table.rows:
        raise DatasetError(f"{placed(file)}: a header and no rows; add a row for each image")
    rows = []
    for line, cells in table.rows:
        where = f"{placed(file)}, line {line}"
        wanted = cells[split] if split is not None else ""
        if not cells[path] or not cells[label] or (split is not None and plain(wanted) not in SPLITS):
            raise DatasetError(
                f"{where}: wanted a path, a label and train, val or test as split, got "
                f"{shortened(cells[path], 40)!r}, {shortened(cells[label])!r}, {shortened(wanted)!r}"
            )
        drawn = cells[mask] if mask is not None and cells[mask].casefold() not in NO_MASK else ""
        rows.append(
            Row(
                line,
                _located(file, cells[path], where),
                cells[label],
                SPLITS.get(plain(wanted), ""),
                _located(file, drawn, where) if drawn else None,
                cells[group] if group is not None else "",
            )
        )
    return rows, table.header[label]


def _column(file: Path, header: Sequence[str], names: Sequence[str]) -> int | None:
    """Find the column of one of some names; None where there is none."""
    name = next((name for name in names if name in header), None)
    if name is not None and header.count(name) > 1:
        raise DatasetError(f"{placed(file)}: {header.count(name)} columns are named {name}; rename or remove one")
    return None if name is None else header.index(name)


def _located(file: Path, cell: str, where: str) -> Path:
    """Make a path of a cell, with either kind of slash."""
    foreign = os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", cell)
    if foreign or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", cell):
        kind = "a path of a Windows machine" if foreign else "an address"
        raise DatasetError(f"{where}: {shortened(cell, 80)} is {kind}; write paths relative to the manifest's folder")
    names = (cell, cell.replace("\\", "/"))
    spellings = (unicodedata.normalize(form, name) for name in names for form in ("NFC", "NFD"))
    there = (file.parent / name for name in (*names, *spellings))
    return next((path for path in there if _is_file(path)), file.parent / cell)


def _check_rows(file: Path, rows: Sequence[Row], found: Mapping[str, Meaning | None]) -> None:
    """Refuse files that are missing, defects to learn from, and masks that contradict their label."""
    missing = [
        f"line {row.line} {path.name}" for row in rows for path in (row.path, row.mask) if path and not _is_file(path)
    ]
    if missing:
        raise DatasetError(f"{placed(file)}: {len(missing)} files do not exist: {listed(missing)}; mend the paths")
    bad = [row for row in rows if row.split == "train" and found[row.label] != "good"]
    if bad:
        more = f" (and {len(bad) - 1} more rows)" if len(bad) > 1 else ""
        raise DatasetError(
            f"{placed(file)}, line {bad[0].line}: {shortened(bad[0].path.name, 60)} is labelled "
            f"{shortened(bad[0].label)} but split is train{more}; learn from good images"
        )
    marked = [row for row in rows if row.mask and found[row.label] == "good" and row.split != "test"]
    for row in marked:
        if row.mask and not is_empty(row.mask):
            raise DatasetError(
                f"{placed(file)}, line {row.line}: {shortened(row.path.name, 60)} is good and has a mask that marks a "
                "defect; empty one of the two cells"
            )


def _joined(
    file: Path, rows: Sequence[Row], found: Mapping[str, Meaning | None]
) -> tuple[dict[Path, list[Row]], tuple[str, ...]]:
    """Put the rows of one image together, and tell of those that repeat it.

    Raises:
        DatasetError: an image is both good and defective, or in two splits.
    """
    by_file: dict[Path, list[Row]] = defaultdict(list)
    for row in rows:
        by_file[row.path.resolve()].append(row)
    for first, *others in by_file.values():
        for row in others:
            one, two = (
                (first.label, row.label)
                if (found[first.label] == "good") != (found[row.label] == "good")
                else (first.split, row.split)
            )
            if one != two:
                raise DatasetError(
                    f"{placed(file)}, line {row.line}: {shortened(row.path.name, 60)} is {shortened(two)} here and "
                    f"{shortened(one)} in line {first.line}; keep one of the two rows"
                )
    repeated = [
        f"{same[0].path.name} (lines {', '.join(str(row.line) for row in same)})"
        for same in by_file.values()
        if len(same) > 1
    ]
    notes = (f"{len(repeated)} images have several rows and count once: {listed(repeated)}",) if repeated else ()
    return {same[0].path: same for same in by_file.values()}, notes


def _inventory(
    file: Path, rows: dict[Path, list[Row]], found: Mapping[str, Meaning | None], notes: tuple[str, ...]
) -> Inventory:
    splits: dict[str, list[Path]] = defaultdict(list)
    test = []
    kinds: dict[str, str] = {}  # the first spelling of each
    for path, same in rows.items():
        row, good = same[0], found[same[0].label] == "good"
        masks = tuple(dict.fromkeys(one.mask for one in same if one.mask))
        if row.split == "test" or not (good or row.split):
            name = "anomaly" if plain(row.label) in ("0", "00") else kind_of(row.label)  # 0 and 0.0 in "is_good"
            test.append(Sample(path, not good, "good" if good else kinds.setdefault(plain(name), name), masks))
        else:
            splits[("good " if good else "unused ") + (row.split or "train")].append(path)
    defective = splits["unused held out"]
    unused = {mask: GOOD_MASK for same in rows.values() for row in same if (mask := row.mask)}
    unused |= {mask: DEFECTIVE for path in defective for row in rows[path] if (mask := row.mask)}
    return Inventory(
        "manifest",
        file.parent,
        tuple(splits["good train"]),
        tuple(test),
        held_out=tuple(splits["good held out"]),
        groups={path: same[0].group for path, same in rows.items() if same[0].group},
        draws_test_normals=not any(row.split for same in rows.values() for row in same),
        warnings=(*notes, *([f"{len(defective)} defective images of the split val are not used"] if defective else [])),
        unused={**unused, **dict.fromkeys(defective, DEFECTIVE)},
    )


def _refuse_no_good(file: Path, column: str, labels: Sequence[str], found: Mapping[str, Meaning | None]) -> None:
    """Say which labels a table without good images to learn from holds.

    Raises:
        DatasetError: always.
    """
    counts = Counter(labels)
    words = listed((f"{shortened(label)} ({count})" for label, count in counts.items()), 80)
    why = "none of these words means good; write good"
    if "good" in found.values():
        why = "those that mean good are all of another split; give some the split train"
    raise DatasetError(f"{placed(file)}: no good images to learn from: {shortened(column)} holds {words}; {why}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or none that this system can have
        return False
