"""Data sets that a CSV file describes: our own manifest, and VisA with the split that its authors published."""

from __future__ import annotations

import csv
from pathlib import Path

from unmask.datasets.found import Found, listing
from unmask.errors import DatasetError
from unmask.types import Sample

GOOD_LABELS = ("good", "normal", "ok", "0")


def manifest(file: Path) -> Found | None:
    """A CSV file with the columns path, label, split and, if there are masks, mask.

    Paths are relative to the manifest's folder; a label is good, normal, ok or 0, or anything else for a defect, whose
    kind it names; split is train or test.
    """
    if not file.is_file():
        return None
    normals, test = [], []
    for number, row in _rows(file, ("path", "label", "split")):
        where = f"{file}, line {number}"
        label, split, mask = row["label"], row["split"].lower(), row.get("mask", "")
        bad = label.lower() not in GOOD_LABELS
        if not row["path"] or not label or split not in ("train", "test"):
            raise DatasetError(f"{where}: wanted a path, a label and train or test as split, got {list(row.values())}")
        if split == "train" and bad:
            raise DatasetError(f"{where}: {row['path']} is labelled {label} but split is train; learn from good images")
        if mask and not bad:
            raise DatasetError(f"{where}: {row['path']} is good and has a mask {mask}; empty one of the two cells")
        path, masks = file.parent / row["path"], (file.parent / mask,) if mask else ()
        if split == "train":
            normals.append(path)
        else:
            test.append(Sample(path, bad, label if bad else "good", masks))
    return Found("manifest", file.parent, tuple(normals), tuple(test))


def visa_csv(root: Path) -> Found | None:
    """VisA: split_csv/1cls.csv in the folder, which then holds one object, or beside it (arXiv 2207.14315)."""
    for top in (root, root.resolve().parent):
        table = top / "split_csv" / "1cls.csv"
        if table.is_file():
            break
    else:
        return None
    rows = [row for _, row in _rows(table, ("object", "split", "label", "image", "mask"))]
    present = sorted({row["object"] for row in rows if (top / row["object"]).is_dir()})
    name = root.resolve().name if top != root else present[0] if len(present) == 1 else None
    if name is None:
        raise DatasetError(f"{root} holds {len(present)} objects ({listing(present, 20)}); give the folder of one")
    rows = [row for row in rows if row["object"] == name]
    train = [top / row["image"] for row in rows if row["split"] == "train" and row["label"] == "normal"]
    test = []
    for row in rows:
        if row["split"] == "test":
            bad = row["label"] != "normal"
            masks = (top / row["mask"],) if bad and row["mask"] else ()
            test.append(Sample(top / row["image"], bad, "anomaly" if bad else "good", masks))
    return Found("VisA", top, tuple(train), tuple(test)) if rows else None


def _rows(file: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file with a header to (line number, row) pairs, cells stripped."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{file}: no column {listing(missing)}; wanted a CSV with {', '.join(columns)}")
            return [(reader.line_num, {k: v.strip() for k, v in row.items() if k}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file}: cannot be read as CSV ({error}); save it as UTF-8 with commas") from error
