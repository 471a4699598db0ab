"""Tasks in several processes, results in the order of the tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


def in_order(task: Callable[[Any], Any], items: Sequence[Any], *, processes: int) -> Generator[Any, None, None]:
    """task(item) of every item, in order; few results wait at a time, so memory stays bounded."""
    if processes == 1:
        yield from map(task, items)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[Any]] = deque()
        for item in items:
            waiting.append(pool.submit(task, item))
            if len(waiting) > 4 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
