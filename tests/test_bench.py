"""`unmask bench`: what a row holds, what is written, resumed and printed, and that commands are measured alike."""

import json
import runpy
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.stats import rankdata
from sklearn.metrics import f1_score, roc_auc_score

from tiny import FEATURES, SIZE, SSM_PIXELS, Textures, run_python, write_dataset
from unmask.benchmark import (
    foreign,
    galleries,
    leaks,
    places,
    plots,
    processes,
    robustness,
    row_process,
    running,
    scaling,
    summary,
)
from unmask.benchmark.comparison import compare
from unmask.benchmark.job import Job
from unmask.benchmark.methods import Method, methods_of
from unmask.benchmark.page import _robustness, write_page
from unmask.benchmark.places import here
from unmask.benchmark.results import mean, rows_of, spread
from unmask.benchmark.robustness import DISTURBANCES, Disturbed
from unmask.benchmark.row import measure, write_predictions
from unmask.benchmark.row_process import Done
from unmask.benchmark.running import bench
from unmask.cli.app import main
from unmask.datasets import load
from unmask.detectors import build, find
from unmask.errors import DatasetError, DependencyError, ForeignError, SettingError
from unmask.imaging import disturbances
from unmask.training.trainer import OBSERVATIONS, Training
from unmask.types import Sample

pytestmark = pytest.mark.filterwarnings("ignore:a false-alarm rate of 0.05 needs")
FRE = {"backbone": "tiny", "image_size": SIZE, "levels": "2,3"}
COMMAND = """
import sys, numpy as np
from pathlib import Path
from PIL import Image

train, images, maps, seed = sys.argv[1:]
read = lambda path: np.asarray(Image.open(path).convert("RGB"), float)
usual = np.mean([read(path) for path in Path(train).iterdir()], axis=0)
for path in Path(images).iterdir():
    np.save(Path(maps) / f"{path.stem}.npy", abs(read(path) - usual).mean(2))
"""


@pytest.fixture(scope="module")
def weave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set") / "weave", 24)


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Write a detector as a script; give its method."""

    def written(code: str) -> Method:
        script = tmp_path / "detector.py"
        script.write_text(code)
        return Method(f"command:{sys.executable} {script}", "", {})

    return written


def job(dataset: Path, method: Method | None = None, **changes: Any) -> Job:
    method = method or Method("fre", "fast", FRE)
    made = Job(method.detector, method.preset, dict(method.settings), str(dataset), 0)
    return made._replace(**{**method.fit_options(), **changes})


# --- what is measured -------------------------------------------------------------------------------------------------


def test_methods_are_read_as_people_write_them() -> None:
    found = methods_of(["fre, ssm@light", "command:python a.py 1,2", "anomalib:Padim", "fre"])
    assert [str(one) for one in found] == ["fre fast", "ssm light", "command:python a.py 1,2", "anomalib:Padim"]
    assert [one.foreign for one in found] == [False, False, True, True]
    assert str(methods_of(["patchcore+fre"], settings={"fre.pool": "1"})[0]) == "patchcore+fre fast fre.pool=1"


@pytest.mark.parametrize(
    ("texts", "settings", "words"),
    [
        (["fre,nothing"], {}, "no detector 'nothing'"),
        (["fre@paperr"], {}, "no preset 'paperr'"),
        (["fre"], {"pol": "1"}, "no setting 'pol'"),
        (["fre,ssm"], {"pool": "1"}, "one at a time"),
        (["command:"], {}, "give a command"),
        (["command:a 'b"], {}, "as a shell takes it"),
        ([","], {}, "no detector was named"),
    ],
)
def test_a_wrong_method_is_refused_before_anything_runs(texts: list[str], settings: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        methods_of(texts, settings=settings)


def test_options_of_fits_are_part_of_a_method_where_they_are_not_the_default() -> None:
    def names(tolerate: str | None, calibrate: str | None = None) -> list[str]:
        return [str(one) for one in methods_of(["fre,ssm@light"], tolerate=tolerate, calibrate=calibrate)]

    assert names(None) == names("mild") == ["fre fast", "ssm light"]
    assert names("none") == ["fre fast tolerate=none", "ssm light tolerate=none"]
    assert names("blur, shift=6%", "split")[0] == "fre fast tolerate=blur=0.5%,shift=6% calibrate=split"
    assert names("blur,shift=6%") == names("shift=6%,blur=0.5%"), "one method, however it is written"
    assert methods_of(["fre"], tolerate="none", calibrate="split")[0].fit_options() == {
        "tolerate": "none",
        "calibrate": "split",
    }
    assert methods_of(["fre"])[0].fit_options() == {}


@pytest.mark.parametrize(
    ("tolerate", "calibrate", "words"),
    [
        ("gentle", None, "tolerate: 'gentle' is no kind; give none, mild, strong, or of blur, jpeg"),
        ("blur,gamma", None, "'gamma' is no kind"),
        ("none,blur", None, "'none' is no kind"),
        ("shift=99%", None, "shift=99% is out of range"),
        ("", None, "'' is no kind"),
        (None, "both", "--calibrate both is unknown; give cross or split"),
    ],
)
def test_unknown_options_of_fits_are_refused(tolerate: str | None, calibrate: str | None, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        methods_of(["fre"], tolerate=tolerate, calibrate=calibrate)


def test_programs_of_other_people_take_no_options_of_fits(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--tolerate came with command:a"):
        methods_of(["fre", "command:a"], tolerate="none")
    with pytest.raises(SettingError, match="--calibrate came with anomalib:Padim"):
        bench(SETS, [Method("anomalib:Padim", "", {}, calibrate="split")], range(1), tmp_path / "r", place=Made())


def test_a_fit_gets_the_options_that_are_given_and_no_others(weave: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def fit(*_: Any, **options: Any) -> None:
        given.append(options)
        raise SettingError("seen enough")

    monkeypatch.setattr("unmask.benchmark.row.Inspector.fit", fit)
    for method in (
        Method("fre", "fast", FRE),
        Method("fre", "fast", FRE, "none"),
        Method("fre", "fast", FRE, "", "split"),
    ):
        with pytest.raises(SettingError, match="seen enough"):
            measure(job(weave, method))
    plain = set(given[0])
    assert [{name: value for name, value in one.items() if name not in plain} for one in given] == [
        {},
        {"tolerate": "none"},
        {"calibrate": "split"},
    ]


# --- disturbances -----------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> np.ndarray:
    """A soft pattern in colour, (300, 400, 3); the file is a.png."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(60, 180, (60, 80, 3), np.uint8))
    array = np.asarray(small.resize((400, 300), Image.Resampling.BICUBIC))
    Image.fromarray(array).save(tmp_path / "a.png")
    return array


