"""CSV files as people have them: read as they are meant, or refused in one line that names the row."""

import random

import pytest

from trees import failure, mark, put, put_many
from unmask import datasets
from unmask.datasets.tables import read_table
from unmask.errors import DatasetError
from unmask.types import Sample

ROWS = (
    *("path,label,split,mask,group", "images/000.png,good,train,,a", "images/001.png,good,train,,b"),
    *("images/002.png,good,test,,c", "images/003.png,scratch,test,mask.png,d"),
)


@pytest.fixture
def images(tmp_path):
    put_many(tmp_path / "images", 8)
    mark(tmp_path / "mask.png", 5)
    return tmp_path


def load(folder, *rows, name="table.csv", encoding="utf-8", end="\n"):
    (folder / name).write_bytes((end.join(rows) + end).encode(encoding))
    return datasets.load(folder / name)


def refused(folder, *rows, **options):
    with pytest.raises(DatasetError) as caught:
        load(folder, *rows, **options)
    message = str(caught.value)
    assert len(message) <= 300
    assert "\n" not in message
    return message


def by_name(split):
    return {sample.path.name: (sample.anomalous, sample.kind, len(sample.masks)) for sample in split.test}


def test_manifest(images):
    split = load(images, *ROWS, name="week 12.csv")
    assert (split.name, split.layout, split.has_masks) == ("week 12", "manifest", True)
    assert len(split.normals) == len(split.held_out) == 1
    assert split.test == (
        Sample(images / "images/002.png", False, "good"),
        Sample(images / "images/003.png", True, "scratch", (images / "mask.png",)),
    )
    assert split.warnings[0] == "labels taken as kinds of defect: scratch (1)"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_encodings(images, separator, encoding, end):
    rows = [row.replace(",", separator) for row in ROWS]
    wanted = load(images, *ROWS)
    found = load(images, *rows, "", separator * 4, "  ", encoding=encoding, end=end)
    assert (found.test, found.normals, found.held_out) == (wanted.test, wanted.normals, wanted.held_out)


def test_an_umlaut_of_windows(images):
    put(images / "größe.png")
    split = load(images, *ROWS, "größe.png,good,test,,", encoding="cp1252")
    assert "größe.png" in by_name(split)
    assert "table.csv is not UTF-8 and was read as Windows-1252" in split.warnings


@pytest.mark.parametrize(
    "header",
    [
        "Path,LABEL,Split,Mask,Group",
        " path , label , split , mask , group ",
        "Image Path,class,subset,mask-path,group",
        "filename,target,set,gt,group",
        '"image","category","partition","mask_path","group_id"',
        "# written by hand\npath,label,split,mask,group",
        "sep=,\npath,label,split,mask,group",
    ],
)
def test_headers(images, header):
    assert by_name(load(images, header, *ROWS[1:])) == {
        "002.png": (False, "good", 0),
        "003.png": (True, "scratch", 1),
    }


def test_columns_that_have_no_use_and_one_without_a_name(images):
    rows = [f"{number},{row},3.5" for number, row in enumerate(ROWS[1:])]
    assert len(load(images, f",{ROWS[0]},exposure", *rows).test) == 2


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        *(("pass", "fail"), ("False", "True"), ("0.0", "1.0"), ("no", "yes"), ("i.O.", "n.i.O."), ("o", "x")),
        *(("Non-defect", "defect"), ("acceptable", "unacceptable"), ("no crack", "crack")),
    ],
)
def test_labels_in_words(images, good, bad):
    rows = [row.replace("good,test", f"{good},test").replace("scratch", bad) for row in ROWS]
    assert [sample.anomalous for sample in load(images, *rows).test] == [False, True]


def test_a_column_that_is_true_for_good_images(images):
    rows = [row.replace("label", "is_good").replace("good,t", "True,t").replace("scratch", "False") for row in ROWS]
    split = load(images, *rows)
    assert by_name(split) == {"002.png": (False, "good", 0), "003.png": (True, "anomaly", 1)}
    assert "labels taken: True (3) as good, False (1) as defective" in split.warnings


@pytest.mark.parametrize(("good", "bad"), [("1", "0"), ("1.0", "0.0"), ("yes", "no")])
def test_numbers_in_a_column_that_is_true_for_good_images(images, good, bad):
    rows = [row.replace("label", "is_good").replace("good,t", f"{good},t").replace("scratch", bad) for row in ROWS]
    assert by_name(load(images, *rows))["003.png"] == (True, "anomaly", 1)


