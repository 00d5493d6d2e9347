"""A model file is whole or refused in one clear line, and reading one runs no code."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from unmask.errors import ModelFileError
from unmask.inspection.model_file import CHECKSUM, FORMAT, KEY, facts_of, read, write

FACTS: dict[str, Any] = {"detector": "isstad", "params": {"lr": 0.001, "weights": None}, "n": 3, "name": "größe"}
TENSORS = {
    "scalar": np.array(7, np.uint8),
    "empty": np.empty((0, 3), np.float32),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "a.unmask"
    write(path, FACTS, TENSORS)
    return path


def refused(path: Path, said: str) -> None:
    with pytest.raises(ModelFileError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_written_is_read(model: Path) -> None:
    facts, tensors = read(model)
    assert facts == {**FACTS, "format": FORMAT} == facts_of(model)
    assert set(tensors) == set(TENSORS)
    for key, value in TENSORS.items():
        assert (tensors[key].dtype, tensors[key].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(tensors[key], value)


def test_any_safetensors_reader_reads_it(model: Path) -> None:
    assert set(load_file(model)) == set(TENSORS)


def test_others_may_read_what_the_umask_allows(model: Path) -> None:
    (model.parent / "plain").write_bytes(b"")
    assert model.stat().st_mode == (model.parent / "plain").stat().st_mode


def test_what_was_read_can_be_written_again(model: Path) -> None:
    before = model.read_bytes()
    write(model, *read(model))
    assert read(model)[0] == {**FACTS, "format": FORMAT}
    assert len(model.read_bytes()) == len(before)


def test_every_flipped_bit_is_seen(model: Path) -> None:
    whole = model.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 200):
        broken = bytearray(whole)
        broken[at] ^= 1 << int(rng.integers(8))
        model.write_bytes(broken)
        with pytest.raises(ModelFileError) as caught:
            read(model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_cut_file_is_refused(model: Path, kept: int) -> None:
    model.write_bytes(model.read_bytes()[:kept])
    refused(model, "damaged or no model file")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    refused(tmp_path / "picture.png", "damaged or no model file")
    save_file({"x": np.zeros(3)}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "no unmask model")
    refused(tmp_path / "absent.unmask", "there is no model file")
    refused(tmp_path, "is a folder")


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    path = tmp_path / "pickle.unmask"
    path.write_bytes(pickle.dumps(Trap()))
    refused(path, "damaged or no model file")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({"format": FORMAT + 1}), "update unmask"),
        (json.dumps({"detector": "isstad"}), "header"),
        (json.dumps([1, 2]), "header"),
        (json.dumps({"format": FORMAT}), "checksum"),
        ("{", "header"),
    ],
)
def test_a_header_that_is_not_ours_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "b.unmask"
    save_file(TENSORS, path, {KEY: text, CHECKSUM: "0"})
    refused(path, said)


def test_a_failed_write_leaves_the_old_file(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_written(path: Path, content: bytes) -> int:
        path.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    before = model.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(ModelFileError, match=r"No space left on device.*give another place"):
        write(model, {"other": 1}, {})
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


def test_a_place_that_cannot_be_written_is_one_line(model: Path) -> None:
    for path in (model / "below" / "b.unmask", model.parent):
        with pytest.raises(ModelFileError, match="cannot be written") as caught:
            write(path, FACTS, TENSORS)
        assert "\n" not in str(caught.value)
    assert list(model.parent.iterdir()) == [model]
