"""A plain-woven linen under slanting light; defects: a cut, a stain, a missing thread."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unmask.samples.scene import blob, clouds, curve, grid, photograph, stroke

FABRIC_DEFECTS = ("cut", "stain", "missing_thread")
THREADS = 30.0  # across the image
WARP, WEFT = np.array([0.80, 0.74, 0.64], np.float32), np.array([0.72, 0.66, 0.57], np.float32)
BACKING = np.array([0.19, 0.175, 0.16], np.float32)


def fabric(
    scene: np.random.Generator, size: int, defect: str, flaw: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Draw a piece of fabric and the pixels its defect covers; `scene` decides the cloth, `flaw` the defect."""
    u, v = _threads(scene, size)
    mask = np.zeros((size, size), dtype=bool)
    gone = _missing_thread(flaw, u, v) if defect == "missing_thread" else (mask, mask)
    cloth = _weave(scene, u, v, *gone)
    if defect == "cut":
        cloth, mask = _cut(cloth, flaw)
    elif defect == "stain":
        cloth, mask = _stain(cloth, flaw)
    elif defect == "missing_thread":
        mask = gone[0] | gone[1]
    return photograph(cloth, scene), mask


def _threads(rng: np.random.Generator, size: int) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Give each pixel's place counted in warp threads (u) and weft threads (v): turned, shifted, unevenly beaten."""
    x, y = grid(size)
    angle, pitch = rng.normal(0, 0.02), size / THREADS * rng.uniform(0.98, 1.02)
    cos, sin = np.cos(angle), np.sin(angle)
    bow = rng.normal(0, 0.25) * (x / size) ** 2
    u = (x * cos + y * sin) / pitch + 100 + rng.uniform(0, 2) + 0.13 * clouds(rng, size, 6, 6)
    v = (y * cos - x * sin) / pitch + 100 + rng.uniform(0, 2) + 0.13 * clouds(rng, size, 6, 6) + 4 * bow
    return u.astype(np.float32), v.astype(np.float32)


def _weave(
    rng: np.random.Generator,
    u: Float[np.ndarray, "h w"],
    v: Float[np.ndarray, "h w"],
    no_warp: Bool[np.ndarray, "h w"],
    no_weft: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w 3"]:
    """Interlace round threads, each with its own thickness and tone, and light the relief from the upper left."""
    size = u.shape[0]
    warp, warp_tone = _yarn(rng, u, v, clouds(rng, size, THREADS, 5))
    weft, weft_tone = _yarn(rng, v, u + 1, clouds(rng, size, 5, THREADS))
    warp, weft = np.where(no_warp, -1.2, warp), np.where(no_weft, -1.2, weft)
    on_top, height = warp > weft, np.maximum(warp, weft)
    gy, gx = np.gradient(height * 2.2)
    light = (1 - 0.45 * gx - 0.55 * gy) / np.sqrt(1 + gx**2 + gy**2)
    depth = np.clip((height + 0.75) / 1.3, 0, 1)
    tone = np.where(on_top, warp_tone, weft_tone) * np.clip(light, 0.25, 1.35) * (0.36 + 0.64 * depth)
    cloth = np.where(on_top[..., None], WARP, WEFT) * tone[..., None]
    bare = np.clip(1 - (height + 1.0) / 0.35, 0, 1)[..., None]  # where no thread is left, the backing shows
    return np.asarray(cloth * (1 - bare) + BACKING * bare, dtype=np.float32)


def _yarn(
    rng: np.random.Generator, across: Float[np.ndarray, "h w"], along: Float[np.ndarray, "h w"], slub: np.ndarray
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Give one system of threads: its height, going over and under the other, and its tone with twist and slubs."""
    thread = np.floor(across)  # its number, kept as float32: mixed with int64 all that follows would be float64
    number = thread.astype(np.int64)
    thickness = rng.uniform(0.86, 1.0, 256).astype(np.float32)[number]
    tone = rng.normal(1, 0.022, 256).astype(np.float32)[number]
    side = 2 * (across - thread) - 1
    thick = np.clip(thickness + 0.05 * slub, 0.7, 1.05)
    height = 0.55 * np.sqrt(np.clip(1 - (side / thick) ** 2, 0, 1)) + 0.42 * np.sin(np.pi * (along + thread))
    height = np.where(np.abs(side) > thick, height - 0.3, height)
    twist = 0.06 * np.sin(2 * np.pi * (2.1 * along + 0.55 * side + 7.3 * thickness))
    return height, tone + twist + 0.028 * slub


def _missing_thread(
    rng: np.random.Generator, u: Float[np.ndarray, "h w"], v: Float[np.ndarray, "h w"]
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Choose a stretch of one thread; the pixels where the warp, or else the weft, is gone."""
    lengthwise = rng.random() < 0.5
    across, along = (u, v) if lengthwise else (v, u)
    number = 100 + np.floor(rng.uniform(-0.36, 0.36) * THREADS)
    start, length = 100 + rng.uniform(-0.5, 0.1) * THREADS, rng.uniform(0.3, 0.9) * THREADS
    gone = (np.floor(across) == number) & (along > start) & (along < start + length)
    nothing = np.zeros_like(gone)
    return (gone, nothing) if lengthwise else (nothing, gone)


def _cut(
    cloth: Float[np.ndarray, "h w 3"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Open a slit: the backing between two lips, a few loose fibres across."""
    size = cloth.shape[0]
    middle = tuple((rng.uniform(-0.32, 0.32, 2) * size).tolist())
    length, gape, angle = rng.uniform(0.12, 0.32) * size, rng.uniform(0.008, 0.02) * size, rng.uniform(0, np.pi)
    points = curve(rng, middle, length, angle, rng.normal(0, 0.12))
    swell = np.sqrt(np.clip(1 - np.linspace(-1, 1, 16) ** 2, 0.03, 1)) * rng.uniform(0.75, 1.25, 16)
    slit = stroke(size, points, (gape * swell).tolist())
    lips = np.array(points)[rng.integers(1, 16, int(length / size * 60))]
    fibres = stroke(size, [tuple(at) for at in lips + rng.normal(0, 0.7 * gape, lips.shape)], [size / 500] * len(lips))
    fibres = 0.5 * fibres * slit  # what crosses the opening; on the cloth itself a loose fibre cannot be seen
    opened = cloth + (BACKING - cloth) * slit[..., None]
    return opened + (0.9 * WARP - opened) * fibres[..., None], slit > 0.2


def _stain(
    cloth: Float[np.ndarray, "h w 3"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Soak a patch: darker and browner or greyer, strongest at its rim, the weave still visible."""
    size = cloth.shape[0]
    middle = tuple((rng.uniform(-0.33, 0.33, 2) * size).tolist())
    depth = blob(rng, size, middle, rng.uniform(0.035, 0.10) * size)
    soft = 0.012 * size
    soaked = np.clip(depth / soft + 0.5, 0, 1)
    rim = np.exp(-((depth - soft) ** 2) / (2 * soft**2))
    tint = np.array(((0.55, 0.66, 0.85), (0.7, 0.7, 0.7), (0.35, 0.5, 0.6))[rng.integers(3)], np.float32)
    amount = (soaked * rng.uniform(0.3, 0.62) * (0.75 + 0.45 * rim))[..., None]
    return (cloth * (1 - amount * tint)).astype(np.float32), soaked > 0.25
