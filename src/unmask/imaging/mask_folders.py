"""Folders of masks, known by their names: what lies in them is no photograph."""

from __future__ import annotations

import re
import unicodedata

GROUND_TRUTH = frozenset({"mask", "masks", "gt", "ground truth", "ground truths", "groundtruth", "groundtruths"})
MASK_WORDS = frozenset(
    (
        *("mask", "masks", "groundtruth", "segmentation", "segmentations", "segmentationclass", "segmentationobject"),
        *("segmentationclassraw", "segmentationclasspng", "segmentationclassvisualization", "annot", "annots"),
    )
)
LABELS = frozenset({"label", "labels", "annotation", "annotations"})


def is_ground_truth(name: str) -> bool:
    """Say whether a folder's name is one for masks and nothing else: ground_truth, masks_machine, defaultannot."""
    folded = unicodedata.normalize("NFKC", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).casefold()
    words = re.sub(r"[\W\d_]+", " ", folded).split()
    joined = "".join(words)
    if not words or words[0] in ("no", "without", "face"):
        return False
    return (
        " ".join(words) in GROUND_TRUTH
        or "ground truth" in " ".join(words)
        or joined in MASK_WORDS
        or not MASK_WORDS.isdisjoint(words)
        or words[-1].endswith(("annot", "annots"))
    )


def is_mask_folder(name: str) -> bool:
    """Say the same, or that the name speaks of labels: beside photographs these are masks, by themselves a thing."""
    return is_ground_truth(name) or re.sub(r"[\W\d_]+", " ", name.casefold()).strip() in LABELS
