"""What a fit promises and how it keeps it: options that belong together, checked before anything is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from unmask.errors import SettingError
from unmask.imaging.tolerance import Tolerance
from unmask.inspection.calibration import PROTOCOLS
from unmask.inspection.good_images import HELD_OUT_SHARE, Good
from unmask.inspection.guarantee import Wanted

if TYPE_CHECKING:
    from unmask.detectors import Detector


class Plan(NamedTuple):
    """What is promised, and how the promise is kept.

    Attributes:
        tolerance: what new good images may differ by.
        protocol: "cross" or "split"; see `fit`.
        wanted: the promise that was asked for.
        align: how parts may lie: "none", "shift" or "turn"; see `fit`.
    """

    tolerance: Tolerance
    protocol: Literal["cross", "split"]
    wanted: Wanted
    align: str = "none"

    @property
    def is_crossed(self) -> bool:
        """Whether every image is learned from."""
        return self.protocol == "cross"


def check_protocol(calibrate: str | None) -> None:
    """Raise SettingError where what was asked for is no protocol."""
    if calibrate is not None and calibrate not in PROTOCOLS:
        raise SettingError(f"calibrate={calibrate[:40]} is unknown; give {' or '.join(PROTOCOLS)}")


def with_confidence(calibrate: str | None, confidence: float | None) -> str | None:
    """How good images calibrate where a confidence is wanted, which is proven of held-out images alone.

    Raises:
        SettingError: "cross" was asked for beside it.
    """
    if confidence is not None and calibrate == "cross":
        raise SettingError("a confidence holds for images that are held out; give calibrate=split, or leave one out")
    return calibrate if confidence is None else "split"


def share_of(given: float | None, calibrate: str | None) -> float:
    """The share of the images to hold out.

    Raises:
        SettingError: it would have no effect, or `calibrate` is no protocol.
    """
    check_protocol(calibrate)
    if calibrate == "cross" and given is not None:
        raise SettingError("held_out_share has no effect with calibrate=cross, which holds none out; leave one out")
    return HELD_OUT_SHARE if given is None else given


def protocol_of(
    calibrate: str | None, detector: Detector, good: Good, held_out_share: float | None
) -> Literal["cross", "split"]:
    """How good images calibrate: as it was asked for, or as suits the detector and the images.

    Args:
        calibrate: what was asked for; None = what suits.
        detector: that is to be fitted.
        good: the images, which may be divided already.
        held_out_share: what was asked for; a share to hold out means "split".

    Raises:
        SettingError: "cross" was asked for and is not possible.
    """
    if calibrate == "split":
        return "split"
    is_divided = good.given is not None and not good.given.is_drawn
    if calibrate == "cross":
        if is_divided:
            raise SettingError(
                "calibrate=cross came with images that are held out by the data set, a group or the caller; give "
                "calibrate=split, or leave it out"
            )
        if not detector.can_be_crossed:
            raise SettingError(
                f"calibrate=cross fits {detector.name} several times, which would take long; give calibrate=split, or "
                "leave it out"
            )
        return "cross"
    return "cross" if detector.can_be_crossed and not is_divided and held_out_share is None else "split"
