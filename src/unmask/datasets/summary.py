"""What a data set holds, counted: for people and programs that want to look before they fit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from unmask.datasets.checks import sizes_of
from unmask.imaging import accounting
from unmask.types import Split

VERSION = 1  # of the summary's keys


def summary(split: Split) -> dict[str, Any]:
    """Count the images and masks of a data set, by role and kind; only headers are read.

    Returns:
        A mapping that can be written as JSON: "version" (1) of these keys; "name" and "layout"; "normals" and
        "held_out", how many good images are learned from and held out; "test_good" and "test_anomalous", of which the
        second counts by kind; "masks"; "image_sizes", with the "smallest", "largest" and "most_common" (width, height)
        in pixels and how many "distinct" ones there are; "files", how many were "seen", "used" and "skipped" by reason;
        "warnings", one line each.

    Raises:
        DatasetError: a file cannot be read any more.
    """
    anomalous = Counter(sample.kind for sample in split.test if sample.anomalous)
    sizes = Counter(sizes_of((*split.normals, *split.held_out, *(sample.path for sample in split.test))).values())
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return {
        "version": VERSION,
        "name": split.name,
        "layout": split.layout,
        "normals": len(split.normals),
        "held_out": len(split.held_out),
        "test_good": len(split.test) - anomalous.total(),
        "test_anomalous": dict(sorted(anomalous.items())),
        "masks": len({(isinstance(m, Path) or sample.path, m) for sample in split.test for m in sample.masks}),
        "image_sizes": {
            "smallest": list(by_area[0]),
            "largest": list(by_area[-1]),
            "most_common": list(sizes.most_common(1)[0][0]),
            "distinct": len(sizes),
        },
        "files": accounting.counts(split.seen, split.skipped),
        "warnings": list(split.warnings),
    }
