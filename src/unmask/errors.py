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
    └── TrainingStopped      a fit that was interrupted and can be resumed

Each message is one line: what came, what was wanted, what to do. The command line prints it and exits with 2.
"""


class UnmaskError(Exception):
    """A mistake that a user can mend; its text is one line."""


class ImageError(UnmaskError):
    """An image cannot be decoded, or has a size or kind that cannot be used."""


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


class TrainingStopped(UnmaskError):  # noqa: N818 - nothing went wrong
    """A fit was interrupted; what it had learned is kept and can be resumed."""
