"""One reader process, seen from both sides: `serve` runs in it, `Worker` starts, watches and replaces it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from echofm.clip import Clip
from echofm.errors import EchofmError, UnreadableFile
from echofm.readers.limits import Limits
from echofm.readers.options import ReadOptions
from echofm.readers.read import read_row_clips
from echofm.readers.source import Row

R = TypeVar("R")
Task = Callable[[Row, list[Clip]], R]

_START_SECONDS = 120.0
_READY = "ready"
_GUARD = 'a script that reads files must do so below `if __name__ == "__main__":`'


class TaskFailed(RuntimeError):
    """A fault in the task that a pool was given: where it arose, without its text, which may name a patient."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a worker is told once."""

    task: Task[Any]
    options: ReadOptions


@dataclass(frozen=True)
class Done:
    """A task's result."""

    value: Any


@dataclass
class Slot:
    """A row on its way: `result` is set once it is Done, unreadable, or failed."""

    row: Row
    result: Done | EchofmError | TaskFailed | None = None


class Worker:
    """A process that answers one row at a time; `deadline` (time.monotonic) is when it has had its time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.slot: Slot | None = None
        self.deadline = 0.0
        self._spawn()

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._job), daemon=True, name="echofm-reader")
        self._process.start()
        # With our copy closed, the end of the process is the end of the pipe.
        theirs.close()
        self._is_ready = False

    @property
    def process_id(self) -> int:
        """Of the process that reads now."""
        assert self._process.pid is not None
        return self._process.pid

    def start(self, slot: Slot) -> None:
        """Hand over a row."""
        self.slot = slot
        try:
            self.connection.send(slot.row)
        except (BrokenPipeError, ConnectionResetError):
            # It was lost while idle, through no fault of this row.
            self.kill()
            self._spawn()
            self.connection.send(slot.row)
        self.deadline = time.monotonic() + (self._job.options.limits.max_seconds if self._is_ready else _START_SECONDS)

    def receive(self) -> None:
        """Take the answer, or notice that the process has ended."""
        assert self.slot is not None
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            # OSError: it was killed while its answer was on the way.
            self._buried()
            return
        if answer == _READY:
            self._is_ready = True
            self.deadline = time.monotonic() + self._job.options.limits.max_seconds
            return
        self.slot.result = answer
        self.slot = None

    def give_up(self) -> None:
        """Kill the process over the file on which it has used up its time, and start another."""
        if not self._is_ready:
            raise EchofmError(
                f"a reader process did not start in {_START_SECONDS:.0f} s: {_GUARD}, else all of it runs again in "
                "every reader; if it does, the machine is overloaded"
            )
        self._end(f"reading it took more than {self._job.options.limits.max_seconds:g} s")

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _buried(self) -> None:
        self._process.join()
        code = self._process.exitcode or 0
        if not self._is_ready:
            raise EchofmError(f"a reader process ended as it started (exit code {code}): {_GUARD}")
        killed = " (out of memory?)" if code == -getattr(signal, "SIGKILL", 9) else ""
        self._end(f"its decoder crashed: {_signal_name(code)}{killed}")

    def _end(self, reason: str) -> None:
        assert self.slot is not None
        self.slot.result = UnreadableFile(self._job.options.key.file(self.slot.row.path), reason)
        self.slot = None
        self.kill()
        self._spawn()


def _signal_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def serve(connection: Connection, job: Job) -> None:
    """The process: answers rows until the pipe is closed."""
    # The terminal's Ctrl-C is the parent's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(job.options.limits)
    try:
        connection.send(_READY)
    except OSError:  # the parent is gone already
        return
    _silence()
    while True:
        try:
            row = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        answer = _answer(row, job)
        try:
            connection.send(answer)
        except OSError:
            return
        except Exception as error:
            connection.send(_failure(error))


def _answer(row: Row, job: Job) -> Done | EchofmError | TaskFailed:
    name = job.options.key.file(row.path)
    try:
        clips = read_row_clips(row, job.options)
    except UnreadableFile as error:
        # It may name a mask beside the file; what is set aside is the row's own, under this job's key.
        return UnreadableFile(name, error.reason, error.kind)
    except EchofmError as error:
        return error
    except Exception as error:
        # A reader's fault on one file must not end a run over ten thousand; it is told as one.
        return UnreadableFile(name, f"a fault of echofm, please report it: {_where(error)}")
    try:
        return Done(job.task(row, clips))
    except UnreadableFile as error:
        return UnreadableFile(name, error.reason, error.kind)
    except EchofmError as error:
        return error
    except MemoryError:
        return UnreadableFile(name, "it took too much memory")
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> TaskFailed:
    return TaskFailed(f"the task failed: {_where(error)}")


def _where(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {os.path.basename(last.filename)}:{last.lineno} in {last.name}"


def _limit_memory(limits: Limits) -> None:
    """Make a decoder's greed a MemoryError of this process, before it is the machine's trouble."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    allowed = int(limits.max_clip_mb * 4e6 + 2e9)
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard < 0 else min(allowed, hard), hard))


def _silence() -> None:
    """Native decoders print to standard error, paths included; answers travel through the pipe."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)
