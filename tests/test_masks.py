"""Masks as people have them: the same defect of 400 pixels comes out of every kind of file."""

import random
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

from trees import mark, put, put_many, write_mvtec
from unmask import datasets
from unmask.datasets.drawing import drawn
from unmask.datasets.marks import marks_of
from unmask.datasets.mask_files import mask_pixels
from unmask.errors import DatasetError
from unmask.types import Outlines, Sample

HERE = Path("annotations.json")
SHAPE = np.zeros((80, 100), bool)
SHAPE[30:50, 40:60] = True
OTHER = np.zeros_like(SHAPE)
OTHER[10:14, 10:70] = True  # a defect of another kind, 240 pixels
GREY = SHAPE.astype(np.uint8) * 255
RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 128, 0), (255, 255, 255), (0, 0, 0)


def grey(defect, kind=np.uint8, background=0):
    return np.where(SHAPE, defect, background).astype(kind)


def colours(defect, background=BLACK):
    return np.where(SHAPE[..., None], defect, background).astype(np.uint8)


def with_alpha(rgb, alpha):
    return np.dstack([rgb, np.broadcast_to(np.asarray(alpha, np.uint8), SHAPE.shape)])


def palette(indices, *entries):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([value for entry in entries for value in entry])
    return image


def voc(indices):
    """The colour map of Pascal VOC: the bits of an index, spread over the colours."""
    entries = []
    for index in range(256):
        bits = [[index >> (3 * place + channel) & 1 for place in range(3)] for channel in range(3)]
        entries.append(tuple(sum(bit << (7 - place) for place, bit in enumerate(channel)) for channel in bits))
    return palette(indices, *entries)


def drawn_softly(scale=8):
    """As a drawing program does it, with soft edges."""
    large = Image.fromarray(GREY).resize((100 * scale + 4, 80 * scale + 4), Image.Resampling.NEAREST)
    return large.resize((100, 80), Image.Resampling.LANCZOS)


def save(content, path, **options):
    image = content if isinstance(content, Image.Image) else Image.fromarray(content)
    image.save(path, **options)
    return path


def area(path):
    pixels, lossy = mask_pixels(path)
    return int(marks_of(pixels, lossy=lossy).defective.sum())


@pytest.mark.parametrize(
    "content",
    [
        *(grey(value) for value in (1, 2, 7, 63, 64, 128, 200, 254, 255)),
        *(grey(value, np.uint16) for value in (1, 255, 256, 4095, 65_535)),
        Image.fromarray(SHAPE),
        *(palette(SHAPE, BLACK, colour) for colour in (WHITE, RED, (1, 1, 1), (128, 0, 0))),
        palette(~SHAPE, WHITE, BLACK),
        palette(SHAPE, WHITE, RED),
        palette(~SHAPE, RED, WHITE),
        palette(SHAPE, (120, 120, 120), (4, 250, 7)),
        palette(SHAPE, BLACK, BLACK),
        voc(SHAPE),
        voc(SHAPE * 15),
        Image.fromarray(GREY).convert("RGB").convert("P"),
        Image.fromarray(GREY).convert("RGB").quantize(4),
        *(colours(colour) for colour in (WHITE, RED, GREEN, (0, 0, 70), (1, 1, 1), (128, 128, 0))),
        *(colours(RED, background) for background in (WHITE, (0, 255, 255), (40, 90, 160))),
        with_alpha(colours(WHITE), 255),
        with_alpha(colours(RED), 0),
        with_alpha(colours(WHITE, WHITE), GREY),
        with_alpha(colours(BLACK, BLACK), GREY),
        with_alpha(colours(RED, WHITE), GREY),
        with_alpha(colours(RED, WHITE), GREY // 2),
        with_alpha(colours(WHITE), np.where(np.arange(100) < 90, 255, 0)),
        Image.fromarray(np.dstack([np.full_like(GREY, 255), GREY]), "LA"),
        Image.fromarray(np.dstack([GREY, np.full_like(GREY, 255)]), "LA"),
        drawn_softly(),
        Image.fromarray(GREY).resize((50, 40), Image.Resampling.BILINEAR).resize((100, 80), Image.Resampling.BILINEAR),
    ],
)
def test_a_png_mask(content, tmp_path):
    assert area(save(content, tmp_path / "mask.png")) == pytest.approx(400, abs=4)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize(
    "content", [GREY, grey(128), colours(WHITE), colours(RED), colours(RED, WHITE), colours((128, 0, 0))]
)
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_masks_in_other_formats(content, suffix, quality, tmp_path):
    options = {"quality": quality} if suffix in (".jpg", ".webp") else {}
    content = Image.fromarray(content).convert("RGB") if suffix == ".webp" else content
    assert area(save(content, tmp_path / f"mask{suffix}", **options)) == pytest.approx(400, abs=4)


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_a_lossy_mask_that_was_saved_as_png(quality, tmp_path):
    save(GREY, tmp_path / "mask.jpg", quality=quality)
    with Image.open(tmp_path / "mask.jpg") as image:
        assert area(save(image.convert("L"), tmp_path / "mask.png")) == pytest.approx(400, abs=4)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        *((grey(1, kind), {}) for kind in (np.float32, np.float64, np.uint16, np.int16, np.uint32, np.uint8)),
        *((grey(value, np.float32), {}) for value in (0.5, 1.0, 255.0)),
        (np.clip(np.asarray(drawn_softly(), np.float32) / 255, 0, 1), {}),
        (colours(WHITE).astype(np.uint16) * 257, {"photometric": "rgb"}),
        (SHAPE, {}),
        (grey(2**32 - 1, np.uint32), {}),
        (grey(1, np.uint8), {"compression": "zlib"}),
        (255 - GREY, {"photometric": "miniswhite"}),
    ],
)
def test_a_tiff_mask(values, options, tmp_path):
    tifffile.imwrite(tmp_path / "mask.tif", values, **options)
    assert area(tmp_path / "mask.tif") == pytest.approx(400, abs=4)