def test_labels_none_of_which_means_good(images):
    rows = ["path,verdict", *(f"images/00{number}.png,OK_1" for number in range(5)), "images/005.png,NG_1"]
    message = refused(images, *rows)
    assert "verdict holds OK_1 (5), NG_1 (1); none of these words means good; write good" in message
    message = refused(images, "path,label,split", "images/000.png,good,test", "images/003.png,bad,test")
    assert "label holds good (1), bad (1); those that mean good are all of another split" in message


def test_rows_that_are_not_used_are_counted_with_their_reasons(images):
    mark(images / "empty.png", 0)
    mark(images / "val.png", 3)
    split = load(images, *ROWS, "images/004.png,bad,val,val.png,", "images/005.png,good,train,empty.png,")
    skipped = {one.path.name: one.reason for one in split.skipped}
    assert skipped == {
        "004.png": "defective image of the split val",
        "val.png": "defective image of the split val",
        "empty.png": "mask of a good image",
    }
    assert split.seen == 9


def test_splits(images):
    rows = [row.replace("train", word) for row, word in zip(ROWS, ("", "Training", "val"), strict=False)]
    split = load(images, *rows, *(row.replace("test", "Testing") for row in ROWS[3:]))
    assert [path.name for path in (*split.normals, *split.held_out)] == ["000.png", "001.png"]
    assert [path.name for path in split.held_out] == ["001.png"]
    assert len(split.test) == 2
    split = load(images, *ROWS, "images/004.png,dent,validation,,")
    assert len(split.test) == 2
    assert "1 defective images of the split val are not used" in split.warnings


def test_without_a_split_good_images_are_divided(images):
    rows = ["path,label", *(f"images/00{number}.png,good" for number in range(6)), "images/006.png,dent"]
    split = load(images, *rows)
    assert [sample.kind for sample in split.test if sample.anomalous] == ["dent"]
    assert len(split.normals) + len(split.held_out) + len(split.test) == 7
    assert sum(not sample.anomalous for sample in split.test) >= 1


def test_slashes_and_spellings(images):
    put(images / "images/cafe\u0301.png")
    rows = [row.replace("images/", ".\\images\\") for row in ROWS]
    split = load(images, *rows, "images/caf\u00e9.png,good,test,,")
    assert {path.name for path in (*split.normals, *split.held_out)} == {"000.png", "001.png"}
    assert len(split.test) == 3
    absolute = [row.replace("images/", f"{images}/images/") for row in ROWS]
    assert len(load(images, *absolute).test) == 2


def test_several_rows_of_one_image_join_their_masks(images):
    mark(images / "second.png", 9)
    split = load(images, *ROWS, "./images/003.png,dent,test,second.png,d", "images/000.png,good,train,,a")
    assert by_name(split)["003.png"] == (True, "scratch", 2)
    assert datasets.read_mask(split.test[1], 4, 6).sum() == 9
    assert "2 images have several rows and count once: 000.png (lines 2, 7), 003.png (lines 5, 6)" in split.warnings


