"""Write the parts of the documentation that repeat the code or the results; `make docs` runs it, a test compares."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NO_FIGURES = "no figures yet"

COLUMNS = {
    "image_auroc": ("image AUROC", 3),
    "image_auroc_interval": ("its 95 % interval", 3),
    "pixel_auroc": ("pixel AUROC", 3),
    "aupro": ("AUPRO", 3),
    "recall": ("recall", 3),
    "false_alarm_rate": ("false alarms", 3),
    "promised_false_alarm_rate": ("promised at most", 3),
    "fit_seconds": ("fit, s", 0),
    "ms_alone": ("ms an image", 0),
    "peak_mb": ("memory, MB", 0),
    "model_mb": ("model, MB", 1),
}
"""What the table shows of a row: its title and its decimals."""


def benchmark_table(results: Path = RESULTS) -> str:
    """The rows of results/*.json as `benchmarks/run.py` writes them: a line for each data set, means over its seeds."""
    groups, makings = defaultdict(list), []
    for path in sorted(results.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for row in found.get("rows", []):
            changed = "".join(f" {name}={value}" for name, value in row["settings"].items())
            groups[row["dataset"], f"{row['detector']} {row['preset']}{changed}"].append(row)
            where = f"{row['cores']} cores of {row['processor']}, torch {row['versions']['torch']}"
            makings.append(f"`{found['command']}` at commit {row['commit']} on {where}.")
    if not groups:
        return NO_FIGURES
    lines = [
        [dataset, method, len(rows), *(_figure([row[key] for row in rows], COLUMNS[key][1]) for key in COLUMNS)]
        for (dataset, method), rows in sorted(groups.items())
    ]
    table = _table(["data set", "detector, preset", "seeds", *(title for title, _ in COLUMNS.values())], lines)
    return "\n".join([table, "", *(f"- {making}" for making in dict.fromkeys(makings))])


def commands_table() -> str:
    """What `unmask --help` lists."""
    import typer

    from unmask.cli import app

    commands = typer.main.get_group(app).commands
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


def floors_table() -> str:
    """The floors that a test holds the imports to."""
    floors = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))["FLOORS"]
    names = [", ".join(f"`{module or 'unmask'}`" for module in floor) for floor in floors]
    return _table(["floor", "modules"], list(enumerate(names)))


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "benchmark"): benchmark_table,
    ("README.md", "commands"): commands_table,
    ("docs/architecture.md", "floors"): floors_table,
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


def _figure(values: Sequence[Any], digits: int) -> str:
    """Mean ± standard deviation, the mean alone of one value or of whole numbers, "-" where nothing was measured."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if isinstance(known[0], list):  # (low, high)
        return " to ".join(_figure(ends, digits).partition(" ")[0] for ends in zip(*known, strict=True))
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
