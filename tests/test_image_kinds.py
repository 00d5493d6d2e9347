"""A table of files as people have them: each gives its picture, whole and at true scale, or one line that is true."""

import io
import struct
import sys
import warnings
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

import files
from files import chunk, noise, packed, png_of, raw_tiff, saved, tiff, tiff_of_pages
from unmask.errors import ImageError, SettingError
from unmask.imaging import images
from unmask.imaging.decoding import page_count
from unmask.imaging.intensity import IntensityRange
from unmask.imaging.listing import is_image
from unmask.imaging.opening import failing_as
from unmask.imaging.options import ImageOptions
from unmask.imaging.pixels import Pixels

RGB, GREY = {"photometric": "rgb"}, {"photometric": "minisblack"}
FULL = 65535


def planes(array, full=255.0):
    """The oracle: (h, w) or (h, w, 1, 3 or 4) to (3, h, w), alpha onto black."""
    array = np.asarray(array, dtype=np.float64) / full
    array = array[..., None] if array.ndim == 2 else array
    array = array[..., [0] * 3] if array.shape[2] == 1 else array
    if array.shape[2] == 4:
        array = array[..., :3] * array[..., 3:]
    return np.moveaxis(array, -1, 0)


def same(source, wanted, full=255.0, *, tolerance=1e-6, **options):
    got = images.decode(source, ImageOptions(**options))
    np.testing.assert_allclose(got, planes(wanted, full), rtol=0, atol=tolerance)


def refused(source, reason, **options):
    with pytest.raises(ImageError, match=reason) as caught:
        images.decode(source, ImageOptions(**options))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300
    return str(caught.value)


# --- numbers ----------------------------------------------------------------------------------------------------------

C8, C16 = noise(6, 7, 3), noise(6, 7, 3, dtype=np.uint16)
G8, G16 = C8[..., 0], C16[..., 0]


@pytest.mark.parametrize("bits", range(1, 16))
@pytest.mark.parametrize("order", "<>")
def test_packed_tiff_has_the_full_scale_of_its_bits(bits, order):
    grey, colour, white = (
        noise(6, 7, dtype=np.uint16, below=2**bits),
        noise(6, 7, 3, dtype=np.uint16, below=2**bits),
        2**bits - 1,
    )
    same(raw_tiff(packed(grey, bits), 7, 6, bits, order=order), grey, white)
    same(raw_tiff(packed(grey, bits), 7, 6, bits, photometric=0, order=order), white - grey, white)
    same(raw_tiff(packed(colour, bits), 7, 6, bits, 3, 2, order=order), colour, white)
    apart = b"".join(packed(colour[..., band], bits) for band in range(3))
    same(raw_tiff(apart, 7, 6, bits, 3, 2, planar=2, order=order), colour, white)


def test_packed_tiff_in_other_orders():
    grey = noise(6, 7, dtype=np.uint16, below=4096)
    same(raw_tiff(packed(grey, 12, 2), 7, 6, 12, more=[(266, 2)]), grey, 4095)
    same(raw_tiff(packed(grey, 12), 7, 6, 12, more=[(274, 6)]), np.rot90(grey, -1), 4095)
    pixels = images.pixels_of(raw_tiff(packed(grey, 12), 7, 6, 12))
    assert (pixels.white, pixels.is_camera_range) == (4095, False), "its bits are known, so no range is learned"
    assert images.pixels_of(tiff(G16, **GREY)).is_camera_range


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_colours_of_png(bits):
    grey, white = noise(6, 7, dtype=np.uint16, below=2**bits), 2**bits - 1
    same(png_of(grey, bits), grey, white)
    alpha = np.where(grey == grey[2, 3], 0, white)
    key = chunk(b"tRNS", struct.pack(">H", grey[2, 3]))
    same(png_of(grey, bits, key), np.dstack([grey, grey, grey, alpha]), white)
    if bits >= 8:
        colour = noise(6, 7, 3, dtype=np.uint16, below=2**bits)
        key = chunk(b"tRNS", struct.pack(">3H", *colour[2, 3]))
        seen = np.where((colour == colour[2, 3]).all(axis=-1), 0, white)
        same(png_of(colour, bits, key), np.dstack([colour, seen]), white)
    if bits <= 8:
        palette, alphas = noise(2**bits, 3, seed=1), noise(2**bits, seed=2)
        table = chunk(b"PLTE", palette.tobytes())
        same(png_of(grey, bits, table, colour=3), palette[grey])
        transparent = png_of(grey, bits, table, chunk(b"tRNS", alphas.tobytes()), colour=3)
        same(transparent, np.dstack([palette[grey], alphas[grey]]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_interlaced_png(channels, dtype):
    array = noise(9, 11, channels, dtype=dtype)
    wanted = array[..., [0, 0, 0, 1]] if channels == 2 else array
    same(files.interlaced_png(array), wanted, np.iinfo(dtype).max)
    refused(files.interlaced_png(array, 6), "truncated")


@pytest.mark.parametrize(
    ("array", "wanted", "full"),
    [
        (G8 > 100, G8 > 100, 1),
        (G16.astype(">u2"), G16, FULL),
        ((G8 / 255).astype(">f4"), G8, 255),
        ((G8 / 255).astype(np.float16), (G8 / 255).astype(np.float16).astype(float), 1),
        (G8 / 255, G8, 255),
        (G8 / 255 * 1.00005, np.minimum(G8 / 255 * 1.00005, 1), 1),
        (G8 / 255 - 5e-5, np.maximum(G8 / 255 - 5e-5, 0), 1),
        (G8.astype(np.int16) * 100, G8.astype(int) * 100, 2**15 - 1),
        (C8[::2, ::-1], C8[::2, ::-1], 255),
        (np.asfortranarray(C8), C8, 255),
    ],
)
def test_numbers_of_every_kind(array, wanted, full):
    array = array.view()
    array.flags.writeable = False
    same(array, wanted, full)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (G8.astype(np.int8), "signed 8-bit values from -.* full scale is unknown; give .* intensity range"),
        (G8.astype(np.int16) - 300, "signed 16-bit values from -.* full scale is unknown; give .* intensity range"),
        (G8.astype(np.uint32), "holds 32-bit values"),
        (G8.astype(object), "values of type object"),
        (np.moveaxis(C8, -1, 0), r"channels first; give array.transpose\(1, 2, 0\)"),
        (np.dstack([G8] * 5), r"5 bands; wanted \(h, w, 3\), or bands"),
        (G8 / 200, "float values"),
    ],
)
def test_arrays_that_are_refused(array, reason):
    assert "16 bit" not in refused(array, reason)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.float32])
