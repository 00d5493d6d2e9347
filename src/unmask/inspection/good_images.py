"""The good images that a caller gives, in whatever form, and how they are divided already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unmask.datasets import load as load_dataset
from unmask.errors import DatasetError, SettingError
from unmask.imaging import accounting
from unmask.imaging.options import ALL, ImageOptions
from unmask.inspection.calibration import rate_for
from unmask.inspection.division import Given
from unmask.inspection.sources import Sources, in_pages
from unmask.types import Split

HELD_OUT_SHARE = 0.2


class Good(NamedTuple):
    """Good images.

    Attributes:
        images: all of them.
        given: how they are divided; None = by their contents.
        source: where they come from, in words.
        share: of them to hold out, where they are divided by their contents.
        file_of: for each image the number of its file, where several come from one; they stay on one side.
        files: of the data set, how many were seen, used and skipped; None = they are from no folder.
    """

    images: Sequence[Any]
    given: Given | None
    source: str
    share: float = HELD_OUT_SHARE
    file_of: Sequence[int] | None = None
    files: dict[str, Any] | None = None

    def early_rate(self, wanted: float | None) -> float | None:
        """The rate that can be promised as far as is known before anything is decoded; None = not known yet.

        Raises:
            CalibrationError: too few images are held out.
        """
        if self.given is None or (self.given.is_drawn and not self.given.held_out):
            return None
        return rate_for(len(self.given.held_out), wanted)

    def in_pages(self, options: ImageOptions) -> Good:
        """The same, with each picture of a file as an image of its own where a user wants all pages."""
        if options.page != ALL:
            return self
        paged = [list(in_pages([image], options)) for image in self.images]
        files = [number for number, pages in enumerate(paged) for _ in pages]
        images = [page for pages in paged for page in pages]
        if self.given is None:
            return self._replace(images=images, file_of=files)
        normals, held_out = set(self.given.normals), set(self.given.held_out)
        given = Given(
            [number for number, file in enumerate(files) if file in normals],
            [number for number, file in enumerate(files) if file in held_out],
            is_drawn=False,
        )
        return self._replace(images=images, given=given, file_of=files)


def good_images(images: Any, held_out: Any, share: float, seed: int, *, recursive: bool) -> Good:
    """The images of a folder as its split divides them, those of the caller as given, or all of them undivided."""
    if not 0 < share < 1:
        raise SettingError(f"held_out_share={share:g} is out of range; give a share between 0 and 1, such as 0.2")
    if isinstance(images, str | Path):
        images = load_dataset(images, held_out_share=share, seed=seed, recursive=recursive)
    if isinstance(images, Split):
        source = f"{images.name} ({images.layout})"
        files = accounting.counts(images.seen, images.skipped) if images.seen else None
        if held_out is None:
            return _numbered(images.normals, images.held_out, source, is_drawn=images.is_drawn)._replace(files=files)
        both = (*images.normals, *images.held_out)
        return _numbered(both, Sources(held_out), source)._replace(files=files)
    good = Sources(images)
    if not len(good):
        raise DatasetError("there are no images to learn from; give good ones")
    source = f"{len(good)} images"
    return Good(good, None, source, share) if held_out is None else _numbered(good, Sources(held_out), source)


def _numbered(normals: Sequence[Any], held_out: Sequence[Any], source: str, *, is_drawn: bool = False) -> Good:
    both = Both(normals, held_out)
    return Good(both, Given(range(len(normals)), range(len(normals), len(both)), is_drawn), source)


class Both(Sequence[Any]):
    """Two sequences, one after the other, without a copy of either."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Any) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]
