"""What docs/evaluation.md says is true: its numbers are those of the code, its names those of the files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tiny import FRE, write_dataset
from unmask.benchmark import comparison, cost, lock, robustness, running, scaling
from unmask.benchmark.comparison import _wilcoxon, holm
from unmask.benchmark.job import Job
from unmask.benchmark.results import FIGURES, FORMAT, VERSION, rows_of
from unmask.benchmark.row import measure
from unmask.cli.app import app
from unmask.evaluation import evaluate as evaluation
from unmask.inspection.calibration import DEFAULT_RATE, images_needed
from unmask.inspection.scoring import BATCH
from unmask.training.trainer import OBSERVATIONS

ROOT = Path(__file__).parents[1]
TEXT = " ".join((ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    dataset = write_dataset(tmp_path_factory.mktemp("set") / "weave", 24)
    with pytest.warns(UserWarning, match="a false-alarm rate of 0.05 needs"):
        return measure(Job("fre", "fast", {**FRE, "levels": "2,3"}, str(dataset), 0))[0]


def names_in(title: str, column: int = 1) -> list[str]:
    """The names in a column, counted from 1, of the table under such a head."""
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    table = text.partition(title)[2].partition("\n\n")[0]
    return [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[column])]


def test_every_figure_and_column_that_is_named_exists(row: dict[str, Any]) -> None:
    figures = names_in("| name in `metrics.json` | what it is |")
    columns = names_in("A row holds the figures of `metrics.json`, and\n\n| name | what it is |")
    assert set(FIGURES) <= set(figures)
    assert {"params", "busy_cores", "robustness", "failed"} <= set(columns)
    written_later = {"command", "failed", "busy_cores"}  # by the row's process, and by the benchmark
    assert set(figures) | set(columns) - written_later <= set(row)
    assert {"command", "failed"} <= set(rows_of(ROOT / "benchmarks" / "results" / "six_sets")[0])


def test_formats_and_files_are_those_of_the_code() -> None:
    assert (VERSION, evaluation.VERSION, FORMAT) == (1, 1, "unmask-bench")
    assert "Its `version` is 1" in TEXT
    assert "`version` (1; it rises" in TEXT
    assert {running.PREDICTIONS_FOLDER, lock.LOCK, evaluation.METRICS} == {"predictions", "bench.lock", "metrics.json"}
    for name in ("`predictions/`", "`bench.lock`", "`metrics.json`"):
        assert name in TEXT


def test_disturbances_are_as_large_as_it_says() -> None:
    assert f"Up to {robustness.MOST} test images, half of them good, are judged again" in TEXT
    red, green, blue = robustness.TINT
    said = {
        ("blur",): f"a gaussian of {100 * robustness.SIGMA:g} % of the shorter side",
        (
            "brightness",
            "darker",
        ): f"{100 * robustness.GAIN - 100:.0f} % brighter, {100 - 100 * robustness.DARKER:.0f} %",
        ("jpeg",): f"stored as a JPEG of quality {robustness.QUALITY}",
        ("rotation", "shift", "zoom"): (
            f"turned by {robustness.DEGREES:g} degrees; shifted by {100 * robustness.SHIFT:g} % to the right and down; "
            f"enlarged by {100 * robustness.ZOOM - 100:.0f} %"
        ),
        ("noise",): f"noise of {100 * robustness.NOISE:g} % of the range",
        ("motion",): f"smeared along a line of {100 * robustness.MOTION:g} % of the shorter side",
        ("gradient",): f"{100 * robustness.GRADIENT:g} % brighter at one side",
        ("color",): f"red {100 * red - 100:.0f} % brighter, blue {100 - 100 * blue:.0f} % darker",
        ("gamma",): f"each value to the power of {robustness.GAMMA:g}",
        ("vignetting",): f"{100 * robustness.VIGNETTING:g} % darker in the corners",
        ("chromatic",): f"red and blue {100 * robustness.CHROMATIC:g} % of the width apart",
        ("resampled",): "reduced to half of the resolution",
        ("salt",): f"{100 * robustness.SALT:g} % of the pixels black or white",
    }
    assert (green, robustness.REDUCTION) == (1, 2)
    assert [kind for kinds in said for kind in kinds] == names_in("| group | kind | what is done |", column=2)
    assert {kind for kinds in said for kind in kinds} == set(robustness.DISTURBANCES) - {"none"}
    for kinds, words in said.items():
        assert f"{', '.join(f'`{kind}`' for kind in kinds)} | {words}" in TEXT, kinds
    taught, _, untaught = TEXT.partition("| group | kind | what is done |")[2].partition("| not taught |")
    assert all(f"`{kind}`" in taught for kind in robustness.TAUGHT)
    assert all(f"`{kind}`" in untaught for kind in robustness.UNTAUGHT)


def test_counts_are_those_of_the_code() -> None:
    assert f"up to {cost.TIMED} test images, after {cost.WARM_UP} to warm up" in TEXT
    assert f"milliseconds an image in batches of {BATCH}" in TEXT
    assert f"observed {OBSERVATIONS} times during the training" in TEXT
    assert (scaling.COUNTS[0], scaling.COUNTS[-1], scaling.SIZES[0], scaling.SIZES[-1]) == (10, 10_000, 128, 1024)
    assert "10 to 10,000 good images to learn from, and 128 to 1024 pixels" in TEXT
    assert f"only {scaling.DRAWN} are drawn" in TEXT
    assert f"with fewer than {images_needed(DEFAULT_RATE)} held-out images, the best they can promise" in TEXT
    assert f"the rate is {DEFAULT_RATE:g}" in TEXT


def test_the_note_on_old_rows_goes_when_they_are_measured_again() -> None:
    commits = {
        row["commit"] for row in rows_of(ROOT / "benchmarks" / "results" / "speed" / "scaling") if "commit" in row
    }
    assert ("In the rows of commits a771607 and 59276db the others are copies" in TEXT) == (
        commits == {"a771607", "59276db"}
    )


def test_so_many_data_sets_reach_significance() -> None:
    import numpy as np

    def least(metrics: int) -> int:
        """The fewest data sets, all of one sign, whose p-value is below the level when corrected."""
        return next(n for n in range(2, 20) if holm([_wilcoxon(np.arange(1.0, n + 1))] * metrics)[0] < comparison.LEVEL)

    assert (least(1), least(len(comparison.METRICS)), comparison.LEVEL) == (6, 8, 0.05)
    assert "Fewer than 6 data sets cannot reach that, and with four metrics corrected at once it takes 8." in TEXT


def test_options_that_are_named_exist() -> None:
    import typer

    commands = typer.main.get_group(app).commands
    known = {option for command in commands.values() for one in command.params for option in one.opts}
    known |= {option for command in commands.values() for one in command.params for option in one.secondary_opts}
    assert set(re.findall(r"(?<![\w`-])(--[a-z][a-z-]*)", TEXT)) | set(re.findall(r"`(--[a-z][a-z-]*)", TEXT)) <= known


def test_the_pixel_table_is_that_of_the_file() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "pixel_metrics.json").read_text(encoding="utf-8"))
    assert (found["maps"], found["side"], found["threads"]) == (100, 1024, 1)
    assert "100 maps of 1024 x 1024 pixels from the disk, on one thread" in TEXT
