"""The notes on many images as a few lines: each kind once, with the number of images that it is on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

LINES = 5


def lines_of(notes: Mapping[str, int], total: int) -> list[str]:
    """Lines for a whole run, the commonest note first; at most five, and a sixth that counts the rest.

    Args:
        notes: of how many images each note is.
        total: how many images were looked at.
    """
    ranked = Counter(notes).most_common()
    lines = [f"{n} of {total} images: {note}" for note, n in ranked[:LINES]]
    rest = len(ranked) - LINES
    return [*lines, f"{rest} more kinds of notes, see the results"] if rest > 0 else lines