def test_a_given_range_reads_every_kind_of_number(dtype):
    array = (G8 // 2).astype(dtype)
    for source in (array, tiff(array, **GREY)):
        same(source, np.minimum(G8 // 2, 100), 100, intensity=IntensityRange(0, 100))


@pytest.mark.parametrize(
    ("array", "option"),
    [
        (np.linspace(30, 197, 42, dtype=np.float32).reshape(6, 7), " 0,255"),
        (np.linspace(0, 2.5, 42).reshape(6, 7), " 0,3"),
        (np.linspace(0, 900, 42).astype(np.int32).reshape(6, 7), " 0,1023"),
        (np.linspace(-5, 70_000.5, 42).reshape(6, 7), "=-5,70001"),
    ],
)
def test_the_range_that_is_offered_holds_the_values(array, option):
    assert refused(array, "intensity range").endswith(f"such as --intensity-range{option}")
    low, high = map(float, option[1:].split(","))
    same(array, (array - low) / (high - low), 1, intensity=IntensityRange(low, high))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32])
@pytest.mark.parametrize("shape", [(6, 7, 2), (6, 7, 5), (6, 7, 0), (1, 6, 7, 3), (6,)])
def test_values_of_another_shape_are_no_image(dtype, shape):
    for intensity in (None, IntensityRange(0, 100)):
        with pytest.raises(ImageError, match="has the shape"):
            images.planes(Pixels(np.zeros(shape, dtype), "it", 255.0), intensity)


def test_signed_tiff_is_not_taken_for_unsigned():
    refused(tiff(G8.astype(np.int8), **GREY), "signed 8-bit")
    refused(tiff(G8.astype(np.int16) - 300, **GREY), "signed 16-bit")
    same(tiff(G8.astype(np.int16) * 100, **GREY), G8.astype(int) * 100, 2**15 - 1)


@pytest.mark.parametrize("white", [100, 255, 1023, 4095, 65535])
def test_pgm_and_ppm_at_their_own_depth(white):
    for kind, array in (
        (5, noise(6, 7, dtype=np.uint16, below=white + 1)),
        (6, noise(6, 7, 3, dtype=np.uint16, below=white + 1)),
    ):
        head = f"P{kind}\n# a camera\n7 6\n{white}\n".encode()
        same(head + array.astype(">u2" if white > 255 else "u1").tobytes(), array, white)
        words = f"P{kind - 3} 7 6 {white}\n".encode() + " ".join(map(str, array.ravel())).encode()
        same(words, array, white)
        refused(head + b"abc", "truncated")
    assert "secret" not in refused(b"P2 2 1 255\nsecret secret", "not a number")


@pytest.mark.parametrize("gap", [b"", b"\n", b" \n\n"])
def test_several_pictures_behind_each_other_in_pnm(gap):
    bits = b"P4 7 6\n" + packed(G8 > 100, 1)
    grey, colour = b"P5 7 6 255\n" + G8.tobytes(), b"P6 7 6 65535\n" + C16.astype(">u2").tobytes()
    content = gap.join([grey, colour, bits, grey]) + b"\n"
    assert page_count(content) == 4
    refused(content, "holds 4 pictures; choose one")
    for page, (array, full) in enumerate(((G8, 255), (C16, FULL), (G8 <= 100, 1), (G8, 255)), 1):
        same(content, array, full, page=page)
    refused(content[:-9], "truncated", page=4)
    for one in (grey, colour, bits, grey + b"rubbish", b"P2 2 1 255\n3 4\nP2 2 1 255\n3 4"):
        assert page_count(one) == 1
        images.decode(one)


# --- alpha ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "TGA", "array", "Pillow", "16 bit", "TIFF16", "premultiplied"])
def test_an_alpha_of_0_everywhere_is_unused(kind):
    rgba = np.dstack([C8, np.zeros_like(G8)])
    source = {
        "array": lambda: rgba,
        "Pillow": lambda: Image.fromarray(rgba),
        "16 bit": lambda: rgba.astype(np.uint16) * 257,
        "TIFF16": lambda: tiff(rgba.astype(np.uint16) * 257, extrasamples=["unassalpha"], **RGB),
        "premultiplied": lambda: tiff(rgba, extrasamples=["assocalpha"], **RGB),
        "WEBP": lambda: saved(rgba, kind, lossless=True, exact=True),
    }.get(kind, lambda: saved(rgba, kind))()
    same(source, C8)
    if isinstance(source, np.ndarray):
        rgba[0, 0, 3] = 255
        same(rgba, rgba)


def test_a_bitmap_of_32_bits():
    pixels = np.dstack([C8[..., ::-1], np.zeros_like(G8)])[::-1].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + struct.pack("<I", 0x73524742) + bytes(48)
    head = struct.pack("<IiiHHIIiiII", 108, 7, 6, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks
    same(b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels, C8)


# --- pages ------------------------------------------------------------------------------------------------------------

FRAME = noise(64, 64, 3, seed=1)
SMALL = {**RGB, "subfiletype": 1}
STACK = noise(5, 64, 64, seed=2)


@pytest.mark.parametrize(
    "content",
    [
        tiff_of_pages((FRAME[::8, ::8], SMALL), (FRAME, RGB)),
        tiff_of_pages((FRAME[::8, ::8], RGB), (FRAME, RGB)),
        tiff_of_pages((FRAME, RGB), (FRAME[..., 0] > 100, {**GREY, "subfiletype": 4})),
        tiff_of_pages((FRAME, {**RGB, "subifds": 2}), (FRAME[::2, ::2], SMALL), (FRAME[::4, ::4], SMALL)),
        *(
            tiff_of_pages((FRAME[::4, ::4], {**SMALL, "subifds": 1}), (FRAME, RGB), **how)
            for how in ({}, {"bigtiff": True}, {"byteorder": ">"})
        ),
        tiff_of_pages((FRAME[::4, ::4], {**SMALL, "subifds": 1}), (FRAME.astype(np.uint16) * 257, RGB)),
        tiff(FRAME, ome=True, **RGB),
    ],
)
def test_a_thumbnail_is_never_the_image(content, tmp_path):
    same(content, FRAME)
    assert page_count(content) == 1
    (tmp_path / "a.tif").write_bytes(content)
    assert images.size_of(tmp_path / "a.tif") == (64, 64)


@pytest.mark.parametrize(
    ("content", "frames"),
    [
        (tiff(STACK, **GREY), STACK),
        (tiff_of_pages(*((frame, {**GREY, "compression": "zlib"}) for frame in STACK)), STACK),
        (tiff_of_pages((STACK[0][::8, ::8], {**GREY, "subfiletype": 1}), *((frame, GREY) for frame in STACK)), STACK),
        (tiff(STACK, imagej=True), STACK),
        (tiff(STACK.astype(np.uint16), imagej=True, truncate=True), STACK * (255 / FULL)),
        (tiff(STACK[:4].reshape(2, 2, 64, 64), ome=True, metadata={"axes": "ZCYX"}, **GREY), STACK[:4]),
        (tiff_of_pages((FRAME, RGB), (FRAME[:50], RGB)), [FRAME, FRAME[:50]]),
        *(
            (
                saved(
                    Image.fromarray(FRAME),
                    kind,
                    save_all=True,
                    append_images=[Image.fromarray(FRAME[::-1].copy())],
                    **how,
                ),
                [FRAME, FRAME[::-1]],
            )
            for kind, how in (("PNG", {}), ("WEBP", {"lossless": True}))
        ),
    ],
)
def test_several_pictures_are_refused_unless_one_is_chosen(content, frames):
    assert page_count(content) == len(frames)
    refused(content, rf"holds {len(frames)} pictures; choose one, counted from 1, with --page 1 .* --page all")
    for page, frame in enumerate(frames, 1):
        same(content, frame, page=page)
    refused(content, f"holds {len(frames)} pictures, wanted is page 9", page=9)


def test_a_page_of_a_single_picture():
    same(tiff(C8, **RGB), C8, page=1)
    refused(tiff(C8, **RGB), "holds 1 picture, wanted is page 2", page=2)
    frames = [Image.fromarray(FRAME), Image.fromarray(FRAME[::-1].copy())]
    burst = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    same(burst, np.asarray(Image.open(io.BytesIO(burst))))
    refused(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "holds 2 pictures")


def test_raw_files_and_volumes_are_refused():
    sensor = {"photometric": 32803, "extratags": [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True)]}
    raw = tiff_of_pages((FRAME[::8, ::8], {**SMALL, "subifds": 1}), (G16, sensor))
    for content in (raw, tiff(C16, photometric=34892)):
        refused(content, "is a camera's raw file .* develop it")
    refused(tiff(noise(16, 32, 32), volumetric=True, tile=(16, 16, 16), **GREY), "is a volume")


# --- bands ------------------------------------------------------------------------------------------------------------

BANDS = noise(6, 7, 8, dtype=np.uint16)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_are_chosen_or_refused(count, dtype, planar):
    array = (BANDS[..., :count] >> (8 if dtype == np.uint8 else 0)).astype(dtype)
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0)
    content = tiff(stored, planarconfig=planar, extrasamples=[0] * (count - 1), **GREY)
    offer = "3,2,1" if count > 2 else "1"
    refused(content, rf"holds {count} bands and no word which are its colours; .* --bands {offer}")
    same(content, array[..., [1, 0, 1]], np.iinfo(dtype).max, bands=(2, 1, 2))
    same(content, array[..., [1]], np.iinfo(dtype).max, bands=(2,))
    refused(content, f"holds {count} bands, wanted are the bands 9,1,1", bands=(9, 1, 1))


