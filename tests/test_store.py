"""Features past a limit lie in a file: on a disk, of its full size at once, and gone with what needed it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import SIZE, Textures, run_python
from unmask.errors import SettingError
from unmask.features import store
from unmask.features.maps import FeatureMaps
from unmask.features.store import (
    MEMORY_LIMIT,
    WORKING_MEMORY,
    FeatureStore,
    check_disk,
    check_memory,
    memory_left,
    scratch_folder,
)
from unmask.training.trainer import Training

N = 19  # no multiple of a batch


def rows(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def filled(values: Tensor, limit: int, folder: Path) -> FeatureStore:
    made = FeatureStore(tuple(values.shape), limit, folder)
    for start in (8, 0, 16):
        made.put(start, values[start : start + 8])
    return made


def one_line(error: pytest.ExceptionInfo[SettingError], *parts: str) -> None:
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The mounted file systems, as (place, kind), the later over the earlier; change the list."""
    mounted = [("/", "ext4")]

    def partitions(all: bool = False) -> list[Any]:  # noqa: A002 - psutil's name
        assert all, "tmpfs is no physical disk"
        return [type("partition", (), {"mountpoint": place, "fstype": kind}) for place, kind in mounted]

    monkeypatch.setattr(store.psutil, "disk_partitions", partitions)
    return mounted


# --- arrays in memory or in a file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20, 7), (20, 3, 64, 64)])
def test_memory_and_file_hold_the_same(shape: tuple[int, ...], tmp_path: Path, disks: Any) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).half()
    in_memory, in_file = filled(values, values.nbytes, tmp_path), filled(values, values.nbytes - 1, tmp_path)
    assert (in_memory.mapped is None, in_file.mapped is None) == (True, False), "the limit is in bytes"
    for made in (in_memory, in_file):
        assert len(made) == 20
        for some in (rows(0), rows(19, 3, 3, 0), torch.arange(20)):
            for _ in range(2):  # the pages have left the memory meanwhile
                assert torch.equal(made[some], values[some])


def test_what_is_taken_out_is_a_copy(tmp_path: Path, disks: Any) -> None:
    for limit in (0, 10**6):
        made = filled(torch.ones(20, 7).half(), limit, tmp_path)
        made[rows(1, 2)].zero_()
        assert made[torch.arange(20)].min() == 1


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_the_file_goes_with_what_needed_it(tmp_path: Path, disks: Any) -> None:
    before = open_files()
    made = filled(torch.ones(20, 7).half(), 0, tmp_path)
    assert list(tmp_path.iterdir()) == [], "it has no name, so that a killed process leaves nothing"
    del made
    assert list(tmp_path.iterdir()) == []
    assert open_files() <= before


def test_a_low_limit_sends_the_same_features_to_a_file(used: list[int], tmp_path: Path, disks: Any) -> None:
    needed = 2 * N * (8 * 8 * 8 + 16 * 4 * 4)
    maps, images = FeatureMaps("tiny", SIZE, (2, 3)), Textures(N)
    at = {
        limit: Training(device="cpu", max_memory=used[0] + WORKING_MEMORY + limit, scratch=tmp_path)
        for limit in (needed, needed - 1)
    }
    in_memory, in_file = maps.cache(images, at[needed]), maps.cache(images, at[needed - 1])
    assert (in_memory.flat.mapped is None, in_file.flat.mapped is None) == (True, False)
    for mine, other in zip(in_memory.maps_of(torch.arange(N)), in_file.maps_of(torch.arange(N)), strict=True):
        assert torch.equal(mine, other)
    assert list(tmp_path.iterdir()) == []


# --- where the file is ------------------------------------------------------------------------------------------------


def test_the_file_is_beside_the_checkpoints_unless_a_folder_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    checkpoints = tmp_path / "out" / "model.unmask.partial"
    assert scratch_folder(Training()) == tmp_path / "temporary"
    assert scratch_folder(Training(checkpoints=checkpoints)) == tmp_path / "temporary", "there is no folder out yet"
    checkpoints.parent.mkdir()
    assert scratch_folder(Training(checkpoints=checkpoints)) == checkpoints.parent
    assert scratch_folder(Training(checkpoints=checkpoints, scratch=tmp_path / "mine")) == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    assert scratch_folder(Training(checkpoints=Path("model.unmask.partial"))) == tmp_path


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
@pytest.mark.parametrize("inside", [".", "deeper/still"])
def test_a_folder_in_memory_is_one_line(
    kind: str, inside: str, tmp_path: Path, disks: list[tuple[str, str]], used: list[int]
) -> None:
    disks += [(str(tmp_path), "xfs"), (str(tmp_path / "memory"), "btrfs"), (str(tmp_path / "memory"), kind)]
    folder = tmp_path / "memory" / inside
    folder.mkdir(parents=True)
    (tmp_path / "memory of old days").mkdir()
    check_disk(tmp_path)
    check_disk(tmp_path / "memory of old days")
    for action in (
        lambda: check_disk(folder),
        lambda: FeatureStore((20, 7), 0, folder),
        lambda: check_memory(Training(scratch=folder)),
    ):
        with pytest.raises(SettingError) as caught:
            action()
        one_line(caught, kind, str(folder), "--scratch")
    assert FeatureStore((20, 7), 280, folder).mapped is None, "no file is needed"


