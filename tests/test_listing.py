"""Which files of a folder are images, and why the others are skipped: names, contents, links, and what is no file."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from trees import put
from unmask.datasets import load
from unmask.errors import DatasetError
from unmask.imaging import accounting, listing
from unmask.types import Skip, SkippedFile


def found(root, **options):
    """The images below a folder, and the reasons of the skipped files by their names."""
    listed = listing.gather([root], **options)
    names = [path.relative_to(root).as_posix() for path in listed.files]
    reasons = {one.path.relative_to(root).as_posix(): one.reason for one in listed.skipped}
    assert listed.seen == len(names) + len(listed.skipped)
    return names, reasons


def write(path, content=b"no image"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_list_images(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "sub/c.tiff", ".cache/d.png"):
        write(tmp_path / name, b"")
    assert [path.name for path in listing.list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [path.name for path in listing.list_images(tmp_path, recursive=True)] == ["a.jpg", "b.PNG", "c.tiff"]
    with pytest.raises(DatasetError, match="is not a folder"):
        listing.list_images(tmp_path / "nothing")


def test_an_image_is_one_by_its_content(tmp_path):
    picture = put(tmp_path / "a.png").read_bytes()
    for name in ("photo.dat", "nosuffix", "x.PNG", "b.jfif", "c.jpe", "d.txt", "e.png.bak"):
        write(tmp_path / name, picture)
    for name in ("notes.txt", "table.csv", "empty", "GIF notes", "P5.md"):
        write(
            tmp_path / name, {"empty": b"", "GIF notes": b"GIF files are large", "P5.md": b"P5: a list"}.get(name, b"x")
        )
    names, reasons = found(tmp_path)
    assert names == sorted(["a.png", "photo.dat", "nosuffix", "x.PNG", "b.jfif", "c.jpe", "d.txt", "e.png.bak"])
    assert set(reasons.values()) == {Skip.NOT_IMAGE}


@pytest.mark.parametrize("name", ["error.png", "page.JPG", "zero.tif", "a.heic"])
def test_what_is_named_like_an_image_is_left_for_the_decoder_to_refuse(tmp_path, name):
    write(tmp_path / name, b"<html>" if name != "zero.tif" else b"")
    assert found(tmp_path) == ([name], {})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".a.png", Skip.HIDDEN),
        ("._a.png", Skip.HIDDEN),
        (".git/objects/a.png", Skip.HIDDEN),
        (".ipynb_checkpoints/a-checkpoint.png", Skip.HIDDEN),
        ("__MACOSX/._a.png", Skip.HIDDEN),
        ("__MACOSX/deep/a.png", Skip.HIDDEN),
        ("System Volume Information/a.png", Skip.HIDDEN),
        ("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", Skip.THUMBNAIL),
        (".thumbnails/normal/a.png", Skip.THUMBNAIL),
        (".@__thumb/a.png", Skip.THUMBNAIL),
        ("Thumbs.db", Skip.THUMBNAIL),
        ("THUMBS/a.png", Skip.THUMBNAIL),
        ("#recycle/a.png", Skip.TRASH),
        ("$RECYCLE.BIN/S-1-5/a.png", Skip.TRASH),
        (".Trash-1000/files/a.png", Skip.TRASH),
        ("lost+found/a.png", Skip.TRASH),
        ("part.unmask", Skip.MODEL),
        ("part.ONNX", Skip.MODEL),
        ("part.onnx.data", Skip.NOT_IMAGE),
    ],
)
def test_what_systems_and_programs_put_into_folders(tmp_path, name, reason):
    put(tmp_path / "a.png")
    put(tmp_path / "day1/b.png")
    put(tmp_path / "day1" / name) if name.endswith("g") else write(tmp_path / "day1" / name)
    names, reasons = found(tmp_path)
    assert names == ["a.png", "day1/b.png"]
    assert reasons == {f"day1/{name}": reason}


def test_the_name_of_the_folder_that_was_given_does_not_count(tmp_path):
    put(tmp_path / ".cache/@eaDir/a.png")
    assert found(tmp_path / ".cache/@eaDir") == (["a.png"], {})
    assert listing.gather([put(tmp_path / ".hidden.png")]).files == (tmp_path / ".hidden.png",)


@pytest.mark.parametrize("kind", ["unmask-report", "unmask-bench"])
def test_a_report_of_ours_is_no_photograph(tmp_path, kind):
    put(tmp_path / "a.png")
    put(tmp_path / "report/explain/0001-a.webp")
    write(tmp_path / "report/results.json", b'{\n "format": "%s", "version": 2}' % kind.encode())
    write(tmp_path / "report/index.html")
    names, reasons = found(tmp_path)
    assert names == ["a.png"]
    assert set(reasons.values()) == {Skip.REPORT}
    assert len(reasons) == 3
    write(tmp_path / "report/results.json", b'{"format": "another"}')
    assert found(tmp_path)[0] == ["a.png", "report/explain/0001-a.webp"]


def test_nested_folders(tmp_path):
    for name in ("a.png", "day2/b.png", "day2/cam1/c.png", "day2/notes.txt", "day2/.d.png"):
        put(tmp_path / name) if name.endswith("g") else write(tmp_path / name)
    assert found(tmp_path)[0] == ["a.png", "day2/b.png", "day2/cam1/c.png"]
    names, reasons = found(tmp_path, recursive=False)
    assert names == ["a.png"]
    nested = dict.fromkeys(("day2/b.png", "day2/cam1/c.png", "day2/notes.txt"), Skip.NESTED)
    assert reasons == {**nested, "day2/.d.png": Skip.HIDDEN}


@pytest.fixture
def linked(tmp_path):
    """A folder with links of every kind; what lies outside it is in tmp_path / "elsewhere"."""
    root = tmp_path / "photos"
    put(root / "b.png")
    put(root / "real/c.png")
    put(tmp_path / "elsewhere/d.png")
    put(tmp_path / "elsewhere/more/e.png")
    for name, target in {
        "a_link.png": "b.png",
        "out.png": tmp_path / "elsewhere/d.png",
        "out": tmp_path / "elsewhere/more",
        "a_real": "real",
        "broken.png": "nothing.png",
        "itself": ".",
        "real/up": "..",
        "higher": tmp_path,
        "ring": "ring",
    }.items():
        (root / name).symlink_to(target)
    os.link(root / "b.png", root / "hard.png")
    return root


def test_links_are_followed_once_and_never_round(linked):
    names, reasons = found(linked)
    assert names == ["b.png", "out/e.png", "out.png", "real/c.png"]
    assert reasons == {
        "a_link.png": Skip.TWICE,
        "hard.png": Skip.TWICE,
        "a_real": Skip.TWICE,
        "broken.png": Skip.BROKEN_LINK,
        "itself": Skip.LOOP,
        "real/up": Skip.LOOP,
        "higher": Skip.LOOP,
        "ring": Skip.LOOP,
    }


def test_a_file_counts_once_however_often_it_is_given(tmp_path):
    first, second = put(tmp_path / "a.png"), put(tmp_path / "sub/b.png")
    listed = listing.gather([first, first, tmp_path / "sub", tmp_path, tmp_path / "sub" / ".." / "a.png"])
    assert listed.files == (first, second)
    assert [one.reason for one in listed.skipped] == [Skip.TWICE] * 4
    assert listed.seen == 6


def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch):
    put(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        monkeypatch.chdir(tmp_path)  # the name of a socket may have 100 letters
        one.bind("s.png")
    names, reasons = found(tmp_path)
    assert names == ["a.png"]
    assert reasons == dict.fromkeys(("pipe.png", "endless.png", "s.png"), Skip.SPECIAL)


def test_what_cannot_be_opened_is_told(tmp_path, monkeypatch):
    put(tmp_path / "a.png")
    put(tmp_path / "closed/b.png")
    write(tmp_path / "secret.dat")
    scandir, open_file = os.scandir, os.open

    def refuse(name):
        if Path(name).name in ("closed", "secret.dat"):
            raise PermissionError(13, "Permission denied", str(name))

    monkeypatch.setattr(os, "scandir", lambda path: refuse(path) or scandir(path))
    monkeypatch.setattr(os, "open", lambda path, *rest, **options: refuse(path) or open_file(path, *rest, **options))
    names, reasons = found(tmp_path)
    assert names == ["a.png"]
    assert reasons == {"closed": Skip.UNREADABLE, "secret.dat": Skip.UNREADABLE}
    with pytest.raises(DatasetError, match="2 files or folders cannot be opened: "):
        load(tmp_path)


def test_names_that_are_not_utf_8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    shutil.copy(put(tmp_path / "a.png"), path)
    assert len(found(tmp_path)[0]) == 2


def skipped(reason, *names):
    return [SkippedFile(Path(name), reason) for name in names]


def test_the_sentence():
    assert accounting.sentence(1, []) == "Saw 1 file: used all of them"
    files = [
        *skipped(Skip.HIDDEN, *map(str, range(10))),
        *skipped(Skip.NOT_IMAGE, *(f"{n}.txt" for n in range(5)), "README"),
        *skipped(Skip.THUMBNAIL, "a", "b"),
    ]
    wanted = "Saw 58 files: used 40, skipped 18 (10 hidden, 6 not images (.txt, no suffix), 2 thumbnails)"
    assert accounting.sentence(58, files) == wanted
    assert accounting.counts(58, files) == {
        "seen": 58,
        "used": 40,
        "skipped": {"hidden": 10, "not an image": 6, "thumbnail": 2},
    }
    assert accounting.listed(3, files[-1:])["skipped"] == [{"path": "b", "reason": "thumbnail"}]


def test_endings_that_cannot_be_printed_are_not():
    line = accounting.sentence(2, skipped(Skip.NOT_IMAGE, "a.\udce9t", "b.x\ny"))
    assert line == "Saw 2 files: used 0, skipped 2 (2 not images (other))"


def test_the_sentence_is_short_whatever_is_skipped():
    files = [one for reason in Skip for one in skipped(reason, *(f"{n}.{chr(97 + n) * 11}" for n in range(9)))]
    line = accounting.sentence(10**6, [*files, *skipped("a reason of a layout", "x")] * 1000)
    assert len(line) < 300
    assert "\n" not in line
    assert "for other reasons" in line


def test_one_of_each_reads_well():
    files = [one for reason in (Skip.NESTED, Skip.BROKEN_LINK, Skip.NOT_IMAGE) for one in skipped(reason, "x.md")]
    wanted = "Saw 4 files: used 1, skipped 3 (1 in a nested folder, 1 broken link, 1 not an image (.md))"
    assert accounting.sentence(4, files) == wanted


def test_a_pipe_is_no_data_set(tmp_path):
    os.mkfifo(tmp_path / "set.csv")
    with pytest.raises(DatasetError, match="is a pipe or device"):
        load(tmp_path / "set.csv")
