"""How much slower a fit and an inspection are beside one other busy process, now and before a change, in one run.

    python benchmarks/busy.py ../shared/data/mvtec_bottle --before BEFORE

BEFORE is a checkout of an earlier state; without it only this one is measured. Everything runs in short bursts that
take turns: each state, with torch and exported, alone and beside a process that only counts, round after round. A burst
during which other programs took more than a tenth of a core is repeated, `--patience` times at the most; what they took
in the end is among the results. Inspections are timed in a program that uses the library, after `unmask.load`, and
in the command; so are fits. Results go to benchmarks/results/busy.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from unmask.benchmark.cost import machine
from unmask.benchmark.results import write
from unmask.imaging.listing import list_images

RESULTS = Path(__file__).parent / "results"
NOW = Path(__file__).parents[1]
OTHERS = 0.1  # cores that other programs may take during a burst
ALONE, BUSY = "alone", "beside a busy process"
Figures = dict[str, float]

INSPECT = """
import json, sys, time
from pathlib import Path
import unmask
inspector = unmask.load(sys.argv[1])
paths = [Path(line) for line in Path(sys.argv[2]).read_text().splitlines()]
def each(count, work):
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start) / count
def burst():
    single = each(len(paths), lambda: [inspector.inspect(path) for path in paths])
    batch = each(len(paths), lambda: list(inspector.inspect_many(paths)))
    return {"one at a time, ms": single, "batches of 8, ms": batch}
burst()
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(burst()), flush=True)
"""
FIT = """
import sys, unmask
try:
    inspector = unmask.fit(sys.argv[1])
except AttributeError:  # before there was such a function
    from unmask.datasets import load
    from unmask.inspector import Inspector
    split = load(sys.argv[1])
    inspector = Inspector.train(split.normals, split.held_out)
print(inspector.facts["fit_seconds"])
"""


def main() -> None:
    """Measure; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier state")
    parser.add_argument("--rounds", type=int, default=9, help="bursts of each inspection")
    parser.add_argument("--fits", type=int, default=3, help="rounds of fits; 0 = none")
    parser.add_argument("--patience", type=int, default=20, help="repetitions of a burst that others disturbed")
    given = parser.parse_args()
    if not given.dataset.is_dir():
        print(f"skipped: {given.dataset} is not on this machine")
        return
    if given.before is not None and not (given.before / "src" / "unmask").is_dir():
        parser.error(f"{given.before} is no checkout of unmask; give one, such as: git worktree add BEFORE COMMIT")
    states = {"now": NOW} if given.before is None else {"before": given.before.resolve(), "now": NOW}
    dataset = given.dataset.resolve()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        subjects = _inspections(states, dataset, Path(folder), stack)
        rows = measured(subjects, given.rounds, given.patience)
        rows += measured(_commands(states, Path(folder)), given.fits, given.patience)
        rows += measured(_fits(states, dataset, Path(folder)), given.fits, given.patience)
    versions = {name: version(name) for name in ("torch", "onnxruntime", "numpy")}
    words = ["BEFORE" if word == str(given.before) else word for word in sys.argv]  # no path of this machine
    facts = {"command": " ".join(["python", *words]), "dataset": dataset.name, "rounds": given.rounds}
    facts |= {"fits": given.fits, "states": {name: commit(tree) for name, tree in states.items()}}
    write(RESULTS / "busy.json", {**facts, "rows": rows, "versions": versions, **machine()})


