"""Write the parts of the documentation that repeat the code or the results; `make docs` runs it, a test compares."""

from __future__ import annotations

import inspect
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NO_FIGURES = "no figures yet"

COLUMNS = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "recall": "recall",
    "false_alarm_rate": "false alarms",
    "promised_false_alarm_rate": "promised at most",
    "fit_seconds": "fit, s",
    "ms_per_image": "ms an image",
}


def benchmark_table(results: Path = RESULTS) -> str:
    """All rows in results/*.json, each file a list of rows: the mean over seeds, and their standard deviation."""
    groups = defaultdict(list)
    for path in sorted(results.glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            groups[row["dataset"], row["detector"], row["preset"]].append(row)
    if not groups:
        return NO_FIGURES
    lines = []
    for (dataset, detector, preset), rows in sorted(groups.items()):
        figures = [_figure(column, [row[column] for row in rows]) for column in COLUMNS]
        lines.append([dataset, f"{detector}, {preset}", str(len(rows)), *figures])
    return _table(["data set", "detector, preset", "seeds", *COLUMNS.values()], lines)


def commands_table() -> str:
    """What `unmask --help` lists."""
    import typer

    from unmask.cli import app

    commands = typer.main.get_command(app).commands
    return _table(["command", "what it does"], [[f"`unmask {name}`", one.help] for name, one in commands.items()])


def settings_table() -> str:
    """The settings of ISSTAD with the values of each preset, and what its docstring says of them."""
    from unmask.detectors import settings
    from unmask.detectors.isstad import ISSTAD

    meanings = _arguments(inspect.getdoc(ISSTAD) or "")
    lines = []
    for name, parameter in settings(ISSTAD).items():
        values = [preset.get(name, parameter.default) for preset in ISSTAD.presets.values()]
        lines.append([f"`{name}`", *(f"`{value}`" for value in values), meanings[name]])
    return _table(["setting", *(f"`{preset}`" for preset in ISSTAD.presets), "meaning"], lines)


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "benchmark"): benchmark_table,
    ("README.md", "commands"): commands_table,
    ("docs/detectors.md", "isstad"): settings_table,
}


def generated(file: str) -> str:
    """The text of a file with every part between <!-- NAME:start --> and <!-- NAME:end --> made anew."""
    text = (ROOT / file).read_text(encoding="utf-8")
    for (name, part), make in PARTS.items():
        if name == file:
            start, end = f"<!-- {part}:start -->", f"<!-- {part}:end -->"
            before, _, rest = text.partition(start)
            text = f"{before}{start}\n{make()}\n{end}{rest.partition(end)[2]}"
    return text


def _figure(column: str, values: Sequence[float | None]) -> str:
    """A mean with the figures that make sense; "-" where it was not measured."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    digits = 0 if column == "fit_seconds" else 1 if column == "ms_per_image" else 3
    mean = f"{statistics.mean(known):.{digits}f}"
    return f"{mean} ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 and digits == 3 else mean


def _arguments(docstring: str) -> dict[str, str]:
    """Name -> text of a google-style "Args:" section."""
    section = docstring.partition("Args:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def main() -> None:
    """Bring every file up to date."""
    for file in dict.fromkeys(name for name, _ in PARTS):
        (ROOT / file).write_text(generated(file), encoding="utf-8")


if __name__ == "__main__":
    main()
