"""A turned steel flange with bolt holes and a brass locating pin; defects: a scratch, a stain, something misplaced."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unmask.samples.scene import blob, clouds, curve, grid, photograph, stroke

PART_DEFECTS = ("scratch", "stain", "misplaced")
# radii and distances as shares of the image's side
RIM, BORE, HOLE, PIN, BOLT_CIRCLE = 0.43, 0.135, 0.036, 0.021, 0.305
HOLES = 6
STEEL, BRASS = np.array([0.66, 0.675, 0.69], np.float32), np.array([0.78, 0.63, 0.33], np.float32)
BENCH, DARK = np.array([0.15, 0.16, 0.18], np.float32), np.array([0.06, 0.06, 0.07], np.float32)


@dataclass(frozen=True)
class Pose:
    """Where the flange lies and what is on it; angles in radians, lengths in shares of the side."""

    x: float
    y: float
    turn: float
    holes: tuple[tuple[float, float], ...] = field(
        default=tuple((2 * np.pi * number / HOLES, BOLT_CIRCLE) for number in range(HOLES))
    )  # (angle, distance from the middle)
    pin: tuple[float, float] | None = (np.pi / HOLES, 0.245)

    def place(self, size: int, polar: tuple[float, float]) -> tuple[float, float]:
        """Turn (angle, distance) on the part into (x, y) pixels from the image's centre."""
        angle = polar[0] + self.turn
        return (self.x + polar[1] * float(np.cos(angle))) * size, (self.y + polar[1] * float(np.sin(angle))) * size


def part(
    scene: np.random.Generator, size: int, defect: str, flaw: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Draw a flange and the pixels its defect covers; `scene` decides pose and light, `flaw` the defect."""
    x, y = scene.normal(0, 0.006, 2).tolist()
    pose = Pose(x, y, float(scene.normal(0, 0.05)))
    mask = np.zeros((size, size), dtype=bool)
    if defect == "misplaced":
        pose, mask = _misplaced(pose, size, flaw)
    flange, metal = _flange(scene, size, pose)
    if defect == "scratch":
        flange, mask = _scratch(flange, metal, pose, flaw)
    elif defect == "stain":
        flange, mask = _stain(flange, metal, pose, flaw)
    return photograph(flange, scene), mask


def _flange(
    rng: np.random.Generator, size: int, pose: Pose
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """Draw bench, shadow, turned face, chamfers, holes and pin; also the share of each pixel that is bare steel."""
    x, y = grid(size)
    radius, angle = np.hypot(x - pose.x * size, y - pose.y * size), np.arctan2(y - pose.y * size, x - pose.x * size)
    face = _turned_face(rng, size, radius, angle)
    shadow = np.clip((np.hypot(x - (pose.x + 0.012) * size, y - (pose.y + 0.018) * size) / size - RIM) / 0.03, 0, 1)
    grain = 1 + 0.05 * clouds(rng, size, size / 2, size / 2) + 0.05 * clouds(rng, size, 6, 6)
    picture = (BENCH * (grain * (0.35 + 0.65 * shadow))[..., None]).astype(np.float32)
    metal = _cover(RIM * size - radius) * _cover(radius - BORE * size)
    picture = _lay(picture, face, metal)
    lit = -(x - pose.x * size) * 0.5 - (y - pose.y * size) * 0.85  # towards the lamp, above left
    lean = lit / np.maximum(radius, 1)
    for edge, sign in ((RIM, 1.0), (BORE, -1.0)):
        band = _cover(0.008 * size - np.abs(radius - edge * size)) * metal
        picture = picture * (1 + 0.38 * sign * lean * band)[..., None]
    picture = picture.astype(np.float32)
    for hole in pose.holes:
        _bore_hole(picture, metal, pose.place(size, hole), HOLE * size)
    if pose.pin is not None:
        _set_pin(picture, metal, pose.place(size, pose.pin), PIN * size)
    return picture, metal


def _turned_face(
    rng: np.random.Generator, size: int, radius: Float[np.ndarray, "h w"], angle: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    """Light a lathe-turned face: grooves round the middle, which spread a lamp into two opposite fans."""
    fine, coarse = rng.normal(0, 1, 1024), rng.normal(0, 1, 128)
    grooves = 0.030 * np.interp(radius / size * 900, np.arange(1024), fine).astype(np.float32)
    grooves += 0.020 * np.interp(radius / size * 110, np.arange(128), coarse).astype(np.float32)
    lamp = rng.normal(-2.1, 0.08)
    fans = np.abs(np.cos(angle - lamp)) ** 6 * 0.30 + np.abs(np.cos(angle - lamp - 1.25)) ** 14 * 0.10
    level = 0.74 + fans + grooves * (1 + 1.5 * fans) + 0.012 * clouds(rng, size, 9, 9)
    return np.asarray(STEEL * level[..., None], dtype=np.float32)


def _bore_hole(picture: np.ndarray, metal: np.ndarray, at: tuple[float, float], radius: float) -> None:
    """Drill a hole, in place, with a chamfer that is dark towards the lamp and bright on the far side."""
    window, dx, dy = _around(picture, at, 1.28 * radius)
    far = np.hypot(dx, dy)
    lean = (dx * 0.5 + dy * 0.85) / np.maximum(far, 1)
    chamfer, inside = _cover(radius * 1.28 - far), _cover(radius - far)
    wall = DARK + (0.16 * np.clip(lean * far / radius, 0, 1) ** 2)[..., None] * STEEL
    rounded = _lay(picture[window], STEEL * (0.80 + 0.42 * lean)[..., None], chamfer)
    picture[window] = _lay(rounded, wall, inside)
    metal[window] *= 1 - chamfer


def _set_pin(picture: np.ndarray, metal: np.ndarray, at: tuple[float, float], radius: float) -> None:
    """Press in a domed brass pin, in place: a dark seat, a soft highlight."""
    window, dx, dy = _around(picture, at, 1.18 * radius)
    far = np.hypot(dx, dy)
    seat, inside = _cover(radius * 1.18 - far), _cover(radius - far)
    dome = 0.92 - (0.34 * dx * 0.5 + 0.34 * dy * 0.85) / radius
    gloss = 0.5 * np.exp(-((dx + 0.35 * radius) ** 2 + (dy + 0.45 * radius) ** 2) / (0.18 * radius**2))
    seated = _lay(picture[window], DARK * 2.2, seat)
    picture[window] = _lay(seated, BRASS * dome[..., None] + gloss[..., None], inside)
    metal[window] *= 1 - seat


def _around(
    picture: np.ndarray, at: tuple[float, float], reach: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Cut the window that a small disc touches, and the offsets of its pixels from the disc's middle."""
    size = picture.shape[0]
    column, row = at[0] + (size - 1) / 2, at[1] + (size - 1) / 2
    xs = np.arange(max(0, int(column - reach - 2)), min(size, int(column + reach + 3)))
    ys = np.arange(max(0, int(row - reach - 2)), min(size, int(row + reach + 3)))
    dx, dy = np.meshgrid((xs - column).astype(np.float32), (ys - row).astype(np.float32))
    return (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)), dx, dy


