"""Decoders that the base install does without."""

from __future__ import annotations

from typing import Any

from unmask.errors import ImageError


def imagecodecs(kind: str, name: str) -> Any:
    """The package of the same name.

    Args:
        kind: of image that needs it, for the message.
        name: of the image.

    Raises:
        ImageError: it is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise needed(kind, name) from error
    return imagecodecs


def heif(name: str) -> Any:
    """The package pillow_heif.

    Args:
        name: of the image that needs it.

    Raises:
        ImageError: it is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise needed("HEIC", name) from error
    return pillow_heif


def needed(kind: str, name: str) -> ImageError:
    """The error where a decoder is missing."""
    return ImageError(f"{name}: {kind} needs more decoders; run: pip install 'unmask[codecs]'")