def test_bands_beside_colours_and_in_arrays():
    for count in (4, 5):
        content = tiff(BANDS[..., :count], planarconfig="contig", extrasamples=[0] * (count - 3), **RGB)
        same(content, BANDS[..., :3], FULL) if count == 4 else refused(content, "holds 5 bands")
    same(BANDS, BANDS[..., [2, 1, 0]], FULL, bands=(3, 2, 1))
    same(saved(C8), C8[..., ::-1], bands=(3, 2, 1))
    refused(BANDS, "holds 8 bands, wanted: 9", bands=(9,))
    for kind in ("PNG", "JPEG", "BMP", "TGA", "JPEG2000"):
        refused(saved(G8, kind), "holds 1 band, wanted: 3,2,1", bands=(3, 2, 1))
        assert np.ptp(images.decode(saved(G8, kind), ImageOptions(bands=(1,))), axis=0).max() == 0
    both = Image.merge("LA", [Image.fromarray(b) for b in (G8, C8[..., 1])])
    for source in (both, saved(both), png_of(C16[..., :2], 16)):
        refused(source, "holds 2 bands, wanted: 3,2,1", bands=(3, 2, 1))
    same(saved(both), C8[..., 1], bands=(2,))
    same(both, G8, bands=(1,))
    same(png_of(C16[..., :2], 16), C16[..., 1], FULL, bands=(2,))
    turned = tiff(BANDS, extrasamples=[0] * 7, planarconfig="contig", extratags=[(274, 3, 1, 6, True)], **GREY)
    same(turned, np.rot90(BANDS, -1)[..., [2, 1, 0]], FULL, bands=(3, 2, 1))


