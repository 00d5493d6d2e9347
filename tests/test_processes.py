"""Processes, memory and cores on Linux, macOS and Windows: what one system lacks is hidden, and the value is right."""

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tiny import run_python
from unmask.benchmark import cost, lock, processes, row_process, scaling
from unmask.benchmark.job import Job
from unmask.benchmark.methods import words_of
from unmask.errors import SettingError

MEBI = 2**20


def used(maxrss: int) -> SimpleNamespace:
    """A module `resource` of a system that counts in its own unit."""
    return SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=maxrss))


# --- memory and cores -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "maxrss"), [("darwin", 300 * MEBI), ("freebsd14", 300 * 1024)])
def test_the_unit_of_maxrss_is_that_of_the_system(system: str, maxrss: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setitem(sys.modules, "resource", used(maxrss))
    assert cost.peak_megabytes() == 300


def test_linux_without_proc_counts_kibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setitem(sys.modules, "resource", used(300 * 1024))
    assert cost.peak_megabytes() == 300


def test_windows_has_no_resource_and_reads_the_peak_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(peak_wset=300 * MEBI))
    monkeypatch.setattr(sys, "platform", "win32")
    assert cost.peak_megabytes() == 300


def test_the_peak_here_is_at_least_what_is_used_now() -> None:
    assert cost.peak_megabytes() >= psutil.Process().memory_info().rss // MEBI - 1


def test_cores_are_those_of_the_affinity_or_else_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0, 3, 5], raising=False)
    assert processes.usable_cores() == 3
    monkeypatch.setattr(psutil, "cpu_percent", lambda seconds, percpu: [100.0, 50, 50, 60, 0, 0])
    assert cost.busy_cores(0) == 1.6
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert processes.usable_cores() == 6
    assert cost.busy_cores(0) == 2.6


def test_time_and_memory_are_measured_where_posix_is_missing() -> None:
    code = (
        "import os, psutil, sys\nsys.modules['resource'] = None  # psutil has its own way on each system\n"
        "for name in ('sched_getaffinity', 'killpg', 'setsid'): delattr(os, name)\n"
        "from unmask.benchmark import cost, lock, methods, processes, results, summary\n"
        "import unmask.benchmark.row_process, unmask.benchmark.places; assert 'torch' not in sys.modules\n"
        "print(cost.peak_megabytes() > 10, processes.usable_cores() > 0)"
    )
    done = run_python("-c", code)
    assert (done.stdout.split(), done.stderr) == (["True", "True"], "")


@pytest.mark.parametrize("module", sorted(Path(str(processes.__file__)).parent.glob("*.py")), ids=lambda one: one.stem)
def test_no_module_of_the_benchmark_needs_posix_to_be_imported(module: Path) -> None:
    tops = ast.parse(module.read_text(encoding="utf-8")).body
    names = {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tops if isinstance(node, ast.ImportFrom)}
    assert names & {"resource", "fcntl", "pwd", "grp"} == set()
    assert "sched_getaffinity" not in module.read_text(encoding="utf-8"), "see processes.usable_cores"


def test_energy_is_read_where_the_machine_gives_it(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"intel-rapl:{number}").mkdir()
        (tmp_path / f"intel-rapl:{number}" / "energy_uj").write_text("1000000")
    energy = cost.Energy(tmp_path)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("3500000")
    assert energy.joules() == 2.5
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("0")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("0")
    assert energy.joules() is None, "a counter that began anew says nothing"
    assert cost.Energy(tmp_path / "nowhere").joules() is None


