"""The made-up data sets: the same from the same seed, masks that tell the truth, nothing overwritten."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from unmask import datasets, samples
from unmask.errors import DatasetError, OutputError, SettingError

DEFECTS = [(kind, defect) for kind, (_, defects) in samples.KINDS.items() for defect in defects]


@pytest.mark.parametrize("kind", list(samples.KINDS))
def test_a_seed_decides_everything(kind):
    one, again = (samples.draw(kind, "good", seed=1, size=96)[0] for _ in range(2))
    assert np.array_equal(one, again)
    others = [
        samples.draw(kind, "good", seed=2, size=96)[0],
        samples.draw(kind, "good", seed=1, number=1, size=96)[0],
        samples.draw(kind, "good", seed=1, role="train", size=96)[0],
    ]
    assert all(np.abs(one.astype(int) - other).mean() > 0.5 for other in others)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(("kind", "defect"), DEFECTS)
def test_masks_tell_the_truth(kind, defect, number):
    good, nothing = samples.draw(kind, "good", number=number)
    bad, mask = samples.draw(kind, defect, number=number)
    changed = np.abs(bad.astype(int) - good).max(axis=2)
    assert not nothing.any()
    assert 20 < mask.sum() < 0.06 * mask.size
    assert changed[mask].mean() > 8  # it can be seen
    assert changed[~binary_dilation(mask, iterations=5)].max() <= 1  # and nothing else was touched, but for the lens


def test_render_writes_a_data_set_that_loads(tmp_path):
    samples.render("part", tmp_path / "deep" / "part", size=64, n_train=5, n_good=2, n_bad=4)
    split = datasets.load(tmp_path / "deep" / "part")
    assert (split.layout, split.has_masks, split.warnings) == ("MVTec AD", True, ())
    assert len(split.normals) + len(split.held_out) == 5
    kinds = [sample.kind for sample in split.test]
    assert sorted(kinds) == ["good", "good", "misplaced", "scratch", "scratch", "stain"]
    for sample in split.test:
        assert datasets.read_mask(sample, 64, 64).any() == sample.anomalous
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["part"]  # no draft is left


def test_write_is_the_same_twice_and_overwrites_nothing(tmp_path):
    counts = {"size": 64, "n_train": 2, "n_good": 1, "n_bad": 1}
    (tmp_path / "a" / "fabric").mkdir(parents=True)  # an empty folder is welcome
    for name in ("a", "b"):
        samples.write(tmp_path / name, **counts)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 2 * (2 + 1 + 2)
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    with pytest.raises(DatasetError, match="fabric is not an empty folder; give a new one"):
        samples.write(tmp_path / "a", **counts)


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(samples, "encode_png", fail)
    with pytest.raises(OutputError, match="disk full"):
        samples.render("fabric", tmp_path / "fabric", size=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "defect", "size"), [("glass", "good", 64), ("part", "cut", 64), ("part", "stain", 32)]
)
def test_wrong_settings(kind, defect, size):
    with pytest.raises(SettingError):
        samples.draw(kind, defect, size=size)
