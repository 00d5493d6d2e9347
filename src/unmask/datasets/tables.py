"""A table in a text file, as spreadsheets and scripts write them: to a header and rows of cells."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from unmask.datasets.wording import placed, shortened
from unmask.errors import DatasetError

SEPARATORS = (",", ";", "\t", "|")
MOST_BYTES = 2**28
OTHER_KINDS = (  # of the first bytes
    (b"PK\x03\x04", "a spreadsheet or a zip file"),
    (b"\xd0\xcf\x11\xe0", "an Excel file"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite", "a database"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"<", "an XML or HTML file"),
    (b"{", "a JSON file"),
)
BY_SUFFIX = {".jsonl": "JSON lines", ".ndjson": "JSON lines", ".yaml": "YAML", ".yml": "YAML"}


class Table(NamedTuple):
    """The cells of a table, without surrounding spaces.

    Attributes:
        header: the names of the columns, in lower case, with underscores for spaces and hyphens.
        rows: (line, cells) of each row that is not empty; as many cells as the header has names.
        notes: what a user should know, one line each.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    notes: tuple[str, ...] = ()


def read_table(file: Path, known: Collection[str]) -> Table:
    """Read a table with a header.

    Cells are separated by commas, semicolons, tabs or bars: by that which gives the header most of the known names.
    The text is UTF-8, or UTF-16 with a byte order mark, or else Windows-1252. Empty rows, comments (#) before the
    header and Excel's line "sep=;" are passed over.

    Raises:
        DatasetError: the file is no such table, or a row has more cells than the header.
    """
    text, notes = _text(file)
    lines = io.StringIO(text, newline="").readlines()
    first = 0
    while first < len(lines) and re.match(r"\s*(#|$)|sep=.\s*$", lines[first]):
        first += 1
    rows = _cells(file, lines[first:], first, _separator(lines[first:], known))
    if not rows:
        raise DatasetError(f"{placed(file)}: empty; wanted a CSV file with a header")
    header = tuple(_column(cell) for cell in rows[0][1])
    return Table(header, tuple(_even(file, row, len(header)) for row in rows[1:]), notes)


def _separator(lines: list[str], known: Collection[str]) -> str:
    """Choose the character that cuts the header into most of the known names."""

    def names(separator: str) -> int:
        try:
            header = next(csv.reader(lines, delimiter=separator), [])
        except csv.Error:  # such as a cell that is too large, which the reading itself reports
            header = []
        return len({_column(cell) for cell in header} & set(known))

    return max(SEPARATORS, key=names)


def _column(cell: str) -> str:
    return re.sub(r"[\s-]+", "_", unicodedata.normalize("NFKC", cell).strip().casefold())


def _even(file: Path, row: tuple[int, list[str]], width: int) -> tuple[int, tuple[str, ...]]:
    line, cells = row
    if any(cells[width:]):
        raise DatasetError(
            f"{placed(file)}, line {line}: {len(cells)} cells under a header of {width}; quote cells that hold the "
            "separator"
        )
    return line, (*cells[:width], *[""] * (width - len(cells)))


def _cells(file: Path, lines: list[str], skipped: int, separator: str) -> list[tuple[int, list[str]]]:
    """Cut lines into (line, cells), empty rows left out; a cell in quotes may go over several lines."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    rows, line = [], skipped + 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                rows.append((line, stripped))
            line = skipped + reader.line_num + 1
    except csv.Error as error:
        reason = shortened(str(error), 60)
        raise DatasetError(f"{placed(file)}, line {line}: cannot be read as CSV ({reason}); mend the quotes") from error
    return rows


def _text(file: Path) -> tuple[str, tuple[str, ...]]:
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= MOST_BYTES else b""
    except OSError as error:
        raise DatasetError(f"{placed(file)}: cannot be read as CSV ({error.strerror}); check the file") from error
    other = next((kind for start, kind in OTHER_KINDS if content.startswith(start)), None)
    other = BY_SUFFIX.get(file.suffix.lower(), other) if size <= MOST_BYTES else f"a file of {size >> 20} MB"
    if other is not None:
        raise DatasetError(f"{placed(file)}: {other} is not read as a manifest; save it as CSV in UTF-8")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        windows = f"{shortened(file.name, 60)} is not UTF-8 and was read as Windows-1252"
        return text, (windows,) if encoding == "cp1252" else ()
    raise DatasetError(f"{placed(file)}: cannot be read as CSV (no text); save it as UTF-8 with commas")