def test_codes_of_colours_are_no_bands():
    picture = Image.fromarray(C8)
    for mode, what in (("P", "numbers of a palette"), ("CMYK", "inks"), ("LAB", "Lab")):
        content = saved(picture.convert(mode), "TIFF")
        refused(content, f"its samples are {what}.*, not bands; read it without --bands", bands=(1,))
    codes = tiff(C8, photometric="ycbcr")
    refused(codes, "its samples are YCbCr, not bands", bands=(1,))


def test_planes_of_one_sample_more():
    stored = np.moveaxis(np.dstack([C8, G8]), -1, 0)
    how = {"planarconfig": "separate", "extrasamples": [0]}
    same(tiff(stored, **how, **RGB), C8)
    same(tiff(stored, rowsperstrip=2, compression="zlib", **how, **RGB), C8)
    more = np.moveaxis(np.dstack([C8, G8, G8]), -1, 0)
    refused(tiff(more, photometric="separated", **how), "is not read; save it as grey or RGB")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bands": "1,2"}, "bands=1,2 cannot be read"),
        ({"bands": "a"}, "bands='a' cannot be read"),
        ({"bands": (0,)}, "bands=0 cannot be read"),
        ({"page": "first"}, "page='first' is unknown"),
        ({"page": 0}, "page=0 is unknown"),
        ({"max_pixels": 0}, "max_pixels=0 is out of range"),
    ],
)
def test_options_that_cannot_be(options, reason):
    with pytest.raises(SettingError, match=reason):
        ImageOptions.of(**options)


def test_options_survive_a_model_file():
    options = ImageOptions.of((0, 4095), "3,2,1", "all", 2e8)
    assert ImageOptions.from_dict(options.to_dict(), options.intensity) == options
    assert ImageOptions.from_dict({}) == ImageOptions()
    assert ImageOptions.of(page="2", bands=2) == ImageOptions(page=2, bands=(2,))


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_large_images_are_read_when_allowed(kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # Pillow's own limits must not interfere: 60 warn, 30 as well
    content = saved(G8, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(content, G8)
        refused(content, r"7 x 6 pixels, the limit is 10; .* --max-pixels 42", max_pixels=10)


# --- colours ----------------------------------------------------------------------------------------------------------

PROFILES = {
    "Display P3": files.profile(files.DISPLAY_P3, files.SRGB_CURVE),
    "Display P3 as a table": files.profile(files.DISPLAY_P3, files.SRGB_TABLE),
    "Adobe RGB": files.profile(files.ADOBE_RGB, files.GAMMA_2_2),
    "linear": files.profile(files.SRGB, b"curv\0\0\0\0\0\0\0\0"),
}
SRGB_PROFILES = (
    files.profile(files.SRGB, files.SRGB_CURVE),
    ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
)


@pytest.mark.parametrize("name", PROFILES)
def test_colour_profiles_are_applied_at_every_depth(name):
    own = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name]))
    engine = ImageCms.profileToProfile(Image.fromarray(C8), own, ImageCms.createProfile("sRGB"), renderingIntent=1)
    wanted = np.asarray(engine)
    assert np.abs(wanted.astype(int) - C8).max() > 10
    for content in (saved(C8, icc_profile=PROFILES[name]), saved(C8, "TIFF", icc_profile=PROFILES[name])):
        same(content, wanted)
        same(Image.open(io.BytesIO(content)), wanted)
    embedded = chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILES[name]))
    deep = C8.astype(np.uint16) * 257
    for content in (png_of(deep, 16, embedded), tiff(deep, iccprofile=PROFILES[name], **RGB)):
        same(content, wanted, tolerance=1.01 / 255)
    ramp = np.tile(np.arange(30_000, 31_000, dtype=np.uint16)[None, :, None], (2, 1, 3))
    assert len(np.unique(images.decode(tiff(ramp, iccprofile=PROFILES[name], **RGB)))) > 500, "the depth is kept"


