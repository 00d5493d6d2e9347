"""Paired comparison of two runs: oracles, and what chance and real differences look like."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unmask.benchmark.comparison import compare, holm, lost, within
from unmask.benchmark.results import rows_of
from unmask.cli.app import main
from unmask.errors import DatasetError

SETS = [f"set {i}" for i in range(8)]


def row(dataset: str, seed: int, auroc: float, **changes: Any) -> dict[str, Any]:
    plain = {"detector": "fre", "preset": "fast", "settings": {}, "fingerprint": f"of {dataset}"}
    figures = {"image_auroc": auroc, "image_ap": None, "pixel_auroc": None, "aupro": None}
    return {"dataset": dataset, "seed": seed, **plain, **figures, **changes}


def run(gain: float, noise: float, seed: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """A gain over 0.9 that is not the same on any two sets, and noise of either sign."""
    draw = np.random.default_rng(seed)
    return [
        row(name, s, 0.9 + gain * (1 + 0.1 * i) + noise * draw.normal(), **changes)
        for (i, name), s in product(enumerate(SETS), range(3))
    ]


def test_a_gain_everywhere_is_real_and_a_loss_too() -> None:
    (gained,), (lost,) = compare(run(0, 0), run(0.01, 0)), compare(run(0.01, 0), run(0, 0))
    assert gained.significant
    assert gained.mean == pytest.approx(0.01 * (1 + 0.1 * 3.5))
    assert gained.low < gained.mean < gained.high
    assert (gained.datasets, gained.pairs) == (8, 24)
    assert gained.p == pytest.approx(2 / 2**8)  # all eight of one sign
    assert "significantly better" in gained.sentence()
    assert "significantly worse" in lost.sentence()
    assert lost.mean == pytest.approx(-gained.mean)


def test_noise_is_not_real() -> None:
    called = [compare(run(0, 0.01, seed), run(0, 0.01, seed + 100))[0].significant for seed in range(40)]
    assert sum(called) <= 5
    assert "no difference" in compare(run(0, 0.01), run(0, 0.01, 100))[0].sentence()


def test_the_same_run_differs_by_nothing() -> None:
    (same,) = compare(run(0, 0.01), run(0, 0.01))
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_five_data_sets_prove_nothing() -> None:
    five = [one for one in run(0.05, 0) if one["dataset"] in SETS[:5]]
    assert not compare(run(0, 0), five)[0].significant


def test_one_data_set_has_the_spread_of_its_seeds() -> None:
    first = [row("one", s, 0.9) for s in range(3)]
    second = [row("one", s, 0.9 + gain) for s, gain in enumerate([0.01, 0.02, 0.03])]
    (found,) = compare(first, second)
    assert found.mean == pytest.approx(0.02)
    assert 0.01 <= found.low < 0.015 < 0.025 < found.high <= 0.03 + 1e-9
    assert not found.significant


def test_holm_against_the_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_correction_counts_all_that_is_compared() -> None:
    both = run(0.01, 0) + run(0.01, 0, detector="ssm")
    plain = run(0, 0) + run(0, 0, detector="ssm")
    assert [one.p for one in compare(plain, both)] == pytest.approx([4 / 2**8] * 2)


def test_two_single_methods_are_compared_whatever_their_names() -> None:
    (found,) = compare(run(0, 0), run(0.01, 0, detector="ssm", settings={"tau": "1"}))
    assert found.methods == ("fre fast", "ssm fast tau=1")
    assert found.sentence().startswith("ssm fast tau=1 against fre fast: image AUROC +1.35")


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(DatasetError, match="share no method"):
        compare(run(0, 0), [row("another", 0, 0.9)])
    with pytest.raises(DatasetError, match="its files differ"):
        compare(run(0, 0), run(0, 0, fingerprint="another"))


@pytest.mark.parametrize("text", ["", "{}", '{"rows": [{}]}', "[1]"])
def test_files_that_hold_no_results_are_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(DatasetError, match=r"a\.json is no file of results"):
        rows_of(file)
    with pytest.raises(DatasetError, match=r"b\.json is no file of results"):
        rows_of(tmp_path / "b.json")


@pytest.mark.parametrize(("gain", "option", "code"), [(0.01, True, 0), (-0.01, True, 1), (-0.01, False, 0)])
def test_the_command(
    gain: float,
    option: bool,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(json.dumps({"rows": run(0, 0)}))
    second.write_text(json.dumps({"rows": run(gain, 0)}))
    options = ["--fail-on-regression"] if option else []
    monkeypatch.setattr("sys.argv", ["unmask", "compare", str(first), str(second), *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code or 0) == code
    assert f"significantly {'better' if gain > 0 else 'worse'}" in capsys.readouterr().out


def test_what_failed_is_lost_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    before, after = run(0, 0), run(0, 0)
    after[0] = {**after[0], "failed": "no memory"}
    assert lost(before, after) == ["fre fast on set 0, seed 0: no memory"]
    assert lost(before, after[1:]) == ["fre fast on set 0, seed 0: not measured"]
    assert lost(after, before) == lost(before, before) == []
    for name, rows in (("a", before), ("b", after)):
        (tmp_path / name).write_text(json.dumps({"rows": rows}))
    for flags, code in (([], 0), (["--fail-on-regression"], 1)):
        monkeypatch.setattr("sys.argv", ["unmask", "compare", str(tmp_path / "a"), str(tmp_path / "b"), *flags])
        with pytest.raises(SystemExit) as caught:
            main()
        assert (caught.value.code or 0) == code
        assert "LOST: fre fast on set 0, seed 0: no memory" in capsys.readouterr().out


def test_methods_of_one_run_are_compared_with_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [*run(0, 0, image_ap=0.9), *run(0.01, 0, tolerate="none", image_ap=0.9)]
    gained, same = within(both)
    assert gained.methods == same.methods == ("fre fast", "fre fast tolerate=none")
    assert (gained.metric, same.metric) == ("image_auroc", "image_ap")
    assert gained.p == pytest.approx(2 * compare(run(0, 0), run(0.01, 0))[0].p), "two figures are compared"
    with pytest.raises(DatasetError, match="no two methods"):
        within(run(0, 0))
    (tmp_path / "a").write_text(json.dumps({"rows": both}))
    for flags, code, words in (
        ([], 0, "fre fast tolerate=none against fre fast: image AUROC +1.35"),
        (["--fail-on-regression"], 2, "give a second one"),
    ):
        monkeypatch.setattr("sys.argv", ["unmask", "compare", str(tmp_path / "a"), *flags])
        with pytest.raises(SystemExit) as caught:
            main()
        assert (caught.value.code or 0) == code
        printed = capsys.readouterr()
        assert words in printed.out + printed.err


def test_a_method_whose_rival_failed_is_not_taken_for_another() -> None:
    ssm = [{**one, "detector": "ssm"} for one in run(0, 0)]
    broken = [{**one, "failed": "it broke"} for one in run(0, 0)]
    with pytest.raises(DatasetError, match="share no method"):
        compare(run(0, 0), [*ssm, *broken])