def test_disturbances_are_mild_keep_the_size_and_do_what_they_say(image: np.ndarray, tmp_path: Path) -> None:
    found = {kind: Disturbed(tmp_path / "a.png", kind).picture().astype(float) for kind in DISTURBANCES}
    assert {one.shape for one in found.values()} == {image.shape}
    assert (found["none"] == image).all()
    assert (found["shift"][9:, 12:] == image[:-9, :-12]).all(), "3 % of 300 down and of 400 to the right"
    for kind, factor in (("brightness", 1.15), ("darker", 0.85)):
        assert found[kind].mean() == pytest.approx(factor * image.mean(), rel=0.01)
    for kind in (*robustness.TAUGHT, *robustness.UNTAUGHT):
        assert 0 < abs(found[kind] - image).mean() < 35, kind
    for kind in ("blur", "motion", "resampled"):
        assert found[kind].std() < image.std(), kind
    for kind in ("rotation", "zoom", "vignetting"):
        assert abs(found[kind] - image)[147:153, 197:203].mean() < 6, f"{kind}: the middle stays as it is"
    assert (found["noise"] - image).std() == pytest.approx(2.55, rel=0.05)
    assert (found["color"] / image).mean((0, 1)) == pytest.approx([1.04, 1, 0.96], abs=0.005)
    assert (found["salt"] != image).any(2).mean() == pytest.approx(0.001, rel=0.3)
    assert (found["chromatic"][..., 1] == image[..., 1]).all()
    assert found["gamma"].mean() < image.mean()


def test_the_five_kinds_of_older_rows_are_as_they_were(image: np.ndarray, tmp_path: Path) -> None:
    """Drawn by Pillow, as they were before; the middle alone, for the edges were mirrored about another line."""
    picture = Image.fromarray(image)
    picture.save(tmp_path / "q.jpg", quality=75)
    before = {
        "blur": picture.filter(ImageFilter.GaussianBlur(0.004 * 300)),
        "brightness": np.minimum(np.round(image * 1.15), 255),
        "jpeg": Image.open(tmp_path / "q.jpg"),
        "rotation": picture.rotate(3, Image.Resampling.BILINEAR),
        "shift": np.pad(image, ((9, 0), (12, 0), (0, 0)), "reflect"),
    }
    for kind, older in before.items():
        now = Disturbed(tmp_path / "a.png", kind).picture().astype(float)
        difference = abs(now - np.asarray(older, float)[:300, :400])[30:270, 30:370]
        assert difference.mean() < 2, kind


def test_a_disturbance_is_the_same_each_time_and_kinds_of_two_groups_are_apart(
    image: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(image).save(tmp_path / "b.png")
    first, again, other = (Disturbed(tmp_path / name, "noise").picture() for name in ("a.png", "a.png", "b.png"))
    assert (first == again).all()
    assert (first != other).any(), "each image has noise of its own"
    assert not set(robustness.TAUGHT) & set(robustness.UNTAUGHT)
    names = {"brightness": "light", "darker": "light", "gradient": "light", "rotation": "turn"}
    assert {names.get(kind, kind) for kind in robustness.TAUGHT} == set(disturbances.TAUGHT)
    assert set(disturbances.TAUGHT).isdisjoint(robustness.UNTAUGHT)


def test_grey_images_show_no_kind_of_colour(image: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(image).convert("L").save(tmp_path / "grey.png")
    grey, coloured = (Sample(tmp_path / name, False, "good") for name in ("grey.png", "a.png"))
    assert set(DISTURBANCES) - set(robustness.by_kind([grey, grey])) == {"color", "chromatic"}
    mixed = robustness.by_kind([grey, coloured])
    assert (mixed["color"], mixed["chromatic"], mixed["gamma"]) == ([coloured], [coloured], [grey, coloured])
    for kind in robustness.by_kind([grey]):
        shown = Disturbed(tmp_path / "grey.png", kind).picture()
        assert (shown == shown[..., :1]).all(), f"{kind} of a grey image is grey"


def test_as_many_good_images_as_defects_are_disturbed() -> None:
    samples = [Sample(Path(f"{i}.png"), i >= 30, "k") for i in range(200)]
    few = robustness.chosen(samples, 40)
    assert (len(few), sum(one.anomalous for one in few)) == (40, 20)
    uneven = robustness.chosen(samples[20:], 40)
    assert (len(uneven), sum(not one.anomalous for one in uneven)) == (40, 10)
    assert len(robustness.chosen(samples[:5], 40)) == 5


# --- leaks ------------------------------------------------------------------------------------------------------------


def test_claims_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3 == 0
    scores = random.normal(size=60) + labels
    observations = [leaks.Observation(3, 9, 0.999), leaks.Observation(6, 9, 0.5)]
    told = leaks.claims(scores, labels, 1.0, observations)
    best = max(f1_score(labels, scores >= threshold) for threshold in scores)
    assert told["f1_test_threshold"] == pytest.approx(best)
    assert told["f1_ours"] == pytest.approx(f1_score(labels, scores > 1.0))
    assert (told["image_auroc_best_step"], told["best_step"]) == (0.999, 3)
    assert leaks.claims(scores, labels, 1.0, [])["image_auroc_best_step"] is None
    low = [leaks.Observation(3, 9, 0.1)]
    assert leaks.claims(scores, labels, 1.0, low)["image_auroc_best_step"] == roc_auc_score(labels, scores)
    assert leaks.claims(scores[labels], labels[labels], 1.0, []) == {}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("isstad", {**FEATURES, "stage2_steps": 12}), ("ssm", {**SSM_PIXELS, "steps": 12})],
)
def test_a_watched_fit_learns_the_same(name: str, settings: dict[str, Any], weave: Path) -> None:
    observer = leaks.LeakObserver(load(weave, seed=0).test)
    alone, watched = (build(find(name), "fast", settings) for _ in range(2))
    alone.fit(Textures(10), Training(device="cpu"))
    watched.fit(Textures(10), Training(device="cpu", observer=observer))
    assert [one.step for one in observer.observations] == [2, 4, 6, 8, 10]
    assert len(observer.observations) == OBSERVATIONS
    assert all(0 <= (one.image_auroc or 0) <= 1 for one in observer.observations)
    for (key, mine), other in zip(alone.learned().items(), watched.learned().values(), strict=True):
        assert mine.equal(other), key


