"""Other machines: no call that macOS or Windows lack, little shared memory, a reader of our output that goes away."""

from __future__ import annotations

import ast
import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hearts import beating_heart, write_avi

from echofm import machine
from echofm.check.cli import main as check_main
from echofm.clip import ClipBatch
from echofm.errors import EchofmError
from echofm.shards import loader

ROOT = Path(__file__).parents[1]
# What Python has on Linux alone, or not on Windows, and where it may stand all the same, behind a look at the system.
LINUX = [
    "sched_getaffinity",
    "getuid",
    "geteuid",
    "fork",
    "forkpty",
    "getpgid",
    "killpg",
    "setsid",
    "mkfifo",
    "statvfs",
    "uname",
    "sync",
    "chown",
    "SIGKILL",
    "SIGALRM",
    "SIGUSR1",
    "SIGUSR2",
    "SIGHUP",
    "SIGCHLD",
    "setitimer",
    "O_NONBLOCK",
    "posix_fallocate",
    "sendfile",
    "memfd_create",
    "getloadavg",
]
MODULES = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "crypt", "spwd", "posix"}


def product() -> Iterator[tuple[Path, ast.Module]]:
    for package in ("echofm", "pretrain", "probe", "synth"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_no_call_that_other_systems_lack() -> None:
    found = [
        f"{path.name}: {node.value.id}.{node.attr}"
        for path, tree in product()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("os", "signal", "time")
        if node.attr in LINUX and path.name != "machine.py"
    ]
    assert not found


def test_no_module_that_other_systems_lack_outside_a_try() -> None:
    found = []
    for path, tree in product():
        tried = {inner for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {name}" for name in names if name in MODULES and node not in tried]
    assert not found


def test_processors_and_memory_without_the_calls_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.processors() >= 1
    assert (machine.peak_memory_bytes() or 0) > 10_000_000
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert machine.processors() == os.cpu_count()
    assert machine.peak_memory_bytes() is None


class _Batches:
    """One batch a number; number 1 does what it is told to."""

    def __init__(self, act: Any = None) -> None:
        self._act = act

    def __getitem__(self, number: int) -> ClipBatch:
        if number == 1 and self._act:
            self._act()
        return ClipBatch(
            video_BCTHW=torch.full((1, 1, 2, 4, 4), number, dtype=torch.uint8),
            sector_BHW=torch.ones(1, 4, 4, dtype=torch.bool),
            valid_BT=torch.ones(1, 2, dtype=torch.bool),
            frame_time_s_BT=torch.zeros(1, 2),
            draw_B=torch.zeros(1, dtype=torch.int64),
            clip_ids=["c"],
            patient_ids=["p"],
        )


def no_memory() -> None:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the workers are forked")
def test_batches_come_through_shared_memory() -> None:
    read = list(loader._loaded(_Batches(), order=range(5), workers=2))
    assert [int(batch.video_BCTHW.max()) for batch in read] == list(range(5))
    assert all(batch.video_BCTHW.is_shared() for batch in read)


@pytest.mark.skipif(sys.platform != "linux", reason="the workers are forked")
@pytest.mark.parametrize(("act", "words"), [(no_memory, "/dev/shm"), (killed, "worker was killed")])
def test_a_worker_without_memory_is_one_line_and_leaves_nobody_behind(act: Any, words: str) -> None:
    with pytest.raises(EchofmError, match=words) as error:
        list(loader._loaded(_Batches(act), order=range(5), workers=2))
    assert "--fit.workers" in str(error.value) and "\n" not in str(error.value)
    assert not [child for child in torch.multiprocessing.active_children() if child.is_alive()]


def folder_of_clips(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        write_avi(folder / f"{number}.avi", beating_heart(frames=12, seed=number)[0])
    return folder


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("ends", ["| head -c 1 > /dev/null", "| true", "2>&1 | true"])
def test_a_reader_that_goes_away_skips_no_file(tmp_path: Path, ends: str) -> None:
    clips = folder_of_clips(tmp_path / "in")
    command = f'"$0" check "$1" --json c.json --names n.csv --html p.html {ends}; exit ${{PIPESTATUS[0]}}'
    script = Path(sys.executable).with_name("echofm")
    done = subprocess.run(["bash", "-c", command, script, clips], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "BrokenPipe" not in done.stderr
    assert all((tmp_path / name).stat().st_size > 100 for name in ("c.json", "n.csv", "p.html"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_the_table_of_names_is_utf_8(tmp_path: Path) -> None:
    clips = folder_of_clips(tmp_path / "in")
    for number, name in enumerate((b"lat\xfcn.avi", "gr\u00fcn.avi".encode(), b'a,"b".avi')):
        os.rename(clips / f"{number}.avi", os.fsencode(clips) + b"/" + name)
    check_main([str(clips), "--names", str(tmp_path / "n.csv")])
    rows = list(csv.DictReader((tmp_path / "n.csv").read_bytes().decode("utf-8").splitlines()))
    names = sorted(Path(row["path"]).name for row in rows)
    assert names == ['a,"b".avi', "gr\u00fcn.avi", "lat\\xfcn.avi"]
    assert all(set(row) == {"file_id", "clip_id", "patient_id", "path"} for row in rows)
