"""`unmask data`: what was recognised, counted, as lines and as JSON."""

import json

import pytest
from typer.testing import CliRunner

from trees import mark, put, put_many, write_mvtec
from unmask.cli.app import app


@pytest.fixture
def mvtec(tmp_path):
    root = write_mvtec(tmp_path / "bottle")
    put(root / "train/good/large.png", size=(30, 20))
    put_many(root / "test/dent", 1)
    mark(root / "ground_truth/dent/000_mask.png", 9)
    (root / "train/good/copy.png").write_bytes((root / "train/good/001.png").read_bytes())
    return root


def run(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)


def test_a_data_set_as_json(mvtec):
    before = sorted((path, path.stat().st_mtime_ns) for path in mvtec.rglob("*"))
    counts = json.loads(run(mvtec, "--json").stdout)
    assert counts.pop("normals") + counts.pop("held_out") == 11
    assert counts == {
        "version": 1,
        "name": "bottle",
        "layout": "MVTec AD",
        "test_good": 2,
        "test_anomalous": {"crack": 3, "dent": 1},
        "masks": 4,
        "image_sizes": {"smallest": [6, 4], "largest": [30, 20], "most_common": [6, 4], "distinct": 2},
        "files": {"seen": 22, "used": 21, "skipped": {"copy of another image": 1}},
        "warnings": ["1 of 12 good images are copies of others and do not count: copy.png (as 001.png)"],
    }
    assert before == sorted((path, path.stat().st_mtime_ns) for path in mvtec.rglob("*"))


def test_a_data_set_as_lines(mvtec):
    lines = run(mvtec).stdout.splitlines()
    assert lines[0] == "bottle: MVTec AD"
    assert "anomalous test images      4 (crack 3, dent 1)" in lines
    assert "image size                 6 x 4 to 30 x 20, 2 sizes, most often 6 x 4" in lines
    assert lines[-1] == "Note: 1 of 12 good images are copies of others and do not count: copy.png (as 001.png)"


def test_seeds_and_groups_hold_out_others(tmp_path):
    for number in range(40):
        put(tmp_path / f"{number // 4}_{number % 4}.png")
    held_out = [json.loads(run(tmp_path, "--json", "--seed", seed).stdout)["held_out"] for seed in range(5)]
    assert len(set(held_out)) > 1
    assert all(
        json.loads(run(tmp_path, "--json", "--group", "^.").stdout)[key] % 4 == 0 for key in ("normals", "held_out")
    )
    assert "image size                 6 x 4" in run(tmp_path).stdout.splitlines()
