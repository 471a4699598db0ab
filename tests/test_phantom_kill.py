"""A killed `echofm phantom` leaves no worker behind, and goes on where it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from echofm.errors import EchofmError
from echofm.phantom import LayoutName, folder, generate

ROOT = Path(__file__).parents[1]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    out, options = tmp_path / "p", {"patients": 6, "frames": 12, "seed": 4, "processes": 1}
    words = ["phantom", str(out), *(f"--{name}={value}" for name, value in options.items())]
    command = subprocess.Popen([sys.executable, "-m", "echofm.cli", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    records: list[Path] = []
    deadline = time.monotonic() + 120
    while len(records) < 3 and command.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
        records = sorted((out / "unfinished").glob("*.json"))
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    records = sorted((out / "unfinished").glob("*.json"))
    assert 3 <= len(records) < 12 and not (out / "phantom.json").exists()
    # A clip that was being written: its video is there, half, and it has no record.
    patient, clip = (int(part) for part in records[-1].stem.split("-"))
    half = out / "Videos" / f"P4N{patient:05d}-{clip:02d}-A4C.avi"
    half.write_bytes(half.read_bytes()[:1000])
    records[-1].unlink()
    kept = {path: path.stat().st_mtime_ns for path in (out / "Videos").glob("*.avi") if path != half}

    with pytest.raises(EchofmError, match="begun with seed 4, now 5 is asked for"):
        generate(out, **{**options, "seed": 5})
    generate(out, **options)
    generate(tmp_path / "whole", **options)
    assert contents(out) == contents(tmp_path / "whole")
    assert len(list((out / "Videos").glob("*.avi"))) == 12
    untouched = [path for path, written in kept.items() if path.stat().st_mtime_ns == written]
    # The last but one may have been half as well.
    assert len(untouched) >= len(records) - 1
    with pytest.raises(EchofmError, match="holds something already"):
        generate(out, **options)


@pytest.mark.parametrize("layout", ["echonet-dynamic", "echonet-pediatric", "camus", "dicom"])
def test_a_run_that_fails_at_one_clip_keeps_the_others(
    layout: LayoutName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"layout": layout, "patients": 2, "frames": 40, "size": 64, "processes": 1}
    render, rendered = folder.render_clip, []

    def failing(patient: int, **rest: object) -> object:
        rendered.append((patient, rest["clip"]))
        if len(rendered) == 3:
            raise ZeroDivisionError
        return render(patient, **rest)

    monkeypatch.setattr(folder, "render_clip", failing)
    with pytest.raises(ZeroDivisionError):
        generate(tmp_path / "d", **options)
    generate(tmp_path / "d", **options)
    assert rendered == [(0, 0), (0, 1), (1, 0), (1, 0), (1, 1)]
    generate(tmp_path / "whole", **options)
    assert contents(tmp_path / "d") == contents(tmp_path / "whole")


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
