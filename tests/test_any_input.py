"""Commands x odd inputs: whatever a user types and a file holds, there is an exit code and one line, no traceback."""

import os
import random
import warnings
from pathlib import Path

import pytest

import unmask
from tiny import PATCHCORE, Run, run_python, write_dataset, write_textures
from unmask.errors import LONGEST
from unmask.inspection.export import export
from unmask.training.trainer import Training

pytestmark = [
    pytest.mark.filterwarnings("ignore:a false-alarm rate"),
    pytest.mark.filterwarnings("ignore:the model learned from"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
CODES = {0, 1, 2, 3}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of everything that a path may lead to, with a model and its export."""
    root = tmp_path_factory.mktemp("things")
    write_dataset(root / "weave", 8)
    write_textures(root / "good", 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unmask.fit(root / "good", detector="patchcore", settings=PATCHCORE, training=Training(device="cpu")).save(
            root / "model.unmask"
        )
        export(root / "model.unmask", root / "alone.onnx")
    (root / "empty").mkdir()
    (root / "folder.unmask").mkdir()
    (root / "folder.png").mkdir()
    (root / "nothing.png").touch()
    (root / "nothing.onnx").touch()
    (root / "nothing.csv").touch()
    (root / "nothing.json").touch()
    (root / "text.png").write_text("no image")
    (root / "zeros.unmask").write_bytes(bytes(1000))
    (root / "wrong.json").write_text('{"rows": [1, {"a": []}], "format": "unmask-bench"}')
    (root / "deep.json").write_text("[" * 100_000)
    (root / "bytes.csv").write_bytes(bytes(range(256)))
    (root / "loop").symlink_to(root / "loop")
    (root / "dangling.png").symlink_to(root / "absent")
    os.mkfifo(root / "pipe.png")
    os.mkfifo(root / "pipe.unmask")
    os.mkfifo(root / "pipe.csv")
    random_ = random.Random(0)
    (root / "random").mkdir()
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif"):
        start = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff\xe0", ".bmp": b"BM", ".tif": b"II*\0"}.get(
            suffix, b"RIFF"
        )
        (root / "random" / f"a{suffix}").write_bytes(start + random_.randbytes(400))
    return root


PATHS = (
    *("absent", "empty", "folder.unmask", "folder.png", "nothing.png", "nothing.onnx", "nothing.csv", "nothing.json"),
    *("text.png", "zeros.unmask", "wrong.json", "deep.json", "bytes.csv", "loop", "dangling.png", "pipe.png"),
    *(
        "pipe.unmask",
        "pipe.csv",
        "random",
        "good/00.png",
        "model.unmask",
        "alone.onnx",
        "n" * 300,
        "a\nb\x1b[0m",
        "/dev/null",
    ),
)
COMMANDS: dict[str, list[str]] = {
    "info": ["info", "PATH"],
    "judge with": ["inspect", "PATH", "{things}/good/00.png"],
    "judge": ["inspect", "{things}/alone.onnx", "PATH"],
    "judge as JSON": ["inspect", "{things}/alone.onnx", "PATH", "--json"],
    "report": ["inspect", "{things}/alone.onnx", "{things}/good/00.png", "-o", "PATH"],
    "fit": [
        "fit",
        "PATH",
        "-o",
        "{out}/a.unmask",
        "--detector",
        "patchcore",
        "--set",
        "backbone=tiny",
        "--set",
        "image_size=64",
    ],
    "fit to": ["fit", "{things}/empty", "-o", "PATH"],
    "evaluate": ["evaluate", "{things}/alone.onnx", "PATH"],
    "evaluate with": ["evaluate", "PATH", "{things}/weave"],
    "export": ["export", "PATH", "-o", "{out}/a.onnx"],
    "export with": ["export", "{things}/model.unmask", "-o", "{out}/a.onnx", "--precision", "int8", "--images", "PATH"],
    "calibrate": ["calibrate", "PATH", "{things}/weave", "-o", "{out}/a.unmask"],
    "calibrate with": ["calibrate", "{things}/alone.onnx", "PATH", "-o", "{out}/a.onnx"],
    "undo": ["calibrate", "PATH", "--undo"],
    "data": ["data", "PATH"],
    "compare": ["compare", "PATH", "PATH"],
    "bench": ["bench", "PATH", "-o", "{out}/bench", "--detectors", "fre", "--seeds", "1"],
    "sample": ["sample", "{things}/good/00.png/PATH"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_path_ends_in_a_traceback(run: Run, things: Path, tmp_path: Path, command: str) -> None:
    before = sorted(path.name for path in things.rglob("*"))
    wrong = {}
    for path in PATHS:
        if command == "bench" and path in ("good/00.png",):
            continue
        full = "/dev/null" if path == "/dev/null" else f"{{things}}/{path}"
        words = [
            word.replace("{things}/good/00.png/PATH", "{things}/good/00.png/a").replace("PATH", full)
            for word in COMMANDS[command]
        ]
        done = run(*(word.replace("{things}", str(things)).replace("{out}", str(tmp_path)) for word in words))
        said = [line for line in done.err.splitlines() if line.startswith("unmask:")]
        is_told = len(said) == 1 and len(said[0]) <= LONGEST + 10 if done.code == 2 else not said
        if done.code not in CODES or "Traceback" in done.err or not is_told:
            wrong[path] = done
    assert wrong == {}
    if command not in ("report", "fit to"):
        assert sorted(path.name for path in things.rglob("*")) == before, "nothing is left behind"


WORDS = [
    [],
    ["--version"],
    ["-h"],
    ["inspect"],
    ["inspect", "--json"],
    ["fit", "a", "-o"],
    ["fit", "a", "-o", "a.onnx"],
    ["fit", "a", "-o", "a.xml"],
    ["fit", "a", "-o", "a.unmask", "--seed", "x" * 1000],
    ["fit", "a", "-o", "a.unmask", "--tile", "1e3"],
    ["fit", "a", "-o", "a.unmask", "--region", "1,2,3"],
    ["fit", "a", "-o", "a.unmask", "--region", "9,9,1,1"],
    ["fit", "a", "-o", "a.unmask", "--overlap", "nan"],
    ["fit", "a", "-o", "a.unmask", "--intensity-range", "nan,inf"],
    ["fit", "a", "-o", "a.unmask", "--max-memory", "1e9"],
    ["fit", "a", "-o", "a.unmask", "--false-alarm-rate", "nan"],
    ["fit", "a", "-o", "a.unmask", "--max-minutes", "inf"],
    ["fit", "a", "-o", "a.unmask", "--set", "=3"],
    ["fit", "a", "-o", "a.unmask", "--group", "("],
    ["fit", "", "-o", ""],
    ["fit", "a", "-o", "\udce9\n\x1b"],
    ["data", ""],
    ["data", "a", "--seed", "99999999999999999999999"],
    ["data", "a", "--group", "("],
    ["compare", "a"],
    ["compare", "", ""],
    ["bench", "a", "-o", "b", "--detectors", "nobody"],
    ["bench", "a", "-o", "b", "--detectors", "command:'"],
    ["bench", "a", "-o", "b", "--seeds", "0"],
    ["bench", "a", "-o", "b", "--jobs", "-1"],
    ["export", "a", "--to", "b"],
    ["calibrate", "a"],
    ["calibrate", "a", "--undo", "b"],
    ["calibrate", "a", "b", "--confidence", "nan"],
    ["calibrate", "a", "b", "--false-alarm-rate", "inf"],
    ["calibrate", "a", "b", "-o", ""],
    ["unknown\n\x1b[31m"],
    ["fit", "a", "-o", "a.unmask", "--max-pixels", "inf"],
    ["fit", "a", "-o", "a.unmask", "--max-pixels", "nan"],
    ["fit", "a", "-o", "a.unmask", "--tile", "9" * 30],
    ["fit", "a", "-o", "a.unmask", "--intensity-range", "-1e308,1e308"],
    ["fit", "a", "-o", "a.unmask", "--max-memory", "1" * 5000 + "GB"],
    ["sample", "b", "--seed", "-1"],
    ["demo", "b", "--seed", "-1"],
    ["bench", "a", "-o", "b", "--seeds", "9" * 20],
    ["inspect", "", "a"],
    ["info", "\udce9"],
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: ascii(" ".join(words))[:60])
def test_no_words_end_in_a_traceback(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.code in (0, 2), done.err
    assert "Traceback" not in done.err
    assert done.err.count("unmask: ") == (1 if done.code else 0), done.err
    assert all(len(line) <= LONGEST + 10 and line.isprintable() for line in done.err.splitlines())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("group", ["x{99999999999}", "(" * 20_000 + ")" * 20_000])
def test_a_group_that_is_too_much_is_one_line(run: Run, things: Path, group: str) -> None:
    done = run("data", str(things / "good"), "--group", group)
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_an_interruption_while_the_commands_are_imported_is_one_line() -> None:
    script = (
        "import builtins, sys\nimport unmask.__main__ as entry\nreal = builtins.__import__\n"
        "def stop(name, *rest, **more):\n    if name == 'typer': raise KeyboardInterrupt\n"
        "    return real(name, *rest, **more)\nbuiltins.__import__ = stop\nentry.main()"
    )
    done = run_python("-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "unmask: interrupted\n")