def test_colour_profiles_of_rarer_tiffs():
    adobe = {"iccprofile": PROFILES["Adobe RGB"], **RGB}
    wanted = np.round(images.decode(saved(C8, icc_profile=PROFILES["Adobe RGB"])) * 255).transpose(1, 2, 0)
    opaque = np.dstack([C8, np.full_like(G8, 255)])
    same(tiff(opaque, extrasamples=["assocalpha"], **adobe), wanted)
    same(tiff(np.moveaxis(opaque, -1, 0), planarconfig="separate", extrasamples=[0], **adobe), wanted)
    five = raw_tiff(packed(C8 // 8, 5), 7, 6, 5, 3, 2)
    same(five, C8 // 8, 31)
    floats = (C8 / 255).astype(np.float32)
    chosen = ImageOptions(bands=(3, 2, 1))
    for found, values in (
        (images.pixels_of(tiff(floats, **adobe)), floats),
        (images.pixels_of(tiff(C8, **adobe), chosen), C8[..., ::-1]),
        (images.pixels_of(tiff(C16, **adobe), chosen), C16[..., ::-1]),
    ):
        assert np.array_equal(found.values, values)
        assert found.notes == ("its colour profile cannot be applied, so its colours are taken for sRGB",)
    assert images.pixels_of(tiff(floats, iccprofile=SRGB_PROFILES[0], **RGB)).notes == ()


@pytest.mark.parametrize("compression", ["webp", "lerc", "jpeg2000"])
def test_colour_profiles_of_tiffs_that_need_more_decoders(compression):
    pytest.importorskip("imagecodecs")
    smooth = np.dstack([np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))] * 3) // [1, 2, 3]
    content = tiff(smooth.astype(np.uint8), compression=compression, iccprofile=PROFILES["Display P3"], **RGB)
    wanted = images.decode(saved(smooth.astype(np.uint8), icc_profile=PROFILES["Display P3"]))
    same(content, np.moveaxis(wanted, 0, -1), 1, tolerance=0.05)


def test_the_profile_of_jpeg_2000_is_applied():
    ordinary = saved(C8, "JPEG2000")
    at = ordinary.index(b"colr") - 4
    end = at + int.from_bytes(ordinary[at : at + 4])
    box = b"colr\2\0\0" + PROFILES["Adobe RGB"]
    box = struct.pack(">I", 4 + len(box)) + box
    start = ordinary.index(b"jp2h") - 4
    length = int.from_bytes(ordinary[start : start + 4]) + len(box) - (end - at)
    content = ordinary[:start] + struct.pack(">I", length) + ordinary[start + 4 : at] + box + ordinary[end:]
    same(content, np.round(images.decode(saved(C8, icc_profile=PROFILES["Adobe RGB"])) * 255).transpose(1, 2, 0))


@pytest.mark.parametrize("content", SRGB_PROFILES)
def test_a_profile_of_srgb_changes_no_value(content):
    lossy = (saved(C8, "JPEG"), saved(C8, "JPEG", icc_profile=content))
    assert np.array_equal(*(images.decode(one) for one in lossy))
    for one in (saved(C8, icc_profile=content), tiff(C16, iccprofile=content, **RGB)):
        assert images.pixels_of(one).remarks == ()
    same(saved(C8, icc_profile=content), C8)
    same(tiff(C16, iccprofile=content, **RGB), C16, FULL)


def test_profiles_of_grey_and_broken_ones():
    grey = files.profile(None, files.GAMMA_2_2, b"GRAY")
    same(saved(G8, icc_profile=grey), G8)
    same(saved(G8, icc_profile=PROFILES["Adobe RGB"]), G8)
    for content in (
        saved(C8, icc_profile=b"broken"),
        saved(C8, icc_profile=grey),
        tiff(C16, iccprofile=b"x" * 200, **RGB),
    ):
        found = images.pixels_of(content)
        assert found.notes == ("its colour profile cannot be applied, so its colours are taken for sRGB",)
        assert found.damage == ""
    press = Image.fromarray(C8).convert("CMYK")
    same(saved(press, "TIFF"), np.asarray(press.convert("RGB")))


# --- damage -----------------------------------------------------------------------------------------------------------

SCENE = np.dstack(
    [
        np.tile(np.linspace(0, 255, 300), (200, 1)),
        np.tile(np.linspace(0, 255, 200)[:, None], (1, 300)),
        noise(200, 300, below=40),
    ]
)
JPEG, PROGRESSIVE = (saved(SCENE.astype(np.uint8), "JPEG", quality=90, progressive=how) for how in (False, True))
RESTARTS = saved(SCENE.astype(np.uint8), "JPEG", quality=90, restart_marker_blocks=4)
HALF = len(JPEG) // 2


def scans(content):
    return [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]


@pytest.mark.parametrize(
    "content", [JPEG, PROGRESSIVE, RESTARTS, JPEG + bytes(5000), JPEG + JPEG, JPEG[:-2] + bytes(4) + JPEG[-2:]]
)
def test_whole_jpegs_are_as_pillow_reads_them(content):
    found = images.pixels_of(content)
    assert np.array_equal(found.values, np.asarray(Image.open(io.BytesIO(content))))
    assert found.remarks == ()


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (JPEG[:HALF] + bytes(300) + JPEG[HALF + 300 :], "garbled"),
        (JPEG[:HALF] + JPEG[HALF + 300 :], "garbled"),
        (JPEG[:HALF] + b"\xff\xd9", "garbled"),
        (JPEG[:-2] + b"\x12\x34\x56" + JPEG[-2:], "garbled"),
        (RESTARTS[:HALF] + bytes(3000) + RESTARTS[HALF + 3000 :], "garbled"),
        (PROGRESSIVE[: scans(PROGRESSIVE)[3]] + b"\xff\xd9", "blurred"),
        (PROGRESSIVE[: scans(PROGRESSIVE)[-1]] + b"\xff\xd9", "blurred"),
        (
            saved(Image.fromarray(SCENE.astype(np.uint8)).convert("CMYK"), "JPEG")[:-400] + bytes(398) + b"\xff\xd9",
            "garbled",
        ),
    ],
)
def test_lost_data_of_a_jpeg_is_told(content, damage):
    found = images.pixels_of(content)
    assert damage in found.damage
    assert found.remarks == (found.damage,)


