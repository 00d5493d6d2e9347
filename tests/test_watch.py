"""The watch over a stream: what it says, since when, that it is silent otherwise, and where its line appears."""

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unmask
from test_signals import after
from tiny import PATCHCORE, Run
from unmask.cli import inspecting
from unmask.errors import SettingError
from unmask.imaging.disturbances import blurred, lit, noisy
from unmask.imaging.images import resize, to_uint8
from unmask.inspection.inspector import Inspector
from unmask.inspection.watch import WORDINGS, Change, StreamWatch, checked_watch
from unmask.types import FailedImage

N, BEFORE = 40, 50


def numbers(seed: int, n: int) -> list[dict[str, float]]:
    """Random numbers that no image has: all near 1, a hundredth apart."""
    random = np.random.default_rng(seed)
    return [dict(zip(WORDINGS, row, strict=True)) for row in 1 + 0.01 * random.standard_normal((n, len(WORDINGS)))]


def watching(seed: int = 0) -> StreamWatch:
    rows = numbers(seed, N)
    return StreamWatch({name: [row[name] for row in rows] for name in rows[0]}, 2.0)


def line_of(watch: StreamWatch, rows: list[dict[str, float]]) -> str | None:
    line = None
    for row in rows:
        line = watch.add({name: value for name, value in row.items() if name != "score"}, row["score"])
    return line


def test_nothing_is_said_on_an_undisturbed_stream() -> None:
    for seed in range(3):
        assert line_of(watching(seed), numbers(100 + seed, 1500)) is None


@pytest.mark.parametrize(
    ("name", "factor", "words"),
    [
        ("sharpness", 0.78, "the pictures are 22 % less sharp"),
        ("sharpness", 1.3, "the pictures are 30 % sharper"),
        ("brightness", 0.85, "the pictures are 15 % darker"),
        ("contrast", 1.2, "the pictures have 20 % more contrast"),
        ("noise", 9.0, "the pictures have 8 times more noise"),
        ("blocks", 1.4, "the pictures show the blocks of JPEG 40 % more"),
        ("red", 0.9, "the pictures are 10 % less red"),
        ("light_x", 1.2, "the pictures are lit 20 % more from the right"),
        ("y", 0.9, "the pictures show the part 10 % of the height further up"),
        ("direction", 1.2, "the pictures show the part turned"),
        ("score", 1.5, "the pictures that are judged good score 50 % higher"),
    ],
)
def test_what_has_changed_is_named_with_when_and_how_much(name: str, factor: float, words: str) -> None:
    stream = numbers(7, BEFORE + 50)
    for row in stream[BEFORE:]:
        row[name] *= factor
    watch = watching()
    line = line_of(watch, stream)
    assert line is not None
    assert line.partition(" the ")[0] == f"since image {watch.change.since}"  # type: ignore[union-attr]
    assert line.endswith(words) or abs(float_of(line) - float_of(words)) <= 1, line
    assert isinstance(watch.change, Change)
    assert watch.change.measure == name
    assert abs(watch.change.since - BEFORE - 1) <= 2
    assert watch.change.noticed <= BEFORE + 24
    assert json.loads(json.dumps(watch.change.to_dict()))["line"] == line


def float_of(line: str) -> float:
    return float(next(word for word in line.split()[3:] if word[0].isdigit()))


def test_what_varies_more_is_told_as_that() -> None:
    stream = numbers(3, BEFORE + 60)
    for number, row in enumerate(stream[BEFORE:]):
        row["x"] += 0.15 * (-1) ** number
    line = line_of(watching(), stream)
    assert line is not None
    assert "times as much in place" in line


@pytest.mark.parametrize("name", ["noise", "blocks", "score"])
def test_less_noise_blocks_and_score_are_no_news(name: str) -> None:
    stream = numbers(5, 120)
    for row in stream[BEFORE:]:
        row[name] *= 0.5
    assert line_of(watching(), stream) is None


def test_lots_that_differ_within_the_usual_range_are_no_news() -> None:
    """All of 200 images a little darker than the median, each as dark as some normal images: that is evidence alone."""
    watch, stream = watching(), numbers(9, 200)
    for row in stream:
        row["brightness"] = 0.982
    assert line_of(watch, stream) is None
    assert max(track.trial.evidence for track in watch._tracks) > 300


def test_scores_of_anomalous_images_do_not_count() -> None:
    stream = numbers(7, 100)
    for row in stream:
        row["score"] = 2.5
    assert line_of(watching(), stream) is None


def test_a_watch_is_a_plain_object_that_can_be_copied() -> None:
    stream = numbers(7, BEFORE + 50)
    for row in stream[BEFORE:]:
        row["contrast"] *= 0.8
    whole, parted = watching(), watching()
    line_of(parted, stream[:53])
    again = copy.deepcopy(parted)
    assert line_of(again, stream[53:]) == line_of(whole, stream)
    assert again.seen == len(stream)


# --- on images --------------------------------------------------------------------------------------------------------


def cloud(seed: int) -> np.ndarray:
    """A grey picture with detail of all sizes: (3, 64, 64) in [0, 1]."""
    random, total = np.random.default_rng(seed), np.zeros((1, 64, 64), np.float32)
    for side in (4, 8, 16, 32, 64):
        total += resize(random.random((1, side, side), dtype=np.float32), 64, 64)
    return np.repeat(0.1 + 0.16 * total, 3, axis=0)


