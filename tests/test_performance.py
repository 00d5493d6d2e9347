"""What makes a fit and an inspection fast, also beside a busy program, is in force, and changes no verdict."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unmask
from tiny import FRE, Textures, environment, write_textures
from unmask.features import backbones
from unmask.inspection import exported
from unmask.inspection.export import export
from unmask.training.torch_import import SPIN_COUNT, WAIT_SETTINGS

ENTRIES = {
    "fit": "unmask.fit",
    "load": "unmask.load(sys.argv[1], backend='torch')",
    "load an export": "unmask.load(sys.argv[1]).backend.name",
    "a detector of one's own choice": "import unmask.detectors",
    "training options": "import unmask.training.trainer",
    "features": "import unmask.features.maps",
    "export": "import unmask.inspection.export",
    "a row of the benchmark": "import unmask.benchmark.row",
    "unmask fit": "sys.argv[1:] = ['fit', sys.argv[2], '-o', sys.argv[3], '--detector', 'isstad', '--set', 'batch=0']\n"
    "from unmask.cli import main\ntry: main()\nexcept SystemExit: pass",
}
"""Each is the first thing that a program does with unmask."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with an export beside it, and the good images in a folder `good`."""
    folder = tmp_path_factory.mktemp("model")
    paths = write_textures(folder / "good", 40)
    inspector = unmask.fit(paths[:20], held_out=paths[20:], detector="fre", settings=FRE, device="cpu")
    inspector.save(folder / "weave.unmask")
    export(folder / "weave.unmask", images=paths[20:])
    return folder / "weave.unmask"


WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Watch())
import unmask
"""


def fresh(code: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter whose environment has no settings of the user's but these."""
    theirs = {name: value for name, value in environment().items() if not name.startswith((*WAIT_SETTINGS, "MALLOC_"))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env={**theirs, **variables}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def spin_count(code: str, *arguments: object, **variables: str) -> str:
    """GOMP_SPINCOUNT at the moment when a program begins to import torch; "no torch" where it does not."""
    return fresh(f"{WATCH}\n{code}\nprint('no torch')", *arguments, **variables).stdout.split("\n")[-2]


@pytest.mark.parametrize("entry", ENTRIES)
def test_threads_of_torch_do_not_spin_for_long(entry: str, model: Path, tmp_path: Path) -> None:
    count = spin_count(ENTRIES[entry], model, model.parent / "good", tmp_path / "new.unmask")
    assert count == ("no torch" if entry == "load an export" else SPIN_COUNT)


def test_the_users_own_setting_holds() -> None:
    assert spin_count("unmask.fit", GOMP_SPINCOUNT="7") == "7"
    assert spin_count("unmask.fit", OMP_WAIT_POLICY="ACTIVE") == "None"


def test_the_setting_takes_effect_and_leaves_nothing_in_the_environment() -> None:
    code = "import os, unmask; before = dict(os.environ); unmask.fit; assert dict(os.environ) == before"
    lines = fresh(code, OMP_DISPLAY_ENV="VERBOSE").stderr.splitlines()
    counts = [line.split("'")[1] for line in lines if "GOMP_SPINCOUNT" in line]
    if not counts:
        pytest.skip("torch is built without libgomp here")
    assert counts == [SPIN_COUNT]


def test_torch_may_be_imported_before() -> None:
    fresh("import os, torch, unmask; before = dict(os.environ); unmask.fit; assert dict(os.environ) == before")


def test_threads_of_an_exported_model_do_not_spin_for_long(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    given: list[Any] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, options: Any, **more: Any) -> None:
            given.append(options)
            super().__init__(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    opened = unmask.load(model.with_suffix(".onnx"))
    (options,) = given
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == exported.SPIN_MICROSECONDS
    monkeypatch.setattr(exported, "session_options", onnxruntime.SessionOptions)
    spinning = unmask.load(model.with_suffix(".onnx"))
    image = np.asarray(Textures(1)[0].permute(1, 2, 0))
    np.testing.assert_array_equal(opened.inspect(image).map, spinning.inspect(image).map)


@pytest.mark.parametrize(("n", "pixels", "sizes"), [(5, 2 * 64 * 64, [3, 2]), (1, 2 * 64 * 64, [1]), (2, 100, [1, 1])])
@pytest.mark.parametrize("name", ["tiny", "efficientnet_lite0"])
def test_groups_of_images_give_the_same_maps(
    name: str, n: int, pixels: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, images = backbones.load(name), torch.stack(Textures(n).images)
    monkeypatch.setattr(backbones, "GROUP_PIXELS", 64 * 64 * n)
    whole = backbone(images)
    monkeypatch.setattr(backbones, "GROUP_PIXELS", pixels)
    groups: list[int] = []
    backbone.net.register_forward_pre_hook(lambda _, inputs: groups.append(len(inputs[0])))
    grouped = backbone(images)
    assert groups == sizes
    for one, other in zip(whole, grouped, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_network_sees_channels_last_whatever_it_is_given() -> None:
    """So that an image gives the same numbers in a fit as in an inspection, and alone as in a batch."""
    backbone, given = backbones.load("tiny"), []
    backbone.net.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    backbone(torch.stack(Textures(3).images))
    assert [one.is_contiguous(memory_format=torch.channels_last) for one in given] == [True]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other rules")
def test_freed_memory_is_used_again() -> None:
    """In a process of its own, in its main thread and in another: a batch costs no page faults after the first ones."""
    code = (
        "import resource, threading, torch.nn\nfrom unmask.features import backbones\n"
        "backbone, images = backbones.load('efficientnet_lite0'), torch.rand(8, 3, 256, 256)\n"
        "def faults():\n"
        "    for _ in range(2): backbone(images)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(2): backbone(images)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
        "faults()\nthread = threading.Thread(target=faults); thread.start(); thread.join()\n"
    )
    own = {name: value for name, value in environment().items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True, timeout=120
    )
    assert max(map(int, done.stdout.split())) < 8_000, "of 160,000 that batches of eight cost"
