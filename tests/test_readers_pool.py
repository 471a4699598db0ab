"""The pool: order, results computed in the worker, and workers that hang, crash or eat memory."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hearts import beating_heart, write_avi

from echofm.clip import Clip
from echofm.errors import EchofmError, UnreadableFile
from echofm.ids import IdKey
from echofm.readers import Limits
from echofm.readers.guarded import ReaderPool
from echofm.readers.options import ReadOptions
from echofm.readers.source import Row
from echofm.readers.worker import Job, Slot, Task, TaskFailed, Worker


def n_frames(row: Row, clips: list[Clip]) -> int:
    [clip] = clips
    return len(clip.frames_TCHW)


def misbehave(how: str, row: Row, clips: list[Clip]) -> str:
    if row.patient == "bad":
        if how == "hang":
            time.sleep(600)
        elif how == "crash":
            ctypes.string_at(0)
        elif how == "memory":
            bytearray(20_000_000_000)
        raise ZeroDivisionError("Jane Doe")
    return row.patient


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("pool")
    made = []
    for index in range(5):
        clip, _ = beating_heart(frames=8 + index, seed=index)
        made.append(Row(path=write_avi(folder / f"{index}.avi", clip), patient="bad" if index == 1 else f"p{index}"))
    (folder / "broken.avi").write_text("not a video")
    return [*made[:3], Row(path=folder / "broken.avi", patient="p"), *made[3:]]


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_rows(rows: list[Row], processes: int) -> None:
    with ReaderPool(n_frames, processes=processes) as pool:
        results = list(pool.map(rows))
        again = list(pool.map(rows[:1]))
    assert [row for row, _ in results] == rows
    assert [result for _, result in results if not isinstance(result, UnreadableFile)] == [8, 9, 10, 11, 12]
    assert isinstance(results[3][1], UnreadableFile)
    assert again[0][1] == 8


@pytest.mark.parametrize(
    ("how", "reason"), [("hang", "more than 3 s"), ("crash", "SIGSEGV"), ("memory", "too much memory")]
)
def test_a_worker_that_is_lost_costs_one_file(rows: list[Row], how: str, reason: str) -> None:
    good = [rows[0], rows[1], rows[2]]
    with ReaderPool(functools.partial(misbehave, how), options=ReadOptions(limits=Limits(max_seconds=3))) as pool:
        first, second, third = (result for _, result in pool.map(good))
    assert first == "p0" and third == "p2"
    assert isinstance(second, UnreadableFile) and reason in second.reason


def many_bytes(row: Row, clips: list[Clip]) -> bytes:
    return bytes(50_000_000)


def test_a_worker_killed_while_it_answers_costs_one_file(rows: list[Row]) -> None:
    job = Job(task=many_bytes, options=ReadOptions())
    worker, slot = Worker(job), Slot(rows[0])
    worker.start(slot)
    assert worker.connection.poll(60)
    worker.receive()  # It is ready.
    # A pipe holds far less than the answer, so with nobody reading it stays under way.
    with socket.socket(fileno=os.dup(worker.connection.fileno())) as pipe:
        while len(pipe.recv(100, socket.MSG_PEEK)) < 100:
            time.sleep(0.01)
    os.kill(worker.process_id, signal.SIGKILL)
    worker.receive()
    assert isinstance(slot.result, UnreadableFile) and "SIGKILL (out of memory?)" in slot.result.reason
    assert worker.slot is None
    worker.kill()


def unreadable_mask(clip: Clip) -> Clip:
    raise UnreadableFile("some-mask.gz", "this mask cannot be read")


def unreadable_task(row: Row, clips: list[Clip]) -> None:
    raise UnreadableFile("some-other.gz", "this cannot be used")


@pytest.mark.parametrize(("task", "truth"), [(n_frames, unreadable_mask), (unreadable_task, None)])
def test_what_is_set_aside_has_the_rows_own_name(rows: list[Row], task: Task[Any], truth: Any) -> None:
    """Whatever file beside it was at fault: by that name a set-aside list is matched with the rows."""
    key = IdKey(b"a key for tests only")
    with ReaderPool(task, options=ReadOptions(key=key)) as pool:
        ((_, result),) = pool.map([replace(rows[0], add_truth=truth)])
    assert isinstance(result, UnreadableFile) and "cannot be" in result.reason
    assert result.file_id == key.file(rows[0].path)


def test_a_fault_of_the_task_is_raised_without_its_text(rows: list[Row]) -> None:
    with ReaderPool(functools.partial(misbehave, "raise")) as pool, pytest.raises(TaskFailed) as caught:
        list(pool.map(rows))
    assert "ZeroDivisionError" in str(caught.value) and "Jane" not in str(caught.value)


def test_no_process_is_a_mistake() -> None:
    with pytest.raises(EchofmError, match="processes=0"):
        ReaderPool(n_frames, processes=0)


def test_readers_that_never_start_name_the_guard_that_a_script_may_lack(rows: list[Row]) -> None:
    worker = Worker(Job(task=n_frames, options=ReadOptions()))
    worker.start(Slot(rows[0]))
    with pytest.raises(EchofmError, match='below `if __name__ == "__main__":`'):
        worker.give_up()
    worker.kill()


def test_a_missing_file_is_a_reason(tmp_path: Path) -> None:
    with ReaderPool(n_frames) as pool:
        ((_, result),) = pool.map([Row(path=tmp_path / "Doe_Jane.avi", patient="p")])
    assert isinstance(result, UnreadableFile) and "No such file" in result.reason
    assert "Doe" not in str(result)


def test_the_readers_import_no_decoder_until_one_is_needed() -> None:
    code = (
        "import sys, echofm.readers, echofm.readers.guarded\n"
        "print(sorted({'torch', 'av', 'decord', 'pydicom', 'nibabel', 'PIL', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
