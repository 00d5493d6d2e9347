"""Which images are held out: by the hash of names, in groups, and each content once."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trees import names, put, put_many, write_mvtec
from unmask import datasets
from unmask.datasets.division import draw
from unmask.errors import SettingError


@pytest.fixture
def mvtec(tmp_path):
    return write_mvtec(tmp_path / "bottle")


def fraction(seed, name):
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big") / 2**64


NAMES = st.sets(st.text("abcdef0123456789_", min_size=1, max_size=6), min_size=2, max_size=30)


@settings(deadline=None, max_examples=200)
@given(old=NAMES, new=NAMES, seed=st.integers(0, 99), share=st.floats(0.05, 0.95))
def test_adding_images_moves_no_other(old, new, seed, share):
    root = Path("train")
    before = draw({root / name: name for name in old}, share, str(seed))
    after = draw({root / name: name for name in old | new}, share, str(seed))
    assert 1 <= len(before) < len(old)
    below = {root / name for name in old if fraction(seed, name) < share}
    if 1 <= len(below) < len(old):  # else the rule "at least one on either side" had to step in
        assert before == below
        assert {path for path in after if path.name in old} == before


def test_held_out_is_about_the_share_and_one_image_stays(mvtec):
    own = {Path(f"train/{number}.png"): f"{number}.png" for number in range(2000)}
    assert abs(len(draw(own, 0.2, "0")) / 2000 - 0.2) < 0.03
    assert draw({Path("train/0.png"): "0.png"}, 0.9, "0") == set()
    wanted = {path for path in (mvtec / "train/good").iterdir() if fraction(3, path.name) < 0.5}
    assert 0 < len(wanted) < 10
    assert set(datasets.load(mvtec, seed=3, held_out_share=0.5).held_out) == wanted


def test_a_test_image_that_was_trained_on(mvtec):
    copied = (mvtec / "train/good/003.png").read_bytes()
    (mvtec / "test/good/copy.png").write_bytes(copied)
    other = bytearray(copied)
    other[-20] ^= 1  # as long, other content; only headers are opened
    (mvtec / "test/good/other.png").write_bytes(other)
    (warning,) = datasets.load(mvtec).warnings
    assert warning.startswith("1 test images are also training images")
    assert "copy.png" in warning


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    return target


def test_equal_contents_count_once(mvtec):
    good = mvtec / "train/good"
    copy(good / "003.png", good / "zzz.png")
    copy(good / "003.png", good / "yyy.png")
    copy(good / "007.png", good / "008.png")
    before = (good / "009.png").read_bytes()
    (good / "009.png").write_bytes(before[:-20] + bytes([before[-20] ^ 1]) + before[-19:])
    (good / "010.png").write_bytes(before)  # as long as 009.png, but another content
    for seed in range(4):
        split = datasets.load(mvtec, seed=seed)
        numbers = [f"{number:03d}.png" for number in (*range(8), 9, 10)]
        assert names((*split.normals, *split.held_out)) == numbers
        assert split.warnings == (
            "3 of 13 good images are copies of others and do not count: "
            "008.png (as 007.png), yyy.png (as 003.png), zzz.png (as 003.png)",
        )


def test_a_copy_among_the_images_that_the_authors_hold_out_does_not_count(mvtec):
    put_many(mvtec / "validation/good", 2)
    copy(mvtec / "train/good/001.png", mvtec / "validation/good/again.png")
    split = datasets.load(mvtec)
    assert names(split.held_out) == ["000.png", "001.png"]
    assert "../../validation/good/again.png (as 001.png)" in split.warnings[0]


def test_copies_of_good_images_do_not_reach_a_test_set_that_is_drawn(tmp_path):
    originals = put_many(tmp_path / "good", 20)
    for path in originals:
        copy(path, tmp_path / f"good/copy_of_{path.name}")
    put_many(tmp_path / "bad", 1)
    split = datasets.load(tmp_path)
    images = [*split.normals, *split.held_out, *(sample.path for sample in split.test if not sample.anomalous)]
    assert sorted(images) == originals
    assert split.warnings[0].startswith("20 of 40 good images are copies of others")


@pytest.fixture
def patients(tmp_path):
    """Good images of 12 patients, 3 each, and one image of nobody."""
    root = tmp_path / "scans"
    for patient in range(12):
        for number in range(3):
            put(root / f"patient{patient:02d}_{number}.png")
    put(root / "phantom.png")
    return root


@pytest.mark.parametrize("pattern", [r"^patient\d+", r"patient(\d+)_"])
def test_images_of_one_group_stay_on_one_side(patients, pattern):
    sides = set()
    for seed in range(5):
        split = datasets.load(patients, seed=seed, groups=pattern)
        learned, held_out = ({path.name[:9] for path in part} for part in (split.normals, split.held_out))
        assert learned
        assert held_out
        assert not learned & held_out
        assert len(split.normals) + len(split.held_out) == 37
        assert split.warnings == ("37 good images form 13 groups, each of which stays on one side",)
        sides.add(frozenset(held_out))
    assert len(sides) > 1
    names_held_out = {path.name for path in datasets.load(patients, groups=r"patient(\d+)_").held_out}
    expected = {f"patient{number:02d}_1.png" for number in range(12) if fraction(0, f"{number:02d}") < 0.2}
    assert expected
    assert {name for name in names_held_out if name.endswith("_1.png")} == expected


def test_a_single_group_holds_nothing_out(patients):
    (patients / "phantom.png").unlink()
    split = datasets.load(patients, groups="^patient")
    assert split.held_out == ()
    assert "there is only one group of good images: none is held out" in split.warnings[-1]


def test_groups_also_stay_together_in_a_test_set_that_is_drawn(patients):
    patients.rename(patients.parent / "good")
    put_many(patients.parent / "bad", 2)
    split = datasets.load(patients.parent, groups=r"patient\d+")
    good = [sample.path for sample in split.test if not sample.anomalous]
    sides = [{path.name[:9] for path in part} for part in (split.normals, split.held_out, good)]
    assert all(sides)
    assert sum(map(len, sides)) == 13


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"groups: '\(' is no regular expression"),
        ("lot", r"groups: 'lot' matches no image; their paths look like patient00_0\.png"),
        ("(lot)?", r"matches no image"),
    ],
)
def test_groups_that_cannot_be_used(patients, pattern, message):
    with pytest.raises(SettingError, match=message) as caught:
        datasets.load(patients, groups=pattern)
    assert "\n" not in str(caught.value)


def test_the_groups_of_a_manifest(patients):
    rows = [f"{path.name},good,train,{path.name[:9]}" for path in sorted(patients.glob("patient*"))]
    put_many(patients / "scars", 2)
    rows += ["phantom.png,good,train,", "scars/000.png,scar,test,patient00", "scars/001.png,scar,test,"]
    table = patients / "scans.csv"
    table.write_text("\n".join(["path,label,split,group", *rows]))
    for seed in range(3):
        split = datasets.load(table, seed=seed)
        learned, held_out = ({path.name[:9] for path in part} for part in (split.normals, split.held_out))
        assert not learned & held_out
        assert len(split.normals) + len(split.held_out) == 37
    assert "37 good images form 13 groups, each of which stays on one side" in split.warnings
    (shared,) = [warning for warning in split.warnings if "both training and test images" in warning]
    assert shared.startswith("1 groups have")
    assert shared.endswith(": patient00")
    assert len(datasets.load(table, groups=r"patient(\d)").held_out) % 3 == 0  # the expression takes its place
