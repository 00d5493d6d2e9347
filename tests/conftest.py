"""Shapes in annotations are checked while tests run; the real images are found, or their absence is said."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tiny networks are slower on more
os.environ["MKL_NUM_THREADS"] = "1"

import signal
import warnings
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("unmask", "typechecker.check")

from fake_device import fake_device  # noqa: E402 - before the first backward pass, and after the hook
from tiny import Finished, Run  # noqa: E402

__all__ = ["fake_device"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real data sets; absent on most machines, required in CI."""
    if not REAL.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have the real images beside the checkout, at {REAL}")
        pytest.skip("the real images (../shared/data) are not on this machine")
    return REAL


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow measurements come first, so that the other process is not idle while the last of them runs."""
    items.sort(key=lambda item: item.get_closest_marker("real") is None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`unmask` in this process, which has loaded torch already."""
    from unmask.cli import app

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr("sys.argv", ["unmask", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            app.main()
        return Finished(int(exit_.value.code or 0), *capsys.readouterr())

    return run