# --- a row ------------------------------------------------------------------------------------------------------------


def test_a_row_holds_what_the_protocol_asks_for(weave: Path) -> None:
    row, seen = measure(job(weave))
    assert {
        *("detector", "preset", "settings", "params", "dataset", "fingerprint", "seed", "versions", "processor"),
        *("threads", "cores", "fit_seconds", "ms_p50", "ms_p95", "peak_mb", "fit_peak_mb", "model_mb", "commit"),
        *("image_auroc", "image_auroc_interval", "pixel_auroc", "aupro", "f1_max", "threshold", "recall_by_kind"),
        *("false_alarm_rate", "promised_false_alarm_rate", "recall", "precision", "robustness", "leaks"),
    } <= set(row)
    assert list(row["robustness"]) == list(DISTURBANCES)
    assert (row["tolerate"], row["calibrate"]) == ("", "")
    assert row["robustness"]["none"]["image_auroc"] == row["image_auroc"], "all six test images are disturbed"
    assert json.loads(json.dumps(row))["robustness"] == row["robustness"], "plain values"
    labels = [sample.anomalous for sample in load(weave, seed=0).test]
    assert roc_auc_score(labels, seen["scores"]) == row["image_auroc"]
    assert seen["maps"].shape == (6, 64, 64)
    assert 0 < row["ms_p50"] <= row["ms_p95"]


def test_a_command_is_measured_like_a_detector(weave: Path, command: Any) -> None:
    row, seen = measure(job(weave, command(COMMAND)))
    split = load(weave, seed=0)

    def read(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path).convert("RGB"), float)

    usual = np.mean([read(path) for path in split.normals], axis=0)
    scores = {path: abs(read(path) - usual).mean(2).max() for path in [*split.held_out, *(s.path for s in split.test)]}
    assert seen["scores"] == pytest.approx([scores[sample.path] for sample in split.test])
    assert row["threshold"] == pytest.approx(max(scores[path] for path in split.held_out)), "too few for anything else"
    assert row["image_auroc"] == roc_auc_score([s.anomalous for s in split.test], seen["scores"])
    assert row["fit_seconds"] is None, "it did not say"
    assert row["ms_per_image"] is None, "nobody asked it for batches"
    assert 10 < row["peak_mb"] < 400, "of Python and numpy, not of this process"
    assert row["robustness"]["brightness"] != row["robustness"]["none"]


def test_a_command_cannot_tell_tests_from_held_out_images(weave: Path, tmp_path: Path) -> None:
    split = load(weave, seed=0)
    wanted = [Disturbed(path, "none") for path in (*split.held_out, *(sample.path for sample in split.test))]
    spy = tmp_path / "spy.py"
    spy.write_text(COMMAND + "print(sorted(p.name for p in Path(images).iterdir()))\nprint(seed)")
    folder = tmp_path / "work"
    folder.mkdir()
    maps = foreign.run(Method(f"command:{sys.executable} {spy}", "", {}), split.normals, wanted, 3, folder)
    names = [maps.names[one] for one in wanted]
    assert sorted(names) == [f"{i:06d}" for i in range(len(wanted))]
    assert names != sorted(names), "shuffled"
    assert not any(path.is_symlink() for path in folder.rglob("*")), "a link would tell where it leads"
    order = np.random.default_rng(3).permutation(len(wanted))
    assert names != [f"{list(order).index(i):06d}" for i in range(len(wanted))], (
        "the seed that it is told tells nothing"
    )


def test_a_command_has_its_own_packages(weave: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    method = command("import os, sys\nsys.exit(f\"has {os.environ.get('PYTHONPATH')}\")")
    with pytest.raises(ForeignError, match="has None"):
        measure(job(weave, method))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('no licence')", "ended with 1: no licence"),
        ("pass", "of .* maps were not written"),
        (COMMAND.replace(".mean(2))", ".mean(2) * float('nan'))"), "is no map"),
        (COMMAND.replace(".mean(2))", ")"), "is no map"),
        (
            COMMAND.replace("abs(read(path) - usual).mean(2))", "np.array([[{}]], object), allow_pickle=True)"),
            "is no map",
        ),
        (COMMAND + "(Path(maps) / f'{path.stem}.npy').write_bytes(b'')", "is no map"),
        (COMMAND + "(Path(maps) / 'cost.json').write_text('{\"fit_seconds\": \"soon\"}')", "cost.json does not hold"),
        (COMMAND + "(Path(maps) / 'scores.json').write_text('[')", "scores.json is no JSON"),
        (COMMAND + "(Path(maps) / 'scores.json').write_text('{\"000000\": 1}')", "scores.json lacks 000001"),
    ],
)
def test_a_command_that_fails_is_told_in_one_line(weave: Path, command: Any, code: str, words: str) -> None:
    with pytest.raises(ForeignError, match=words) as caught:
        measure(job(weave, command(code)))
    assert "\n" not in str(caught.value)


