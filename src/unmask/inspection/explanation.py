"""The steps of a detector's explanation to frames, which are pictures with captions, and to an animation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from unmask.imaging.images import decode, heat, overlay, resize_map, to_uint8
from unmask.types import AnomalyResult, Frame, Step

ANIMATIONS = "explain"  # their folder inside a report
LARGEST = 512  # pixels of a frame's longer side
SHOWN = 300  # pixels of the longer side in an animation: four pictures side by side fit on a screen
NARROWEST = 120  # pixels that a caption needs
GAP, TITLE, CAPTION = 8, 22, 16  # pixels: between things, and of letters
PAPER, INK, SOFT = (11, 13, 15), (236, 238, 240), (160, 168, 177)
MILLISECONDS, LAST = 1000, 2500  # of a step, and of the last one


def stretched(image: Float[np.ndarray, "3 s s"], h: int, w: int) -> UInt8[np.ndarray, "h w 3"]:
    """A detector's square picture at the size of the image it belongs to."""
    return np.asarray(Image.fromarray(to_uint8(image)).resize((w, h), Image.Resampling.BICUBIC))


def frames(steps: Sequence[Step], image: Float[np.ndarray, "3 s s"], h: int, w: int) -> tuple[Frame, ...]:
    """Draw each step's pictures, and its maps as heat over the image.

    Args:
        steps: of one image, as the detector gives them.
        image: as the detector saw it.
        h: the image's own height in pixels.
        w: its own width.
    """
    reduced = min(1.0, LARGEST / max(h, w))
    h, w = max(1, round(reduced * h)), max(1, round(reduced * w))
    return tuple(_frame(step, image, h, w) for step in steps)


def _frame(step: Step, image: Float[np.ndarray, "3 s s"], h: int, w: int) -> Frame:
    pictures = {caption: stretched(picture.numpy(), h, w) for caption, picture in step.pictures.items()}
    photo, nothing = decode(stretched(image, h, w)), np.zeros((h, w), bool)
    for caption, one in step.maps.items():
        pictures[caption] = overlay(photo, heat(resize_map(one.numpy(), h, w)), nothing, strength=0.65)
    return Frame(step.title, pictures)


def animate(report: Path, index: int, result: AnomalyResult) -> str:
    """Write the animation of one explained result into a report's folder.

    Returns:
        Its address relative to the report's page.
    """
    stem = "image" if result.path is None else re.sub(r"[^\w.-]+", "_", result.path.stem)[:40]
    name = f"{index + 1:04d}-{stem}.webp"
    (report / ANIMATIONS).mkdir(exist_ok=True)
    write_animation(report / ANIMATIONS / name, result.explanation)
    return f"{ANIMATIONS}/{quote(name)}"


def holds_animations(folder: Path) -> bool:
    """Whether a folder holds animations, and nothing else."""
    return folder.is_dir() and all(one.suffix == ".webp" and one.is_file() for one in folder.iterdir())


def write_animation(path: Path, explanation: Sequence[Frame]) -> None:
    """Write an animated WebP that loops: a strip a step, its pictures side by side, the last one shown for longer.

    Args:
        path: of the file.
        explanation: at least one frame. A single one becomes a still picture.
    """
    strips = [_strip(frame) for frame in explanation]
    size = max(strip.width for strip in strips), max(strip.height for strip in strips)
    first, *rest = (
        ImageOps.expand(strip, (0, 0, size[0] - strip.width, size[1] - strip.height), PAPER) for strip in strips
    )
    times = [MILLISECONDS] * len(rest) + [LAST]
    first.save(path, "WEBP", save_all=True, append_images=rest, duration=times, loop=0, quality=80, method=2)


def _strip(frame: Frame) -> Image.Image:
    """The title, and below it the pictures from left to right, each over its caption."""
    title, caption = ImageFont.load_default(TITLE), ImageFont.load_default(CAPTION)
    pictures = [ImageOps.contain(Image.fromarray(one), (SHOWN, SHOWN)) for one in frame.pictures.values()]
    widths = [max(NARROWEST, picture.width) + GAP for picture in pictures]
    top, height = TITLE + 2 * GAP, max((picture.height for picture in pictures), default=0)
    width = max(sum(widths), round(title.getlength(frame.title)) + GAP) + GAP
    strip = Image.new("RGB", (width, top + height + CAPTION + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((GAP, GAP // 2), frame.title, INK, title)
    for i, (words, picture) in enumerate(zip(frame.pictures, pictures, strict=True)):
        x = GAP + sum(widths[:i])
        strip.paste(picture, (x, top))
        draw.text((x, top + height + GAP // 2), words, SOFT, caption)
    return strip
