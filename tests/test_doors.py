"""What `inspect`, `inspect_many`, `fit` and `load` take: every form of an image, and one line for all else."""

import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unmask
from tiny import PATCHCORE, as_picture, planted, texture, write_textures
from unmask.errors import DatasetError, ImageError, ModelFileError, SettingError, UnmaskError
from unmask.inspection.inspector import Inspector
from unmask.training.trainer import Training

pytestmark = pytest.mark.filterwarnings("ignore:a false-alarm rate")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_textures(tmp_path_factory.mktemp("good"), 12)


@pytest.fixture(scope="module")
def inspector(paths: list[Path]) -> Inspector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return unmask.fit(paths, detector="patchcore", settings=PATCHCORE, training=Training(device="cpu"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad") / "bad.png"
    as_picture(planted(texture(7))).save(path)
    return path


class Somewhere:
    """A path of a library's own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def read_to_the_end(path: Path) -> Any:
    file = io.BytesIO(path.read_bytes())
    file.seek(0, os.SEEK_END)
    return file


def pixels(path: Path) -> torch.Tensor:
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def from_a_pipe(path: Path) -> Any:
    """A file that cannot be rewound."""

    class Pipe(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return path.read_bytes()

    return Pipe()


FORMS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "os.PathLike": Somewhere,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "part of a memoryview": lambda path: memoryview(b"x" + path.read_bytes())[1:],
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "BytesIO at its end": read_to_the_end,
    "open file": lambda path: path.open("rb"),
    "file that cannot be rewound": from_a_pipe,
    "tensor": pixels,
    "tensor of floats": lambda path: pixels(path) / 255,
    "tensor with a gradient": lambda path: (pixels(path) / 255).requires_grad_(),
    "tensor of doubles": lambda path: pixels(path).double() / 255,
    "strided tensor": lambda path: pixels(path).repeat(1, 1, 2)[:, :, ::2][:, :, :0].new_tensor(pixels(path)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_an_image_may_come_in_any_form(inspector: Inspector, bad: Path, form: str) -> None:
    expected = inspector.inspect(bad)
    image = FORMS[form](bad)
    assert inspector.inspect(image).score == pytest.approx(expected.score, rel=1e-4)
    if hasattr(image, "close"):
        image.close()


def test_a_tensor_in_bfloat16_is_read_at_its_own_precision(inspector: Inspector, bad: Path) -> None:
    found = inspector.inspect((pixels(bad) / 255).bfloat16())
    assert found.score == pytest.approx(inspector.inspect(bad).score, rel=0.1)


def test_an_open_file_stays_where_it_was(inspector: Inspector, bad: Path) -> None:
    file = io.BytesIO(bad.read_bytes())
    file.seek(11)
    inspector.inspect(file)
    assert file.tell() == 11


def test_a_result_of_any_path_has_it(inspector: Inspector, bad: Path) -> None:
    assert {inspector.inspect(form).path for form in (bad, str(bad), Somewhere(bad))} == {bad}


def closed() -> Any:
    file = io.BytesIO()
    file.close()
    return file


class Table:
    """As pandas has it: its items are names of columns."""

    columns = ("path",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


NO_IMAGE: dict[str, Any] = {
    "None": None,
    "int": 3,
    "dict": {"image": 1},
    "list of numbers": [[0.5, 0.5], [0.5, 0.5]],
    "pair": (np.zeros((8, 8, 3), np.uint8), 1),
    "text file": io.StringIO("x"),
    "closed file": closed(),
    "sparse tensor": torch.eye(4).to_sparse(),
    "tensor of no image": torch.zeros(8, 8, 3),
    "batch": torch.zeros(1, 3, 8, 8),
    "objects": np.array([[None]]),
    "texts": np.array([["a"]]),
    "number": np.float32(1),
    "no pixel": np.zeros((0, 4, 3), np.uint8),
    "complex": np.zeros((4, 4), complex),
    "class": Path,
    "function": pixels,
    "set": {1},
    "zip": zip([1], [2], strict=True),
    "zero in a name": "a\0b.png",
    "long name": "a" * 5000,
    "no bytes": b"",
    "address": "https://example.org/a.png",
    "table": Table(),
}


@pytest.mark.parametrize("what", NO_IMAGE)
def test_what_is_no_image_is_refused_in_one_line(inspector: Inspector, what: str) -> None:
    with pytest.raises(ImageError) as caught:
        inspector.inspect(NO_IMAGE[what])
    assert len(str(caught.value)) <= 290
    (failed,) = inspector.inspect_many([NO_IMAGE[what]], on_error="record")
    assert failed.error == str(caught.value)


def test_a_folder_a_pipe_and_a_device_are_not_waited_for(inspector: Inspector, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, word in ((tmp_path, "is a folder"), (tmp_path / "pipe.png", "pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(ImageError, match=word):
            inspector.inspect(path)


NO_IMAGES: dict[str, Any] = {
    "None": None,
    "int": 3,
    "dict": {"a.png": 1},
    "array of one image": np.zeros((8, 8, 3), np.uint8),
    "array of one grey image": np.zeros((8, 8), np.uint8),
    "array of one image, channels first": np.zeros((3, 8, 8), np.uint8),
    "tensor of one image": torch.zeros(3, 8, 8),
    "tensor of one image, channels last": torch.zeros(8, 8, 3),
    "batch of channels last in a tensor": torch.zeros(2, 8, 8, 3),
    "empty path": "",
    "Pillow image": as_picture(texture(0)),
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "open file": io.BytesIO(b"abc\ndef"),
    "table": Table(),
    "absent": "absent",
}


@pytest.mark.parametrize("what", NO_IMAGES)
def test_what_is_not_several_images_is_refused_in_one_line(inspector: Inspector, what: str) -> None:
    with pytest.raises(DatasetError) as caught:
        inspector.inspect_many(NO_IMAGES[what])
    assert len(str(caught.value)) <= 290
    with pytest.raises(UnmaskError):
        unmask.fit(NO_IMAGES[what], detector="patchcore", settings=PATCHCORE)


def test_several_images_may_come_in_any_form(inspector: Inspector, paths: list[Path], tmp_path: Path) -> None:
    expected = [inspector.inspect(path).score for path in paths[:3]]
    arrays = np.stack([pixels(path).permute(1, 2, 0).numpy() for path in paths[:3]])
    for images in (
        iter(paths[:3]),
        tuple(map(str, paths[:3])),
        dict.fromkeys(paths[:3]).keys(),
        (io.BytesIO(path.read_bytes()) for path in paths[:3]),
        arrays,
        torch.from_numpy(arrays).permute(0, 3, 1, 2),
        map(as_picture, map(texture, range(3))),
    ):
        assert [one.score for one in inspector.inspect_many(images)] == pytest.approx(expected, rel=1e-4)
    assert [one.score for one in inspector.inspect_many(str(paths[0]))] == pytest.approx(expected[:1])
    for nothing in ([], iter([]), tmp_path, np.zeros((0, 8, 8, 3), np.uint8)):
        assert list(inspector.inspect_many(nothing)) == []
        with pytest.raises(DatasetError):
            unmask.fit(nothing, detector="patchcore", settings=PATCHCORE)


WRONG: list[dict[str, Any]] = [
    {"tile": "x"},
    {"tile": 40.0},
    {"seed": "0"},
    {"seed": 1.5},
    {"seed": None},
    {"false_alarm_rate": "5%"},
    {"held_out_share": "0.2"},
    {"overlap": "a"},
    {"region": 3},
    {"region": [1, 2, "x", 4]},
    {"region": b"1,2,3,4"},
    {"settings": ["bank_size=3"]},
    {"settings": "bank_size=3"},
    {"preset": 1},
    {"device": 3},
    {"resize": None},
    {"intensity_range": 4095},
    {"intensity_range": (0, 10, 20)},
    {"intensity_range": "0,4095"},
    {"tile": True},
    {"false_alarm_rate": float("nan")},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_option_of_fit_is_one_line(paths: list[Path], wrong: dict[str, Any]) -> None:
    with pytest.raises(UnmaskError) as caught:
        unmask.fit(paths, **{"detector": "patchcore", "settings": PATCHCORE, **wrong})
    assert len(str(caught.value)) <= 290
    assert next(iter(wrong)).partition("_")[0] in str(caught.value).replace("-", "_").replace("false_alarm", "false")


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 2.5},
        {"batch_size": "2"},
        {"batch_size": None},
        {"explain": "yes"},
        {"on_error": 1},
        {"explain": 1},
    ],
    ids=str,
)
def test_a_wrong_option_of_inspect_many_is_one_line(
    inspector: Inspector, paths: list[Path], wrong: dict[str, Any]
) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        inspector.inspect_many(paths, **wrong)


@pytest.mark.parametrize("wrong", [{"device": 3}, {"backend": None}, {"detector": "mine"}, {"path": 3}], ids=str)
def test_a_wrong_option_of_load_is_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        unmask.load(**{"path": "a.unmask", **wrong})


def test_numbers_of_numpy_are_numbers(paths: list[Path], inspector: Inspector) -> None:
    assert len(list(inspector.inspect_many(paths[:3], np.int64(2)))) == 3  # type: ignore[call-overload]
    unmask.fit(paths, detector="patchcore", settings=PATCHCORE, seed=np.int64(1), false_alarm_rate=np.float32(0.4))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [None, 5, b"x", "a\0b", "a" * 5000])
def test_a_model_is_saved_to_a_path_or_refused(inspector: Inspector, tmp_path: Path, path: Any) -> None:
    with pytest.raises(UnmaskError):
        inspector.save(path if not isinstance(path, str) else f"{tmp_path}/{path}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_model_has_a_name(path: str) -> None:
    with pytest.raises(ModelFileError, match="give a file such as"):
        unmask.load(path)


def test_a_nested_tensor_is_no_image(inspector: Inspector) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([torch.zeros(3)])
    with pytest.raises(ImageError, match="without one shape"):
        inspector.inspect(nested)
