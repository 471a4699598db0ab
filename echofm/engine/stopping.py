"""SIGTERM in a training: the step in hand ends and is saved; one whose clips never come ends all the same."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Batch systems kill what has not ended half a minute after SIGTERM.
_GRACE_S = 10.0


class Stopping:
    """asked: SIGTERM came."""

    def __init__(self) -> None:
        self.asked = False
        self._waiting = False
        self._timer: threading.Timer | None = None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block there is nothing to save: SIGTERM ends the process if the block does not end soon."""
        self._waiting = True
        if self.asked:
            self._give_grace()
        try:
            yield
        finally:
            self._waiting = False
            if self._timer:
                self._timer.cancel()
                self._timer = None

    def notice(self, *_: object) -> None:
        """What SIGTERM calls."""
        self.asked = True
        if self._waiting:
            self._give_grace()

    def _give_grace(self) -> None:
        # torchrun hands on the signal that a batch system sends to all processes: it may come twice.
        if self._timer is None:
            self._timer = threading.Timer(_GRACE_S, _end)
            self._timer.daemon = True
            self._timer.start()


@contextmanager
def sigterm_noticed() -> Iterator[Stopping]:
    """Within the block SIGTERM is noticed, so that the step in hand ends and is saved."""
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may change what a signal does; elsewhere SIGTERM keeps its meaning.
        yield stopping
        return
    before = signal.signal(signal.SIGTERM, stopping.notice)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)


def _end() -> None:
    """Stuck in a read, perhaps in a C library: no exception would get through."""
    print("echofm: stopped while waiting for clips; --resume goes on from the last saved state", file=sys.stderr)
    sys.stderr.flush()
    os._exit(128 + signal.SIGTERM)
