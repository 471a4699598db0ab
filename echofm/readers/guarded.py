"""ReaderPool: reads many files in processes that may hang, crash or run out of memory without harm to the rest.

Decoders are C code fed with untrusted files. Each file is read in a worker process under a watchdog; a worker that
hangs or dies is replaced and its file gets a reason. What is wanted of a clip is computed in the worker too (`task`),
so that pixels need not travel between processes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from echofm.clip import Clip
from echofm.errors import EchofmError, UnreadableFile
from echofm.readers.options import ReadOptions
from echofm.readers.source import Row
from echofm.readers.worker import Done, Job, Slot, Task, Worker

R = TypeVar("R")

# Results held in memory while an earlier row is still being read, per process.
_AHEAD = 8


def the_clips(row: Row, clips: list[Clip]) -> list[Clip]:
    """The task that hands over the clips themselves."""
    return clips


class ReaderPool(Generic[R]):
    """Worker processes that read rows and do `task(row, clips)` on each file's clips: one, or one of each image that it
    declares.

    Parameters
    ----------
    task: a picklable function (module level, or functools.partial of one); its result is pickled back.
    processes: how many; the results and their order do not depend on it.
    options: how files are read.

    Use as a context manager, in a script below `if __name__ == "__main__":` (the workers are spawned).
    """

    def __init__(
        self,
        task: Task[R] = cast(Any, the_clips),  # noqa: B008 (a constant)
        *,
        processes: int = 1,
        options: ReadOptions | None = None,
    ) -> None:
        if processes < 1:
            raise EchofmError(f"processes={processes}: at least one process has to read")
        job = Job(task=task, options=options or ReadOptions())
        self._workers = [Worker(job) for _ in range(processes)]

    def map(self, rows: Iterable[Row]) -> Iterator[tuple[Row, R | UnreadableFile]]:
        """Each row with its task's result, or with the reason why it has none, in the order of the rows.

        An EchofmError of a data set's own tables is raised here, as is a fault of the task (TaskFailed).
        """
        source, slots, more = iter(rows), deque[Slot](), True
        while more or slots:
            more = more and self._feed(source, slots)
            if slots and slots[0].result is None:
                self._wait()
            while slots and slots[0].result is not None:
                slot = slots.popleft()
                if isinstance(slot.result, Done):
                    yield slot.row, slot.result.value
                elif isinstance(slot.result, UnreadableFile):
                    yield slot.row, slot.result
                else:
                    raise cast(Exception, slot.result)

    def _feed(self, source: Iterator[Row], slots: deque[Slot]) -> bool:
        """Give every idle worker a row; False once there are no more."""
        for worker in self._workers:
            if worker.slot is None and len(slots) < _AHEAD * len(self._workers):
                row = next(source, None)
                if row is None:
                    return False
                slots.append(Slot(row))
                worker.start(slots[-1])
        return True

    def _wait(self) -> None:
        """Until a worker has answered, died, or used up its time."""
        busy = [worker for worker in self._workers if worker.slot is not None]
        patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        ready = wait([worker.connection for worker in busy], timeout=patience)
        for worker in busy:
            if worker.connection in ready:
                worker.receive()
            elif time.monotonic() >= worker.deadline:
                worker.give_up()

    @property
    def processes(self) -> list[int]:
        """Process ids of the workers as they are now; one that was lost has been replaced."""
        return [worker.process_id for worker in self._workers]

    def close(self) -> None:
        """End the workers, also those that are in the middle of a file."""
        for worker in self._workers:
            worker.kill()

    def __enter__(self) -> ReaderPool[R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