def test_a_command_may_tell_scores_and_cost(weave: Path, command: Any) -> None:
    told = COMMAND + (
        "import json\nnames = [p.stem for p in Path(images).iterdir()]\n"
        "(Path(maps) / 'scores.json').write_text(json.dumps({n: float(n) for n in names}))\n"
        "(Path(maps) / 'cost.json').write_text(json.dumps("
        "{'fit_seconds': 7, 'model_mb': 3, 'milliseconds': [1, 2, 9], 'versions': {'mine': '4'}}))"
    )
    row, seen = measure(job(weave, command(told)))
    assert (row["fit_seconds"], row["model_mb"], row["ms_p50"], row["versions"]["mine"]) == (7, 3, 2, "4")
    assert all(score == int(score) for score in seen["scores"])


def test_anomalib_needs_an_environment_that_is_named(
    weave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(foreign.PYTHON_OF_ANOMALIB, raising=False)
    with pytest.raises(DependencyError, match=foreign.PYTHON_OF_ANOMALIB):
        measure(job(weave, Method("anomalib:Patchcore", "", {})))
    monkeypatch.setenv(foreign.PYTHON_OF_ANOMALIB, sys.executable)
    words = foreign.command_of(Method("anomalib:Patchcore", "", {"num_neighbors": "3"}))
    assert words[0] == sys.executable
    assert words[1].endswith("anomalib_worker.py")
    assert words[2:] == ["Patchcore", '["num_neighbors=3"]']


# --- all rows ---------------------------------------------------------------------------------------------------------


class Made:
    """Runs nothing: rows from a plan, some of which fail."""

    def __init__(self, failing: Sequence[tuple[str, int]] = ()) -> None:
        self.failing, self.jobs = set(failing), []

    def __call__(self, jobs: Sequence[Job], minutes: float | None) -> Iterator[Done]:
        for one in jobs:
            self.jobs.append(one)
            known = {**one._asdict(), "dataset": Path(one.dataset).name, "folder": one.dataset}
            if (one.detector, one.seed) in self.failing:
                yield Done({**known, "failed": "it broke"}, b"")
            else:
                yield Done({**known, "failed": None, **figures(one)}, b"PK")


def figures(one: Job) -> dict[str, Any]:
    better = {"fre": 0.02, "ssm": 0.0, "protoad": 0.01}[one.detector]
    names = ("image_ap", "pixel_auroc", "aupro", "recall", "false_alarm_rate", "promised_false_alarm_rate")
    spent = dict.fromkeys(
        ("fit_seconds", "ms_p50", "ms_p95", "ms_per_image", "fit_peak_mb", "peak_mb", "model_mb"), 5.0
    )
    auroc = 0.9 + better + 0.001 * one.seed + 0.0001 * len(Path(one.dataset).name)
    made = {"commit": "abc", "cores": 2, "processor": "P", "threads": 1, "date": "2026-01-01", "fingerprint": "f"}
    made["contents"] = "c"
    disturbed = {kind: {"image_auroc": 0.5, "false_alarm_rate": 0.25, "recall": 1.0} for kind in DISTURBANCES}
    return {
        **dict.fromkeys(names, 0.5),
        **dict.fromkeys(spent, 5.0),
        **made,
        "image_auroc": auroc,
        "image_auroc_interval": [0.8, 0.95],
        "robustness": disturbed,
        "recall_by_kind": {"hole": 0.5},
        "leaks": {"f1_test_threshold": 0.9, "f1_ours": 0.8, "image_auroc_best_step": 0.99, "best_step": 4},
    }


SETS = [Path(f"set_{'x' * i}") for i in range(1, 4)]


@pytest.fixture(autouse=True)
def _sets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of those names, in the working folder; nobody looks into them."""
    place = tmp_path_factory.mktemp("place")
    for one in (*SETS, Path("part_100"), Path("a/bolt"), Path("b/bolt")):
        (place / one).mkdir(parents=True)
    monkeypatch.chdir(place)
    whole = running._fingerprint
    made = {str(place / one) for one in (*SETS, "part_100")}
    prints = {"fingerprint": "f", "contents": "c"}
    monkeypatch.setattr(
        running, "_fingerprint", lambda name, **options: prints if name in made else whole(name, **options)
    )


def test_rows_are_kept_resumed_and_tried_again(tmp_path: Path) -> None:
    methods, told = methods_of(["fre,ssm"]), []
    first = bench(SETS, methods, range(2), tmp_path / "r", place=Made([("ssm", 1)]), command="unmask bench it")
    assert len(first) == 12
    assert sum(bool(row["failed"]) for row in first) == 3
    assert rows_of(tmp_path / "r") == first
    assert {row["folder"] for row in first} == {str(one) for one in SETS}, "as it was given, not where it lies"
    assert {row["command"] for row in first} == {"unmask bench it"}
    assert len(list((tmp_path / "r" / "predictions").iterdir())) == 9
    with pytest.raises(SettingError, match="add --resume"):
        bench(SETS, methods, range(2), tmp_path / "r", place=Made())
    again = Made()
    rows = bench(
        SETS,
        methods,
        range(2),
        tmp_path / "r",
        resume=True,
        place=again,
        on_row=lambda row, n, of: told.append((n, of)),
    )
    assert [(one.detector, one.seed) for one in again.jobs] == [("ssm", 1)] * 3
    assert told == [(10, 12), (11, 12), (12, 12)]
    assert len(rows) == 12
    assert not any(row["failed"] for row in rows)
    rows = [{**row, "fingerprint": "other"} if row["dataset"] == SETS[0].name else row for row in rows]
    (tmp_path / "r" / "results.json").write_text(json.dumps({"rows": rows}))
    changed = Made()
    rows = bench(SETS, methods, range(2), tmp_path / "r", resume=True, place=changed)
    assert {Path(one.dataset).name for one in changed.jobs} == {SETS[0].name}, "its files have changed"
    assert len(changed.jobs) == 4
    assert {row["fingerprint"] for row in rows} == {"f"}
    looked = Made()
    bench(SETS, methods, range(1), tmp_path / "r", resume=True, place=looked, show_leaks=True)
    assert len(looked.jobs) == 6, "nobody had looked"
    more = Made()
    assert len(bench(SETS[:1], methods_of(["protoad"]), range(1), tmp_path / "r", resume=True, place=more)) == 13
    assert len(more.jobs) == 1


def test_other_options_of_fits_are_rows_of_their_own_in_one_folder(tmp_path: Path) -> None:
    def measured(tolerate: str | None) -> list[Job]:
        place = Made()
        found = bench(SETS, methods_of(["fre"], tolerate=tolerate), range(1), tmp_path / "r", resume=True, place=place)
        assert len({(str(one.method), one.dataset) for one in place.jobs}) == len(place.jobs)
        assert len(found) == len(rows_of(tmp_path / "r"))
        return place.jobs

    assert [one.tolerate for one in measured(None)] == ["", "", ""]
    assert [one.tolerate for one in measured("none")] == ["none", "none", "none"]
    assert measured("mild") == measured(None) == measured("none") == [], "all are there"
    rows = rows_of(tmp_path / "r")
    assert [name for name, _ in summary.ranked(rows)] == ["fre fast", "fre fast tolerate=none"]
    assert len({running.predictions_name(row) for row in rows}) == 6
    assert "fre fast tolerate=none" in write_page(tmp_path / "r", rows).read_text()


def test_rows_that_do_not_say_what_they_tolerate_are_measured_again(tmp_path: Path) -> None:
    rows = bench(SETS, methods_of(["fre"]), range(1), tmp_path / "r", place=Made())
    older = [{name: value for name, value in row.items() if name != "tolerate"} for row in rows[:1]]
    (tmp_path / "r" / "results.json").write_text(json.dumps({"rows": [*older, *rows[1:]]}))
    place = Made()
    bench(SETS, methods_of(["fre"]), range(1), tmp_path / "r", resume=True, place=place)
    assert [Path(one.dataset).name for one in place.jobs] == [rows[0]["dataset"]]


def test_a_second_benchmark_does_not_write_into_the_same_folder(tmp_path: Path) -> None:
    class Twice(Made):
        """In the midst of a benchmark another is started."""

        def __call__(self, jobs: Sequence[Job], minutes: float | None) -> Iterator[Done]:
            for done in super().__call__(jobs, minutes):
                with pytest.raises(SettingError, match="is locked by a benchmark"):
                    bench(SETS, methods_of(["ssm"]), range(1), tmp_path / "r", resume=True, place=Made())
                yield done

    assert len(bench(SETS, methods_of(["fre"]), range(1), tmp_path / "r", place=Twice())) == 3
    assert not (tmp_path / "r" / "bench.lock").exists()
    assert len(bench(SETS, methods_of(["ssm"]), range(1), tmp_path / "r", resume=True, place=Made())) == 6


def test_results_have_a_version_and_newer_ones_are_refused(tmp_path: Path) -> None:
    bench(SETS, methods_of(["fre"]), range(1), tmp_path / "r", place=Made())
    file = tmp_path / "r" / "results.json"
    content = json.loads(file.read_text())
    assert (content["format"], content["version"]) == ("unmask-bench", 1)
    file.write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(DatasetError, match="has version 2, this unmask reads up to 1; update unmask"):
        rows_of(tmp_path / "r")


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_is_a_positive_number(minutes: float, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="give a number above 0"):
        bench(SETS, methods_of(["fre"]), range(1), tmp_path / "r", max_minutes=minutes, place=Made())
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["six_sets", "speed"])
def test_committed_results_are_still_read(name: str, tmp_path: Path) -> None:
    committed = rows_of(Path(__file__).parents[1] / "benchmarks" / "results" / name)
    assert len(list(summary.lines(committed, show_leaks=True))) > len({row["detector"] for row in committed})
    assert "Mildly disturbed images" in write_page(tmp_path, committed, pictures=False).read_text(encoding="utf-8")
    assert {one.mean for one in compare(committed, committed)} == {0.0}


def test_an_interrupted_run_keeps_what_it_has(tmp_path: Path) -> None:
    def interrupted(jobs: Sequence[Job], minutes: float | None) -> Iterator[Done]:
        yield next(iter(Made()(jobs, minutes)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(SETS, methods_of(["fre"]), range(1), tmp_path / "r", place=interrupted)
    assert len(rows_of(tmp_path / "r")) == 1
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"results.json", "results.parquet", "predictions"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(SettingError, match="holds no results"):
        bench(SETS, methods_of(["fre"]), range(1), tmp_path, place=Made())
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(DatasetError, match="no file of results"):
        bench(SETS, methods_of(["fre"]), range(1), tmp_path, resume=True, place=Made())


def test_the_table_holds_every_figure(tmp_path: Path) -> None:
    from pyarrow import parquet

    bench(SETS, methods_of(["fre"]), range(2), tmp_path / "r", place=Made())
    rows = parquet.read_table(tmp_path / "r" / "results.parquet").to_pylist()
    assert len(rows) == 6
    assert (rows[0]["method"], rows[0]["image_auroc_low"], rows[0]["jpeg_false_alarm_rate"]) == ("fre fast", 0.8, 0.25)
    assert rows[0]["recall_by_kind"] == [("hole", 0.5)]
    assert rows[0]["failed"] is None


def test_a_row_runs_in_a_process_of_its_own_and_its_failure_is_a_row(weave: Path, tmp_path: Path) -> None:
    missing = job(tmp_path / "nowhere")
    good, bad = sorted(here(2)([job(weave), missing], None), key=lambda one: bool(one.row["failed"]))
    here_and_now, _ = measure(job(weave))
    assert good.row["image_auroc"] == here_and_now["image_auroc"]
    assert good.row["threads"] == 1
    assert good.row["notes"] == [], "there are enough images for the promise"
    assert good.predictions[:2] == b"PK"
    assert "no such folder" in bad.row["failed"]
    assert bad.row["dataset"] == "nowhere"
    assert bad.predictions == b""


def test_ctrl_c_ends_what_runs(weave: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(processes, "end", lambda child: (child.kill(), child.wait(), ended.set()))

    def impatient(*_: Any, **__: Any) -> Any:
        time.sleep(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(places, "wait", impatient)
    with pytest.raises(KeyboardInterrupt):
        list(here(1)([job(weave, command("import time; time.sleep(60)"))], None))
    assert ended.is_set()


def test_jobs_count_from_one() -> None:
    with pytest.raises(SettingError, match="count from 1"):
        here(0)


ON_RAY = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from unmask.benchmark.job import Job
from unmask.benchmark.places import on_ray

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for _ in range(2):
    cluster.add_node(num_cpus=1)
rows = [done.row for done in on_ray(cluster.address)([Job(**one) for one in json.loads(sys.argv[1])], None)]
assert not ray.is_initialized(), "what it began it ends"
cluster.shutdown()
print(json.dumps(rows))
"""


def test_a_ray_cluster_of_two_workers_gives_the_same_rows(weave: Path, tmp_path: Path) -> None:
    """In a process of its own, where ray may put its handler of SIGTERM in place of ours."""
    pytest.importorskip("ray")
    jobs = [job(weave), job(tmp_path / "nowhere")]
    done = run_python("-c", ON_RAY, json.dumps([one._asdict() for one in jobs]), timeout=240)
    assert done.returncode == 0, done.stderr
    found = {(row["dataset"], row["seed"]): row for row in json.loads(done.stdout.splitlines()[-1])}
    assert "no such folder" in found["nowhere", 0]["failed"]
    assert found["weave", 0]["image_auroc"] == measure(jobs[0])[0]["image_auroc"]


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return bench(SETS, methods_of(["fre,ssm,protoad"]), range(2), tmp_path / "r", place=Made([("ssm", 1)]))


def test_means_weigh_data_sets_alike_and_spread_is_between_seeds() -> None:
    some = [{"dataset": d, "seed": s, "x": v} for d, s, v in [("a", 0, 1.0), ("a", 1, 3.0), ("b", 0, 10.0)]]
    assert mean(some, "x") == 6.0
    assert spread(some, "x") is None, "only seed 0 has both"
    other = [{"dataset": "b", "seed": 0, "x": 1.0}, {"dataset": "c", "seed": 1, "x": 9.0}]
    assert spread(other, "x") is None, "two seeds of two data sets are no spread"
    assert spread([*some, {"dataset": "b", "seed": 1, "x": 12.0}], "x") == pytest.approx(np.std([5.5, 7.5], ddof=1))
    assert mean([{"dataset": "a", "seed": 0, "x": None}], "x") is None


def test_the_summary_ranks_compares_and_tells_failures(rows: list[dict[str, Any]]) -> None:
    told = list(summary.lines(rows))
    assert [line.split()[0] for line in told[1:4]] == ["fre", "protoad", "ssm"]
    assert sum("no difference that these data sets can show" in line for line in told) == 3
    assert sum(line.startswith("FAILED") and line.endswith("it broke") for line in told) == 3
    assert not any("claim" in line for line in told)
    under = "under kinds of disturbance that are"
    shown = f"25.0 / 100.0 undisturbed, 25.0 / 100.0 {under} taught, 25.0 / 100.0 {under} not taught"
    assert f"fre fast: false alarms / recall {shown}" in told
    leaky = list(summary.lines(rows, show_leaks=True))
    assert "fre fast: a threshold chosen on the test images would claim F1 90.0; ours has 80.0" in leaky
    assert any("best test score would claim image AUROC 99.00" in line for line in leaky)
    assert any("best of 2 seeds" in line for line in leaky)


def test_ranks_are_those_of_scipy_and_bars_join_what_cannot_be_told_apart(rows: list[dict[str, Any]]) -> None:
    found = plots.ranks(rows)
    assert found is not None
    assert [(mark.name, mark.rank) for mark in found.marks] == [("fre fast", 1), ("protoad fast", 2), ("ssm fast", 3)]
    assert found.bars == [(0.0, 1.0)]
    values = np.array([3.0, 1.0, 3.0, 2.0])
    assert plots._ranked(values).tolist() == rankdata(values).tolist()
    marks = [plots.Mark(name, i + 1, i / 3, i) for i, name in enumerate("abcd")]
    assert plots._bars(marks, {frozenset("ac"), frozenset("ad"), frozenset("bd")}) == [
        (0.0, 1 / 3),
        (1 / 3, 2 / 3),
        (2 / 3, 1.0),
    ]
    assert plots._bars(marks, {frozenset("ad"), frozenset("ab")}) == [(1 / 3, 1.0)]
    assert plots.ranks(rows[:1]) is None


def test_the_plane_keeps_dots_inside_and_names_apart(rows: list[dict[str, Any]]) -> None:
    found = plots.plane(rows)
    assert found is not None
    assert all(0 <= dot.x <= 1 and 0 <= dot.y <= 1 for dot in found.dots)
    labels = sorted(dot.label for dot in found.dots)
    assert min(np.diff(labels)) >= plots.HIGH - 1e-9
    assert {label for _, label in found.x_ticks} == {"5"}
    assert plots.plane(rows[:1]) is None


def test_a_pair_may_have_failed_or_share_a_name_with_another(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    light = [{**row, "preset": "light"} for row in rows if row["detector"] == "fre"]
    assert galleries.two_of([*rows, *light], "fre fast,ssm", []) == ["fre fast", "ssm fast"]
    with pytest.raises(SettingError, match="give two of the measured"):
        galleries.two_of([*rows, *light], "fre,ssm", [])
    failed = [{**row, "failed": "it broke"} if row["detector"] == "ssm" else row for row in rows]
    assert "it broke" in write_page(tmp_path / "r", failed, side_by_side="fre,ssm").read_text()


def test_files_of_methods_have_short_names_of_their_own() -> None:
    row = {"preset": "", "settings": {}, "dataset": "a", "seed": 0}
    names = {running.predictions_name({**row, "detector": f"command:{'x' * 300} {end}"}) for end in ("a b", "a_b")}
    assert len(names) == 2
    assert max(map(len, names)) < 120


def test_the_page_says_it_all_and_asks_nobody(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    rows[0]["failed"] = "<script>alert(1)</script>"
    page = write_page(tmp_path / "r", rows).read_text()
    assert "&lt;script&gt;alert" in page
    assert "<script>alert" not in page
    for words in (
        "fre fast",
        "kind: hole",
        "Mildly disturbed images: image AUROC",
        "Mildly disturbed images: false alarms",
        "Mildly disturbed images: recall",
        "not taught",
        "What it costs",
        "it broke",
        "would claim",
        "A thick line",
    ):
        assert words in page, words
    assert "http" not in page.replace('http-equiv="Content', "")
    assert "data:image" not in page, "the data sets are not there"


def test_older_rows_show_what_they_lack_and_groups_are_apart(rows: list[dict[str, Any]]) -> None:
    older = ("none", "blur", "brightness", "jpeg", "rotation", "shift")
    for row in rows:
        if row["detector"] == "fre":
            row["robustness"] = {kind: row["robustness"][kind] for kind in older}
    table = _robustness(summary.ranked(rows), "recall", "recall")
    assert table.head == ["kind", "group", "fre fast", "protoad fast", "ssm fast"]
    found = {kind.text: (group.text, fre.text, other.text) for kind, group, fre, other, _ in table.lines}
    assert found["none"] == ("undisturbed", "100.0", "100.0")
    assert found["blur"] == ("taught", "100.0", "100.0")
    assert found["zoom"] == ("taught", "-", "100.0")
    assert found["gamma"] == ("not taught", "-", "100.0")
    assert [line[1].text for line in table.lines if line[0].text == "mean of all"] == ["taught", "not taught"]


def test_docs_give_means_of_whole_groups_alone(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    generate = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "generate.py"))
    for row in rows:
        for number, kind in enumerate(row.get("robustness", ())):
            row["robustness"][kind] = {**row["robustness"][kind], "false_alarm_rate": number / 100}
        if row["detector"] == "fre":
            row["robustness"] = {kind: row["robustness"][kind] for kind in ("none", "blur", "shift")}
        elif row["detector"] == "protoad":  # a data set without colour
            row["robustness"].pop("color")
    (tmp_path / "results.json").write_text(json.dumps({"rows": rows}))
    lines = [line.strip("| ").split(" | ") for line in generate["robustness_table"](tmp_path).splitlines()]
    assert lines[0] == ["disturbance", "fre fast", "protoad fast", "ssm fast"]
    found = {first: more for first, *more in lines[2:]}
    assert found["taught: blur"] == ["50.0 / 1.0 / 100.0"] * 3
    assert found["taught: zoom"] == ["-", *["50.0 / 11.0 / 100.0"] * 2]
    assert found["taught: color"] == ["-", "-", "50.0 / 10.0 / 100.0"]
    assert found["**taught: mean**"] == ["-", "50.0 / 5.6 / 100.0", "50.0 / 6.0 / 100.0"]
    assert found["**not taught: mean**"] == ["-", *["50.0 / 14.0 / 100.0"] * 2]
    assert list(found)[1:13] == [*(f"taught: {kind}" for kind in robustness.TAUGHT), "**taught: mean**"]
    text = generate["false_alarms_table"](tmp_path, "fre fast")
    assert "| taught: shift | 5 / 100 | 5 / 100 | 5 / 100 |" in text


def test_docs_divide_kept_by_promised_rates(tmp_path: Path) -> None:
    generate = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "generate.py"))
    plain = {"n": 20, "commit": "abc", "processor": "P", "date": "2026-01-01"}
    split = {**plain, "calibration": "split", "promised": 0.2}
    cross = {**plain, "calibration": "cross", "promised": 0.05}
    rows = [
        {**split, "dataset": "a", "kept": [0.1, 0.3], "kept_rest": []},
        {**cross, "dataset": "a", "kept": [0.05, 0.05], "kept_rest": []},
        {**cross, "dataset": "b", "kept": [0.0, 0.1], "kept_rest": [0.1, 0.1]},
    ]
    (tmp_path / "kept.json").write_text(json.dumps({"command": "it", "rows": rows}))
    text = generate["kept_rate_table"](tmp_path / "kept.json")
    assert "| cross | 20 | 5.0 | 5.0 | 5.0 | **1.00 ± 0.50** | 2.00 ± 0.00 |" in text
    assert "| split | 20 | 20.0 | 20.0 | - | **1.00 ± 0.50** | - |" in text
    assert "2 draws of good images" in text


