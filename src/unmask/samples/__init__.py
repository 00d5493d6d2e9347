"""Two made-up data sets to try everything on: a woven fabric and a machined part, rendered from a seed.

scene.py    noise, coverage, and the camera
fabric.py   cut, stain, missing_thread
part.py     scratch, stain, misplaced
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from unmask.errors import DatasetError, SettingError
from unmask.imaging.images import encode_png
from unmask.imaging.writing import failing_as
from unmask.samples.fabric import FABRIC_DEFECTS, fabric
from unmask.samples.part import PART_DEFECTS, part

__all__ = ["KINDS", "draw", "render", "write"]

Painter = Callable[[np.random.Generator, int, str, np.random.Generator], tuple[np.ndarray, np.ndarray]]
KINDS: dict[str, tuple[Painter, tuple[str, ...]]] = {"fabric": (fabric, FABRIC_DEFECTS), "part": (part, PART_DEFECTS)}
ROLES = ("train", "good", "bad")


def draw(
    kind: str, defect: str, *, seed: int = 0, role: str = "bad", number: int = 0, size: int = 256
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Draw one image and its mask; the same arguments with another defect show the same object, damaged otherwise.

    Args:
        kind: "fabric" or "part".
        defect: "good", or a defect of the kind (`KINDS`).
        seed: of the data set.
        role: "train", "good" or "bad": each has its own images.
        number: which image of the role.
        size: its side in pixels.

    Returns:
        (size, size, 3) RGB bytes, and the (size, size) pixels that the defect covers.

    Raises:
        SettingError: there is no such kind, defect or role, or the size is below 64.
    """
    if kind not in KINDS:
        raise SettingError(f"no sample kind {kind!r}; there are {', '.join(KINDS)}")
    if seed < 0:
        raise SettingError(f"seed={seed} is out of range; samples take 0 or more")
    painter, defects = KINDS[kind]
    if defect not in ("good", *defects) or role not in ROLES or size < 64:
        wanted = f"a defect of good, {', '.join(defects)}, a role of {', '.join(ROLES)}, a size from 64"
        raise SettingError(f"cannot draw {defect!r} in role {role!r} at size {size}; wanted {wanted}")
    key = [seed, list(KINDS).index(kind), ROLES.index(role), number]
    return painter(np.random.default_rng([*key, 0]), size, defect, np.random.default_rng([*key, 1]))


def render(
    kind: str, out: Path, *, seed: int = 0, size: int = 256, n_train: int = 60, n_good: int = 15, n_bad: int = 20
) -> None:
    """Write one data set in the layout of MVTec AD; it appears whole or not at all.

    Args:
        kind: "fabric" or "part".
        out: the folder to write; it must be absent or empty.
        seed: the same seed writes the same images.
        size: side of the images in pixels.
        n_train: good images in train/good.
        n_good: good images in test/good.
        n_bad: defective images, the kinds of defect in turn.

    Raises:
        DatasetError: the folder holds something already.
        SettingError: there is no such kind, or the size is below 64.
    """
    _refuse_full(out)
    draw(kind, "good", seed=seed, size=size)  # a wrong setting stops here, before anything is written
    with failing_as(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".unmask-", dir=out.parent))
    try:
        defects = KINDS[kind][1]
        plan = [("train", "train/good", "good", number) for number in range(n_train)]
        plan += [("good", "test/good", "good", number) for number in range(n_good)]
        plan += [("bad", f"test/{defects[n % len(defects)]}", defects[n % len(defects)], n) for n in range(n_bad)]
        with failing_as(out):
            for role, folder, defect, number in plan:
                image, mask = draw(kind, defect, seed=seed, role=role, number=number, size=size)
                _put(draft / folder / f"{number:03d}.png", image)
                if defect != "good":
                    _put(draft / "ground_truth" / defect / f"{number:03d}_mask.png", mask * np.uint8(255))
            draft.chmod(0o755)  # mkdtemp made it private
            draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write(out: Path, *, seed: int = 0, size: int = 256, n_train: int = 60, n_good: int = 15, n_bad: int = 20) -> None:
    """Write both data sets, out/fabric and out/part; the arguments and errors are those of `render`."""
    for kind in KINDS:
        _refuse_full(out / kind)
    for kind in KINDS:
        render(kind, out / kind, seed=seed, size=size, n_train=n_train, n_good=n_good, n_bad=n_bad)


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} is not an empty folder; give a new one, nothing is overwritten")


def _put(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(array))
