"""How many files were seen, used and skipped, for people in one line and for programs as counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.types import Skip, SkippedFile

MOST_REASONS, MOST_SUFFIXES, MOST_LETTERS = 6, 4, 12
PLURALS = {
    Skip.BROKEN_LINK: "broken links",
    Skip.LOOP: "links in circles",
    Skip.COPY: "copies of other images",
    Skip.BLANK: "that show nothing",
    Skip.SPECIAL: "special files",
    Skip.THUMBNAIL: "thumbnails",
    Skip.TRASH: "deleted files",
    Skip.REPORT: "parts of reports",
    Skip.MODEL: "model files",
    Skip.NOT_IMAGE: "not images",
    Skip.NESTED: "in nested folders",
    Skip.DEFECTS: "in folders named like defects",
    Skip.MASK: "masks",
}


def counts(seen: int, skipped: Sequence[SkippedFile]) -> dict[str, Any]:
    """Count files: "seen", "used", and "skipped" by reason, the most frequent first; "seen" is the sum of the others.

    Args:
        seen: how many there are in all.
        skipped: those that were not used.
    """
    reasons = Counter(str(one.reason) for one in skipped)
    return {"seen": seen, "used": seen - len(skipped), "skipped": dict(reasons.most_common())}


def listed(seen: int, skipped: Sequence[SkippedFile]) -> dict[str, Any]:
    """As `counts`, but "skipped" holds the "path" and "reason" of each file."""
    rows = [{"path": str(one.path), "reason": str(one.reason)} for one in skipped]
    return {"seen": seen, "used": seen - len(skipped), "skipped": rows}


def without(counted: dict[str, Any], unused: Mapping[str, int]) -> dict[str, Any]:
    """Counts in which files that were used turn out to count for nothing.

    Args:
        counted: what `counts` gave.
        unused: how many, by reason.
    """
    more = {str(reason): number for reason, number in unused.items() if number}
    reasons = Counter(counted["skipped"]) + Counter(more)
    return {**counted, "used": counted["used"] - sum(more.values()), "skipped": dict(reasons.most_common())}


def sentence(seen: int, skipped: Sequence[SkippedFile]) -> str:
    """Say in one line, of less than 300 characters, what was seen, used and skipped."""
    suffixes = Counter(_ending(one) for one in skipped if one.reason == Skip.NOT_IMAGE)
    names = [name for name, _ in suffixes.most_common(MOST_SUFFIXES)]
    return in_words(counts(seen, skipped), f" ({', '.join(names)}{', ...' if len(suffixes) > len(names) else ''})")


def in_words(counted: dict[str, Any], endings: str = "") -> str:
    """What `counts` gives as a sentence.

    Args:
        counted: the counts.
        endings: of the names of files that are no images, to stand behind their number.
    """
    reasons = counted["skipped"]
    total = sum(reasons.values())
    seen = f"Saw {counted['seen']} {'file' if counted['seen'] == 1 else 'files'}: used"
    if not total:
        return f"{seen} all of them"
    parts = [f"{n} {_plural(reason, n)}{endings if reason == Skip.NOT_IMAGE else ''}" for reason, n in reasons.items()]
    more = [f"{sum(list(reasons.values())[MOST_REASONS:])} for other reasons"] if len(parts) > MOST_REASONS else []
    return f"{seen} {counted['used']}, skipped {total} ({', '.join(parts[:MOST_REASONS] + more)})"


def _plural(reason: str, n: int) -> str:
    if n != 1:
        return PLURALS.get(reason, reason)  # type: ignore[call-overload,no-any-return]
    return f"in a {reason}" if reason in (Skip.NESTED, Skip.DEFECTS) else reason


def _ending(one: SkippedFile) -> str:
    suffix = one.path.suffix.lower()
    if len(suffix) < 2:
        return "no suffix"
    return suffix if len(suffix) <= MOST_LETTERS and suffix[1:].isalnum() and suffix.isascii() else "other"
