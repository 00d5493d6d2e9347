"""The two rules that carry the house: imports go downhill, and labels stay on top. And a light front door."""

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

ROOMS = (
    "errors",
    "types",
    "imaging",
    "datasets",
    "samples",
    "training",
    "features",
    "detectors",
    "inspection",
    "report",
    "evaluation",
    "benchmark",
    "cli",
    "__main__",
)
"""A room imports only from itself and from rooms above it. All may import the package itself: it imports on demand."""

TORCH_ROOMS = ("training", "features", "detectors")
TORCH_FILES = {
    "inspection.fitting": "fits",
    "inspection.crossing": "fits several times, to calibrate",
    "inspection.training_images": "gives a fit its images",
    "inspection.torch_backend": "runs what was fitted",
    "inspection.graphs": "writes a detector's graph",
    "benchmark.cost": "counts torch's threads",
    "benchmark.anomalib_worker": "runs other people's torch models in a process of its own",
}
MOST_ENTRIES, MOST_LINES, MOST_LINES_OF_FUNCTION, MOST_LINES_OF_BODY = 16, 300, 50, 35
FITS = {"inspection.fitting.fit", "cli.fitting.fit"}  # each option is a line, and in Python a line that explains it

LABEL_NAMES = {"Sample", "anomalous", "read_mask", "read_masks", "has_masks"}
LABEL_ATTRIBUTES = {"masks", "saturation", "test"}
LABEL_ROOMS = ("types", "datasets", "samples", "evaluation", "benchmark")
LABEL_EXCEPTIONS = {
    ("cli.arguments", "test"): "counts the test images for a note",
    ("cli.measure", "has_masks"): "says why there are no pixel metrics",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE / "unmask").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path.read_text(encoding="utf-8") for path in sorted((SOURCE / "unmask").rglob("*.py"))}


def imports_of(text: str) -> Iterator[str]:
    """Modules of unmask that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if name.removeprefix("unmask.") in MODULES]
            names = modules + ([node.module] if len(modules) < len(inside) else [])
        for name in names:
            if name == "unmask" or name.startswith("unmask."):
                yield name.removeprefix("unmask").removeprefix(".")


def labels_in(text: str) -> set[str]:
    """Names of labels and ground truth in a source; prose in docstrings does not count."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        named = {getattr(node, field, None) for field in ("id", "attr", "arg", "name")}
        found |= {name for name in named if isinstance(name, str)} & LABEL_NAMES
        if isinstance(node, ast.Attribute | ast.keyword):
            found |= named & LABEL_ATTRIBUTES
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and " " not in node.value and "ground_truth" in node.value:
            found.add("ground_truth")
    return found


def room_of(module: str) -> str:
    return module.split(".")[0]


def test_rooms_are_those_of_the_package() -> None:
    assert {room_of(module) for module in MODULES} - {""} == set(ROOMS)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_imports_go_downhill(module: str) -> None:
    above = ROOMS[: ROOMS.index(room_of(module)) + 1]
    assert [name for name in imports_of(MODULES[module]) if name and room_of(name) not in above] == []


def test_the_package_itself_imports_on_demand() -> None:
    tops = [node for node in ast.parse(MODULES[""]).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert set(imports_of(ast.unparse(ast.Module(tops, [])))) <= {"errors"}


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) not in TORCH_ROOMS])
def test_torch_stays_in_the_middle(module: str) -> None:
    tree = ast.parse(MODULES[module])
    typing_only = {id(inner) for node in ast.walk(tree) if is_type_checking(node) for inner in ast.walk(node)}
    found = any(imports_torch(node) for node in ast.walk(tree) if id(node) not in typing_only)
    assert found == (module in TORCH_FILES), "a file that no longer needs torch leaves the list"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_torch(node: ast.AST) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] in ("torch", "torchvision", "timm", "lightning_fabric") for name in names)


def test_the_house_is_small() -> None:
    entries = [path.name for path in (SOURCE / "unmask").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, entries
    assert {name: n for name, text in MODULES.items() if (n := text.count("\n")) > MOST_LINES} == {}
    functions = {
        f"{name}.{node.name}": node
        for name, text in MODULES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions.items()}
    assert {name for name, n in lengths.items() if n > MOST_LINES_OF_FUNCTION} == FITS
    bodies = {name: lines_of_body(node) for name, node in functions.items()}
    assert {name: n for name, n in bodies.items() if n > MOST_LINES_OF_BODY} == {}


def lines_of_body(function: ast.FunctionDef) -> int:
    """Without signature and docstring: an argument that is explained makes no function harder to hold in the head."""
    begins = function.body[1 if ast.get_docstring(function) else 0 :]
    return (function.end_lineno or 0) - begins[0].lineno + 1 if begins else 0


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) not in LABEL_ROOMS])
def test_labels_stay_on_top(module: str) -> None:
    assert {name for name in labels_in(MODULES[module]) if (module, name) not in LABEL_EXCEPTIONS} == set()


def test_no_exception_for_labels_outlives_its_cause() -> None:
    assert all(name in labels_in(MODULES[module]) for module, name in LABEL_EXCEPTIONS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from unmask.cli.app import main", ["cli.app"]),
        ("from unmask.imaging import images; from unmask import load", ["imaging.images", ""]),
        ("def f():\n    import unmask.report.page", ["report.page"]),
        ("if TYPE_CHECKING:\n    from unmask.datasets.found import Found", ["datasets.found"]),
        ("import numpy, unmasked", []),
    ],
)
def test_the_rule_sees_imports(text: str, found: list[str]) -> None:
    assert list(imports_of(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = sample.anomalous", {"anomalous"}),
        ("from unmask.types import Sample as S", {"Sample"}),
        ("def f(anomalous): ...", {"anomalous"}),
        ("read_mask(one)", {"read_mask"}),
        ("len(split.test)", {"test"}),
        ("root / 'ground_truth'", {"ground_truth"}),
        ("masks, test = draw()", set()),
        ("'ground_truth is not opened here'", set()),
    ],
)
def test_the_rule_sees_labels(text: str, found: set[str]) -> None:
    assert labels_in(text) == found


def fresh_python(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import unmask",
        "import sys; sys.argv = ['unmask', '--help']\ntry: import unmask.__main__; unmask.__main__.main()\n"
        "except SystemExit: pass",
    ],
    ids=["import unmask", "unmask --help"],
)
def test_the_front_door_is_light(code: str) -> None:
    loaded = fresh_python("-c", f"{code}\nimport sys; print('loaded:', *sys.modules)").rpartition("loaded:")[2].split()
    assert "unmask" in loaded
    assert {"torch", "timm", "matplotlib", "scipy", "pyarrow"} & set(loaded) == set()


def test_help_appears_at_once() -> None:
    seconds = []
    for _ in range(3):
        before = os.times()
        assert "inspect" in fresh_python("-m", "unmask", "--help")
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert statistics.median(seconds) < 0.5, "processor time, so that a busy machine does not count"
