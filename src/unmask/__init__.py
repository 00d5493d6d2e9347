"""unmask: learn what good images look like, then show what does not belong in a new one.

    >>> import unmask
    >>> inspector = unmask.load("bottle.unmask")      # doctest: +SKIP
    >>> result = inspector.inspect("new_part.png")    # doctest: +SKIP
    >>> result.is_anomalous, result.regions           # doctest: +SKIP

Importing this package imports neither torch nor a plotting library.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unmask.errors import UnmaskError
from unmask.types import AnomalyResult, Region

if TYPE_CHECKING:
    from unmask.inspector import Inspector

__version__ = "0.1.0"
__all__ = ["AnomalyResult", "Region", "UnmaskError", "__version__", "load"]


def load(path: str | Path) -> Inspector:
    """Open a model file.

    Args:
        path: a `.unmask` file written by `unmask fit` or `Inspector.save`.

    Returns:
        An inspector, ready to judge images.

    Raises:
        ModelFileError: the file is damaged, something else, or newer than this version.
        DependencyError: the `train` extra (torch) is not installed.
    """
    from unmask.inspector import Inspector

    return Inspector.load(path)
