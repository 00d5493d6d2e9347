"""Near-duplicates: which pairs real data sets hold, and which changes of a photograph leave it recognised.

Run from a checkout with the real images beside it:

    python benchmarks/near_duplicates.py ../shared/data
"""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from unmask.imaging.fingerprints import near_duplicates, signature
from unmask.imaging.images import decode, to_uint8
from unmask.imaging.listing import list_images

CHANGED = 40  # photographs of each set that are changed in every way


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, "JPEG", quality=quality)
    return decode(file.getvalue())


def noise(image: np.ndarray) -> np.ndarray:
    return np.clip(image + np.random.default_rng(0).normal(0, 1 / 255, image.shape), 0, 1).astype(np.float32)


def brightness(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: np.clip(image * np.float32(factor), 0, 1)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 95": lambda image: jpeg(image, 95),
    "JPEG 80": lambda image: jpeg(image, 80),
    "JPEG 60": lambda image: jpeg(image, 60),
    "1 px across": lambda image: np.roll(image, 1, 2),
    "1 px down": lambda image: np.roll(image, 1, 1),
    "+2 %": brightness(1.02),
    "-2 %": brightness(0.98),
    "noise 1/255": noise,
    "1 px both ways, +2 %, noise, JPEG 75": lambda image: jpeg(
        noise(brightness(1.02)(np.roll(image, (1, 1), (1, 2)))), 75
    ),
}


def main(root: Path) -> None:
    """One line a set: images, seconds, pairs, and how many of the changed photographs are found again."""
    print("set | images | pairs | " + " | ".join(CHANGES))
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        paths = [path for part in ("train", "test") for path in list_images(folder / part / "good")]
        signatures = [signature(decode(path)) for path in paths]
        chosen = np.random.default_rng(0).permutation(len(paths))[:CHANGED].tolist()
        found = []
        for change in CHANGES.values():
            changed = [signature(change(decode(paths[i]))) for i in chosen]
            pairs = set(near_duplicates([*signatures, *changed]))
            found.append(sum((one, len(paths) + k) in pairs for k, one in enumerate(chosen)))
        pairs = near_duplicates(signatures)
        print(f"{folder.name} | {len(paths)} | {len(pairs)} | " + " | ".join(f"{n}/{len(chosen)}" for n in found))
    many = list(np.random.default_rng(0).uniform(0, 1, (20_000, 40, 40)).astype(np.float16))
    start = time.perf_counter()
    near_duplicates(many)
    print(f"20,000 signatures: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
