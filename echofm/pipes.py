"""Output whose reader has gone (`| head`): nothing more is said, and the work goes on to its end and its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Unbroken:
    """A stream that swallows what nobody reads any more; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._or_nowhere(self._stream.write, text) or len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._or_nowhere(self._stream.flush)

    def _or_nowhere(self, act: Any, *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except BrokenPipeError:
            # The descriptor itself: what is still in the buffer, and Python's own last flush, go there too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unbroken_pipes() -> Iterator[None]:
    """Within the block a closed pipe at standard output or error ends nothing."""
    before = sys.stdout, sys.stderr
    wrapped = tuple(stream and _Unbroken(stream) for stream in before)
    sys.stdout, sys.stderr = wrapped
    try:
        yield
    finally:
        for stream in wrapped:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
