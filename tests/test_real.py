"""The detectors on real images, through the command line, with bars a little under what was measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real


def command(*arguments: object) -> None:
    """Run `unmask` in a process of its own, on one core: other tests have the others."""
    done = subprocess.run(
        [sys.executable, "-m", "unmask", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("detector", "name", "image_auroc", "pixel_auroc"),
    [
        ("fuse", "mvtec_bottle", 0.999, 0.955),
        ("patchcore", "mpdd_metal_plate", 0.995, 0.985),
        ("isstad", "mvtec_bottle", 0.998, 0.98),
        ("ssm", "mvtec_transistor_nomask", 0.975, None),
    ],
)
def test_the_preset_fast(
    detector: str, name: str, image_auroc: float, pixel_auroc: float | None, real_images: Path, tmp_path: Path
) -> None:
    model, report = tmp_path / "model.unmask", tmp_path / "report"
    tolerate = "mild" if detector == "fuse" else "none"  # copies take three times as long to learn
    command("fit", real_images / name, "-o", model, "--detector", detector, "--tolerate", tolerate)
    command("evaluate", model, real_images / name, "-o", report)
    figures = json.loads((report / "metrics.json").read_text())
    assert figures["image_auroc"] >= image_auroc
    if pixel_auroc is None:
        assert figures["pixel_auroc"] is None
    else:
        assert figures["pixel_auroc"] >= pixel_auroc
    assert figures["recall"] >= 0.8
    assert (report / "index.html").stat().st_size < 30e6


def test_bench_measures_a_detector_and_a_command_alike(real_images: Path, tmp_path: Path) -> None:
    """The command is the distance to the mean image, which is no better than chance here."""
    code = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text().partition("```python\n")[2]
    script = tmp_path / "mean_image.py"
    script.write_text(code.partition("```")[0])
    detectors = ["--detectors", "fre", "--detectors", f"command:{sys.executable} {script}"]
    command("bench", real_images / "mpdd_metal_plate", *detectors, "--seeds", 1, "-o", tmp_path / "results")
    fre, mean_image = json.loads((tmp_path / "results" / "results.json").read_text())["rows"]
    assert fre["image_auroc"] >= 0.995
    assert fre["pixel_auroc"] >= 0.95
    assert 0.3 < mean_image["image_auroc"] < 0.7, "plates lie in all directions: 0.49 was measured"
    assert mean_image["fingerprint"] == fre["fingerprint"]
    assert (fre["n_heldout"], mean_image["n_heldout"]) == (54, 14), "all calibrate, or those held out"
    page = (tmp_path / "results" / "index.html").read_text()
    assert "Missed defects" in page
    assert "data:image/webp" in page
