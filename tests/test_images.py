"""Every kind of image file, against arrays that the test itself made."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from files import noise, saved, tiff
from unmask.errors import ImageError
from unmask.imaging import images
from unmask.imaging.options import ImageOptions


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width, height, depth, colour, rows=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def png16(array):
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[array.shape[2]]
    return png(
        array.shape[1], array.shape[0], 16, colour, b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    )


def planes(array, full=255.0):
    """The oracle: (h, w) or (h, w, 3 or 4) to (3, h, w), alpha onto black."""
    array = np.asarray(array, dtype=np.float64) / full
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.shape[2] == 4:
        array = array[..., :3] * array[..., 3:]
    return np.moveaxis(array, -1, 0)


def same(got, wanted):
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_8_bit_files_are_exact(kind, shape):
    same(images.decode(saved(noise(*shape), kind)), planes(noise(*shape)))


def test_lossless_webp_and_a_path(tmp_path):
    (tmp_path / "a.webp").write_bytes(saved(noise(5, 7, 3), "WEBP", lossless=True))
    same(images.decode(str(tmp_path / "a.webp")), planes(noise(5, 7, 3)))


def test_jpeg_is_close():
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    assert np.abs(images.decode(saved(grey, "JPEG", quality=95)) - planes(grey)).max() < 0.03


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_16_bits(channels):
    array = noise(6, 5, channels, dtype=np.uint16)
    colours = array[..., [0, 0, 0, 1]] if channels == 2 else array[..., 0] if channels == 1 else array
    same(images.decode(png16(array)), planes(colours, 65535.0))


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_16_bit_tiff_keeps_16_bits(shape, options):
    array = noise(*shape, dtype=np.uint16)
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    same(images.decode(tiff(array, photometric=photometric, **options)), planes(array, 65535.0))


def test_odd_tiffs():
    array = noise(6, 5, 4, dtype=np.uint16)
    straight = tiff(array, photometric="rgb", extrasamples=["unassalpha"])
    same(images.decode(straight), planes(array, 65535.0))
    premultiplied = tiff(array, photometric="rgb", extrasamples=["assocalpha"])
    same(images.decode(premultiplied), planes(array[..., :3], 65535.0))
    apart = tiff(np.moveaxis(array[..., :3], -1, 0), photometric="rgb", planarconfig="separate")
    same(images.decode(apart), planes(array[..., :3], 65535.0))
    grey = array[..., 0]
    same(images.decode(tiff(grey, photometric="miniswhite")), planes(65535 - grey.astype(int), 65535.0))
    grey_alpha = tiff(array[..., :2], photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    same(images.decode(grey_alpha), planes(array[..., [0, 0, 0, 1]], 65535.0))


def test_compressed_16_bit_tiff_is_read_or_refused_but_never_cut_to_8_bit(tmp_path):
    grey = noise(6, 5, dtype=np.uint16)
    same(images.decode(saved(grey, "TIFF", compression="tiff_lzw")), planes(grey, 65535.0))
    path = tmp_path / "colour.tif"
    path.write_bytes(tiff(noise(6, 5, 3, dtype=np.uint16), photometric="rgb"))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[259].overwrite(5)  # says LZW
    with pytest.raises(ImageError, match=r"LZW compression needs more decoders; run: pip install|cannot be read"):
        images.decode(path)


def test_float_tiff_must_lie_in_0_1():
    array = np.random.default_rng(0).random((6, 5)).astype(np.float32)
    same(images.decode(tiff(array)), planes(array, 1.0))
    colour = np.random.default_rng(0).random((6, 5, 3)).astype(np.float32)
    same(images.decode(tiff(colour, photometric="rgb")), planes(colour, 1.0))
    with pytest.raises(ImageError, match=r"float values in \[.*\], wanted \[0, 1\]; give .* an intensity range"):
        images.decode(tiff(array * 300))
    with pytest.raises(ImageError, match="NaN"):
        images.decode(tiff(np.full((6, 5), np.nan, np.float32)))
    with pytest.raises(ImageError, match="signed 32-bit values from 1 to 1, whose full scale is unknown"):
        images.decode(tiff(np.ones((6, 5), np.int32)))


def test_alpha_lies_on_black():
    array = noise(5, 7, 4)
    same(images.decode(saved(array)), planes(array))
    grey_alpha = Image.fromarray(array).convert("LA")
    same(images.decode(saved(grey_alpha)), planes(np.asarray(grey_alpha)[..., [0, 0, 0, 1]]))


def test_palette_one_bit_and_cmyk():
    palette = Image.frombytes("P", (3, 1), b"\0\1\2")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    same(images.decode(saved(palette)), np.eye(3)[:, None, :])
    same(images.decode(saved(palette, transparency=1)), (np.eye(3) * [1, 0, 1])[:, None, :])
    bits = noise(5, 9) > 127
    for kind in ("PNG", "TIFF", "BMP"):
        same(images.decode(saved(Image.fromarray(bits), kind)), planes(bits, 1.0))
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    for kind in ("TIFF", "JPEG"):
        assert np.abs(images.decode(saved(cmyk, kind))[:, 4, 4] - [1, 0, 0]).max() < 0.02


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF16"])
def test_orientation(orientation, kind, tmp_path):
    stored = noise(5, 7, 3, dtype=np.uint16 if kind == "TIFF16" else np.uint8)
    turns = {  # what the EXIF standard says of the stored first row and column, spelled out independently
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    if kind == "TIFF16":
        content = tiff(stored, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    elif kind == "TIFF":
        content = saved(stored, "TIFF", tiffinfo={274: orientation})
    else:
        exif = Image.Exif()
        exif[274] = orientation
        content = saved(stored, kind, exif=exif.tobytes(), **({"lossless": True} if kind == "WEBP" else {}))
    wanted = turns[orientation](stored)
    same(images.decode(content), planes(wanted, 65535.0 if kind == "TIFF16" else 255.0))
    (tmp_path / "image").write_bytes(content)
    assert images.size_of(tmp_path / "image") == (wanted.shape[1], wanted.shape[0])
    if kind != "TIFF16":
        same(images.decode(Image.open(io.BytesIO(content))), planes(wanted))


@pytest.mark.parametrize("array", [noise(5, 7), noise(5, 7, 1), noise(5, 7, 3), noise(5, 7, 4)])
def test_arrays(array):
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    same(images.decode(array), planes(flat))
    same(images.decode(array.astype(np.uint16) * 257), planes(flat))
    same(images.decode(array / 255.0), planes(flat))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (noise(5), "shape"),
        (noise(5, 7, 2), "shape"),
        (noise(5, 7, 5), "shape"),
        (noise(2, 5, 7, 3), "shape"),
        (noise(0, 7, 3), "shape"),
        (np.ones((5, 7), np.int64), "signed 64-bit values from 1 to 1, whose full scale is unknown"),
        (np.ones((5, 7), complex), "values of type complex128; give uint8"),
        (np.full((5, 7), 1.01), "intensity range"),
        (np.full((5, 7), -0.1), "intensity range"),
        (np.full((5, 7), np.inf), "NaN or infinite"),
    ],
)
def test_arrays_that_are_no_images(array, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        images.decode(array)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("width", "height"), [(20_000, 5_000), (30_000, 30_000)])
def test_bombs_are_refused_from_the_header(width, height, tmp_path):
    # the pixels are missing: were they wanted, the error would be another one; warnings are errors here
    (tmp_path / "bomb.png").write_bytes(png(width, height, 8, 2))
    with pytest.raises(
        ImageError, match=rf"{width} x {height} pixels, the limit is 99000000; .*--max-pixels {width * height}"
    ):
        images.decode(tmp_path / "bomb.png", ImageOptions(max_pixels=99_000_000))


def test_the_limit_is_the_callers():
    for source in (noise(10, 10, 3), saved(noise(10, 10, 3)), Image.new("L", (10, 10)), tiff(noise(10, 10))):
        assert images.decode(source, ImageOptions(max_pixels=100)).shape == (3, 10, 10)
        with pytest.raises(ImageError, match="the limit is 99"):
            images.decode(source, ImageOptions(max_pixels=99))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "TIFF16"])
def test_truncated_files(kind, tmp_path):
    array = noise(64, 64, 3)
    content = tiff(array.astype(np.uint16), photometric="rgb") if kind == "TIFF16" else saved(array, kind)
    path = tmp_path / "cut"
    for share in (0.5, 0.01):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ImageError, match=r"cut: (cannot be read|not an image)") as caught:
            images.decode(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"GIF89a" + b"\0" * 40, b"II*\0rubbish", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_foreign_files(content, tmp_path):
    (tmp_path / "foreign.png").write_bytes(content)
    for read in (images.decode, images.size_of):
        with pytest.raises(ImageError, match=r"foreign.png: "):
            read(tmp_path / "foreign.png")
    with pytest.raises(ImageError, match=r"nothing\.png: cannot be read \(No such file"):
        images.decode(tmp_path / "nothing.png")


def test_resize_averages_and_keeps_what_has_the_size():
    image = images.decode(noise(64, 64, 3))
    assert images.resize(image, 64, 64) is image
    rows = np.zeros((3, 64, 64), np.float32)
    rows[:, ::2] = 1.0  # stripes finer than the target: without antialiasing they become 0 or 1
    assert np.abs(images.resize(rows, 8, 8) - 0.5).max() < 0.1
    assert images.resize(image[:, :40, :], 17, 17).shape == (3, 17, 17)


def test_resize_keeps_more_than_8_bits():
    ramp = np.tile(np.linspace(0.5, 0.501, 64, dtype=np.float32), (3, 64, 1))
    small = images.resize(ramp, 16, 16)
    assert len(np.unique(small)) >= 16
    assert np.abs(small.mean() - ramp.mean()) < 1e-6
    extreme = images.resize(np.ones((3, 40, 50), np.float32), 7, 7)
    assert extreme.max() == 1.0


def test_resize_map_keeps_a_ramp_straight_and_pixel_centres_aligned():
    coarse = np.tile(np.arange(8.0), (6, 1))
    fine = images.resize_map(coarse, 24, 32)
    assert fine.shape == (24, 32)
    assert fine.dtype == np.float32
    wanted = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    np.testing.assert_allclose(fine, np.tile(wanted, (24, 1)), atol=1e-5)


def test_bytes_and_back():
    array = noise(5, 7, 3)
    assert np.array_equal(images.to_uint8(images.decode(array)), array)
    for pixels in (array, array[..., 0].copy()):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(images.encode_png(pixels)))), pixels)


def test_heat_gets_lighter_all_the_way():
    ramp = images.heat(np.linspace(0, 1, 100)[None, :])
    lightness = np.asarray(Image.fromarray(ramp).convert("L")).astype(int)[0]
    assert (np.diff(lightness) >= 0).all()
    assert lightness[0] < 5
    assert lightness[-1] > 230
    assert np.array_equal(images.heat(np.array([[-1.0, 2.0]])), ramp[:, [0, -1]])


def test_overlay_blends_and_draws_the_inner_contour():
    image, mask = np.zeros((3, 20, 20), np.float32), np.zeros((20, 20), bool)
    mask[5:10, 5:10] = True
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 200
    result = images.overlay(image, red, mask, strength=0.5)
    contour = (result == images.CONTOUR).all(axis=-1)
    assert contour.sum() == 16
    assert (contour <= mask).all()
    assert (result[~contour] == [100, 0, 0]).all()
