"""Opening a file that may be a pipe, a device or a loop of links."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from echofm.readers.refused import Refused


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file for reading, never waiting; refused, without its name, where it is none or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise Refused(f"the file cannot be opened: {os.strerror(error.errno or 0)}") from None
    except ValueError:
        raise Refused("the file cannot be opened: its name is no path") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused("it is a folder, a pipe or a device, not a file")
    return os.fdopen(descriptor, "rb")
