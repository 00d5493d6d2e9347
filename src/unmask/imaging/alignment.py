"""Alignment: what a model file keeps of the usual pose of a part, and photographs brought to it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from unmask.errors import SettingError
from unmask.imaging.images import encode_png, resize, resize_map, to_uint8
from unmask.imaging.matching import Field, Matcher, field_of, grey
from unmask.imaging.poses import NOT_FOUND, Pose, brought, returned

WAYS = ("none", "shift", "turn")
LARGEST_PICTURE = 512  # pixels of the longer side of the good part that a model file keeps


class Posed(NamedTuple):
    """An image with its part in the usual pose.

    Attributes:
        image: (3, h, w) RGB float32 in [0, 1].
        pose: of the part in the photograph; None = it was not found, and the image is as it was.
        notes: on the pose, one line each.
    """

    image: Float[np.ndarray, "3 h w"]
    pose: Pose | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alignment:
    """The usual pose of a part, learned from good images alone.

    Attributes:
        way: how a part may lie: "shift" (away by up to a quarter of the image) or "turn" (at any angle too).
        template: the mean field of good images (see `matching`), a PNG file in base 64: x above y, 128 = 0.
        view: which pixels of the usual pose are judged, a PNG file in base 64, white = those that good images show.
        pictures: good parts in the usual pose, PNG or JPEG files in base 64; they fill what a photograph does not show.
        least: of the similarity, below which a part counts as not found.

    Raises:
        SettingError: the way is unknown.
    """

    way: str
    template: str
    view: str
    pictures: tuple[str, ...]
    least: float

    def __post_init__(self) -> None:
        check_way(self.way)

    @classmethod
    def of(
        cls,
        way: str,
        template: Field,
        view: Bool[np.ndarray, "h w"],
        pictures: Sequence[Float[np.ndarray, "3 _h _w"]] = (),
        least: float = 0.0,
    ) -> Alignment:
        """An alignment of arrays; the template's values are kept with eight bits, pictures of one size reduced."""
        stacked = np.rint(128 + 127 * np.clip(template.reshape(-1, template.shape[2]), -1, 1)).astype(np.uint8)
        white = np.where(view, np.uint8(255), np.uint8(0))
        kept = tuple(_smallest(_reduced(one)) for one in pictures)
        return cls(way, _text(encode_png(stacked)), _text(encode_png(white)), kept, least)

    def pose_of(self, image: Float[np.ndarray, "3 _h _w"]) -> Pose | None:
        """How the part lies in a photograph; None where it is not found."""
        pose = self.matcher.find(self.field_of(image))
        return None if pose is None or pose.similarity < self.least else pose

    def posed(self, image: Float[np.ndarray, "3 h w"]) -> Posed:
        """A photograph with its part in the usual pose; as it is, with a note, where the part is not found."""
        pose = self.pose_of(image)
        if pose is None:
            return Posed(image, None, (NOT_FOUND,))
        view = resize_map(self.judged, *image.shape[1:])
        return Posed(brought(image, pose, view, self.good_parts), pose, pose.notes)

    def returned(self, anomaly: Float[np.ndarray, "h w"], pose: Pose) -> Float[np.ndarray, "h w"]:
        """A map of the usual pose, in the photograph's own; where nothing was judged it has its least value."""
        inside = resize_map(self.judged, *anomaly.shape) > 0.5
        return returned(np.where(inside, anomaly, anomaly.min()), pose)

    def field_of(self, image: Float[np.ndarray, "3 _h _w"]) -> Field:
        """The field of a photograph, at the size of the template."""
        return field_of(grey(image, *self.matcher.fine.template.shape[1:]))

    @cached_property
    def matcher(self) -> Matcher:
        """What finds the part."""
        stacked = (_pixels(self.template, "L").astype(np.float32) - 128) / 127
        return Matcher(stacked.reshape(2, -1, stacked.shape[1]), turn=self.way == "turn")

    @cached_property
    def judged(self) -> Float[np.ndarray, "h w"]:
        """1 in the pixels of the usual pose that are judged, 0 elsewhere, at the size of the template."""
        return _pixels(self.view, "L").astype(np.float32) / np.float32(255)

    @cached_property
    def good_parts(self) -> list[Float[np.ndarray, "3 _h _w"]]:
        """Good parts in the usual pose."""
        found = [_pixels(one, "RGB").transpose(2, 0, 1) for one in self.pictures]
        return [np.ascontiguousarray(one, np.float32) / np.float32(255) for one in found]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "pictures": list(self.pictures)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Alignment:
        """The inverse of `to_dict`; what is damaged shows here, and not with the first image."""
        found = cls(**{**values, "pictures": tuple(values["pictures"])})
        assert found.matcher.fine.template.shape[1:] == found.judged.shape and found.good_parts  # noqa: S101, PT018
        return found


def check_way(way: str) -> None:
    """Raise SettingError unless a user's word for an alignment is known."""
    if way not in WAYS:
        raise SettingError(f"align={way} is unknown; give {', '.join(WAYS[:-1])} or {WAYS[-1]}")


def _reduced(picture: Float[np.ndarray, "3 _h _w"]) -> UInt8[np.ndarray, "_rh _rw 3"]:
    scale = min(1.0, LARGEST_PICTURE / max(picture.shape[1:]))
    h, w = (max(1, round(scale * side)) for side in picture.shape[1:])
    return to_uint8(resize(picture, h, w))


def _smallest(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """As PNG, or as JPEG where that is smaller: a photograph is, a drawing is not."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    return _text(min(encode_png(pixels), file.getvalue(), key=len))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _pixels(text: str, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=("PNG", "JPEG")) as picture:
        return np.asarray(picture.convert(mode))
