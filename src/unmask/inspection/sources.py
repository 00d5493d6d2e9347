"""What users call images to what is decoded one by one: folders, paths, arrays, tensors, Pillow images, data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unmask.errors import DatasetError, ImageError
from unmask.imaging.decoding import page_count
from unmask.imaging.images import Source
from unmask.imaging.listing import gather
from unmask.imaging.options import ALL, ImageOptions

GIVE = "give a folder, paths, Pillow images, arrays (h, w, 3) or tensors (3, h, w)"


@dataclass(frozen=True)
class ImagePage:
    """One picture of a file that holds several.

    Attributes:
        file: its path, or its bytes.
        page: the number of the picture, counted from 1.
    """

    file: str | Path | bytes
    page: int


class Sources(Sequence[Source]):
    """n images of a sequence or a data set, each taken from it when it is asked for.

    Args:
        images: a folder of image files, a sequence of images, an array (n, h, w, 3) or (n, h, w), or anything with a
            length and an index, such as a torch Dataset of images.

    Raises:
        DatasetError: it is no such thing.
    """

    def __init__(self, images: Any) -> None:
        if isinstance(images, np.ndarray) and not _is_batch(images):
            raise DatasetError(f"an array of shape {images.shape} is not a batch of images; give one of (n, h, w, 3)")
        images = files_in(images)
        if isinstance(images, Image.Image | bytes):
            raise DatasetError(f"one {type(images).__name__} came where images were wanted; {GIVE}")
        if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
            if not hasattr(images, "__iter__"):
                raise DatasetError(f"images of type {type(images).__name__} cannot be read; {GIVE}")
            images = list(images)
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return as_source(self.images[index])

    def __iter__(self) -> Iterator[Source]:
        return (self[i] for i in range(len(self)))


def files_in(images: Any, *, recursive: bool = True) -> Any:
    """The image files of a folder, or the one file, where a path came; other images as they are.

    Args:
        images: what a user gave.
        recursive: whether images in folders inside the folder count.

    Raises:
        DatasetError: there is no such file or folder.
    """
    if not isinstance(images, str | Path):
        return images
    return list(gather([images], recursive=recursive).files)


def in_pages(images: Iterable[Any], options: ImageOptions) -> Iterator[Any]:
    """The images, and in place of a file of several pictures each of them, where a user wants all pages."""
    for image in images:
        pages = _pages(image) if options.page == ALL else 1
        yield from [image] if pages == 1 else (ImagePage(image, page) for page in range(1, pages + 1))


def _pages(image: Any) -> int:
    """The number of pictures in a file; 1 of one that cannot be read, whose decoding will say so."""
    if not isinstance(image, str | Path | bytes):
        return 1
    try:
        return page_count(image)
    except ImageError:
        return 1


def as_source(image: Any) -> Source:
    """One image as `images.decode` takes it; a tensor (3, h, w) becomes an array (h, w, 3).

    Raises:
        ImageError: it is of another kind. Pairs of an image and a label are refused: what is labelled may be a defect.
    """
    if isinstance(image, str | Path | bytes | Image.Image | np.ndarray):
        return image
    if isinstance(image, tuple | list | dict):
        raise ImageError(f"an item is a {type(image).__name__} and not an image; give images alone, without labels")
    if hasattr(image, "detach") and hasattr(image, "numpy"):
        array: np.ndarray = image.detach().cpu().numpy()
        if array.ndim == 3 and array.shape[0] not in (1, 3, 4):
            raise ImageError(
                f"a tensor of shape {tuple(array.shape)} is no image; give (3, h, w), or an array (h, w, 3)"
            )
        return array.transpose(1, 2, 0) if array.ndim == 3 else array
    raise ImageError(f"an image of type {type(image).__name__} cannot be read; {GIVE}")


def _is_batch(array: np.ndarray) -> bool:
    """(n, h, w, c), or (n, h, w) of grey images; a single image of three channels would be taken for n rows."""
    return array.ndim == 4 or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4))
