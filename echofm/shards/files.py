"""Open tars: handles of one process and thread, opened on first use, never shared across a fork."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from io import FileIO
from pathlib import Path
from typing import Any

import numpy.typing as npt

from echofm.errors import EchofmError

# Well below the usual limit of 1024 open files, for data sets of thousands of tars.
_MOST_OPEN = 64


class _Handles(threading.local):
    """The open files of this thread, the least recently used first."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.files: OrderedDict[str, FileIO] = OrderedDict()


class TarFiles:
    """Reads bytes at a place of a tar straight into an array, without a copy in between.

    Plain reads, not a memory map: a map of a file that is cut meanwhile kills the process instead of raising.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles = _Handles()

    def read_into(self, tar: str, offset: int, array: npt.NDArray[Any]) -> None:
        """Fill a C-contiguous array. Raises EchofmError where the tar ends too early or cannot be read."""
        try:
            file = self._open(tar)
            file.seek(offset)
            n_read = file.readinto(array.data.cast("B"))
        except OSError as error:
            raise EchofmError(f"shard {tar}: cannot be read any more ({error.strerror})") from None
        if n_read != array.nbytes:
            raise EchofmError(f"shard {tar}: ends too early: changed since it was opened; copy it again")

    def _open(self, tar: str) -> FileIO:
        handles = self._handles
        if handles.process != os.getpid():
            # Inherited through a fork: the position in the file is shared with the parent.
            handles.__init__()  # type: ignore[misc]
        if tar in handles.files:
            handles.files.move_to_end(tar)
        else:
            if len(handles.files) >= _MOST_OPEN:
                handles.files.popitem(last=False)[1].close()
            handles.files[tar] = FileIO(self._folder / tar)
        return handles.files[tar]

    def __reduce__(self) -> tuple[type[TarFiles], tuple[Path]]:
        return TarFiles, (self._folder,)
