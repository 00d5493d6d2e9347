"""Opening image files, and turning whatever their parsers raise into one line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from unmask.errors import ImageError
from unmask.imaging.formats import HEAD, File, Kind, kind_of

READ = "PNG, JPEG, TIFF, BMP, WebP"  # the kinds that a message offers
LONGEST_REASON, LONGEST_NAME = 120, 120
DAMAGED = "the data is damaged or cut short"
CLEAR = re.compile(  # the reasons that say something to people
    "truncated|its header is damaged|is not a number|lies above its white|JPEG-LS is not read|are missing",
    re.IGNORECASE,
)
QUOTED = re.compile(r"""b?(['"]).*?\1""")  # what a parser quotes may be content of the file


@contextmanager
def opening(source: str | Path | bytes) -> Iterator[tuple[File, str]]:
    """An image file and its name for messages; errors inside become an ImageError of one line.

    Raises:
        ImageError: it cannot be opened, or what is done with it fails.
    """
    name = f"the image of {len(source)} bytes" if isinstance(source, bytes) else shortened(str(source))
    with failing_as(name), io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        yield file, name


def shortened(name: str) -> str:
    """A path that fits into a message: its end, where it is long."""
    return name if len(name) <= LONGEST_NAME else f"...{name[-LONGEST_NAME:]}"


def kind_in(file: File, name: str) -> Kind:
    """The kind of an image file.

    Raises:
        ImageError: it is none of a known kind.
    """
    start = file.read(HEAD)
    file.seek(0)
    if not start:
        raise ImageError(f"{name}: is empty; copy it again")
    if start.startswith(b"version https://git-lfs"):
        raise ImageError(f"{name}: is a Git LFS pointer, not the image; run: git lfs pull")
    kind = kind_of(start)
    if kind is None:
        raise ImageError(f"{name}: not an image of a known kind; give {READ}")
    return kind


@contextmanager
def failing_as(name: str, source: str = "file") -> Iterator[None]:
    """Turn whatever a parser raises on damaged bytes (it may be anything) into an ImageError of one line.

    Args:
        name: of the image.
        source: what holds it, for the advice to check that.
    """
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: has more pixels than Pillow opens of this kind; save it as PNG or TIFF") from error
    except MemoryError as error:
        raise ImageError(f"{name}: does not fit into memory; crop it, or save it in parts") from error
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or (
            str(error) if CLEAR.search(str(error)) else DAMAGED
        )
        reason = " ".join(QUOTED.sub("...", reason).split())[:LONGEST_REASON]
        raise ImageError(f"{name}: cannot be read ({reason}); check the {source}") from error
