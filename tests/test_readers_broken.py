"""Every broken file is a reason: no crash, no hang, bounded memory, no name in the text, the neighbours unharmed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from broken_files import write_broken_files
from hearts import beating_heart, write_avi

from echofm import read_clip
from echofm.clip import Clip
from echofm.errors import UnreadableFile
from echofm.readers import Limits
from echofm.readers.guarded import ReaderPool
from echofm.readers.options import ReadOptions
from echofm.readers.source import Row

Results = dict[str, tuple[int, ...] | UnreadableFile]


def size_of(row: Row, clips: list[Clip]) -> tuple[int, ...]:
    [clip] = clips
    return clip.frames_TCHW.shape


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("Doe_Jane")


@pytest.fixture(scope="module")
def broken(folder: Path) -> list[Path]:
    return write_broken_files(folder)


@pytest.fixture(scope="module")
def results(folder: Path, broken: list[Path]) -> Results:
    clip, _ = beating_heart(frames=10)
    good = [write_avi(folder / f"good {index}.avi", clip) for index in range(2)]
    rows = [Row(path=path, patient="p") for path in (good[0], *broken, good[1])]
    with ReaderPool(size_of, options=ReadOptions(limits=Limits(max_seconds=20))) as pool:
        (worker,) = pool.processes
        read: Results = {str(row.path): result for row, result in pool.map(rows)}
        # The same process to the end, or one of the files has killed it.
        assert [worker] == pool.processes
        read["peak kB"] = (peak_kilobytes(worker),)
    return read


def peak_kilobytes(process: int) -> int:
    """Largest resident size of a process so far; 0 where the system does not tell."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def test_there_are_enough_of_them(broken: list[Path]) -> None:
    assert len(broken) >= 80


def test_every_one_is_a_reason_of_its_own(results: Results, broken: list[Path]) -> None:
    read = [Path(path).name for path in map(str, broken) if not isinstance(results[path], UnreadableFile)]
    assert not read
    for path in map(str, broken):
        reason = results[path].reason
        assert reason and "\n" not in reason and "fault of echofm" not in reason, (Path(path).name, reason)
        assert "crashed" not in reason and "took more than" not in reason, (Path(path).name, reason)


def test_no_reason_names_a_file_or_a_patient(results: Results, broken: list[Path]) -> None:
    for path in broken:
        text = results[str(path)].reason
        assert not any(name in text for name in ("Doe", "Jane", "4711", "passwd", str(path.parent))), text
        assert path.name not in text


def test_the_rest_of_the_folder_is_unharmed(results: Results) -> None:
    good = [result for path, result in results.items() if "good" in Path(path).name]
    assert good == [(10, 1, 112, 112)] * 2


def test_memory_stays_below_two_gigabytes(results: Results) -> None:
    (peak,) = results["peak kB"]
    if not peak:
        pytest.skip("this system does not tell a process's peak memory")
    assert peak < 2_000_000


def test_claims_are_refused_in_no_time(folder: Path, broken: list[Path]) -> None:
    claims = [path for path in broken if "claims" in path.name or "bomb" in path.name]
    assert len(claims) >= 9
    for path in claims:
        start = time.monotonic()
        with pytest.raises(UnreadableFile):
            read_clip(path)
        assert time.monotonic() - start < 2, path.name