def test_jpegs_that_cannot_be_read():
    for content in (
        JPEG[:HALF],
        JPEG[:100],
        JPEG[:4],
        JPEG[: JPEG.index(b"\xff\xc0") + 6],
        PROGRESSIVE[: len(PROGRESSIVE) // 2],
    ):
        refused(content, "cannot be read")


def test_deep_jpeg_needs_more_decoders(monkeypatch):
    deep = bytearray(JPEG)
    deep[deep.index(b"\xff\xc0") + 4] = 12
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    refused(bytes(deep), r"12-bit JPEG needs more decoders; run: pip install 'unmask\[codecs\]'")


def text(size):
    return chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(size)))


def chunks_of(content):
    at = 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4])
        yield content[at + 4 : at + 8], content[at : at + 12 + length]
        at += 12 + length


PARTS = dict(chunks_of(saved(SCENE.astype(np.uint8))))
HEAD = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    "parts",
    [
        [PARTS[b"IHDR"], text(5_000_000), PARTS[b"IDAT"], PARTS[b"IEND"]],
        [PARTS[b"IHDR"], *[chunk(b"iTXt", b"k\0\0\0\0\0" + bytes(2_000_000))] * 35, PARTS[b"IDAT"], PARTS[b"IEND"]],
        [PARTS[b"IHDR"], chunk(b"tEXt", b"a\0b", wrong=True), PARTS[b"IDAT"], PARTS[b"IEND"]],
        [PARTS[b"IHDR"], PARTS[b"IDAT"], chunk(b"IEND", b"", wrong=True)],
        [PARTS[b"IHDR"], PARTS[b"IDAT"]],
        [PARTS[b"IHDR"], PARTS[b"IDAT"], PARTS[b"IEND"], bytes(100)],
    ],
)
def test_a_png_is_read_whatever_lies_beside_its_picture(parts):
    found = images.pixels_of(HEAD + b"".join(parts))
    assert np.array_equal(found.values, SCENE.astype(np.uint8))
    assert found.remarks == ()


def test_damaged_pngs():
    wrong = PARTS[b"IDAT"][:-1] + bytes([PARTS[b"IDAT"][-1] ^ 1])
    assert "checksum" in images.pixels_of(HEAD + PARTS[b"IHDR"] + wrong + PARTS[b"IEND"]).damage
    data = zlib.decompress(PARTS[b"IDAT"][8:-4])
    short = chunk(b"IDAT", zlib.compress(data[: len(data) // 2]))
    refused(HEAD + PARTS[b"IHDR"] + short + PARTS[b"IEND"], "truncated")
    refused(HEAD + PARTS[b"IHDR"] + PARTS[b"IDAT"][:3000], "cannot be read")
    palette = png_of(np.ones((6, 7), np.uint8), 8, chunk(b"PLTE", b"\xff" * 6), colour=3)
    cut = zlib.compress(bytes(16))
    refused(palette[: palette.index(b"IDAT") - 4] + chunk(b"IDAT", cut) + chunk(b"IEND", b""), "truncated")


STRIPS = {
    "strips": {"rowsperstrip": 2},
    "tiles": {"tile": (16, 16)},
    "deflated strips": {"rowsperstrip": 2, "compression": "zlib"},
    "planes": {"rowsperstrip": 2, "planarconfig": "separate"},
}


def without_a_part(content, *, is_listed):
    """A TIFF whose third strip or tile has no place, or whose last one is not even listed."""
    content = bytearray(content)
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        tags = file.pages[0].tags
        for tag in (tags.get(code) for code in (273, 279, 324, 325)):
            size = 0 if tag is None else {3: 2, 4: 4}[int(tag.dtype)]
            if tag is not None and is_listed:
                content[tag.valueoffset + 2 * size : tag.valueoffset + 3 * size] = bytes(size)
            elif tag is not None:
                content[tag.offset + 4 : tag.offset + 8] = struct.pack("<I", tag.count - 1)
    return bytes(content)


@pytest.mark.parametrize("kind", STRIPS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("is_listed", [True, False])
def test_missing_strips_and_tiles_of_a_tiff_are_told(kind, dtype, is_listed, capfd):
    array = noise(40, 36, 3, dtype=dtype)
    content = tiff(np.moveaxis(array, -1, 0) if kind == "planes" else array, **RGB, **STRIPS[kind])
    assert images.pixels_of(content).damage == ""
    same(content, array, np.iinfo(dtype).max)
    lost = without_a_part(content, is_listed=is_listed)
    if kind == "deflated strips":
        refused(lost, "strips or tiles of this TIFF are missing")
    elif is_listed:
        assert images.pixels_of(lost).damage.startswith("strips or tiles of this TIFF are missing")
    else:
        try:
            assert "are missing" in images.pixels_of(lost).damage
        except ImageError as error:
            assert "cannot be read" in str(error)  # noqa: PT017 - both are right
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "jpeg", "tiff_adobe_deflate"])
def test_a_compressed_tiff_that_is_cut_short_is_one_line(compression, capfd):
    content = saved(SCENE.astype(np.uint8), "TIFF", compression=compression)
    pixels = images.pixels_of(content)
    assert (pixels.damage, pixels.values.shape) == ("", SCENE.shape)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        *_, start = page.dataoffsets
        moved = bytearray(content + content[start:])  # the last strip lies at the end, and so can be cut
        tag = page.tags[273]
        struct.pack_into("<I", moved, tag.valueoffset + 4 * (tag.count - 1), len(content))
        end = len(content) + page.databytecounts[-1]
    assert np.array_equal(images.pixels_of(bytes(moved[:end])).values, pixels.values)
    refused(bytes(moved[: end - 9]), "the file is truncated")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_lost_data_of_a_jpeg_in_a_tiff_is_told(mode):
    picture = Image.fromarray(SCENE.astype(np.uint8)).convert(mode)
    content = saved(picture, "TIFF", compression="jpeg")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        start, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        tag = file.pages[0].tags[279]
    middle = start + count // 2
    assert images.pixels_of(content).damage == ""
    lost = content[:middle] + bytes(400) + content[middle + 400 :]
    assert images.pixels_of(lost).damage == "data of a JPEG in this TIFF is lost, so a part of the picture is garbled"
    if tag.count == 1:
        shorter = bytearray(content)
        struct.pack_into("<H" if int(tag.dtype) == 3 else "<I", shorter, tag.valueoffset, count - 2)
        assert images.pixels_of(bytes(shorter)).damage == "", "only its end marker is missing"


@pytest.mark.parametrize("how", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_tiff_that_ends_before_its_next_page(how):
    content = tiff_of_pages((G16, GREY), (G16, GREY), **how)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        second = file.pages[1].offset
    assert images.pixels_of(content, ImageOptions(page=1)).damage == ""
    cut = content[:second]
    assert page_count(cut) == 1
    found = images.pixels_of(cut)
    assert np.array_equal(found.values, G16)
    assert found.damage == "a further page of this TIFF cannot be read, so at least one of its pictures is lost"


# --- EXIF -------------------------------------------------------------------------------------------------------------

WORD = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHI4s", 274, 2, 4, b"abc\0") + bytes(4)


def exif(orientation):
    block = Image.Exif()
    block[274] = orientation
    return block.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "block", [WORD, exif(0), exif(9), exif(65535), b"Exif\0\0rubbish", b"Exif\0\0II*\0" + b"\xff" * 4, b"\0"]
)
def test_a_damaged_exif_block_fails_no_image(kind, block):
    smooth = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (24, 1))
    same(saved(smooth, kind, exif=block), smooth, tolerance=0.05)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
def test_the_exif_orientation_of_lossy_kinds(kind, tmp_path):
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (32, 1))
    (tmp_path / "a").write_bytes(saved(smooth, kind, exif=exif(6), quality=95))
    same(tmp_path / "a", np.rot90(smooth, -1), tolerance=0.05)
    assert images.size_of(tmp_path / "a") == (32, 64)


