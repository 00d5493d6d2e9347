"""Where a part lies in a photograph: its edges' directions are correlated with those of good parts, at any angle.

A field holds the gradient of each pixel of a reduced, grey image, with its length brought near 0 or 1, so that neither
light nor contrast count (orientation correlation: Fitch, Kadyrov, Christmas and Kittler, BMVC 2002). The template is
the mean field of aligned good images, in which what they do not share cancels out. It is turned in steps beforehand;
one product of Fourier transforms then gives the agreement at every shift and step. The best few are refined by
Gauss-Newton steps (inverse compositional: Baker and Matthews, IJCV 2004), and the best of those is the pose.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float
from PIL import Image

from unmask.imaging.poses import Pose

LONGER = 128  # pixels of the longer side of a template
REACH = 0.3  # of a side, by which a part may lie away: a quarter, and some for good ones that do not lie in the middle
STEP = 6  # degrees between two turned templates
CANDIDATES = 4
ROUGH_STEPS, FINE_STEPS = 3, 3  # of Gauss-Newton, at half the template's size and at its size
CLOSE = 0.05  # pixels of a step that ends the refinement
STRAIGHT = 0.25  # degrees, below which a part is not turned: a turn interpolates every pixel
LEAST_SEEN = 0.3  # of the template, in the photograph

Field = Float[np.ndarray, "2 h w"]


def grey(image: Float[np.ndarray, "3 _h _w"], h: int, w: int) -> Float[np.ndarray, "h w"]:
    """The mean of an image's channels at h x w pixels."""
    step = max(1, min(image.shape[1] // (4 * h), image.shape[2] // (4 * w)))
    mean = np.ascontiguousarray(image[:, ::step, ::step].mean(0))
    return np.asarray(Image.fromarray(mean).resize((w, h), Image.Resampling.BILINEAR))


def field_of(picture: Float[np.ndarray, "h w"]) -> Field:
    """The direction of the gradient of each pixel, x first; as long as it stands out from the image's typical one."""
    padded = np.pad(picture, 1, "edge")
    smooth_y = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    smooth_x = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    gradient = np.stack([smooth_y[:, 2:] - smooth_y[:, :-2], smooth_x[2:] - smooth_x[:-2]])
    length = np.hypot(*gradient)
    usual = max(float(np.sqrt(np.mean(length**2))), 1e-6)
    field: np.ndarray = gradient / np.float32(usual) / (1 + length / np.float32(usual))
    return field


class Found(NamedTuple):
    """A pose that is being refined.

    Attributes:
        right: share of the width.
        down: share of the height.
        radians: counter-clockwise.
    """

    right: float
    down: float
    radians: float


class Matcher:
    """Finds a part by its template.

    Args:
        template: mean field of good parts in the usual pose.
        turn: whether the part may be turned by any angle.
    """

    def __init__(self, template: Field, *, turn: bool) -> None:
        self.turn, self.fine, self.rough = turn, _Level(template, turn=turn), _Level(_halved(template), turn=turn)
        h, w = self.rough.template.shape[1:]
        self.size = 2 * math.ceil((math.hypot(h, w) / 2 + (0.5 + REACH) * max(h, w)) / 2)  # no shift wraps around
        self.degrees = np.arange(-180, 180, STEP) if turn else np.zeros(1)
        turned = np.stack([self.rough.turned(math.radians(angle), self.size) for angle in self.degrees])
        self.spectra: Complex[np.ndarray, "a 2 n m"] = np.fft.rfft2(np.fft.ifftshift(turned, axes=(2, 3))).conj()

    def find(self, field: Field) -> Pose | None:
        """The pose of the part in a photograph of the template's size; None where nothing agrees."""
        halved = _halved(field)
        rough = [self.rough.refined(halved, one, ROUGH_STEPS) for one in self._candidates(halved)]
        allowed = [one for one in rough if max(abs(one.right), abs(one.down)) <= REACH]
        if not allowed:
            return None
        best = max(allowed, key=lambda one: self.rough.pose(halved, one).similarity)
        pose = self.fine.pose(field, self.fine.refined(field, best, FINE_STEPS))
        return pose if max(abs(pose.right), abs(pose.down)) <= REACH and pose.seen >= LEAST_SEEN else None

    def at_rest(self, field: Field) -> Pose:
        """The usual pose, with how well a photograph agrees there."""
        return self.fine.pose(field, Found(0, 0, 0))

    def rivalry(self, field: Field) -> float:
        """How well the second best place or angle agrees, as a share of the best: near 1 on a texture that repeats."""
        halved = _halved(field)
        best = [self.rough.pose(halved, one).similarity for one in self._candidates(halved)[:2]]
        return best[1] / best[0] if len(best) > 1 and best[0] > 0 else 1.0

    def seen(self, pose: Pose) -> Bool[np.ndarray, "h w"]:
        """Which pixels of the usual pose a photograph shows."""
        return self.fine.seen(Found(pose.right, pose.down, math.radians(pose.degrees)))

    def in_usual_pose(self, field: Field, pose: Pose) -> Field:
        """A photograph's field, turned and shifted as its part would lie in the usual pose."""
        return self.fine.warped(field, Found(pose.right, pose.down, math.radians(pose.degrees)))

    def _candidates(self, field: Field) -> list[Found]:
        """The shifts and steps of the angle where a field agrees best, each apart from the others."""
        h, w = field.shape[1:]
        top, left = (self.size // 2 - side // 2 for side in (h, w))
        canvas = np.zeros((2, self.size, self.size), np.float32)
        canvas[:, top : top + h, left : left + w] = field
        spectrum = np.fft.rfft2(np.fft.ifftshift(canvas, axes=(1, 2)))
        agreement = np.fft.irfft2((self.spectra * spectrum).sum(1), (self.size, self.size))
        y, x = math.floor(REACH * h), math.floor(REACH * w)
        agreement = np.roll(agreement, (y, x), (1, 2))[:, : 2 * y + 1, : 2 * x + 1]
        found = []
        for _ in range(CANDIDATES):
            angle, down, right = (int(i) for i in np.unravel_index(int(agreement.argmax()), agreement.shape))
            if not agreement[angle, down, right] > 0:
                break
            found.append(Found((right - x) / w, (down - y) / h, math.radians(self.degrees[angle])))
            apart = np.abs((self.degrees - self.degrees[angle] + 180) % 360 - 180)
            near = slice(max(0, down - 4), down + 5), slice(max(0, right - 4), right + 5)
            agreement[apart <= 2 * STEP, *near] = 0
        return found


class _Level:
    """A template at one size, with what refines a pose there.

    Args:
        template: mean field of good parts.
        turn: whether the angle is refined too.
    """

    def __init__(self, template: Field, *, turn: bool) -> None:
        self.template, self.turn = template, turn
        self.h, self.w = template.shape[1:]
        y, x = np.mgrid[: self.h, : self.w] + 0.5
        y, x = y - self.h / 2, x - self.w / 2
        gy, gx = np.gradient(template, axis=1), np.gradient(template, axis=2)
        around = gx * y - gy * x + np.stack([-template[1], template[0]])  # the pixel moves, and its vector turns
        self.slopes = np.stack([gx, gy, around] if turn else [gx, gy]).astype(np.float32)
        self.length = np.hypot(*template)
        self.total = max(float(self.length.sum()), 1e-6)

    def turned(self, radians: float, size: int) -> Float[np.ndarray, "2 n n"]:
        """The template turned counter-clockwise about its centre, in the middle of a square canvas."""
        cos, sin, half = math.cos(radians), math.sin(radians), size / 2
        way = (cos, -sin, self.w / 2 - cos * half + sin * half, sin, cos, self.h / 2 - sin * half - cos * half)
        x, y = (_sampled(plane, way, size, size) for plane in self.template)
        return np.stack([cos * x + sin * y, cos * y - sin * x])

    def refined(self, field: Field, start: Found, steps: int) -> Found:
        """A pose after some steps towards the best agreement nearby."""
        at, matrix = start, np.zeros((0, 0))
        for number in range(steps):
            here = self.warped(field, at)
            if not number:
                seen = self.seen(at)
                slopes = (self.slopes * seen).reshape(len(self.slopes), -1)
                matrix = np.linalg.inv(slopes @ slopes.T + 1e-4 * np.eye(len(slopes)))
            gain = max(float((here * self.template).sum()) / max(float((here * here).sum()), 1e-9), 0.05)
            step = matrix @ (slopes @ (gain * here - self.template).ravel())
            dx, dy, turn = float(step[0]), float(step[1]), float(step[2]) if self.turn else 0.0
            cos, sin = math.cos(at.radians), math.sin(at.radians)
            right, down = at.right - (cos * dx + sin * dy) / self.w, at.down - (cos * dy - sin * dx) / self.h
            at = Found(right, down, at.radians - turn)
            if abs(dx) + abs(dy) + abs(turn) * max(self.h, self.w) / 2 < CLOSE:
                break
        return at

    def warped(self, field: Field, at: Found) -> Field:
        """A photograph's field in the usual pose; 0 outside of the photograph."""
        cos, sin = math.cos(at.radians), math.sin(at.radians)
        way = Pose(at.right, at.down, math.degrees(at.radians)).to_photograph(self.h, self.w)
        if not at.radians:
            way = (1, 0, at.right * self.w, 0, 1, at.down * self.h)
        x, y = (_sampled(plane, way, self.h, self.w) for plane in field)
        return np.stack([cos * x - sin * y, sin * x + cos * y])

    def pose(self, field: Field, at: Found) -> Pose:
        """A pose with its agreement, in degrees."""
        seen = float((self.length * self.seen(at)).sum())
        agreement = float((self.warped(field, at) * self.template).sum()) / max(seen, 1e-6)
        degrees = (math.degrees(at.radians) + 180) % 360 - 180
        degrees = 0.0 if abs(degrees) < STRAIGHT else degrees
        return Pose(at.right, at.down, degrees, agreement, min(1.0, seen / self.total))

    def seen(self, at: Found) -> Bool[np.ndarray, "h w"]:
        """Which pixels of the usual pose lie in the photograph."""
        a, b, c, d, e, f = Pose(at.right, at.down, math.degrees(at.radians) or 1e-9).to_photograph(self.h, self.w)
        y, x = np.arange(self.h, dtype=np.float32)[:, None] + 0.5, np.arange(self.w, dtype=np.float32)[None] + 0.5
        px, py = a * x + b * y + c, d * x + e * y + f
        inside: np.ndarray = (px >= 0) & (px <= self.w) & (py >= 0) & (py <= self.h)
        return inside


def _halved(field: Field) -> Float[np.ndarray, "2 _h _w"]:
    h, w = (side // 2 * 2 for side in field.shape[1:])
    even = field[:, :h, :w]
    halved: np.ndarray = (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
    return halved


def _sampled(plane: Float[np.ndarray, "_h _w"], way: tuple[float, ...], h: int, w: int) -> Float[np.ndarray, "h w"]:
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.transform((w, h), Image.Transform.AFFINE, way, Image.Resampling.BILINEAR))
