"""What users call images to what is decoded one by one: folders, paths, arrays, tensors, Pillow images, data sets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
GIVE_ONE = "give a path, bytes, an open file, a Pillow image, an array (h, w, 3) or a tensor (3, h, w)"
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class ImagePage:
    """One picture of a file that holds several.

    Attributes:
        file: its path, or its bytes.
        page: the number of the picture, counted from 1.
    """

    file: str | Path | bytes
    page: int


def file_of(image: Any) -> Any:
    """What an image was taken from: the file of a page, or else the image itself."""
    return image.file if isinstance(image, ImagePage) else image


def path_of(source: Any) -> Path | None:
    """The path of an image or page; None of what is no file."""
    file = file_of(source)
    return Path(os.fsdecode(file)) if isinstance(file, str | os.PathLike) else None


class Sources(Sequence[Source]):
    """n images of a sequence or a data set, each taken from it when it is asked for.

    Args:
        images: a folder of image files, a sequence of images, an array (n, h, w, 3) or (n, h, w), or anything with a
            length and an index, such as a torch Dataset of images.

    Raises:
        DatasetError: it is no such thing.
    """

    def __init__(self, images: Any) -> None:
        images = several(images)
        self.images = images if hasattr(images, "__len__") and hasattr(images, "__getitem__") else list(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return as_source(self.images[index])

    def __iter__(self) -> Iterator[Source]:
        return (self[i] for i in range(len(self)))


def several(images: Any, *, recursive: bool = True) -> Iterable[Any]:
    """What was given as several images: the files of a folder, the one file, or images as they are.

    Args:
        images: what a user gave.
        recursive: whether images in folders inside the folder count.

    Raises:
        DatasetError: there is no such file or folder, or what came is one image, or nothing that holds images.
    """
    if isinstance(images, str) and not images:
        raise DatasetError(f"an empty path came; {GIVE}")
    if isinstance(images, str | os.PathLike):
        return list(gather([Path(images)], recursive=recursive).files)
    kind = type(images).__name__
    if isinstance(images, np.ndarray) or _is_tensor(images):
        shape = tuple(images.shape)
        if not _is_batch(shape, first=not isinstance(images, np.ndarray)):
            wanted = "(n, h, w, 3)" if isinstance(images, np.ndarray) else "(n, 3, h, w)"
            raise DatasetError(f"an array of shape {shape} is not a batch of images; give one of {wanted}, or a list")
    elif isinstance(images, Image.Image | bytes | bytearray | memoryview) or hasattr(images, "read"):
        raise DatasetError(f"one {kind} came where images were wanted; {GIVE}")
    elif isinstance(images, Mapping) or hasattr(images, "columns"):
        raise DatasetError(f"a {kind} holds no images in an order; give its images as a list")
    elif not hasattr(images, "__iter__"):
        if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
            raise DatasetError(f"images of type {kind} cannot be read; {GIVE}")
        return (images[i] for i in range(len(images))) if not isinstance(images, Sequence) else images
    found: Iterable[Any] = images
    return found


def in_pages(images: Iterable[Any], options: ImageOptions) -> Iterator[Any]:
    """The images, and in place of a file of several pictures each of them, where a user wants all pages."""
    for image in images:
        pages = _pages(image) if options.page == ALL else 1
        yield from [image] if pages == 1 else (ImagePage(image, page) for page in range(1, pages + 1))


def _pages(image: Any) -> int:
    """The number of pictures in a file; 1 of one that cannot be read, whose decoding will say so."""
    if not isinstance(image, str | os.PathLike | bytes):
        return 1
    try:
        return page_count(image if isinstance(image, bytes) else _file(os.fsdecode(image)))
    except ImageError:
        return 1


def as_source(image: Any) -> Source:
    """One image as `images.decode` takes it.

    A tensor (3, h, w) becomes an array (h, w, 3), and an open file its bytes, from its start where it has one.

    Raises:
        ImageError: it is of another kind. Pairs of an image and a label are refused: what is labelled may be a defect.
    """
    if isinstance(image, Image.Image | np.ndarray):
        return image
    if isinstance(image, str | os.PathLike):
        return _file(os.fsdecode(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    kind = type(image).__name__
    if isinstance(image, tuple | list | Mapping):
        raise ImageError(f"an item is a {kind} and not an image; give images alone, without labels, and as arrays")
    if _is_tensor(image):
        return _array(image)
    if callable(getattr(image, "read", None)):
        return _content(image, kind)
    raise ImageError(f"an image of type {kind} cannot be read; {GIVE_ONE}")


def _file(name: str) -> Path:
    """The path of an image; what can be waited for without an end, such as a pipe, is not opened."""
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116 - a path may hold what `Path` refuses
    except (OSError, ValueError):
        return Path(name)  # the decoder says what is wrong
    if stat.S_ISDIR(mode):
        raise ImageError(f"{name} is a folder; judge its images with inspect_many")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{name} is a pipe or device, not a file; save the image to a file, or give its bytes")
    return Path(name)


def _content(file: Any, kind: str) -> bytes:
    """What an open file holds; its position is afterwards where it was."""
    try:
        place = file.tell() if file.seekable() else None
        if place is not None:
            file.seek(0)
        content = file.read()
        if place is not None:
            file.seek(place)
    except Exception as error:  # it may be closed, not for reading, or no file at all
        raise ImageError(f"a file of type {kind} cannot be read ({error}); {GIVE_ONE}") from error
    if not isinstance(content, bytes | bytearray):
        raise ImageError(f"a file of type {kind} gives {type(content).__name__}, not bytes; open it with mode 'rb'")
    return bytes(content)


def _shape(tensor: Any) -> tuple[int, ...]:
    try:
        return tuple(tensor.shape)
    except RuntimeError as error:  # of nested tensors
        raise ImageError(f"a tensor without one shape is no image; {GIVE_ONE}") from error


def _is_tensor(image: Any) -> bool:
    return hasattr(image, "detach") and hasattr(image, "numpy")


def _array(image: Any) -> np.ndarray:
    """A tensor (3, h, w) or (h, w), on whatever device, as an array (h, w, 3) or (h, w)."""
    shape = _shape(image)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in CHANNELS):
        raise ImageError(f"a tensor of shape {shape} is no image; give (3, h, w), or an array (h, w, 3)")
    try:
        plain = image.detach().cpu()
        array: np.ndarray = (plain.float() if "bfloat16" in str(plain.dtype) else plain).numpy()
    except Exception as error:  # sparse, quantised and meta tensors
        raise ImageError(
            f"a tensor of {image.dtype} cannot be read ({error}); give a dense one on any device"
        ) from error
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def _is_batch(shape: tuple[int, ...], *, first: bool) -> bool:
    """(n, h, w, c), or (n, h, w) of grey images; a single image, its axes in any order, would be taken for n rows."""
    if len(shape) == 4:
        return shape[1 if first else -1] in CHANNELS
    return len(shape) == 3 and not {shape[0], shape[-1]} & set(CHANNELS)
