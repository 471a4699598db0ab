"""What this machine has: processors and memory, on every system that Python runs on."""

from __future__ import annotations

import os
import sys


def processors() -> int:
    """Processors that this process may use."""
    # macOS and Windows tie no process to processors, and have no such call.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_root() -> bool:
    """Whether this process may do everything; False where the system does not tell."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
