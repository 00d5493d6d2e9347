"""The files of a folder: which are images, by their content, and which are skipped, each with its reason."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from unmask.errors import DatasetError
from unmask.imaging.formats import HEAD, kind_of
from unmask.imaging.mask_folders import is_ground_truth
from unmask.types import Skip, SkippedFile

IMAGE_SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"),
        *(".jp2", ".j2k", ".jpx", ".heic", ".heif", ".avif", ".jxl", ".pbm", ".pgm", ".ppm", ".pnm", ".tga"),
    )
)
"""A file with such a name is meant to be an image: if it is none, that is an error and not something to skip."""

MODEL_SUFFIXES = frozenset({".unmask", ".onnx"})
# Names that storage devices and systems give to what they add to folders, in lower case.
SYSTEM_NAMES = {
    Skip.THUMBNAIL: (
        *("@eadir", ".thumbnails", ".thumbs", ".@__thumb", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db"),
        *("thumbnails", "thumbs", "_thumbnails", "_thumbs"),
    ),
    Skip.TRASH: (
        *("#recycle", "@recycle", "$recycle.bin", "recycler", "recycled", "lost+found", ".trash", ".trashes"),
    ),
    Skip.HIDDEN: ("__macosx", "system volume information", "desktop.ini", "#snapshot", "@recently-snapshot"),
}
BY_NAME = {name: reason for reason, names in SYSTEM_NAMES.items() for name in names}
REPORT_FILES = frozenset({"index.html", "results.json"})
TEXT = re.compile(rb"(?!GIF8|P[1-7fF][\s#])[\t\n\r -~]{%d}" % HEAD)  # no image begins with 32 letters but these
OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0)
REPORT_START = re.compile(rb'\s*\{\s*"format":\s*"unmask-(report|bench)"')


class Listing(NamedTuple):
    """What lies in a folder and in the folders below it.

    Attributes:
        files: images, sorted; also those that only bear the name of one, for whoever decodes them to refuse.
        skipped: all other files, and folders that cannot be opened or have been seen before.
        folders: the folder itself and those below it, without the skipped ones.
    """

    files: tuple[Path, ...]
    skipped: tuple[SkippedFile, ...] = ()
    folders: tuple[Path, ...] = ()

    @property
    def seen(self) -> int:
        """How many there are in all."""
        return len(self.files) + len(self.skipped)


def walk(root: str | Path, *, recursive: bool = True) -> Listing:
    """List a folder and the folders below it, each once.

    Links to files are followed. Links to folders are followed after all else, so that a folder which lies below the
    root is listed under its own name; a link to a folder above it is skipped. A file is an image by its first bytes,
    whatever its name; one that is named like an image is not opened here.

    Args:
        root: the folder; its own name does not count, only names below it do.
        recursive: whether images in folders below the root count; if not, they are skipped as nested.

    Raises:
        DatasetError: the root is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder; give a folder of images")
    found = _Walk(root, recursive=recursive)
    return Listing(tuple(sorted(found.files)), tuple(found.skipped), tuple(found.folders))


