"""A killed `echofm phantom` leaves no worker behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_no_worker_outlives_a_killed_command(tmp_path: Path) -> None:
    words = ["phantom", str(tmp_path / "p"), "--patients", "8", "--processes", "2"]
    command = subprocess.Popen([sys.executable, "-m", "echofm.cli", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    workers: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    # Two workers and the resource tracker.
    while len(workers) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
        workers = psutil.Process(command.pid).children(recursive=True)
    assert len(workers) >= 3
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for each in alive:
        each.kill()
    assert not alive
