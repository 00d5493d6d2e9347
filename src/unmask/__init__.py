"""unmask: learn what good images look like, then show what does not belong in a new one.

    >>> import unmask
    >>> inspector = unmask.fit("photos")              # doctest: +SKIP
    >>> result = inspector.inspect("new_part.png")    # doctest: +SKIP
    >>> result.is_anomalous, result.regions           # doctest: +SKIP
    >>> inspector.save("part.unmask")                 # doctest: +SKIP
    >>> inspector = unmask.load("part.unmask")        # doctest: +SKIP

Importing this package, or any of its public names but `fit`, imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unmask.errors import (
    CalibrationError,
    DatasetError,
    DependencyError,
    ForeignError,
    ImageError,
    ModelFileError,
    NotFittedError,
    OutputError,
    SettingError,
    TrainingStopped,
    UnmaskError,
    WeightsError,
)

if TYPE_CHECKING:
    from unmask.datasets import load as load_dataset
    from unmask.evaluation.evaluate import evaluate
    from unmask.inspection.calibration import Calibration
    from unmask.inspection.fitting import fit
    from unmask.inspection.inspector import Inspector
    from unmask.inspection.loading import load
    from unmask.types import AnomalyResult, FailedImage, Region

__version__ = "0.1.0"

__all__ = [
    "AnomalyResult",
    "Calibration",
    "CalibrationError",
    "DatasetError",
    "DependencyError",
    "FailedImage",
    "ForeignError",
    "ImageError",
    "Inspector",
    "ModelFileError",
    "NotFittedError",
    "OutputError",
    "Region",
    "SettingError",
    "TrainingStopped",
    "UnmaskError",
    "WeightsError",
    "__version__",
    "evaluate",
    "fit",
    "load",
    "load_dataset",
]

_HOMES = {
    "AnomalyResult": "types",
    "Calibration": "inspection.calibration",
    "FailedImage": "types",
    "Inspector": "inspection.inspector",
    "Region": "types",
    "evaluate": "evaluation.evaluate",
    "fit": "inspection.fitting",
    "load": "inspection.loading",
    "load_dataset": "datasets:load",
}
"""Where the public names live; each is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    """A public name, imported on demand: `unmask --help` needs no NumPy, and `unmask.load` no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'unmask' has no attribute {name!r}")
    module, _, other = _HOMES[name].partition(":")
    try:
        found = getattr(import_module(f"unmask.{module}"), other or name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("unmask"):
            raise
        raise DependencyError(
            f"unmask.{name} needs {error.name}, which is not installed; run: pip install 'unmask[train]'"
        ) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})