def list_images(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """List the images of a folder, sorted, as `walk` finds them.

    Raises:
        DatasetError: the folder does not exist.
    """
    return list(walk(folder, recursive=recursive).files)


def check_can_be_read(source: Path) -> None:
    """Raise DatasetError for a link to nothing, and for a pipe or device, which would be waited for without an end."""
    if os.path.lexists(source) and not os.path.exists(source):  # noqa: PTH110 - of odd names `Path` raises
        raise DatasetError(f"{source} is a link that leads nowhere; give a folder or a file")
    if os.path.exists(source) and not (source.is_file() or source.is_dir()):  # noqa: PTH110 - of odd names `Path` raises
        raise DatasetError(f"{source} is a pipe or device; give a folder or a file")


def gather(given: Sequence[str | Path], *, recursive: bool = True) -> Listing:
    """List image files as they are named, and those of folders, each file once however often it is reached.

    A file that is named is taken whatever it is, and so are those of a folder of masks that is named. Files in folders
    of masks below a folder (ground_truth, masks) are skipped. Of two names of one file, one that is no link stays.

    Args:
        given: files and folders.
        recursive: see `walk`.

    Raises:
        DatasetError: a path leads nowhere.
    """
    files: list[Path] = []
    skipped: dict[Path, SkippedFile] = {}
    for path in map(Path, given):
        if not os.path.exists(path):  # noqa: PTH110 - of a name that is too long, `Path` raises an error
            raise DatasetError(f"there is no file or folder {path}; give image files or folders of them")
        listing = _without_masks(path, walk(path, recursive=recursive)) if path.is_dir() else Listing((path,))
        files += listing.files
        skipped |= {one.path: one for one in listing.skipped}
    once, again = _each_once(files)
    used = set(once)
    twice = [SkippedFile(path, Skip.TWICE) for path in again]
    return Listing(tuple(once), (*(one for one in skipped.values() if one.path not in used), *twice))


class _Walk:
    """The state of one walk: what has been found, and which folders have been seen."""

    def __init__(self, root: Path, *, recursive: bool) -> None:
        self.root, self.recursive = root, recursive
        self.files: list[Path] = []
        self.folders: list[Path] = []
        self.skipped: list[SkippedFile] = []
        self._known: set[tuple[int, int]] = set()
        self._links: list[tuple[Path, Skip | None]] = []
        self._below(root, None)
        while self._links:
            link, reason = self._links.pop(0)
            if _leads_up(link):
                self.skipped.append(SkippedFile(link, Skip.LOOP))
            else:
                self._below(link, reason)

    def _below(self, top: Path, reason: Skip | None) -> None:
        """List a folder and those in it, but not those that links lead to."""
        waiting = [(top, reason)]
        while waiting:
            folder, reason = waiting.pop()
            try:
                entries = self._entries(folder)
            except OSError:
                self.skipped.append(SkippedFile(folder, Skip.UNREADABLE))
                continue
            if entries is None:
                self.skipped.append(SkippedFile(folder, Skip.TWICE))
                continue
            reason = reason or _report(folder, entries)
            if reason is None:
                self.folders.append(folder)
            waiting += self._sorted_in(folder, entries, reason)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]] | None:
        """What lies in a folder; None where it has been seen."""
        state = folder.stat()
        if (state.st_dev, state.st_ino) in self._known:
            return None
        self._known.add((state.st_dev, state.st_ino))
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)

    def _sorted_in(
        self, folder: Path, entries: Iterable[os.DirEntry[str]], reason: Skip | None
    ) -> list[tuple[Path, Skip | None]]:
        """Take up the files and links of a folder, and give the folders in it."""
        below, nested = [], None if self.recursive or folder == self.root else Skip.NESTED
        for entry in entries:
            path, why = Path(entry.path), reason or _by_name(entry.name)
            if entry.is_file(follow_symlinks=False):
                self._take(path, entry.path, why or nested)
            elif entry.is_dir(follow_symlinks=False):
                below.append((path, why))
            elif entry.is_symlink():
                self._follow(path, why, nested)
            else:
                self.skipped.append(SkippedFile(path, why or Skip.SPECIAL))
        return below

    def _follow(self, link: Path, why: Skip | None, nested: Skip | None) -> None:
        try:
            mode = link.stat().st_mode
        except OSError as error:
            causes = {errno.ELOOP: Skip.LOOP, errno.EACCES: Skip.UNREADABLE, errno.EPERM: Skip.UNREADABLE}
            self.skipped.append(SkippedFile(link, why or causes.get(error.errno or 0, Skip.BROKEN_LINK)))
            return
        if stat.S_ISDIR(mode):
            self._links.append((link, why))
        elif stat.S_ISREG(mode):
            self._take(link, str(link), why or nested)
        else:
            self.skipped.append(SkippedFile(link, why or Skip.SPECIAL))

    def _take(self, file: Path, name: str, reason: Skip | None) -> None:
        reason = reason or _by_content(name)
        if reason is None:
            self.files.append(file)
        else:
            self.skipped.append(SkippedFile(file, reason))


def _by_name(name: str) -> Skip | None:
    """Why a file or folder of such a name is skipped."""
    known = BY_NAME.get(name.lower())
    if known is None and name[0] == ".":
        return Skip.TRASH if name.lower().startswith(".trash-") else Skip.HIDDEN
    return known


def _by_content(file: str) -> Skip | None:
    """Why a file is no image; None for an image, and for what is named like one."""
    suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122 - folders of programs hold many thousands of files
    if suffix in IMAGE_SUFFIXES:
        return None
    if suffix in MODEL_SUFFIXES:
        return Skip.MODEL
    try:
        return None if is_image(file) else Skip.NOT_IMAGE
    except OSError:
        return Skip.UNREADABLE


def is_image(file: str | Path) -> bool:
    """Say by its first bytes whether a file is an image of a known kind; its name plays no part.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(file, OPEN)  # three times as fast as a file object
    try:
        start = os.read(descriptor, HEAD)
    finally:
        os.close(descriptor)
    return not TEXT.match(start) and kind_of(start) is not None


def _report(folder: Path, entries: Iterable[os.DirEntry[str]]) -> Skip | None:
    """Know a folder that unmask wrote: its pictures are not photographs."""
    if not {entry.name for entry in entries} >= REPORT_FILES:
        return None
    try:
        with (folder / "results.json").open("rb") as file:
            return Skip.REPORT if REPORT_START.match(file.read(256)) else None
    except OSError:
        return None


def _leads_up(link: Path) -> bool:
    """Whether a link leads to a folder that it lies in, at any depth."""
    target, place = Path(os.path.realpath(link)), Path(os.path.realpath(link.parent))
    return place.is_relative_to(target)


def _without_masks(root: Path, listing: Listing) -> Listing:
    """Skip the files in folders of masks below a folder."""
    masks = {folder for folder in listing.folders if any(map(is_ground_truth, folder.relative_to(root).parts))}
    files = tuple(file for file in listing.files if file.parent not in masks)
    skipped = (SkippedFile(file, Skip.MASK) for file in listing.files if file.parent in masks)
    return Listing(files, (*listing.skipped, *skipped), listing.folders)


def _each_once(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Divide files into those that count, in order, and all further mentions of the same files."""
    names: dict[object, list[Path]] = {}
    for path in files:
        names.setdefault(_identity(path), []).append(path)
    kept, again = [], []
    for same in names.values():
        first = next((one for one in same if not one.is_symlink()), same[0]) if len(same) > 1 else same[0]
        same.remove(first)
        kept.append(first)
        again += same
    return kept, again


def _identity(path: Path) -> object:
    """What is equal for all names of a file."""
    try:
        state = path.stat()
    except OSError:
        return path
    return (state.st_dev, state.st_ino) if state.st_ino else os.path.realpath(path)
