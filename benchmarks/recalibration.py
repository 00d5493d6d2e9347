"""What `unmask calibrate` mends: false alarms and recall under another focus and another light, before and after it.

    python benchmarks/recalibration.py ../shared/data/mvtec_bottle ../shared/data/magnetic_tile

The default detector is fitted with --tolerate none --calibrate split. Then all images change: blurred by 1 of 256
pixels of the shorter side, or 15 % brighter. The held-out images, changed, calibrate; up to 40 good and 40 defective
test images, changed, are judged with the thresholds of the fit and with the new ones. Written to
benchmarks/results/recalibration.json.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import unmask
from unmask.imaging.disturbances import blurred, lit
from unmask.imaging.images import decode

RESULTS = Path(__file__).parent / "results" / "recalibration.json"
MOST = 40  # test images of each class
Change = Callable[[np.ndarray], np.ndarray]
CHANGES: dict[str, Change] = {
    "blur": lambda image: blurred(image, 1 / 256),
    "brighter": lambda image: lit(image, 1.15),
}


def main() -> None:
    """Measure the data sets that are named; see the module."""
    warnings.simplefilter("ignore")
    rows = [row for name in sys.argv[1:] for row in measured(name, tolerate="none", calibrate="split")]
    facts = {"command": " ".join(["python", *sys.argv]), "seed": 0, "rows": rows}
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


def measured(folder: str | Path, **options: Any) -> list[dict[str, Any]]:
    """A row for each change of a data set's images.

    Args:
        folder: of the data set, with a labelled test part.
        options: of `unmask.fit`.
    """
    split = unmask.load_dataset(folder)
    inspector = unmask.fit(split, **options)
    classes = {
        "false_alarms": [one.path for one in split.test if not one.anomalous][:MOST],
        "recall": [one.path for one in split.test if one.anomalous][:MOST],
    }
    rows = []
    for kind, change in CHANGES.items():
        start = time.monotonic()
        anew = inspector.calibrate(_changed(split.held_out, change))
        row = {"dataset": split.name, "change": kind, "seconds": round(time.monotonic() - start, 1)}
        row |= {"n_held_out": anew.calibration.n_held_out, "promised": anew.calibration.false_alarm_rate}
        for name, paths in classes.items():
            images = _changed(paths, change)
            flagged = {when: _flagged(one, images) for when, one in (("before", inspector), ("after", anew))}
            row |= {f"n_{name}": len(paths)} | {f"{name}_{when}": share for when, share in flagged.items()}
        rows.append(row)
    return rows


def _changed(paths: Sequence[Path], change: Change) -> list[np.ndarray]:
    """Images (h, w, 3) in 8 bits, as a camera would give them."""
    return [np.round(255 * np.clip(change(decode(path)), 0, 1)).astype(np.uint8).transpose(1, 2, 0) for path in paths]


def _flagged(inspector: unmask.Inspector, images: Sequence[np.ndarray]) -> float:
    return float(np.mean([result.is_anomalous for result in inspector.inspect_many(images, refuse=False)]))


if __name__ == "__main__":
    main()