@pytest.mark.parametrize("wanted", ["fre", "fre,nothing", "fre,fre", "fre,ssm,protoad"])
def test_a_wrong_pair_is_refused(rows: list[dict[str, Any]], tmp_path: Path, wanted: str) -> None:
    with pytest.raises(SettingError, match="give two"):
        write_page(tmp_path / "r", rows, side_by_side=wanted)


def test_the_command_measures_shows_and_resumes(
    weave: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dull = command(COMMAND.replace("abs(read(path) - usual).mean(2)", "np.ones((4, 4))")).detector
    words = ["bench", weave, "--detectors", "fre", "--detectors", dull, "--set", "pool=1", "-o", tmp_path / "r"]

    def run(*arguments: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    assert run(*words) == 2
    assert "one at a time" in capsys.readouterr().err
    plain = [word for word in words if word not in ("--set", "pool=1")]
    tiny = {"detector": "fre", "preset": "fast"}
    monkeypatch.setitem(find("fre").presets, "fast", {"backbone": "tiny", "image_size": SIZE, "levels": (2, 3)})
    monkeypatch.setattr(row_process, "run_job", lambda one, *_: _in_process(one))
    assert run(*plain, "--seeds", "1") == 0
    told = capsys.readouterr()
    assert "1/2 weave, fre fast, seed 0: image AUROC" in told.err
    assert "Page:" in told.err
    page = (tmp_path / "r" / "index.html").read_text()
    assert "data:image/webp" in page, "the dull command misses everything"
    assert "Missed defects" in page
    assert run(*plain, "--seeds", "1", "--resume", "--no-pictures") == 0
    assert "data:image" not in (tmp_path / "r" / "index.html").read_text()
    assert run("compare", tmp_path / "r", tmp_path / "r") == 0
    assert "fre fast: image AUROC +0.00" in capsys.readouterr().out
    monkeypatch.setattr(row_process, "run_job", lambda one, *_: row_process.failed(one, "no luck"))
    assert run(*plain, "--seeds", "2", "--resume") == 1
    assert "FAILED: weave, fre fast, seed 1: no luck" in capsys.readouterr().out
    assert tiny.items() <= rows_of(tmp_path / "r")[0].items()


def _in_process(one: Job) -> Done:
    import io

    row, seen = measure(one)
    file = io.BytesIO()
    write_predictions(file, seen)
    return Done({**row, "folder": one.dataset, "failed": None}, file.getvalue())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--on", "moon"], "here or ray"),
        (["--seeds", "0"], "give 1 to"),
        (["--on", "ray", "--jobs", "2"], "as many rows as its cluster"),
        (["--side-by-side", "fre,nothing"], "give two of the measured"),
    ],
)
def test_wrong_words_are_told_in_one_line(
    weave: Path,
    tmp_path: Path,
    more: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["unmask", "bench", str(weave), "-o", str(tmp_path / "r"), *more])
    with pytest.raises(SystemExit):
        main()
    assert words in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_data_sets_that_cannot_be_measured_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        bench([*SETS, Path("nowhere")], methods_of(["fre"]), range(1), tmp_path / "r", place=Made())
    with pytest.raises(SettingError, match="have the same name"):
        bench([Path("a/bolt"), Path("b/bolt")], methods_of(["fre"]), range(1), tmp_path / "r", place=Made())