class Subject:
    """Something that is measured again and again.

    Args:
        state: "now" or "before".
        name: what it is.
        burst: runs it once, and returns its figures and the processor seconds that it took.
    """

    def __init__(self, state: str, name: str, burst: Callable[[], tuple[Figures, float]]) -> None:
        self.state, self.name, self.burst = state, name, burst
        self.figures: dict[str, list[Figures]] = {ALONE: [], BUSY: []}
        self.others: list[float] = []

    def measure(self, condition: str, patience: int) -> None:
        """Add the figures of one burst, of the first that nothing else disturbed or of the least disturbed one."""
        found: list[tuple[float, int, Figures]] = []
        while len(found) <= patience and (not found or min(found)[0] > OTHERS):
            with busy_process() if condition == BUSY else idle() as seconds_of_other:
                start, before = time.perf_counter(), _busy_seconds()
                figures, own = self.burst()
                taken = _busy_seconds() - before - own - seconds_of_other()
                found.append((taken / (time.perf_counter() - start), len(found), figures))
        others, _, figures = min(found)
        self.figures[condition].append(figures)
        self.others.append(round(max(0.0, others), 2))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Medians of the figures over the rounds, and the slowdown beside a busy process, paired within a round."""
        for figure in self.figures[ALONE][0]:
            alone, busy = ([one[figure] for one in self.figures[condition]] for condition in (ALONE, BUSY))
            yield {
                "what": f"{self.name}, {figure}",
                "state": self.state,
                ALONE: round(statistics.median(alone), 2),
                BUSY: round(statistics.median(busy), 2),
                "ratio": round(statistics.median(b / a for a, b in zip(alone, busy, strict=True)), 2),
                "cores taken by others": statistics.median(self.others),
            }


def measured(subjects: list[Subject], rounds: int, patience: int) -> list[dict[str, Any]]:
    """All subjects in turn, alone and beside a busy process, round after round."""
    for _ in range(rounds):
        for subject in subjects:
            for condition in (ALONE, BUSY):
                subject.measure(condition, patience)
    rows = [row for subject in subjects if rounds for row in subject.rows()]
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def _inspections(states: dict[str, Path], dataset: Path, folder: Path, stack: ExitStack) -> list[Subject]:
    """Programs that hold an open model, with torch and exported, one of each for each state."""
    images = folder / "images.txt"
    found = islice(list_images(dataset / "test", recursive=True), 16)
    images.write_text("\n".join(str(path) for path in found), encoding="utf-8")
    subjects = []
    for state, tree in states.items():
        alone, beside = folder / f"{state}.unmask", folder / f"{state}-exported.unmask"
        _unmask(tree, "fit", dataset, "-o", alone)
        beside.write_bytes(alone.read_bytes())
        _unmask(tree, "export", beside, "--images", dataset / "train" / "good")
        for name, file in (("library, torch", alone), ("library, exported", beside.with_suffix(".onnx"))):
            program = stack.enter_context(Program(tree, file, images))
            subjects.append(Subject(state, name, program.burst))
    return subjects


class Program:
    """A program that has opened a model, and inspects images when it is asked to."""

    def __init__(self, tree: Path, model: Path, images: Path) -> None:
        command = [sys.executable, "-c", INSPECT, str(model), str(images)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment(tree), stdin=pipe, stdout=pipe, text=True)
        self._answer()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def burst(self) -> tuple[Figures, float]:
        """Times in milliseconds an image, and the processor seconds that they took."""
        before = seconds_of(self.process.pid)
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        figures: Figures = json.loads(self._answer())
        return figures, seconds_of(self.process.pid) - before

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def _commands(states: dict[str, Path], folder: Path) -> list[Subject]:
    """`unmask inspect` in batches, by the times that it writes itself."""
    images = (folder / "images.txt").read_text(encoding="utf-8").splitlines() * 3

    def burst(tree: Path, model: Path) -> tuple[Figures, float]:
        text, seconds = _run([*_UNMASK, "inspect", model, *images, "--json"], tree)
        times = [json.loads(line)["milliseconds"]["total"] for line in text.splitlines()]
        return {"batches of 8, ms": statistics.median(times)}, seconds

    def subject(state: str, tree: Path) -> Subject:
        return Subject(state, "command, torch", lambda: burst(tree, folder / f"{state}.unmask"))

    return [subject(state, tree) for state, tree in states.items()]


def _fits(states: dict[str, Path], dataset: Path, folder: Path) -> list[Subject]:
    """Fits by the library and by the command, by the seconds that the model says they took."""

    def library(tree: Path) -> tuple[Figures, float]:
        text, seconds = _run([sys.executable, "-c", FIT, dataset], tree)
        return {"fit, s": float(text.split()[-1])}, seconds

    def command(tree: Path) -> tuple[Figures, float]:
        model = folder / "again.unmask"
        _, seconds = _run([*_UNMASK, "fit", dataset, "-o", model], tree)
        facts = _run([*_UNMASK, "info", model], tree)[0].splitlines()
        return {"fit, s": float(next(line.split()[1] for line in facts if line.startswith("fit_seconds")))}, seconds

    kinds = {"library": library, "command": command}
    return [
        Subject(state, name, lambda kind=kind, tree=tree: kind(tree))  # type: ignore[misc]
        for state, tree in states.items()
        for name, kind in kinds.items()
    ]


# --- processes --------------------------------------------------------------------------------------------------------

_UNMASK = (sys.executable, "-m", "unmask")


def environment(tree: Path) -> dict[str, str]:
    """The environment of a program that uses the source of a checkout, and has no settings for threads."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}
    return {**ours, "PYTHONPATH": str(tree / "src")}


def _unmask(tree: Path, *arguments: Any) -> None:
    _run([*_UNMASK, *arguments], tree)


def _run(command: list[Any], tree: Path) -> tuple[str, float]:
    """What a command prints, and the processor seconds that it took."""
    before = psutil.Process().cpu_times()
    text = subprocess.check_output(
        [str(word) for word in command], env=environment(tree), text=True, stderr=subprocess.DEVNULL
    )
    after = psutil.Process().cpu_times()
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return text, children


@contextmanager
def busy_process() -> Iterator[Callable[[], float]]:
    """A process that only counts; gives the processor seconds that it has taken since then."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        before = seconds_of(process.pid)
        yield lambda: seconds_of(process.pid) - before
    finally:
        process.kill()
        process.wait()


@contextmanager
def idle() -> Iterator[Callable[[], float]]:
    """No other process."""
    time.sleep(0.2)
    yield lambda: 0.0


def seconds_of(pid: int) -> float:
    """Processor seconds that a process has taken."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _busy_seconds() -> float:
    """Processor seconds that all programs of the machine have taken."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def commit(tree: Path) -> str:
    """The commit of a checkout; empty where it is none."""
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