def test_a_strange_orientation_of_a_tiff_fails_nothing(capfd):
    for orientation in (0, 9, 65535):
        same(tiff(C16, extratags=[(274, 3, 1, orientation, True)], **RGB), C16, FULL)
    assert capfd.readouterr() == ("", "")


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "AVIF", "PPM", "TGA", "PCX"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_kinds_are_told_by_content(kind, mode, tmp_path):
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    path = tmp_path / "picture.dat"
    path.write_bytes(saved(Image.fromarray(smooth).convert(mode), kind))
    assert is_image(path)
    same(path, smooth, tolerance=0.05)


@pytest.mark.parametrize(
    "content",
    [b"hello", bytes(64), b"BM is how this text begins", b"PK\3\4" + bytes(40), b"%!PS-Adobe-3.0 EPSF-3.0\n"],
)
def test_what_is_no_image(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    assert not is_image(tmp_path / "a.png")
    refused(tmp_path / "a.png", "not an image of a known kind")


def test_an_empty_file(tmp_path):
    (tmp_path / "a.png").touch()
    refused(tmp_path / "a.png", "is empty; copy it again")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PF\n7 6\n-1.0\n" + bytes(504), "colour PFM"),
        (b"P7\nWIDTH 7\nHEIGHT 6\nDEPTH 1\nMAXVAL 255\nENDHDR\n" + bytes(42), "PAM"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08" + bytes(40), "JPEG-LS"),
        (b"\xff\xd8\xff\xe8\0\x20SPIFF\0\2\0\0\1\0\0\0\x3c\0\0\0\x50\x0a\x08\6\1\0\0\1\x2c" + bytes(40), "JPEG-LS"),
    ],
)
def test_kinds_that_are_known_and_not_read(content, kind, tmp_path):
    (tmp_path / "a").write_bytes(content)
    assert is_image(tmp_path / "a")
    refused(tmp_path / "a", f"is a {kind} file, which is not read; save it as PNG or TIFF")


def test_jpeg_2000_of_more_bands_than_colours_and_alpha():
    content = bytearray(saved(C8, "JPEG2000"))
    at = content.index(b"\xff\x51") + 38
    content[at : at + 2] = b"\0\5"
    refused(bytes(content), "holds 5 bands, which is not read in JPEG 2000; save it as TIFF")


def test_kinds_told_by_less_usual_marks():
    late = b"\xff\xd8\xff\xe0\0\x06JFIF\xff\xf7\0\x0b" + bytes(40)
    refused(late, "JPEG-LS is not read")
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (32, 1))
    general = saved(smooth, "AVIF", quality=95).replace(b"ftypavif", b"ftypmif1", 1)
    same(general, smooth, tolerance=0.05)
    same(saved(Image.fromarray(G8 > 100), "TGA"), G8 > 100, 1)