def test_empty_masks_of_good_images(images):
    mark(images / "empty.png", 0)
    assert (
        len(load(images, *ROWS, "images/004.png,good,test,empty.png,", "images/005.png,good,train,empty.png,").test)
        == 3
    )
    assert "1 good images have masks that mark defects" in refused(images, *ROWS, "images/004.png,good,test,mask.png,")
    message = refused(images, *ROWS, "images/004.png,good,train,mask.png,")
    assert "line 6: 004.png is good and has a mask" in message
    assert by_name(load(images, *ROWS, "images/004.png,good,test,nan,"))["004.png"] == (False, "good", 0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("images/004.png,bad,train,,", "line 6: 004.png is labelled bad but split is train"),
        ("images/004.png,good,fold 3,,", "line 6: wanted a path, a label and train, val or test as split, got"),
        ("images/004.png,,test,,", "line 6: wanted a path, a label"),
        (",good,test,,", "line 6: wanted a path"),
        ("images/004.png", "line 6: wanted a path"),
        ("images/004.png,good,test,,,,x", "line 6: 7 cells under a header of 5"),
        ("images/nothing.png,good,train,,", "1 files do not exist: line 6 nothing.png"),
        ("images/004.png,dent,test,no.png,", "1 files do not exist: line 6 no.png"),
        ("images/003.png,good,test,,", "line 6: 003.png is good here and scratch in line 5"),
        ("images/000.png,good,test,,", "line 6: 000.png is test here and train in line 2"),
        ("images/../images/000.png,dent,test,mask.png,", "line 6: 000.png is dent here and good in line 2"),
        ("C:\\data\\004.png,good,test,,", "line 6: C:\\data\\004.png is a path of a Windows machine"),
        ("\\\\server\\share\\004.png,good,test,,", "is a path of a Windows machine"),
        ("https://example.org/004.png,good,test,,", "is an address"),
        ('images/004.png,"good,test,,', "line 6: cannot be read as CSV"),
        ("images/004.png,good,test,,\0", "no text"),
        (f"images/{'x' * 140_000}.png,good,test,,", "field larger than field limit"),
        (f"images/{'x' * 5_000}.png,good,test,,", "1 files do not exist"),
        ("images,good,test,,", "1 files do not exist"),
        ("images/004.png,-1,test,,", "'-1' is no class"),
    ],
)
def test_rows_that_are_refused(images, row, reason):
    assert reason in refused(images, *ROWS, row)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["path,label,label,split", "images/000.png,good,good,train"], "2 columns are named label"),
        (["picture,label,split", "images/000.png,good,train"], "no column path among picture, label, split"),
        (["path,split", "images/000.png,train"], "no column label"),
        (["path,label,split"], "a header and no rows"),
        (["", ""], "empty; wanted a CSV file with a header"),
        (["path,label,split", "images/003.png,bad,test"], "no good images to learn from"),
        (["path,label,split", "images/000.png,pass,train", "images/001.png,False,test"], "contradict each other"),
    ],
)
def test_tables_that_are_refused(images, rows, reason):
    assert reason in refused(images, *rows)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.xlsx", b"PK\x03\x04....", "a spreadsheet or a zip file is not read as a manifest"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel file"),
        ("a.parquet", b"PAR1", "a Parquet file"),
        ("a.jsonl", b'{"path": "a.png"}\n', "JSON lines"),
        ("a.yaml", b"path: a", "YAML"),
        ("a.xml", b"<a/>", "an XML or HTML file"),
        ("a.csv", b"\xff\xfe\0", "cannot be read as CSV"),
        ("a.csv", bytes(range(256)), "cannot be read as CSV"),
        ("a.csv", b"", "empty"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=reason):
        datasets.load(tmp_path / name)


def test_lines_are_counted_over_cells_of_several_lines(images):
    message = refused(
        images, "path,label,split,note", 'images/000.png,good,train,"two', 'lines"', "", "x.png,good,test,"
    )
    assert "line 5 x.png" in message


def test_one_photograph_with_two_labels_is_told(images):
    (images / "images/004.png").write_bytes((images / "images/003.png").read_bytes())
    split = load(images, *ROWS, "images/004.png,good,test,,")
    pair = "images/003.png and images/004.png"
    assert f"1 photographs are labelled good under one name and defective under another: {pair}" in split.warnings


def test_whatever_bytes_a_manifest_holds(images):
    rng = random.Random(0)
    whole = "\n".join(ROWS).encode()
    for _ in range(300):
        content = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(content) + 1)
            content[at : at + rng.randrange(2)] = rng.choice(
                [b"\0", b'"', b"\r", b";", b",", b"\xff", rng.randbytes(3)]
            )
        (images / "table.csv").write_bytes(content)
        message = failure(images / "table.csv")
        assert len(message) <= 300, message
        assert "\n" not in message


def test_a_table_of_bars_with_commas_in_its_cells(tmp_path):
    (tmp_path / "table.txt").write_text("path|label\na,b.png|good\n")
    assert read_table(tmp_path / "table.txt", ("path", "label")).rows == ((2, ("a,b.png", "good")),)


def test_contents_see_who_holds_out_what(images):
    plain = [row.rpartition(",")[0] for row in ROWS]
    good = [f"images/00{number}.png,good,train," for number in range(4, 8)]
    held_out = [good[0].replace("train", "val"), *good[1:]]
    grouped = [f"{row},{group}" for row, group in zip([*plain[1:], *good], "aabbccdd", strict=True)]
    others = [f"{row},{group}" for row, group in zip([*plain[1:], *good], "abbbccdd", strict=True)]
    splits = [load(images, *plain, *good), load(images, *plain, *held_out)]
    splits += [load(images, ROWS[0], *rows) for rows in (grouped, others)]
    assert len({datasets.fingerprint(split) for split in splits}) == 1
    assert len({datasets.contents(split) for split in splits}) == 4
    rest = f"{plain[0]},group\n" + "\n".join(grouped)
    again = datasets.load(images / "table.csv", seed=7)
    assert datasets.contents(again) == datasets.contents(splits[3]), "no seed enters"
    assert datasets.contents(load(images, rest)) == datasets.contents(splits[2])