def write_clouds(folder: Path, n: int, first: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02d}.png" for number in range(n)]
    for path, one in zip(paths, arrays(first, n), strict=True):
        Image.fromarray(one).save(path)
    return paths


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    paths = write_clouds(tmp_path_factory.mktemp("good"), N, 0)
    return unmask.fit(paths, detector="patchcore", settings=PATCHCORE, false_alarm_rate=0.2)


def arrays(first: int, n: int, change: Any = None) -> Iterator[np.ndarray]:
    for seed in range(first, first + n):
        image = cloud(seed) if change is None else change(cloud(seed))
        yield to_uint8(image)


def blurry(image: np.ndarray) -> np.ndarray:
    return blurred(image, 0.012)


CHANGES = {
    "sharpness": blurry,
    "brightness": lambda image: lit(image, 0.7),
    "noise": lambda image: noisy(image, 0.1, np.random.default_rng(0)),
}


@pytest.mark.parametrize("measure", CHANGES)
def test_the_measure_that_changed_is_the_one_that_is_named(inspector: Inspector, measure: str) -> None:
    watch = inspector.watch()
    stream = [*arrays(500, 20), *arrays(600, 26, CHANGES[measure])]
    lines = [one.change for one in inspector.inspect_many(stream, watch=watch, refuse=False)]
    assert watch.change is not None
    assert watch.change.measure == measure
    assert abs(watch.change.since - 21) <= 1
    first = next(number for number, line in enumerate(lines, 1) if line)
    assert first == watch.change.noticed
    assert set(lines[first - 1 :]) == {str(watch.change)}, "each later result says it too"


def test_undisturbed_images_are_not_remarked_upon(inspector: Inspector) -> None:
    assert {one.change for one in inspector.inspect_many(list(arrays(800, 120)))} == {None}


def test_a_stream_goes_on_over_several_calls_and_calls_without_a_watch_are_streams(inspector: Inspector) -> None:
    blurs = list(arrays(600, 24, blurry))
    watch = inspector.watch()
    alone = [inspector.inspect(one, watch=watch, refuse=False).change for one in blurs]
    assert watch.seen == 24
    assert alone[-1] == str(watch.change) != "None"
    assert [one.change for one in inspector.inspect_many(blurs, refuse=False)] == alone
    assert inspector.inspect(blurs[0], refuse=False).change is None


def test_a_failed_image_counts_and_says_the_line_too(inspector: Inspector) -> None:
    stream = [b"no image", *arrays(600, 24, blurry), b"no image"]
    watch = inspector.watch()
    results = list(inspector.inspect_many(stream, on_error="record", watch=watch, refuse=False))
    assert watch.change is not None
    assert watch.change.since == 2
    assert isinstance(results[-1], FailedImage)
    assert results[-1].to_dict()["change"] == str(watch.change)


def test_a_model_of_an_older_version_has_nothing_to_compare_with(inspector: Inspector) -> None:
    old = Inspector(inspector.backend, inspector.calibration, inspector.reading, {})
    assert {one.change for one in old.inspect_many(list(arrays(600, 24, blurry)))} == {None}


def test_a_watch_of_another_kind_is_one_line() -> None:
    with pytest.raises(SettingError, match=r"watch='yes' .*give inspector.watch\(\)"):
        checked_watch("yes")


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(inspector: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "weave.unmask"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inspector.save(path)
    return path


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    for number, one in enumerate([*arrays(500, 12), *arrays(600, 20, blurry)]):
        Image.fromarray(one).save(folder / f"{number:02d}.png")
    return folder


def test_inspect_says_it_once_in_the_report_and_in_json(run: Run, model: Path, stream: Path, tmp_path: Path) -> None:
    said = run("inspect", model, stream, "--report", tmp_path / "report", "--no-refuse")
    (line,) = [line for line in said.err.splitlines() if "since image" in line]
    assert line.startswith("Note: since image 13 the pictures are ")
    assert "less sharp" in line
    content = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert content["change"]["line"] in line
    assert content["change"]["since"] == 13
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "Since image 13 the pictures are" in page
    printed = [json.loads(one) for one in run("inspect", model, stream, "--json", "--no-refuse").out.splitlines()]
    assert [one["change"] for one in printed][:12] == [None] * 12
    assert printed[-1]["change"] == content["change"]["line"]


def test_an_interrupted_inspection_still_says_it(
    run: Run, model: Path, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "_line", after(30, inspecting._line, "SIGINT"))
    said = run("inspect", model, stream, "--report", tmp_path / "report", "--no-refuse")
    assert said.code == 130
    assert "since image 13 the pictures are" in said.err
    content = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert content["change"]["since"] == 13
    assert len(content["results"]) == 30


def test_an_undisturbed_report_says_nothing(run: Run, model: Path, tmp_path: Path) -> None:
    write_clouds(tmp_path / "new", 6, 900)
    said = run("inspect", model, tmp_path / "new", "--report", tmp_path / "report")
    assert "since image" not in said.err
    assert json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))["change"] is None