def test_pillow_images_of_rare_modes():
    grey, alpha = Image.fromarray(G8), Image.new("L", (7, 6), 255)
    for mode in ("La", "LA", "PA"):
        same(Image.merge("LA", [grey, alpha]).convert(mode), G8)
    with pytest.raises(ImageError, match="check the image"), failing_as("the Pillow image", "image"):
        raise ValueError("conversion not supported")


@pytest.mark.parametrize(
    "error", [RuntimeError("decoder error -2"), ValueError("ZSTD_decompress returned"), KeyError()]
)
def test_what_parsers_say_is_put_into_words(error):
    words = r"it: cannot be read \(the data is damaged or cut short\); check the file"
    with pytest.raises(ImageError, match=words), failing_as("it"):
        raise error


def test_kinds_that_need_more_or_are_not_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refused(b"\0\0\0\x18ftypheic" + bytes(40), r"HEIC needs more decoders; run: pip install 'unmask\[codecs\]'")
    refused(b"\xff\x0a" + bytes(40), "is a JPEG XL file, which is not read; save it as PNG or TIFF")


def test_compressions_that_need_more(monkeypatch):
    def lacking(*_, **__):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    if find_spec("imagecodecs") is not None:
        monkeypatch.setattr(tifffile.TiffPage, "asarray", lacking)
    content = raw_tiff(zlib.compress(C16.tobytes()), 7, 6, 16, 3, 2, compression=5)
    refused(content, r"16-bit TIFF with LZW compression needs more decoders; run: pip install 'unmask\[codecs\]'")
    refused(raw_tiff(b"x", 7, 6, 16, 3, 2, compression=34933), "compression 34933 is not read; save it as grey or RGB")


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lerc", "jpeg2000"])
@pytest.mark.parametrize("predictor", [None, True])
def test_what_more_decoders_read_is_right(compression, predictor):
    pytest.importorskip("imagecodecs")
    if predictor and compression in ("lerc", "jpeg2000"):
        pytest.skip("there is none")
    how = {"compression": compression, "predictor": predictor}
    for array, full in ((G8, 255), (C8, 255), (G16, FULL), (C16, FULL)):
        kind = RGB if array.ndim == 3 else GREY
        same(tiff(array, **how, **kind), array, full)
        if compression not in ("jpeg2000", "lerc"):
            same(tiff(array, byteorder=">", **how, **kind), array, full)
            floats = (array / full).astype(np.float32)
            same(tiff(floats, **how, **kind), floats, 1)
    if compression == "jpeg2000":  # tifffile exchanges their bytes
        refused(tiff(G16, byteorder=">", **how, **GREY), "is not read")


def test_deep_jpeg_and_jpeg_2000_are_right_with_more_decoders():
    imagecodecs = pytest.importorskip("imagecodecs")
    ramp = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    same(imagecodecs.jpeg8_encode(ramp, level=98, bitspersample=12), ramp, 4095, tolerance=0.002)
    same(imagecodecs.jpeg8_encode(ramp * 16, lossless=True, bitspersample=16), ramp * 16, FULL)
    same(imagecodecs.jpeg8_encode(C8, lossless=True, bitspersample=8), C8)
    same(imagecodecs.jpeg2k_encode(ramp, level=0, bitspersample=12), ramp, 4095)
    for array, full in ((C8, 255), (C16, FULL), (G16, FULL)):
        same(imagecodecs.jpeg2k_encode(array, level=0), array, full)


def test_deep_grey_with_alpha_of_jpeg_2000():
    imagecodecs = pytest.importorskip("imagecodecs")
    wanted = C16[..., [0, 0, 0, 1]]
    content = imagecodecs.jpeg2k_encode(C16[..., :2], level=0, codecformat="jp2")
    same(content, wanted, FULL)
    refused(content, "holds 2 bands", bands=(3, 2, 1))


def test_heic_is_read_upright_with_more_decoders():
    heif = pytest.importorskip("pillow_heif")
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None], (1, 128, 3)).reshape(64, 128, 3)
    picture, file = heif.from_pillow(Image.fromarray(smooth)), io.BytesIO()
    picture.info["exif"] = exif(6)
    picture.save(file, quality=95)
    same(file.getvalue(), np.rot90(smooth, -1), tolerance=0.05)


def test_long_names_are_shortened(tmp_path):
    place = tmp_path / ("a" * 200) / ("b" * 200)
    place.mkdir(parents=True)
    (place / "c.png").write_bytes(b"no image")
    assert refused(place / "c.png", "not an image").startswith("...")


def test_headers_that_claim_too_much_are_refused_at_once():
    refused(raw_tiff(bytes(100), 7, 6, 800_000_000), "is not read")
    refused(raw_tiff(bytes(100), 7, 6, 12, 60_000), "60000 bands of its size do not fit into memory", max_pixels=1000)


def test_pages_in_a_circle_end():
    content = bytearray(tiff_of_pages((G8, GREY), (G8, GREY)))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        first, last = file.pages[0].offset, file.pages[1]
        end = last.offset + 2 + 12 * len(last.tags)
    content[end : end + 4] = first.to_bytes(4, "little")
    assert page_count(bytes(content)) == 2
    same(bytes(content), G8, page=2)


def test_a_file_without_pixels():
    refused(b"P5 0 0 255\n", "holds no pixels")
