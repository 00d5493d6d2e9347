"""Texts cut to fit a message of one line: at most 300 characters, wherever the files lie and whatever they hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def shortened(text: str, limit: int = 24) -> str:
    """Keep the start of a text, on one line and without characters that a console would obey."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def placed(path: Path, limit: int = 100) -> str:
    """Write a path, or its end where it is long."""
    line = " ".join("".join(c if c.isprintable() else "?" for c in str(path)).split())
    return line if len(line) <= limit else "..." + line[3 - limit :]


def listed(items: Iterable[str], limit: int = 110) -> str:
    """Join items with commas as far as they fit, at least one of them, and count the others."""
    texts = [shortened(item, limit) for item in items]
    used = next((n for n in range(len(texts), 1, -1) if len(", ".join(texts[:n])) <= limit), 1)
    rest = f" and {len(texts) - used} more" if len(texts) > used else ""
    return ", ".join(texts[:used]) + rest