@pytest.mark.parametrize(("suffix", "area_of_defect"), [(".gif", 400), (".pgm", 400), (".jp2", 400)])
def test_formats_that_photographs_seldom_have(suffix, area_of_defect, tmp_path):
    assert area(save(GREY, tmp_path / f"mask{suffix}")) == pytest.approx(area_of_defect, abs=4)


def test_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "mask.tif") as tiff:
        tiff.write(GREY[::8, ::8], subfiletype=1)
        tiff.write(GREY)
    assert area(tmp_path / "mask.tif") == 400
    tifffile.imwrite(tmp_path / "mask.tif", np.stack([GREY] * 3), photometric="minisblack")
    with pytest.raises(DatasetError, match="3 pages: save each mask as a file"):
        area(tmp_path / "mask.tif")


def test_a_tiff_of_two_channels_is_refused_as_what_it_is(tmp_path):
    root = write_mvtec(tmp_path)
    mask = root / "ground_truth/crack/000_mask.png"
    mask.unlink()
    tifffile.imwrite(mask.with_suffix(".tif"), np.zeros((4, 6, 2), np.uint8), photometric="minisblack")
    with pytest.raises(DatasetError, match=r"000_mask\.tif: the mask cannot be read \(.*4 pages"):
        datasets.load(root)