def _misplaced(pose: Pose, size: int, rng: np.random.Generator) -> tuple[Pose, Bool[np.ndarray, "h w"]]:
    """Leave out or move a hole or the pin; the mask holds its right place and, if it moved, the wrong one."""
    x, y = grid(size)

    def disc(polar: tuple[float, float], radius: float) -> Bool[np.ndarray, "h w"]:
        px, py = pose.place(size, polar)
        return np.hypot(x - px, y - py) <= radius * size

    missing, moved = rng.random() < 0.5, float(rng.choice((-1, 1)))
    if pose.pin is not None and rng.random() < 0.5:
        new = None if missing else (pose.pin[0] + moved * rng.uniform(0.12, 0.3), pose.pin[1] + rng.normal(0, 0.012))
        places = [pose.pin] if new is None else [pose.pin, new]
        return replace(pose, pin=new), np.any([disc(place, PIN * 1.18) for place in places], axis=0)
    number = int(rng.integers(len(pose.holes)))
    old = pose.holes[number]
    rest = (*pose.holes[:number], *pose.holes[number + 1 :])
    if missing:
        return replace(pose, holes=rest), disc(old, HOLE * 1.28)
    shifted = (old[0] + moved * rng.uniform(0.09, 0.2), old[1] + rng.normal(0, 0.01))
    return replace(pose, holes=(*rest, shifted)), disc(old, HOLE * 1.28) | disc(shifted, HOLE * 1.28)


def _scratch(
    picture: Float[np.ndarray, "h w 3"], metal: Float[np.ndarray, "h w"], pose: Pose, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Scratch the face: a bright burr beside a dark groove, thinning out at its ends."""
    size = picture.shape[0]
    middle = pose.place(size, (_between_holes(rng), rng.uniform(0.2, 0.37)))
    length, width = rng.uniform(0.10, 0.34) * size, rng.uniform(0.0035, 0.0075) * size
    points = curve(rng, middle, length, rng.uniform(0, np.pi), rng.normal(0, 0.25))
    taper = (width * (1 - 0.7 * np.abs(np.linspace(-1, 1, 16)) ** 2) * rng.uniform(0.8, 1.2, 16)).tolist()
    groove = stroke(size, points, taper) * metal
    burr = stroke(size, [(px + 0.8 * width, py + 0.8 * width) for px, py in points], taper) * metal * (1 - groove)
    strength = rng.uniform(0.4, 0.75)
    cut = picture * (1 - strength * groove)[..., None]
    return _lay(cut, STEEL * 1.35, burr * strength), (groove > 0.2) | (burr > 0.2)


def _stain(
    picture: Float[np.ndarray, "h w 3"], metal: Float[np.ndarray, "h w"], pose: Pose, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Leave a drop of oil or a bloom of rust on the steel, the grooves still visible."""
    size = picture.shape[0]
    middle = pose.place(size, (_between_holes(rng), rng.uniform(0.19, 0.38)))
    depth = blob(rng, size, middle, rng.uniform(0.028, 0.07) * size)
    soft = rng.uniform(0.006, 0.014) * size
    wet = np.clip(depth / soft + 0.5, 0, 1) * metal
    rim = np.exp(-((depth - soft) ** 2) / (2 * soft**2))
    tint = np.array(((0.35, 0.55, 0.85), (0.22, 0.60, 0.95), (0.65, 0.62, 0.55))[rng.integers(3)], np.float32)
    amount = wet * rng.uniform(0.4, 0.75) * (0.8 + 0.4 * rim + 0.10 * clouds(rng, size, 40, 40))
    return (picture * (1 - np.clip(amount, 0, 1)[..., None] * tint)).astype(np.float32), wet > 0.25


def _between_holes(rng: np.random.Generator) -> float:
    """An angle on the part where a defect has steel to lie on."""
    return float(2 * np.pi / HOLES * (rng.integers(HOLES) + 0.5 + rng.uniform(-0.2, 0.2)))


def _cover(depth: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The share of a pixel inside an edge that lies `depth` pixels away."""
    share: np.ndarray = np.clip(depth + 0.5, 0, 1)
    return share


def _lay(under: np.ndarray, over: np.ndarray, share: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    laid: np.ndarray = under + (over - under) * share[..., None]
    return laid
