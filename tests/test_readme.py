"""What the README and the docs say is true: their examples run, their tables and trees are those of the code."""

import functools
import json
import re
import runpy
import shlex
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny import FUSE, run_python, write_dataset
from unmask import samples
from unmask.benchmark.row import Job, measure

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _lines(command: str) -> list[str]:
    lines = [line for block in _blocks("console") for line in block.splitlines()]
    return [line for line in lines if line.split()[0] == command]


def _run(line: str) -> int:
    from unmask.cli.app import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", shlex.split(line))
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as exit_:
            main()
    return int(exit_.value.code or 0)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples name; all images small, and the preset `fast` tiny."""
    from unmask.detectors import DETECTORS

    (fuse,) = (kind for kind in DETECTORS if kind.name == "fuse")
    own = {key: value for key, value in FUSE.items() if "." not in key}
    parts = {key: value for key, value in FUSE.items() if "." in key}
    monkeypatch.setitem(fuse.presets, "fast", {**own, "settings": parts})
    monkeypatch.setattr(samples, "write", functools.partial(samples.write, size=64, n_train=40, n_good=4, n_bad=3))
    samples.render("part", tmp_path / "drawn", size=64, n_train=40, n_good=3, n_bad=3)
    (tmp_path / "drawn/train/good").rename(tmp_path / "photos")
    (tmp_path / "drawn/test/good").rename(tmp_path / "new")
    samples.render("part", tmp_path / "later", seed=1, size=64, n_train=60, n_good=1, n_bad=1)
    (tmp_path / "later/train/good").rename(tmp_path / "today")
    region = np.zeros((64, 64), np.uint8)
    region[8:56, 8:56] = 255
    Image.fromarray(region).save(tmp_path / "region.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_run_as_written(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in _lines("unmask"):
        capsys.readouterr()
        code = _run(line)
        printed = capsys.readouterr().out
        assert code == 0 or (code == 1 and "--fail-on-anomaly" in line), line
        if "--json" in line:
            rows = [json.loads(row) for row in printed.splitlines()]
            assert [Path(row["path"]).name for row in rows] == ["000.png", "001.png", "002.png"]
    for folder in ("report", "measured"):
        assert {"index.html", "results.json", "results.parquet"} <= {one.name for one in (desk / folder).iterdir()}
    fitted = (desk / "part.unmask").read_bytes()
    names: dict[str, Any] = {}
    for block in _blocks("python"):
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102  this is our own README
    assert names["result"].path == Path("new/000.png")
    assert (desk / "part.unmask").read_bytes() != fitted, "the second example writes the model anew"


def test_the_detector_of_one_s_own_runs_as_documented(desk: Path) -> None:
    text = (ROOT / "docs" / "own-detector.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 65
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (desk / "my_module.py").write_text(code)
    assert run_python(desk / "my_module.py").returncode == 0, "as a script"
    code = code[: code.index("inspector = ")]
    (desk / "my_module.py").write_text(code)
    samples.render("part", desk / "part", size=64, n_train=30, n_good=4, n_bad=4)
    options = ["--detectors", "my_module:MeanImage", "--seeds", 1, "-o", desk / "measured"]
    done = run_python("-m", "unmask", "bench", desk / "part", *options)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((desk / "measured" / "results.json").read_text())["rows"]
    assert (row["failed"], row["detector"]) == (None, "my_module:MeanImage")


def test_every_goal_of_make_and_every_extra_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    goals = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= goals, f"{document.name} names goals that the Makefile lacks: {named - goals}"
    assert {"demo", "test"} <= {line.split()[1] for line in _lines("make")}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {extra for line in _lines("pip") for extra in re.findall(r"\[(\w+)\]", line)}
    assert named <= set(extras)


@pytest.mark.parametrize("file", sorted({file for file, _ in GENERATE["PARTS"]}))
def test_generated_parts_are_those_of_the_code_and_the_results(file: str) -> None:
    assert (ROOT / file).read_text(encoding="utf-8") == GENERATE["generated"](file), "run: make docs"


def test_the_benchmark_table_is_the_mean_over_data_sets(tmp_path: Path) -> None:
    assert GENERATE["benchmark_table"](tmp_path) == GENERATE["NO_FIGURES"]
    made = {"cores": 2, "threads": 1, "processor": "P", "commit": "abc", "date": "today", "command": "unmask bench"}
    named = {"detector": "isstad", "preset": "fast", "settings": {}, "failed": None}
    plain = dict.fromkeys(GENERATE["COLUMNS"], 0.5) | named | made
    found = [("bolt", 0, 0.9), ("bolt", 1, 1.0), ("nut", 0, 0.5), ("nut", 1, 0.6)]
    rows = [plain | {"dataset": d, "seed": s, "image_auroc": v, "aupro": None} for d, s, v in found]
    failed = {**named, "dataset": "nut", "seed": 2, "failed": "it broke"}
    (tmp_path / "results.json").write_text(json.dumps({"rows": [*rows, failed]}))
    table = GENERATE["benchmark_table"](tmp_path).splitlines()
    assert table[2].startswith("| isstad fast | **75.0 ± 7.1** | 95.0 ± 7.1 | 55.0 ± 7.1 | 50.0 ± 0.0 | - | 50.0 ±")
    assert table[4] == "- `unmask bench` at commit abc on 2 cores of P, 1 threads a row, today: 4 rows, seeds 0, 1."


def test_the_documented_command_is_a_detector(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 22
    script = tmp_path / "mean_image.py"
    script.write_text(code)
    dataset = write_dataset(tmp_path / "weave", 24)
    with pytest.warns(UserWarning, match="the best that can be promised"):
        row, _ = measure(Job(f"command:{sys.executable} {script}", "", {}, str(dataset), 0))
    assert row["image_auroc"] == 1.0


def test_the_tree_lists_every_room_and_nothing_else() -> None:
    (tree,) = _blocks("text")
    listed, folder = set(), ""
    for line in tree.splitlines():
        name, _, phrase = line.strip().partition(" ")
        folder = name if not line.startswith(" ") else folder
        path = name if not line.startswith(" ") else folder + name
        listed.add(path.rstrip("/"))
        assert (ROOT / path).exists(), f"{path} is listed and not there"
        assert phrase.strip() or name == "src/unmask/"
    inside = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src/unmask").iterdir()}
    assert inside - {"src/unmask/py.typed", "src/unmask/__pycache__"} == {
        p for p in listed if p.startswith("src/unmask/")
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        assert "://" in target or (document.parent / target).exists(), f"{document.name}: no {target}"