def test_where_links_are_refused_images_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError("no links here")

    (tmp_path / "a").write_text("picture")
    scaling.link_or_copy(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(os, "link", refused)
    scaling.link_or_copy(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "b").samefile(tmp_path / "a")
    assert (tmp_path / "c").read_text() == "picture"
    assert not (tmp_path / "c").samefile(tmp_path / "a")


def test_a_backslash_of_windows_is_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_of(r"C:\python.exe a.py") == ["C:python.exe", "a.py"]
    monkeypatch.setattr(sys, "platform", "win32")
    assert words_of(r"C:\python.exe 'a b.py'") == [r"C:\python.exe", "a b.py"]


# --- processes --------------------------------------------------------------------------------------------------------

FAMILY = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(grandchild.pid))
{then}
"""


def started(tmp_path: Path, then: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A process, and another that it has started."""
    file = tmp_path / "pid"
    child = processes.start([sys.executable, "-c", FAMILY.format(then=then), str(file)], os.environ)
    wait_for(lambda: file.exists() and file.read_text() != "")
    return child, psutil.Process(int(file.read_text()))


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(600):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 30 s")


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("system", ["posix", "windows"])
def test_a_process_ends_with_all_that_it_started(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child, grandchild = started(tmp_path, "time.sleep(60)")
    if system == "windows":
        monkeypatch.delattr(os, "killpg")
    processes.end(child)
    assert child.stderr is not None
    child.stderr.close()
    assert child.returncode
    wait_for(lambda: gone(grandchild))


def test_what_a_process_started_ends_even_if_it_is_gone_itself(tmp_path: Path) -> None:
    child, grandchild = started(tmp_path, "")
    assert child.stderr is not None
    child.stderr.close()
    child.wait()
    assert not gone(grandchild)
    processes.end(child)
    wait_for(lambda: gone(grandchild))


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "import os, sys, time\nfrom unmask.benchmark.processes import end_with_parent\n"
        "open(sys.argv[2], 'w').write(str(os.getpid()))\nend_with_parent(int(sys.argv[1]))\ntime.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, {str(child)!r}, str(os.getpid()), 'pid'], start_new_session=True)\n"
        "while not os.path.exists('pid') or not open('pid').read(): time.sleep(0.05)"
    )
    assert run_python("-c", parent, cwd=tmp_path).returncode == 0
    orphan = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(orphan) or gone(psutil.Process(orphan)))


def test_windows_starts_a_group_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **options: Any) -> None:
            given.update(options)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    processes.start(["a"], {})
    assert given["start_new_session"] is True
    assert "creationflags" not in given
    given.clear()
    monkeypatch.setattr(sys, "platform", "win32")
    processes.start(["a"], {})
    assert given["creationflags"] == 512
    assert "start_new_session" not in given


def test_one_function_makes_the_environment_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    monkeypatch.chdir(tmp_path)
    made = row_process.row_environment(3, tmp_path / "temporary")
    assert {made[name] for name in row_process.THREAD_COUNTS} == {"3"}
    assert {made[name] for name in ("TMPDIR", "TEMP", "TMP")} == {str(tmp_path / "temporary")}
    assert made["PYTHONPATH"] == os.pathsep.join([str(tmp_path), "/somewhere"])
    assert made["PATH"] == os.environ["PATH"]


def test_a_row_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    children: set[Any] = set()
    done = row_process.run_job(Job("fre", "fast", {}, str(tmp_path), 0), 1, 0.005, children)
    assert done.row["failed"] == "stopped after 0.005 minutes"
    assert children == set()


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ("Traceback\n  File\nValueError: no\n\n", 1, "ValueError: no"),
        ("", 3, "ended with code 3 and no message"),
        ("", -9, "ended by signal SIGKILL, as the system does when memory runs out"),
        ("last words", -11, "ended by signal SIGSEGV"),
    ],
)
def test_why_a_row_failed_is_one_line(messages: str, code: int, reason: str) -> None:
    assert row_process._reason(messages, code) == reason


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_locked_once_and_free_afterwards(tmp_path: Path) -> None:
    with lock.locked(tmp_path / "r"):
        assert json.loads((tmp_path / "r" / lock.LOCK).read_text())["process"] == os.getpid()
        expected = f"is locked by a benchmark, process {os.getpid()} on "
        with pytest.raises(SettingError, match=expected) as caught, lock.locked(tmp_path / "r"):
            pass
        assert "\n" not in str(caught.value)
        assert (tmp_path / "r" / lock.LOCK).exists(), "the one that was refused leaves it alone"
    with pytest.raises(ZeroDivisionError), lock.locked(tmp_path / "r"):
        _ = 1 / 0
    assert list((tmp_path / "r").iterdir()) == []


def test_a_lock_of_a_process_that_is_gone_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)
    held = lock._owner()
    monkeypatch.undo()
    (tmp_path / lock.LOCK).write_text(held)
    with pytest.warns(UserWarning, match=f"was left behind by process {2**22 + 1}"), lock.locked(tmp_path):
        assert json.loads((tmp_path / lock.LOCK).read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[1]", '{"process": 1, "machine": "another"}'])
def test_a_lock_that_cannot_be_judged_is_left_and_named(content: str, tmp_path: Path) -> None:
    (tmp_path / lock.LOCK).write_text(content)
    with pytest.raises(SettingError, match=r"delete .*bench\.lock"), lock.locked(tmp_path):
        pass
    assert (tmp_path / lock.LOCK).read_text() == content
