"""Outlines to pixels: polygons and runs, as annotation files hold them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from PIL import Image

from unmask.types import Outlines


def drawn(outlines: Outlines, w: int, h: int) -> Bool[np.ndarray, "h w"]:
    """Draw the union of all outlines at w x h pixels; a pixel is inside where its centre is."""
    width, height = outlines.size
    inside = np.zeros((h, w), bool)
    for polygon in outlines.polygons:
        corners = np.array(polygon, np.float64).reshape(-1, 2) * (w / width, h / height)
        top, bottom = _rows(corners[:, 1], h)
        inside[top:bottom] |= _polygon(corners - (0, top), w, bottom - top)
    for runs in outlines.runs:
        inside |= scaled(_region(runs, outlines), w, h)
    return inside


def _polygon(corners: np.ndarray, w: int, h: int) -> Bool[np.ndarray, "h w"]:
    """Fill a polygon of (n, 2) corners: each row changes between outside and inside where it crosses an edge."""
    changes = np.zeros((h, w + 1), np.int64)
    ends = np.roll(corners, -1, axis=0)
    for (x0, y0), (x1, y1) in zip(corners, ends, strict=True):
        top, bottom = _rows(np.array([y0, y1]), h)
        rows = np.arange(top, bottom)
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(changes, (rows, np.clip(np.ceil(x - 0.5), 0, w).astype(int)), 1)
    return np.asarray(np.cumsum(changes[:, :w], axis=1) % 2 == 1)


def _rows(y: np.ndarray, h: int) -> tuple[int, int]:
    """The first row whose centre lies between the least and the greatest y, and the one after the last."""
    top, bottom = np.clip(np.ceil(np.array([y.min(), y.max()]) - 0.5), 0, h)
    return int(top), int(bottom)


def _region(runs: tuple[int, ...], outlines: Outlines) -> Bool[np.ndarray, "_ _"]:
    width, height = outlines.size
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def scaled(mask: Bool[np.ndarray, "_h _w"], w: int, h: int) -> Bool[np.ndarray, "h w"]:
    """Bring a mask to w x h pixels by the nearest of its pixels."""
    if mask.shape == (h, w):
        return mask
    return np.array(Image.fromarray(mask).resize((w, h), Image.Resampling.NEAREST))
