"""Image files and Pillow images to values of their own kind (8 bit, 16 bit, float), upright; a parser for each kind."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from unmask.errors import ImageError
from unmask.imaging.codecs import heif
from unmask.imaging.colour import deep_in_srgb
from unmask.imaging.formats import File, Kind
from unmask.imaging.jpeg import header_in, header_of, jpeg_values
from unmask.imaging.jpeg2000 import FARTHEST, check_bands, deep_jpeg2000, profile_in
from unmask.imaging.opening import failing_as, kind_in, opening
from unmask.imaging.options import ALL, DEFAULTS, ImageOptions
from unmask.imaging.pillow import GREY, loaded, opened, orientation_of, upright
from unmask.imaging.pixels import Pixels, plain
from unmask.imaging.png import DEEP, Png, deep_png, is_short, opened_png, png_of, png_size, with_key
from unmask.imaging.pnm import pnm_of, pnm_values, starts_of
from unmask.imaging.tiff import orientation_of_page, tiff_pixels
from unmask.imaging.tiff_damage import damage_of
from unmask.imaging.tiff_pages import opened_tiff, pictures_of


def file_pixels(source: str | Path | bytes, options: ImageOptions = DEFAULTS) -> Pixels:
    """Decode a file to (h, w), (h, w, 3) or (h, w, 4) of uint8, uint16, float or a kind without a known range.

    Raises:
        ImageError: the file is missing, foreign or damaged beyond reading; holds several pictures or bands and none is
            chosen; or has more than `options.max_pixels` (read from its header).
    """
    with opening(source) as (file, name):
        kind = kind_in(file, name)
        if kind.name == "TIFF":
            return _from_tiff(file, name, options)
        if kind.name == "JPEG":
            found = _from_jpeg(file.read(), name, options)
        elif kind.name == "PNG":
            found = _from_png(file.read(), name, options)
        elif kind.name == "PNM":
            found = _from_pnm(kind, file, name, options)
        else:
            found = _from_others(kind, file, name, options)
        return found if options.bands is None else with_bands(found, options)


def file_size(path: str | Path) -> tuple[int, int]:
    """Read (width, height) as decoded, from the header only; of several pictures, that of the first.

    Raises:
        ImageError: the file is missing or no image.
    """
    with opening(path) as (file, name):
        kind = kind_in(file, name)
        if kind.name == "TIFF":
            with opened_tiff(file) as tiff:
                page = pictures_of(tiff, name)[0].page
                size, turned = (int(page.imagewidth), int(page.imagelength)), orientation_of_page(page) >= 5
        elif kind.name == "JPEG":
            header = header_in(file)
            size, turned = (header.width, header.height), orientation_of(header.exif) >= 5
        elif kind.name == "PNG":
            width, height, exif = png_size(file)
            size, turned = (width, height), orientation_of(exif) >= 5
        else:
            image = _other(kind, file, name)
            size, turned = image.size, orientation_of(image.info.get("exif")) >= 5
    return (size[1], size[0]) if turned else size


def page_count(source: str | Path | bytes) -> int:
    """The number of pictures in a file, from its headers only.

    Raises:
        ImageError: the file is missing or no image.
    """
    with opening(source) as (file, name):
        kind = kind_in(file, name)
        if kind.name == "TIFF":
            with opened_tiff(file) as tiff:
                return len(pictures_of(tiff, name))
        if kind.name == "PNG":
            return png_of(file.read()).pages
        if kind.name == "PNM":
            return len(starts_of(file.read()))
        return 1 if kind.name == "JPEG" else int(getattr(_other(kind, file, name), "n_frames", 1))


def pillow_pixels(image: Image.Image, options: ImageOptions = DEFAULTS) -> Pixels:
    """Do what `file_pixels` does, for an open Pillow image, at the frame where it stands."""
    name = "the Pillow image"
    with failing_as(name, "image"):
        check_size(image.width, image.height, name, options)
        values, notes = loaded(image)
        orientation = 1 if image.format == "TIFF" else orientation_of(image.info.get("exif"))
        found = plain(upright(values, orientation), name, notes=notes)._replace(is_grey=image.mode in GREY)
        return found if options.bands is None else with_bands(found, options)


def check_size(width: int, height: int, name: str, options: ImageOptions) -> None:
    """Raise ImageError for an image that has more pixels than a user allows."""
    if width * height > options.max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} pixels, the limit is {options.max_pixels}; crop it, or allow it with "
            f"--max-pixels {width * height} (in Python, max_pixels)"
        )


def with_bands(pixels: Pixels, options: ImageOptions) -> Pixels:
    """An image of which only the chosen bands are left; those of a grey one are grey and alpha.

    Raises:
        ImageError: it has too few of them.
    """
    values = np.atleast_3d(pixels.values)
    if pixels.is_grey and values.shape[2] in (3, 4):
        values = values[..., [0, 3][: values.shape[2] - 2]]
    bands, count = options.bands or (), values.shape[2]
    if max(bands) > count:
        asked = ",".join(map(str, bands))
        raise ImageError(f"{pixels.name}: holds {count} band{'s' * (count > 1)}, wanted: {asked}; give such an image")
    return pixels._replace(values=values[..., [band - 1 for band in bands]])


# --- one kind of file each --------------------------------------------------------------------------------------------


def _from_tiff(file: File, name: str, options: ImageOptions) -> Pixels:
    with opened_tiff(file) as tiff:
        pictures = pictures_of(tiff, name)
        picture = pictures[_page(len(pictures), name, options) - 1]
        check_size(int(picture.page.imagewidth), int(picture.page.imagelength), name, options)
        damage = damage_of(file, tiff, picture.page)
        return tiff_pixels(file, picture, name, options)._replace(damage=damage)


def _from_jpeg(content: bytes, name: str, options: ImageOptions) -> Pixels:
    header = header_of(content)
    check_size(header.width, header.height, name, options)
    _page(1, name, options)
    values, damage = jpeg_values(content, header, name)
    notes: tuple[str, ...] = ()
    if isinstance(values, Image.Image) or (header.profile and header.components > 1 and values.dtype == np.uint8):
        image = values if isinstance(values, Image.Image) else Image.fromarray(values)
        values, notes = loaded(image, header.profile)
    white = 2.0**header.bits - 1 if header.bits < 16 else None
    found = plain(upright(values, orientation_of(header.exif)), name, white, notes)
    return found._replace(damage=damage, is_grey=header.components == 1)


def _from_png(content: bytes, name: str, options: ImageOptions) -> Pixels:
    png = png_of(content)
    check_size(png.width, png.height, name, options)
    image = opened_png(png, _page(png.pages, name, options))
    rawmode = str(image.tile[0][3]) if image.tile else ""
    if rawmode in DEEP and png.pages == 1:
        values, notes = _deep_png(png, rawmode)
    else:
        values, notes = _png_of_pillow(png, image)
    if png.pages == 1 and (png.is_interlaced or _ends_empty(values, png)) and is_short(png):
        raise ValueError("the file is truncated")
    is_grey = not png.is_palette and png.pixel < 3 * png.bits
    found = plain(upright(values, orientation_of(png.exif)), name, notes=notes)
    return found._replace(damage=png.damage, is_grey=is_grey)


def _deep_png(png: Png, rawmode: str) -> tuple[np.ndarray, tuple[str, ...]]:
    values = deep_png(png, rawmode)
    if png.transparent:
        values = with_key(values, png.transparent)
    return deep_in_srgb(values, png.profile, 65535) if png.profile and rawmode != "LA;16B" else (values, ())


def _ends_empty(values: np.ndarray, png: Png) -> bool:
    """Whether the last row may be what Pillow left untouched; only then is the length of the data worth its time."""
    last = values[-1] if values.ndim == 2 else values[-1, :, :3]
    return bool((last == last[:1]).all()) if png.is_palette else not last.any()


def _png_of_pillow(png: Png, image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
    """All other PNG files; the transparent colour of grey ones is not on Pillow's scale."""
    is_own = png.transparent is not None and png.bits != 8
    if is_own:
        image.info.pop("transparency", None)
    values, notes = loaded(image, png.profile)
    if png.transparent is None or not is_own:
        return values, notes
    scale = 1 if png.bits == 16 else 255 // (2**png.bits - 1)
    return with_key(values, tuple(scale * value for value in png.transparent)), notes