def test_a_link_into_memory_is_memory(tmp_path: Path, disks: list[tuple[str, str]]) -> None:
    disks.append((str(tmp_path / "memory"), "tmpfs"))
    (tmp_path / "memory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "memory", target_is_directory=True)
    with pytest.raises(SettingError, match="tmpfs"):
        check_disk(tmp_path / "link")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="only Linux has it")  # noqa: S108 - it is what is tested
def test_shared_memory_is_known_as_memory() -> None:
    with pytest.raises(SettingError, match="tmpfs"):
        check_disk(Path("/dev/shm"))  # noqa: S108


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    for action in (
        lambda: FeatureStore((20, 7), 0, tmp_path / "missing"),
        lambda: check_memory(Training(scratch=tmp_path / "missing")),
    ):
        with pytest.raises(SettingError) as caught:
            action()
        one_line(caught, str(tmp_path / "missing"), "--scratch")
    assert FeatureStore((20, 7), 280, tmp_path / "missing").mapped is None, "none is needed"


# --- a disk that is full ----------------------------------------------------------------------------------------------


def test_the_file_has_its_full_size_from_the_start(tmp_path: Path, disks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in blocks: a hole would not be."""
    blocks: list[int] = []
    mmap = store.mmap.mmap

    def watched(fileno: int, size: int) -> Any:
        blocks.append(512 * os.fstat(fileno).st_blocks)
        return mmap(fileno, size)

    monkeypatch.setattr(store.mmap, "mmap", watched)
    FeatureStore((3, 1_000_000), 0, tmp_path)
    monkeypatch.delattr(os, "posix_fallocate", raising=False)  # as on macOS
    FeatureStore((3, 1_000_000), 0, tmp_path)
    assert min(blocks) >= 6_000_000
    assert len(blocks) == 2


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_reserve_is_written_to(
    number: int, tmp_path: Path, disks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    values = torch.randn(20, 7).half()
    assert torch.equal(filled(values, 0, tmp_path)[torch.arange(20)], values)


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, disks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(SettingError) as caught:
        FeatureStore((20, 7_000_000), 0, tmp_path)
    one_line(caught, "0.28 GB", str(tmp_path), "No space left", "--scratch")
    assert list(tmp_path.iterdir()) == []


NO_ROOM = """
import resource, sys
from pathlib import Path
from unmask.errors import SettingError
from unmask.features.store import FeatureStore

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    FeatureStore((20, 1_000_000), 0, Path(sys.argv[1]))
except SettingError as error:
    print(error)
"""


def test_a_file_that_must_not_grow_is_one_line_and_no_signal(tmp_path: Path) -> None:
    """The system's own limit stands for a full disk: a file of a megabyte at the most."""
    done = run_python("-c", NO_ROOM, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("--scratch" in done.stdout, done.stdout.count("\n")) == (True, 1)
    assert list(tmp_path.iterdir()) == []


# --- how much may stay in memory --------------------------------------------------------------------------------------


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that the process uses, as far as it is asked; change the only item."""
    bytes_used = [300_000_000]

    class Process:
        def memory_info(self) -> Any:
            return type("info", (), {"rss": bytes_used[0] + 7_000_000, "shared": 7_000_000})

    monkeypatch.setattr(store.psutil, "Process", Process)
    return bytes_used


def test_memory_that_is_left(used: list[int]) -> None:
    assert memory_left(Training()) == MEMORY_LIMIT
    assert memory_left(Training(max_memory=2_000_000_000)) == 1_700_000_000 - WORKING_MEMORY
    used[0] += 500_000_000
    assert memory_left(Training(max_memory=2_000_000_000)) == 1_200_000_000 - WORKING_MEMORY
    assert memory_left(Training(max_memory=100)) == 0, "and never less"


def test_less_memory_than_the_program_takes_is_one_line(used: list[int]) -> None:
    least = used[0] + WORKING_MEMORY
    check_memory(Training())
    check_memory(Training(max_memory=least))
    with pytest.raises(SettingError, match=r"max-memory 450 MB is less .* give 500 MB or more") as caught:
        check_memory(Training(max_memory=450_000_000))
    assert "\n" not in str(caught.value)
    used[0] += 1
    with pytest.raises(SettingError):
        check_memory(Training(max_memory=least))
