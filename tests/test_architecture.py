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

FLOORS = (
    ("allocator", "errors"),
    ("types",),
    ("",),  # the package itself
    ("components", "pixels"),
    ("images",),
    ("thumbnails",),
    ("datasets.found", "datasets.masks", "samples.scene"),
    ("datasets.checks", "datasets.manifests", "samples.fabric", "samples.part"),
    ("datasets.layouts", "samples"),
    ("datasets",),
    ("bottleneck", "fusion", "losses", "masking", "painter", "passes"),
    ("conditional_gaussian", "feature_damage", "synthesis"),
    ("backbones", "conditional_autoencoder", "mae"),
    ("mae_weights", "decoder"),
    ("clock",),
    ("training",),
    ("features",),
    ("coreset", "finch", "neighbours", "standard_maps", "turned"),
    ("feature_restoration", "feature_space", "pixel_restoration", "pixel_space"),
    ("detectors.base",),
    ("detectors.fre", "detectors.isstad", "detectors.patchcore", "detectors.protoad", "detectors.ssm"),
    ("detectors.fuse",),
    ("detectors",),
    ("calibration", "explanation", "framing", "modelfile"),
    ("judging",),
    ("self_test",),
    ("inspector", "runtime"),
    ("export",),
    ("charts", "histogram"),
    ("metrics", "report"),
    ("benchmark", "benchmark.methods", "benchmark.anomalib_worker"),
    ("benchmark.comparison", "benchmark.cost", "benchmark.measurement", "benchmark.robustness"),
    ("benchmark.foreign", "benchmark.leaks", "benchmark.results"),
    ("benchmark.row", "benchmark.summary"),
    ("benchmark.running",),
    ("benchmark.galleries", "benchmark.plots", "benchmark.scaling"),
    ("benchmark.page",),
    ("console",),
    ("arguments",),
    ("measuring",),
    ("cli",),
    ("__main__",),
)
"""The modules of unmask, lowest first; those of one floor do not know each other."""

WAITS = "unmask.load is the short way to the door; the import waits inside the function"
UPWARD = {("", "inspector"): WAITS, ("", "runtime"): WAITS, ("", "judging"): "for the type of what load returns"}

LABEL_NAMES = {"Sample", "anomalous", "read_mask", "read_masks", "has_masks"}
LABEL_ATTRIBUTES = {"masks", "saturation", "test"}
LABEL_ROOMS = ("types", "datasets", "samples", "metrics", "benchmark")
LABEL_EXCEPTIONS = {
    ("arguments", "test"): "counts the test images for a note",
    ("measuring", "has_masks"): "says why there are no pixel metrics",
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


def floor_of(module: str) -> int:
    return next(i for i, floor in enumerate(FLOORS) if module in floor)


def test_every_module_has_one_floor() -> None:
    listed = [module for floor in FLOORS for module in floor]
    assert sorted(listed) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downhill(module: str) -> None:
    upward = {name for name in imports_of(MODULES[module]) if floor_of(name) >= floor_of(module)}
    assert {name for name in upward if (module, name) not in UPWARD} == set()


def test_upward_imports_wait_inside_functions() -> None:
    for module, name in UPWARD:
        tops = [node for node in ast.parse(MODULES[module]).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert name not in set(imports_of(ast.unparse(ast.Module(tops, []))))
        assert name in set(imports_of(MODULES[module])), "no exception outlives its cause"


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] not in LABEL_ROOMS])
def test_labels_stay_on_top(module: str) -> None:
    assert {name for name in labels_in(MODULES[module]) if (module, name) not in LABEL_EXCEPTIONS} == set()


def test_no_exception_for_labels_outlives_its_cause() -> None:
    assert all(name in labels_in(MODULES[module]) for module, name in LABEL_EXCEPTIONS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from unmask.cli import main", ["cli"]),
        ("from unmask import images, load", ["images", ""]),
        ("def f():\n    import unmask.report", ["report"]),
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
