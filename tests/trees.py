"""Tiny trees of image files for the tests of data sets."""

import hashlib

import numpy as np
from PIL import Image

from unmask import datasets
from unmask.errors import DatasetError


def put(path, seed=None, size=(6, 4), value=None, mode="RGB"):
    """Write a w x h image: noise that differs from path to path, or one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    w, h = size
    if value is None:
        seed = int.from_bytes(hashlib.sha256(path.as_posix().encode()).digest()[:4]) if seed is None else seed
        pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)
    else:
        pixels = np.full((h, w), value, np.uint8)
    Image.fromarray(pixels).convert(mode if value is None else "L").save(path)
    return path


def put_many(folder, count, suffix=".png"):
    return [put(folder / f"{number:03d}{suffix}") for number in range(count)]


def mark(path, pixels, size=(6, 4)):
    """Write a mask of w x h pixels whose first so many are defective."""
    w, h = size
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(np.arange(w * h) < pixels, 255, 0).astype(np.uint8).reshape(h, w)).save(path)
    return path


def names(paths):
    return sorted(path.name for path in paths)


def write_mvtec(root):
    """A tree of MVTec AD: 10 good images to learn from, 2 good and 3 cracked test images, 3 masks."""
    put_many(root / "train/good", 10)
    put_many(root / "test/good", 2)
    put_many(root / "test/crack", 3)
    for number in range(3):
        mark(root / f"ground_truth/crack/{number:03d}_mask.png", 5 + number)
    return root


def failure(path):
    """The message of a data set that is refused; empty for one that is read."""
    try:
        datasets.load(path)
    except DatasetError as error:
        return str(error)
    return ""
