"""How time and memory grow with the number of good images, and with the resolution that the network sees.

The rows are ordinary rows, of drawn parts. Only a few of the images are drawn, the others show them shifted by some
pixels, so that a coreset of 10,000 images finds less that is new than it would among real ones.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unmask.benchmark.methods import Method, detector_class, method_of
from unmask.samples import render

COUNTS = (10, 100, 1_000, 10_000)
SIZES = (128, 256, 512, 1024)
DRAWN, HELD_OUT = 200, 0.2
FOLDER = "scaling"


@contextmanager
def parts() -> Iterator[dict[int, Path]]:
    """Data sets by their number of good images to learn from; their folders exist for the time of a block."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn"
        render("part", drawn, n_train=DRAWN, n_good=20, n_bad=20)
        yield {count: _part(drawn, Path(folder) / f"part_{count}", count) for count in COUNTS}


def at_sizes(methods: Sequence[Method]) -> list[Method]:
    """Each detector at every size; what has no setting image_size takes images as they are."""
    sized = [method for method in methods if _has_size(method) and "image_size" not in method.settings]
    return [one._replace(settings={**one.settings, "image_size": size}) for size in SIZES for one in sized]


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[float | str | None]]]:
    """A line a method: seconds and megabytes of fits by number of images, milliseconds of an image by size.

    Returns:
        Titles, and lines; None where nothing was measured.
    """
    plain: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("failed"):
            continue
        size = row["settings"].get("image_size")
        sized = isinstance(size, int)  # by `at_sizes`; a user's own setting is text
        own = {name: value for name, value in row["settings"].items() if name != "image_size" or not sized}
        key = f"size {size}" if sized else row["dataset"]
        plain.setdefault(method_of({**row, "settings": own}), {})[key] = row
    columns = [
        *((f"fit s, {n:,}", f"part_{n}", "fit_seconds") for n in COUNTS),
        *((f"MB, {n:,}", f"part_{n}", "peak_mb") for n in COUNTS),
        *((f"ms, {size} px", f"size {size}", "ms_p50") for size in SIZES),
    ]
    head = ["method", *(title for title, _, _ in columns)]
    lines: list[list[float | str | None]] = []
    for name, found in plain.items():
        lines.append([name, *(found.get(key, {}).get(figure) for _, key, figure in columns)])
    return head, lines


def link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link, or a copy where the system or the disk allows no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_shifted(source: Path, target: Path, shift: int) -> None:
    """Write an image shifted to the right by some pixels, as a JPEG: thousands of PNG files would fill a disk."""
    with Image.open(source) as picture:
        shifted = np.roll(np.asarray(picture.convert("RGB")), shift, axis=1)
    Image.fromarray(shifted).save(target, "JPEG", quality=95)


def _has_size(method: Method) -> bool:
    from unmask.detectors import settings_of

    return not method.foreign and "image_size" in settings_of(detector_class(method.detector))


def _part(drawn: Path, out: Path, count: int) -> Path:
    """The same tests, and good images of which `count` are left when some are held out, no two of them equal."""
    shutil.copytree(drawn / "test", out / "test")
    shutil.copytree(drawn / "ground_truth", out / "ground_truth")
    (out / "train" / "good").mkdir(parents=True)
    sources = sorted((drawn / "train" / "good").iterdir())
    for number in range(round(count / (1 - HELD_OUT))):
        source, shift = sources[number % len(sources)], number // len(sources)
        if shift == 0:
            link_or_copy(source, out / "train" / "good" / f"{number:06d}.png")
        else:
            _write_shifted(source, out / "train" / "good" / f"{number:06d}.jpg", shift)
    return out
