"""Matroska and WebM (RFC 9559, EBML RFC 8794): whether a file that does not tell its duration ends in its middle."""

from __future__ import annotations

import os
from typing import BinaryIO

# Written without a size by recorders that cannot go back to fill it in: what is in them is then walked through.
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_MOST_ELEMENTS = 1_000_000


def ends_whole(source: BinaryIO) -> bool:
    """Whether the last element ends where the file does, or before it."""
    length = source.seek(0, os.SEEK_END)
    at = 0
    for _ in range(_MOST_ELEMENTS):
        if at >= length:
            return at == length
        name, name_bytes = _number(source, at, keep_marker=True)
        size, size_bytes = _number(source, at + name_bytes, keep_marker=False)
        if not name_bytes or not size_bytes:
            return False
        at += name_bytes + size_bytes
        is_unknown = size == (1 << 7 * size_bytes) - 1
        if name not in (_SEGMENT, _CLUSTER) or not is_unknown:
            if is_unknown:
                return False
            at += size
    return True


def _number(source: BinaryIO, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """A number of variable length and its bytes, 0 where the file ends before it does."""
    source.seek(at)
    first = source.read(1)
    if not first or not first[0]:
        return 0, 0
    length = 9 - first[0].bit_length()
    rest = source.read(length - 1)
    value = first[0] if keep_marker else first[0] & ((1 << 8 - length) - 1)
    return (int.from_bytes(bytes([value]) + rest), length) if len(rest) == length - 1 else (0, 0)