def test_a_pointer_of_git_lfs_is_no_image(tmp_path):
    root = write_mvtec(tmp_path)
    (root / "train/good/000.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DatasetError, match="is a Git LFS pointer, not the image; run: git lfs pull"):
        datasets.load(root)


@pytest.mark.parametrize("values", [SHAPE.astype(np.complex64), np.where(SHAPE, np.nan, 0).astype(np.float32)])
def test_numbers_that_are_no_mask(values, tmp_path):
    tifffile.imwrite(tmp_path / "mask.tif", values)
    assert "mask.tif: the mask" in failure(tmp_path / "mask.tif")


@pytest.mark.parametrize(
    "indices",
    [
        *(SHAPE * first + OTHER * second for first, second in ((1, 2), (2, 1), (3, 40), (85, 170), (255, 100))),
        *(SHAPE * first + OTHER * second for first, second in ((128, 255), (127, 255), (30, 200), (60, 200))),
    ],
)
def test_each_of_several_classes_is_defective(indices, tmp_path):
    assert area(save(indices.astype(np.uint8), tmp_path / "mask.png")) == 640


def instances(count, gap=2):
    """Squares of 5 x 5 pixels with the numbers 1 to count, as a labelling of connected areas gives them."""
    numbers = np.zeros((105, 105), np.uint16)
    for number in range(count):
        y, x = (step * (5 + gap) for step in divmod(number, 105 // (5 + gap)))
        numbers[y : y + 5, x : x + 5] = number + 1
    return numbers


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [63, 64, 80, 130, 200])
def test_each_of_many_instances_is_defective(count, kind):
    marks = marks_of(instances(count).astype(kind))
    assert (marks.defective.sum(), marks.remark) == (25 * count, "")
    assert marks_of(instances(count, gap=0).astype(kind)).defective.sum() == 25 * count


def test_a_scratch_of_one_pixel_and_classes_of_large_numbers_are_defective():
    thin = instances(130) * (np.arange(105) % 7 == 2)
    assert marks_of(thin).defective.sum() == 650
    few = np.zeros((80, 100), np.uint16)
    few[2:10, 2:10], few[2:10, 20:30], few[30:70, 20:80] = 11_001, 11_002, 33_001
    assert marks_of(few).defective.sum() == 64 + 80 + 2400
    assert marks_of(SHAPE * np.uint8(100) + OTHER * np.uint8(3)).defective.sum() == 640


def test_heat_maps_and_soft_edges_are_no_instances():
    y, x = np.mgrid[:400, :500]
    heat = (255 * np.exp(-((y - 200) ** 2 + (x - 250) ** 2) / 9000)).astype(np.uint8)
    assert np.array_equal(marks_of(heat).defective, heat > 127)
    soft = np.asarray(drawn_softly().rotate(17, Image.Resampling.BICUBIC)).repeat(4, 0).repeat(4, 1)
    assert marks_of(soft).defective.sum() == pytest.approx(6400, rel=0.05)


def test_classes_in_colours(tmp_path):
    for content in (
        voc(SHAPE * 1 + OTHER * 2),
        voc(SHAPE * 8 + OTHER * 15),
        palette(SHAPE + OTHER * 2, WHITE, RED, GREEN),
    ):
        assert area(save(content, tmp_path / "mask.png")) == 640
        assert area(save(content.convert("RGB"), tmp_path / "mask.png")) == 640


def test_the_void_of_pascal_voc_is_not_counted(tmp_path):
    indices = SHAPE.astype(np.uint8)
    ring = np.zeros_like(SHAPE)
    ring[28:52, 38:62] = True
    indices[ring & ~SHAPE] = 255
    for content in (Image.fromarray(indices), voc(indices), voc(indices).convert("RGB")):
        marks = marks_of(mask_pixels(save(content, tmp_path / "mask.png"))[0])
        assert marks.defective.sum() == 400
        assert "void" in marks.remark


@pytest.mark.parametrize("sizes", [(6, 20), (20, 6), (6, 6)])
@pytest.mark.parametrize("number", [1, 2, 63])
def test_classes_beside_255_are_not_lost(sizes, number):
    mixed = np.zeros((80, 100), np.uint8)
    mixed[10 : 10 + sizes[0], 20:40], mixed[40 : 40 + sizes[1], 50:70] = number, 255
    marks = marks_of(mixed)
    assert np.array_equal(marks.defective, mixed > 0)
    assert "all of it counts" in marks.remark


def test_a_border_of_void_around_a_thin_crack_is_not_counted(tmp_path):
    crack = np.zeros((80, 100), np.uint8)
    crack[30:33, 20:70] = 255
    crack[31, 20:70] = 1
    for content in (Image.fromarray(crack), voc(crack), voc(crack).convert("RGB")):
        marks = marks_of(mask_pixels(save(content, tmp_path / "mask.png"))[0])
        assert np.array_equal(marks.defective, crack == 1)
        assert "void" in marks.remark


def test_a_border_of_void_around_instances_of_16_bits_is_not_counted():
    numbers = instances(130)
    marked = numbers > 0
    void = np.logical_or.reduce([np.roll(marked, by, axis) for by in (1, -1) for axis in (0, 1)]) & ~marked
    marks = marks_of(np.where(void, 65_535, numbers).astype(np.uint16))
    assert "not counted" in marks.remark
    assert marks.defective.sum() == 25 * 130


def test_empty_and_full_masks(tmp_path):
    full = np.ones_like(SHAPE)
    for number in (1, 255):
        assert area(save((full * number).astype(np.uint8), tmp_path / "full.png")) == full.size
    assert area(save(colours(RED, RED), tmp_path / "full.png")) == full.size
    assert area(save(full.astype(np.uint8) * 255, tmp_path / "full.jpg")) == full.size
    for name in ("empty.png", "empty.jpg", "empty.webp", "empty.tif"):
        assert area(save((~full).astype(np.uint8), tmp_path / name)) == 0
    assert area(save((~full).astype(np.uint8) + 3, tmp_path / "noise.jpg")) == 0


def test_photographs_and_numbers_without_a_zero_are_remarked_on(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, SHAPE.shape).astype(np.uint8)
    assert "photographs" in marks_of(noise).remark
    photograph = np.random.default_rng(0).integers(60, 256, (80, 100, 3)).astype(np.uint8)
    photograph[0, 0], photograph[1, :2] = (224, 224, 192), 0
    assert "photographs" in marks_of(photograph).remark
    assert "hold no 0" in marks_of(grey(2, background=1)).remark
    signed = grey(1, np.int32)
    signed[:10] = -1
    assert marks_of(signed).defective.sum() == 400
    assert "negative" in marks_of(signed).remark


@pytest.fixture
def one(tmp_path):
    """A photograph of 100 x 80 pixels, and the sample that pairs it with a mask."""
    put(tmp_path / "photo.png", size=(100, 80))
    return Sample(tmp_path / "photo.png", True, "dent", (tmp_path / "mask.png",))


def test_a_mask_of_another_size(one):
    for width, height in ((50, 40), (200, 160), (25, 20), (51, 40)):
        save(Image.fromarray(GREY).resize((width, height), Image.Resampling.NEAREST), one.masks[0])
        assert datasets.read_mask(one, 80, 100).sum() == pytest.approx(400, abs=40)
        assert datasets.read_masks(one)[0].shape == (80, 100)
    save(GREY[:70], one.masks[0])
    with pytest.raises(DatasetError, match=r"mask\.png: 100 x 70 for an image 100 x 80"):
        datasets.read_masks(one)


def turned_by(orientation, pixels, path):
    exif = Image.Exif()
    exif[0x112] = orientation
    return save(pixels, path, exif=exif)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_turned_as_their_photographs(suffix, orientation, tmp_path):
    from unmask.imaging.images import decode

    photo = turned_by(orientation, np.dstack([GREY] * 3), tmp_path / f"photo{suffix}")
    seen = decode(photo)[0] > 0.5
    masks = [turned_by(orientation, np.dstack([GREY] * 3), tmp_path / f"mask{suffix}")]
    if orientation >= 5:
        masks.append(save(GREY, tmp_path / "as_in_the_file.png"))
        masks.append(save(GREY.repeat(2, 0).repeat(2, 1), tmp_path / "as_in_the_file_and_larger.png"))
    masks.append(save(seen.astype(np.uint8) * 255, tmp_path / "upright.png"))
    for mask in masks:
        found = datasets.read_mask(Sample(photo, True, "dent", (mask,)), *seen.shape)
        assert (found ^ seen).sum() <= 4, mask.name


def test_what_exif_leaves_open_is_told(tmp_path):
    root = write_mvtec(tmp_path)
    for number, size in enumerate([(8, 6), (6, 6), (8, 6)]):
        turned_by(6, np.zeros((*size[::-1], 3), np.uint8) + number, root / f"test/crack/{number:03}.png")
        mark(root / f"ground_truth/crack/{number:03}_mask.png", 5 + number, size if number != 2 else size[::-1])
    assert datasets.load(root).warnings == (
        "1 masks were drawn on photographs that EXIF turns, and are turned alike: crack/000_mask.png",
        "1 masks are taken as upright: EXIF turns their photographs and not them: crack/001_mask.png",
    )


def test_the_case_of_a_turned_photograph(tmp_path):
    photo, mask = np.full((160, 256, 3), 120, np.uint8), np.zeros((160, 256), np.uint8)
    photo[10:30, 200:240], mask[10:30, 200:240] = 255, 255
    sample = Sample(turned_by(6, photo, tmp_path / "0.png"), True, "d", (turned_by(6, mask, tmp_path / "0_mask.png"),))
    found = datasets.read_mask(sample, 256, 160)
    assert found[200:240, 130:150].all()
    assert found.sum() == 800


def test_doubtful_masks_are_told(tmp_path):
    root = write_mvtec(tmp_path)
    put_many(root / "test/dent", 7)
    for number in range(7):
        mark(root / f"ground_truth/dent/{number:03}_mask.png", 3 + number)
    assert datasets.load(root).warnings == ()
    mark(root / "ground_truth/dent/000_mask.png", 0)
    mark(root / "ground_truth/dent/001_mask.png", 20)
    mark(root / "ground_truth/dent/002_mask.png", 30, size=(12, 8))
    assert datasets.load(root).warnings == (
        "1 masks differ in size from their images and are scaled to them: dent/002_mask.png",
        "1 of 10 defective images have a mask that marks nothing: dent/000_mask.png",
        "1 of 10 masks mark most of their image, unlike the others: dent/001_mask.png (83 %); if black is the defect "
        "there, invert them",
    )
    for path in (root / "ground_truth").rglob("*.png"):
        mark(path, 4)
    (warning,) = datasets.load(root).warnings
    assert warning == "all 10 masks mark the same pixels, as if one had been copied: crack/000_mask.png"


def test_a_good_image_with_a_defect_in_its_mask_is_refused(tmp_path):
    root = write_mvtec(tmp_path)
    for number in range(2):
        mark(root / f"ground_truth/good/{number:03}_mask.png", 0)
    assert datasets.load(root).warnings == ()
    mark(root / "ground_truth/good/001_mask.png", 1)
    with pytest.raises(DatasetError, match=r"1 good images have masks that mark defects: good/001_mask\.png; empty"):
        datasets.load(root)


def test_polygons_are_filled_where_the_centres_of_pixels_lie():
    square = Outlines(HERE, (100, 80), polygons=((40, 30, 60, 30, 60, 50, 40, 50),))
    assert np.array_equal(drawn(square, 100, 80), SHAPE)
    assert drawn(square, 200, 160).sum() == 1600
    triangle = Outlines(HERE, (100, 80), polygons=((10, 10, 90, 15, 30, 70),))
    oracle = Image.new("L", (1600, 1280))
    ImageDraw.Draw(oracle).polygon([(160, 160), (1440, 240), (480, 1120)], fill=255)
    centres = np.asarray(oracle)[8::16, 8::16] > 0
    assert (drawn(triangle, 100, 80) ^ centres).sum() <= 4
    outside = Outlines(HERE, (100, 80), polygons=((-50, -50, 500, -50, 500, 500, -50, 500),))
    assert drawn(outside, 100, 80).all()


def test_runs_go_down_the_columns():
    runs = (40 * 80 + 30, *[20, 60] * 19, 20, 30 + 40 * 80)
    assert np.array_equal(drawn(Outlines(HERE, (100, 80), runs=(runs,)), 100, 80), SHAPE)


def test_whatever_bytes_a_mask_holds(tmp_path):
    rng = random.Random(0)
    originals = []
    for number, (content, suffix) in enumerate([(GREY, ".png"), (voc(SHAPE), ".png"), (GREY, ".jpg"), (GREY, ".tif")]):
        originals.append(save(content, tmp_path / f"{number}{suffix}"))
    for path in originals:
        whole = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
            for _ in range(rng.randrange(8)):
                if damaged:
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            path.write_bytes(damaged)
            message = failure(path)
            assert len(message) <= 300
            assert "\n" not in message


def failure(path):
    """The message of a mask that cannot be read; empty for one that can."""
    try:
        area(path)
    except DatasetError as error:
        return str(error)
    return ""


@pytest.mark.real
def test_the_real_masks_are_as_they_were(real_images):
    masks = sorted(real_images.glob("*/ground_truth/*/*.png"))
    assert len(masks) == 576
    for path in masks:
        pixels, lossy = mask_pixels(path)
        marks = marks_of(pixels, lossy=lossy)
        assert marks.remark == ""
        assert np.array_equal(marks.defective, np.asarray(Image.open(path)) > 0)


def test_pages_of_a_tiff_that_pillow_does_not_read_are_several_masks_too(tmp_path):
    pages = np.zeros((3, 8, 8))
    pages[1, 2:6, 2:6] = 1
    tifffile.imwrite(tmp_path / "mask.tif", pages, photometric="minisblack")
    with pytest.raises(DatasetError, match="3 pages: save each mask as a file"):
        mask_pixels(tmp_path / "mask.tif")
