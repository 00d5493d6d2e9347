"""Every error that unmask raises on purpose, as a tree.

    UnmaskError
    ├── ImageError           an image that cannot be read or used
    ├── DatasetError         a folder or manifest that is not a data set
    ├── SettingError         a setting that does not exist or has a wrong value
    ├── NotFittedError       predict before fit
    ├── CalibrationError     too few normal images for the promise asked for
    ├── ModelFileError       a model file that is damaged, foreign or too new
    ├── WeightsError         pre-trained weights that are missing or of another layout
    ├── DependencyError      an optional part that is not installed
    ├── ForeignError         somebody else's detector that failed or wrote no maps
    ├── OutputError          a file that cannot be written, such as on a full disk
    └── TrainingStopped      a fit that was interrupted and can be resumed

Each message is one line: what came, what was wanted, what to do. The command line prints it and exits with 2 (after
TrainingStopped with 128 and the signal's number). Names of files may hold anything, so `one_line` stands between every
message and its reader.
"""

from __future__ import annotations

import re

LONGEST = 290
"""Letters of a message; with the name of the program before it, it stays below 300."""
LEAST_WORD = 40
"""Letters that a shortened word, such as a path, has left."""
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, ends of lines, marks that turn the direction of a text, and bytes of names that are not UTF-8."""


def printable(text: str) -> str:
    r"""A text with an escape for each character that cannot be printed: \n, \x1b, \u202e, or \xe9 of a byte."""
    return UNPRINTABLE.sub(_escaped, text)


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text as one printable line of at most `longest` letters: the longest words, mostly paths, lose their middle."""
    line = printable(text)
    while len(line) > longest:
        word = max(line.split(" "), key=len)
        if len(word) <= LEAST_WORD:
            return _shortened(line, longest)
        line = line.replace(word, _shortened(word, max(LEAST_WORD, len(word) - (len(line) - longest))), 1)
    return line


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode() if code < 0xD800 else f"\\u{code:04x}"


def _shortened(text: str, length: int) -> str:
    """A text without its middle; the end of a path is its name, so it keeps more of that."""
    start = (length - 3) // 3
    return f"{text[:start]}...{text[len(text) - (length - 3 - start) :]}"


class UnmaskError(Exception):
    """A mistake that a user can mend; its text is one line."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ImageError(UnmaskError):
    """An image cannot be decoded, has a size or kind that cannot be used, or is nothing like the good images.

    Attributes:
        not_judged: why it is nothing like them; None = something else is wrong.
    """

    def __init__(self, message: str, not_judged: str | None = None) -> None:
        super().__init__(message)
        self.not_judged = not_judged


class DatasetError(UnmaskError):
    """A folder, manifest or split is missing, empty or contradicts itself."""


class SettingError(UnmaskError):
    """A setting is unknown, or its value is outside its range."""


class NotFittedError(UnmaskError):
    """A detector was asked to predict before it was fitted."""


class CalibrationError(UnmaskError):
    """There are too few held-out normal images for the false-alarm rate asked for."""


class ModelFileError(UnmaskError):
    """A model file is damaged, is something else, or was written by a newer version."""


class WeightsError(UnmaskError):
    """Pre-trained weights cannot be found or do not fit the network."""


class DependencyError(UnmaskError):
    """An optional dependency is needed and not installed."""


class ForeignError(UnmaskError):
    """A command that stands for a detector failed, or wrote what is no map."""


class OutputError(UnmaskError):
    """A file, a folder or standard output cannot be written."""


class TrainingStopped(UnmaskError):  # noqa: N818 - nothing went wrong
    """A fit was interrupted; what it had learned is kept and can be resumed.

    Attributes:
        signal: number of the signal that interrupted it: 2 for Ctrl-C.
    """

    signal: int = 2


NO_MEMORY = re.compile(
    r"out of memory|can(no|')t allocate memory|bad allocation|bad_alloc|failed to allocate", re.IGNORECASE
)
"""How torch, ONNX Runtime and others say so, each in an error of its own kind."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, in whatever error a library says so; errors of unmask itself are none."""
    return isinstance(error, MemoryError) or (
        not isinstance(error, UnmaskError) and NO_MEMORY.search(str(error)) is not None
    )
