"""unmask: learn what good images look like, then show what does not belong in a new one.

    >>> import unmask
    >>> inspector = unmask.load("bottle.unmask")      # doctest: +SKIP
    >>> result = inspector.inspect("new_part.png")    # doctest: +SKIP
    >>> result.is_anomalous, result.regions           # doctest: +SKIP

Importing this package imports neither torch nor NumPy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.errors import DependencyError, SettingError, UnmaskError

if TYPE_CHECKING:
    from unmask.inspection.judging import Judge
    from unmask.types import AnomalyResult, Region

__version__ = "0.1.0"
__all__ = ["AnomalyResult", "Region", "UnmaskError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """The result types, imported when they are asked for: `unmask --help` needs no NumPy."""
    if name in ("AnomalyResult", "Region"):
        from unmask import types

        return getattr(types, name)
    raise AttributeError(f"module 'unmask' has no attribute {name!r}")


def load(path: str | Path, *, explain: bool = False) -> Judge:
    """Open a model file, without torch where that is possible.

    Args:
        path: a file written by `unmask fit` (.unmask) or by `unmask export` (.onnx, .xml). Of a .unmask file, the
            export that lies beside it under the same name is taken, if it was made from it.
        explain: verdicts are to tell their steps, which needs the .unmask file and torch.

    Returns:
        What judges images: `inspect`, `inspect_many`.

    Raises:
        ModelFileError: the file is damaged, something else, or newer than this version.
        DependencyError: torch (the extra `train`) is not installed and there is no export.
        SettingError: an exported model is to explain itself.
    """
    from unmask.inspection.exported import SUFFIXES, Runtime

    path = Path(path)
    if path.suffix in SUFFIXES:
        if explain:
            raise SettingError(f"{path} was exported and cannot explain itself; give the .unmask file it came from")
        return Runtime.load(path)
    if not explain and (exported := Runtime.beside(path)) is not None:
        return exported
    try:
        from unmask.inspection.inspector import Inspector
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"{path} needs {error.name}, which is not installed; run: pip install 'unmask[train]', or where that is "
            f"installed: unmask export {path}, and take the .onnx file"
        ) from error
    return Inspector.load(path)
