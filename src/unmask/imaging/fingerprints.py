"""A hash of an image's pixels, and a signature that finds the same scene again.

The signature is a small picture: the brightness of an image in 40 x 40 cells, each an average with Gaussian weights (a
standard deviation of 1.25 cells), so that an image moved by a pixel moves its signature smoothly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

CELLS = 40  # of a signature's side
WIDTH = 1.25  # standard deviation of a cell's weights, in cells
EDGE = 2  # cells at each border that are not compared: a shift brings new content in there
MOST_APART = 0.025  # one minus the correlation of what sets two images apart from their set
MOST_DIFFERENT = 0.8 / 255  # root mean square of what differs between two images, as a share of full scale
FLAT = 0.5 / 255  # an image with less contrast than this holds nothing to compare
SAME = 2 / 255  # by which no cell of one picture, saved or photographed again, differs
NOISY = 3 / 255  # root mean square of what noise changes in one picture
SAME_DETAIL = 0.8  # correlation of the edges of one picture, saved twice
SHIFTS = 40  # directions in which small shifts move a set's signatures
SHIFTED = 256  # images that these directions are found from
ROWS = 128  # images compared with all others at a time
MOST_PAIRS = 200_000


def content_hash(pixels: np.ndarray) -> str:
    """Sixteen hexadecimal digits of an image's pixel values: equal pictures have equal hashes in every lossless format.

    Args:
        pixels: (h, w) or (h, w, c) as `images.pixels_of` gives them; grey is equal to the same grey in three channels.
    """
    if pixels.ndim == 2 or pixels.shape[-1] == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=-1)
    digest = hashlib.blake2b(f"{pixels.dtype} {pixels.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def signature(image: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "40 40"]:
    """Reduce an image to its brightness in 40 x 40 smooth cells, for `near_duplicates`; 3,200 bytes (float16).

    Args:
        image: RGB float32 in [0, 1], as `images.decode` gives it, of any size.
    """
    grey = image.mean(axis=0)
    cells: np.ndarray = _weights(grey.shape[0]) @ grey @ _weights(grey.shape[1]).T
    return cells.astype(np.float16)


def near_duplicates(signatures: Sequence[Float[np.ndarray, "40 40"]]) -> list[tuple[int, int]]:
    """Find the pairs of images that show the same scene: bursts, video frames, copies that were encoded again.

    A pair must be alike in what sets its two images apart from the rest of the set, not in what all images of a part in
    one pose have in common. Signatures are brought to equal brightness and contrast; the set's mean is taken off them,
    and so is what a small shift or another tone curve changes. Two distances are taken of what is left: one minus the
    correlation, as a share of 0.025, and the root mean square of the difference, as a share of 0.8 of 255 grey levels.
    A pair is one whose two shares add up to less than one.

    The same photograph is found again after JPEG of quality 60 to 95, a shift of one pixel of 256, 2 % more or less
    brightness, or noise of one grey level; not after a turn, a crop or a shift of several pixels. Nothing is found
    among fewer than three images, or in a set that consists of one scene only: then nothing sets images apart.

    Args:
        signatures: one for each image, from `signature`.

    Returns:
        Pairs of indices (i, j), i < j, in rising order; at most 200,000 of them.
    """
    pairs: list[tuple[int, int]] = []
    for start, alike in _alike(signatures):
        found = np.argwhere(np.triu(alike, 1))[: MOST_PAIRS - len(pairs)]
        pairs += [(start + i, start + j) for i, j in found.tolist()]
    return pairs


def scenes(signatures: Sequence[Float[np.ndarray, "40 40"]]) -> list[int]:
    """Number the scenes that images show: images that near-duplicates connect show one scene.

    Args:
        signatures: one for each image, from `signature`.

    Returns:
        For each image, the index of the first image of its scene.
    """
    scene = np.arange(len(signatures))
    for start, alike in _alike(signatures):
        for i, row in enumerate(alike, start):
            connected = np.unique(scene[start:][row | (np.arange(start, len(scene)) == i)])
            if len(connected) > 1:
                scene[np.isin(scene, connected)] = connected[0]
    found: list[int] = scene.tolist()
    return found


def are_equal_in_the_large(signatures: Sequence[Float[np.ndarray, "40 40"]]) -> bool:
    """Whether no cell of any image differs by two grey levels of 255 from the first image's.

    `near_duplicates` cannot tell, for nothing sets such images apart from their set. Fine textures can be equal in the
    large and differ in detail, see `is_one_picture`.

    Args:
        signatures: one for each image, from `signature`.
    """
    first = signatures[0].astype(np.float32)
    return all(float(np.abs(one - first).max()) < SAME for one in signatures)


def is_one_picture(one: Float[np.ndarray, "3 h w"], other: Float[np.ndarray, "3 h w"]) -> bool:
    """Whether two images that are equal in the large are one picture but for noise and compression.

    Args:
        one: RGB float32 in [0, 1].
        other: of the same size.
    """
    a, b = one.mean(axis=0), other.mean(axis=0)
    if float(np.sqrt(np.mean((a - b) ** 2))) < NOISY:
        return True
    edges = [np.diff(image, axis=1).ravel() for image in (a, b)]
    return float(np.corrcoef(edges)[0, 1]) > SAME_DETAIL


def _alike(signatures: Sequence[Float[np.ndarray, "40 40"]]) -> Iterator[tuple[int, Bool[np.ndarray, "rows rest"]]]:
    """For some images at a time, from `start` on: which of the images from `start` on are near-duplicates of each."""
    if len(signatures) < 3:
        return
    own, contrasts = _own_content(np.stack(signatures))
    lengths = np.linalg.norm(own, axis=1)
    for start in range(0, len(own), ROWS):
        rows = slice(start, start + ROWS)
        products = own[rows] @ own[start:].T
        squares = np.add.outer(lengths[rows] ** 2, lengths[start:] ** 2) - 2 * products  # summed over cells
        different = np.sqrt(np.maximum(squares, 0) / own.shape[1]) * np.maximum.outer(
            contrasts[rows], contrasts[start:]
        )
        apart = 1 - products / np.maximum(np.multiply.outer(lengths[rows], lengths[start:]), 1e-9)
        yield start, apart / MOST_APART + different / MOST_DIFFERENT < 1


def _weights(size: int) -> Float[np.ndarray, "40 size"]:
    """The weights of `size` pixels in each of the cells along one side; each row sums to one."""
    pixels = (np.arange(size) + 0.5) * CELLS / size
    weights = np.exp(-0.5 * ((pixels - (np.arange(CELLS) + 0.5)[:, None]) / WIDTH) ** 2)
    rows: np.ndarray = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def _own_content(
    signatures: Float[np.ndarray, "n 40 40"],
) -> tuple[Float[np.ndarray, "n cells"], Float[np.ndarray, " n"]]:
    """Reduce signatures to what sets each apart from the set, of unit contrast, and give the contrasts."""
    contrasts = np.maximum(signatures.std(axis=(1, 2), dtype=np.float32), FLAT)
    shares = [slice(start, start + ROWS) for start in range(0, len(signatures), ROWS)]
    mean = sum(_standard(signatures[share], contrasts[share]).sum(axis=0) for share in shares) / len(signatures)
    some = slice(None, None, -(-len(signatures) // SHIFTED))
    ignored = _ignored(_standard(signatures[some], contrasts[some]), mean)
    own = np.concatenate([_compared(_standard(signatures[share], contrasts[share]) - mean) for share in shares])
    return own - (own @ ignored.T) @ ignored, contrasts


def _standard(signatures: Float[np.ndarray, "n 40 40"], contrasts: Float[np.ndarray, " n"]) -> np.ndarray:
    """Bring signatures to zero mean and unit contrast."""
    cells = signatures.astype(np.float32)
    cells -= cells.mean(axis=(1, 2), keepdims=True)
    cells /= contrasts[:, None, None]
    return cells


def _ignored(some: Float[np.ndarray, "k 40 40"], mean: Float[np.ndarray, "40 40"]) -> Float[np.ndarray, "d cells"]:
    """Orthonormal directions in which small shifts and other tone curves move the signatures of a set."""
    down, across = np.gradient(some, axis=(1, 2))
    shifts = np.linalg.svd(_compared(np.concatenate([down, across])), full_matrices=False)[2][:SHIFTS]
    tones = _compared(np.stack([np.ones_like(mean), mean, mean**2, mean**3]))
    directions: np.ndarray = np.linalg.qr(np.concatenate([shifts, tones]).T)[0].T
    return directions


def _compared(cells: Float[np.ndarray, "n 40 40"]) -> Float[np.ndarray, "n cells"]:
    """The inner cells as vectors, averaged two by two, which holds as much as the smooth signature does."""
    inner = cells[:, EDGE:-EDGE, EDGE:-EDGE]
    half = (CELLS - 2 * EDGE) // 2
    pooled: np.ndarray = inner.reshape(len(cells), half, 2, half, 2).mean(axis=(2, 4))
    return pooled.reshape(len(cells), half * half)
