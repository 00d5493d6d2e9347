"""What lies beside the images of a folder and may say which are defective: annotation files and masks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from unmask.datasets.layouts.folder_names import is_good
from unmask.datasets.layouts.trees import Tree, stem_of
from unmask.datasets.mask_files import mask_pixels
from unmask.datasets.wording import placed, shortened
from unmask.errors import DatasetError
from unmask.types import Skip

MOST_FILES = 5000
MOST_JSON = 200
LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
FEW_PAIRS = 5  # pairs of one name that are opened in a folder
FEW_COLOURS = 8
MOST_BYTES = 50 * 2**20
MASK_ENDING = re.compile(
    r"[ _.-]*(masks?|gt|ground[ _.-]?truth|labels?|labelids|seg|segmentation|annot|annotation)([ _.-]?\d+)?\Z",
    re.IGNORECASE,
)


def text_files(tree: Tree, *suffixes: str) -> list[Path]:
    """List the files of a data set's folder with one of these suffixes that hold something, the largest first."""
    sizes = {
        one.path: _size(one.path)
        for one in tree.listing.skipped
        if one.reason == Skip.NOT_IMAGE and one.path.suffix.lower() in suffixes
    }
    found = sorted((path for path, size in sizes.items() if size), key=lambda path: (-sizes[path], path))
    return found[:MOST_FILES]


def start_of(file: Path, most: int = MOST_BYTES) -> bytes:
    """Read a file's first bytes, of UTF-16 without the zeros between letters; nothing of one that cannot be read."""
    try:
        with file.open("rb") as opened:
            content = opened.read(most)
    except OSError:
        return b""
    return content.replace(b"\0", b"") if content[:2] in (b"\xff\xfe", b"\xfe\xff") else content


def annotation_files(tree: Tree) -> list[Path]:
    """Find the JSON files that look like COCO or Datumaro, whatever their names; the largest are opened.

    There are none where folders of good images say what is good.
    """
    root = tree.root
    tops = [*tree.folders(root), *(kind for part in tree.folders(root) for kind in tree.folders(part))]
    if any(is_good(folder.name) for folder in tops):
        return []
    return sorted(file for file in text_files(tree, ".json")[:MOST_JSON] if _like_coco(start_of(file)))


def check_beside(images: Iterable[Path]) -> None:
    """Refuse images of which one is the mask of another: 000.png beside 000_GT.png, or 000.jpg beside 000.png.

    Of two files with one name, the first is a photograph, and the second, of few colours, its mask.

    Raises:
        DatasetError: there are such images.
    """
    by_folder: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        by_folder[image.parent][stem_of(image).lower()].append(image)
    for folder, stems in by_folder.items():
        pairs = [*_named_alike(stems), *_of_one_name(stems)]
        if pairs:
            image_name, mask_name = (shortened(one.name, 30) for one in pairs[0])
            raise DatasetError(
                f"{placed(folder)}: {mask_name} looks like the mask of {image_name} ({len(pairs)} such pairs); "
                "sort the images into good/ and bad/ and move the masks away, or rename what is no mask"
            )


def _named_alike(stems: Mapping[str, list[Path]]) -> Iterator[tuple[Path, Path]]:
    """Pair images with what is named like their masks."""
    for stem, paths in stems.items():
        match = MASK_ENDING.search(stem)
        if match and (image := stems.get(stem[: match.start()])):
            yield image[0], paths[0]


def _of_one_name(stems: Mapping[str, list[Path]]) -> list[tuple[Path, Path]]:
    """Pair JPEG files with files of another kind and the same name, when the first few of these are masks."""
    pairs = [
        (image, other)
        for paths in stems.values()
        for image in paths[: len(paths) if len(paths) > 1 else 0]
        for other in paths
        if image.suffix.lower() in LOSSY and other.suffix.lower() not in LOSSY
    ]
    return pairs if any(_has_few_colours(mask) for _, mask in pairs[:FEW_PAIRS]) else []


def _has_few_colours(file: Path) -> bool:
    try:
        pixels, _ = mask_pixels(file)
    except DatasetError:
        return False
    colours = pixels.reshape(-1, pixels.shape[2] if pixels.ndim == 3 else 1)
    return len(np.unique(colours, axis=0)) <= FEW_COLOURS


def _like_coco(content: bytes) -> bool:
    if b'"items"' in content and b'"categories"' in content:
        return True
    return b'"images"' in content and any(key in content for key in (b'"annotations"', b'"categories"', b'"file_name"'))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
