"""What tells one picture from another, whatever its file is called and however it was saved."""

from __future__ import annotations

import hashlib

import numpy as np


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