# --- how it grows -----------------------------------------------------------------------------------------------------


def test_parts_have_as_many_images_to_learn_from_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "COUNTS", (10, 100))
    monkeypatch.setattr(scaling, "DRAWN", 30)
    monkeypatch.setattr(scaling, "render", partial(scaling.render, size=64))
    with scaling.parts() as folders:
        for count, folder in folders.items():
            split = load(folder, seed=0)
            assert len(split.normals) + len(split.held_out) == round(count / 0.8)
            assert abs(len(split.normals) - count) <= 0.2 * count
            assert split.warnings == (), "no two images are equal"
            assert len(split.test) == 40
    assert not folder.exists()


def test_growth_is_a_line_a_method(tmp_path: Path) -> None:
    fre, own = Method("fre", "fast", {}), Method("command:a", "", {})
    assert scaling.at_sizes([fre, own]) == [Method("fre", "fast", {"image_size": s}) for s in (128, 256, 512, 1024)]
    plain = {"detector": "fre", "preset": "fast", "settings": {}, "fit_seconds": 3.0, "peak_mb": 900, "ms_p50": 7.0}
    rows = [plain | {"dataset": "part_100"}, plain | {"dataset": "part_100", "settings": {"image_size": 512}}]
    head, (line,) = scaling.table(rows)
    told = dict(zip(head, line, strict=True))
    assert {name for name, value in told.items() if value is not None} == {
        "method",
        "fit s, 100",
        "MB, 100",
        "ms, 512 px",
    }
    assert (told["method"], told["fit s, 100"], told["MB, 100"], told["ms, 512 px"]) == ("fre fast", 3.0, 900, 7.0)
    assert told["ms, 256 px"] is None


def test_growth_stands_on_the_page(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    assert "How it grows" not in write_page(tmp_path / "r", rows).read_text()
    bench([Path("part_100")], methods_of(["fre"]), range(1), tmp_path / "r" / "scaling", place=Made())
    assert "How it grows" in write_page(tmp_path / "r", rows).read_text()
