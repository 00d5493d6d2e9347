"""A sensitivity card in words: from which size on marks of each kind are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from unmask.inspection.sensitivity import FAINT

MOVED_THRESHOLD = 0.02  # share by which a threshold may differ from that of the card before that is told


class Line(NamedTuple):
    """One row of a card as a table shows it.

    Attributes:
        marks: what was planted, such as "strong dark spots".
        half, most: sizes from which half and 90 % are found, such as "12 px".
        marked: share of the found whose place the map marks, such as "95 %"; "-" where less than half are found.
    """

    marks: str
    half: str
    most: str
    marked: str


def sentences(card: Mapping[str, Any]) -> list[str]:
    """One sentence a row of what `card` gives, such as "finds 90 % of strong dark spots from 12 px"."""
    return [_sentence(row, card["side"]) for row in card["rows"]]


def lines(card: Mapping[str, Any], threshold: float) -> list[str]:
    """All of a card but its introduction."""
    return [*sentences(card), *remarks(card, threshold)]


def table(card: Mapping[str, Any]) -> list[Line]:
    """The same as cells of a table."""
    return [
        Line(
            _marks(row),
            _cell(row, 0.5),
            _cell(row, 0.9),
            "-" if row["found"][-1] < 0.5 else f"{100 * row['marked']:.0f} %",
        )
        for row in card["rows"]
    ]


def introduction(card: Mapping[str, Any]) -> str:
    """What the card is, and what it is not."""
    images = f"{card['n_images']} good image{'s' if card['n_images'] > 1 else ''}"
    places = f"{card['n_places']} places for each kind and contrast"
    return f"an estimate, from marks planted on {images} ({places}); real defects differ"


def remarks(card: Mapping[str, Any], threshold: float) -> list[str]:
    """What else to know: what the words mean, whether the map shows the place, and whether the threshold has moved.

    Args:
        card: as `card` gives it.
        threshold: that is in use now.
    """
    strong, faint = (f"{100 * one:.0f} %" for one in sorted({row["contrast"] for row in card["rows"]} - {None})[::-1])
    found = [
        f"strong marks go {strong} of the way to black or white, faint ones {faint}; "
        "a spot's size is its diameter, a scratch's its length"
    ]
    weights = [row["found"][-1] for row in card["rows"] if row["marked"] is not None]
    if weights:
        share = np.average([row["marked"] for row in card["rows"] if row["marked"] is not None], weights=weights)
        found.append(f"of the marks that are found, the map marks the place of {100 * share:.0f} %")
    if abs(threshold - card["threshold"]) > MOVED_THRESHOLD * abs(card["threshold"]):
        found.append(f"made at a threshold of {card['threshold']:.4g}; it is {threshold:.4g} now, so other sizes hold")
    return found


def _sentence(row: Mapping[str, Any], side: float) -> str:
    marks, sizes, found = _marks(row), row["sizes"], row["found"]
    half, most = _first(found, 0.5), _first(found, 0.9)
    largest = _pixels(sizes[-1])
    if most is not None:
        more = f", half of them from {_pixels(sizes[half or 0])}" if half != most else ""
        return f"finds 90 % of {marks} from {_from(sizes, most, side)}{more}"
    if half is not None:
        return f"finds half of {marks} from {_from(sizes, half, side)}, and less than 90 % up to {largest}"
    if found[-1] > 0:
        return f"finds only {100 * found[-1]:.0f} % of {marks} of {largest}, the largest that were tried"
    return f"does not find {marks} up to {largest}"


def _cell(row: Mapping[str, Any], share: float) -> str:
    first = _first(row["found"], share)
    return f"not up to {_pixels(row['sizes'][-1])}" if first is None else _pixels(row["sizes"][first])


def _from(sizes: list[float], number: int, side: float) -> str:
    share = f"{100 * sizes[number] / side:.2g} % of the shorter side"
    return f"{_pixels(sizes[number])} ({share}{', the smallest that was tried' if number == 0 else ''})"


def _first(found: list[float], share: float) -> int | None:
    return next((number for number, one in enumerate(found) if one >= share), None)


def _marks(row: Mapping[str, Any]) -> str:
    if row["contrast"] is None:
        return str(row["kind"])
    return f"{'faint' if row['contrast'] <= FAINT else 'strong'} {row['kind']}"


def _pixels(size: float) -> str:
    return f"{size:.0f} px" if size >= 10 else f"{size:.2g} px"