def _from_pnm(kind: Kind, file: File, name: str, options: ImageOptions) -> Pixels:
    content = file.read()
    starts = starts_of(content)
    start = starts[_page(len(starts), name, options) - 1]
    content = content[start:] if start else content
    pnm = pnm_of(content)
    if pnm is None:
        return _from_others(kind, io.BytesIO(content), name, replace(options, page=None))
    check_size(pnm.width, pnm.height, name, options)
    return plain(pnm_values(content, pnm), name, float(pnm.white))


def _from_others(kind: Kind, file: File, name: str, options: ImageOptions) -> Pixels:
    image = _other(kind, file, name)
    check_size(image.width, image.height, name, options)
    page = _page(int(getattr(image, "n_frames", 1)), name, options)
    if page > 1:
        image.seek(page - 1)
    is_grey = image.mode in GREY
    if kind.name == "JPEG 2000":
        return _from_jpeg2000(image, file, name)._replace(is_grey=is_grey)
    values, notes = loaded(image)
    turned = 1 if kind.name == "HEIC" else orientation_of(image.info.get("exif"))  # libheif turns it by itself
    return plain(upright(values, turned), name, notes=notes)._replace(is_grey=is_grey)


def _from_jpeg2000(image: Image.Image, file: File, name: str) -> Pixels:
    file.seek(0)
    content = file.read()
    profile = profile_in(content)
    deep = deep_jpeg2000(image, content, name)
    if deep is None:
        values, notes = loaded(image, profile)
        return plain(upright(values, orientation_of(image.info.get("exif"))), name, notes=notes)
    values, white = deep
    notes = ()
    if profile and image.mode not in GREY and values.ndim == 3 and values.shape[2] in (3, 4):
        values, notes = deep_in_srgb(values, profile, white)
    return plain(values, name, white, notes)


def _other(kind: Kind, file: File, name: str) -> Image.Image:
    """A file of a kind that Pillow reads alone, or with a package of the extra `codecs`."""
    if kind.name == "HEIC":
        image: Image.Image = heif(name).HeifImageFile(file)
        return image
    if kind.plugin is None:
        raise ImageError(f"{name}: is a {kind.name} file, which is not read; save it as PNG or TIFF")
    if kind.name == "JPEG 2000":
        check_bands(file.read(FARTHEST), name)
        file.seek(0)
    return opened(kind, file)


def _page(count: int, name: str, options: ImageOptions) -> int:
    """The number, counted from 1, of the picture to take from a file of `count`."""
    if options.page is None or options.page == ALL:
        if count > 1 and options.page == ALL:
            raise ImageError(
                f"{name}: holds {count} pictures where one has a label; choose it with --page 1, counted from 1"
            )
        if count > 1:
            raise ImageError(
                f"{name}: holds {count} pictures; choose one, counted from 1, with --page 1 (in Python, page=1), or "
                f"take each as an image with --page all"
            )
        return 1
    if int(options.page) > count:
        raise ImageError(f"{name}: holds {count} picture{'s' * (count > 1)}, wanted is page {options.page}")
    return int(options.page)
