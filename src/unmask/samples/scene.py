"""What the made-up scenes share: coordinates, soft noise, soft shapes, and the camera that takes the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw


def grid(size: int) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Give x and y of each pixel's centre, measured from the image's centre, in pixels."""
    at = np.arange(size, dtype=np.float32) - (size - 1) / 2
    x, y = np.meshgrid(at, at)
    return x, y


def clouds(rng: np.random.Generator, size: int, columns: float, rows: float) -> Float[np.ndarray, "h w"]:
    """Make soft noise of about unit deviation with so many independent columns and rows across the image."""
    coarse = rng.standard_normal((round(rows) + 3, round(columns) + 3)).astype(np.float32)
    shift_x, shift_y = rng.uniform(0, 1, 2)
    window = (1 + shift_x, 1 + shift_y, 1 + shift_x + columns, 1 + shift_y + rows)
    return np.array(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC, box=window))


def blob(rng: np.random.Generator, size: int, at: tuple[float, float], radius: float) -> Float[np.ndarray, "h w"]:
    """Give the depth in pixels inside an irregular blob: positive inside, zero on its edge, negative outside.

    Args:
        rng: decides the outline.
        size: side of the image in pixels.
        at: its middle, (x, y) from the image's centre.
        radius: its mean radius in pixels.
    """
    x, y = grid(size)
    dx, dy = x - at[0], y - at[1]
    angle, stretch, turn = np.arctan2(dy, dx), rng.uniform(1.0, 1.5), rng.uniform(0, np.pi)
    far = np.hypot(dx, dy) * (1 + (stretch - 1) * np.sin(angle - turn) ** 2)
    outline = sum(rng.normal(0, 0.18 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi)) for wave in range(2, 7))
    return (radius * (1 + outline) - far + clouds(rng, size, size / 12, size / 12) * 0.07 * radius).astype(np.float32)


def stroke(size: int, points: Sequence[tuple[float, float]], widths: Sequence[float]) -> Float[np.ndarray, "h w"]:
    """Draw a polyline of varying width, antialiased: the share of each pixel that is covered, in [0, 1].

    Args:
        size: side of the image in pixels.
        points: (x, y) from the image's centre, in pixels.
        widths: in pixels, one a segment.
    """
    fine = 4
    canvas = Image.new("L", (size * fine, size * fine))
    pen = ImageDraw.Draw(canvas)
    corners = [((px + size / 2) * fine, (py + size / 2) * fine) for px, py in points]
    for start, end, width in zip(corners, corners[1:], widths, strict=False):
        pen.line([start, end], fill=255, width=max(1, round(width * fine)))
        half = width * fine / 2
        pen.ellipse([end[0] - half, end[1] - half, end[0] + half, end[1] + half], fill=255)
    return np.asarray(canvas.reduce(fine), dtype=np.float32) / 255


def curve(
    rng: np.random.Generator, middle: tuple[float, float], length: float, angle: float, bend: float
) -> list[tuple[float, float]]:
    """Lay 17 points along a slightly bent, slightly shaky line."""
    along = np.linspace(-0.5, 0.5, 17)
    across = bend * length * (0.25 - along**2) + np.cumsum(rng.normal(0, 0.004 * length, 17))
    cos, sin = np.cos(angle), np.sin(angle)
    xs = middle[0] + length * along * cos - across * sin
    ys = middle[1] + length * along * sin + across * cos
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def photograph(
    scene: Float[np.ndarray, "h w 3"], rng: np.random.Generator, *, blur: float = 0.55
) -> UInt8[np.ndarray, "h w 3"]:
    """Take the picture: uneven light, exposure, the lens's blur (pixels), sensor noise, 8 bits."""
    from scipy.ndimage import gaussian_filter1d

    size = scene.shape[0]
    x, y = grid(size)
    slope, direction = rng.uniform(0.01, 0.05), rng.uniform(0, 2 * np.pi)
    light = 1 + slope * (x * np.cos(direction) + y * np.sin(direction)) / (size / 2)
    light -= 0.05 * (x**2 + y**2) / (size**2 / 2)  # the lens darkens towards the corners
    seen = scene * (light * rng.uniform(0.96, 1.04))[..., None]
    seen = gaussian_filter1d(gaussian_filter1d(seen, blur, axis=0, truncate=3), blur, axis=1, truncate=3)
    noise = rng.standard_normal((size, size, 1), dtype=np.float32) * 0.010
    noise = noise + rng.standard_normal(seen.shape, dtype=np.float32) * 0.004
    pixels: np.ndarray = np.rint(np.clip(seen + noise, 0, 1) * 255).astype(np.uint8)
    return pixels
