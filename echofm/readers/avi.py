"""AVI's own book-keeping: the rate in its stream header, and chunks that are empty because the frame stays the same."""

from __future__ import annotations

import struct
from typing import BinaryIO

_HEADER_BYTES = 65_536
# Lists that hold frames, one in another: the file (or a further part of a long one), the movie, a group of chunks.
_LISTS = {b"RIFF": (b"AVI ", b"AVIX"), b"LIST": (b"movi", b"rec ")}


def has_rate(source: BinaryIO) -> bool:
    """Whether the video's stream header has a rate; where it has none FFmpeg makes one up (25 a second)."""
    source.seek(0)
    header = source.read(_HEADER_BYTES)
    start = header.find(b"vids", header.find(b"strh"))
    # AVISTREAMHEADER: dwScale and dwRate lie 20 bytes after fccType.
    scale_and_rate = header[start + 20 : start + 28]
    return start >= 0 and len(scale_and_rate) == 8 and all(struct.unpack("<LL", scale_and_rate))


def shown_frames(source: BinaryIO, *, stream: int) -> list[int]:
    """For each chunk of a stream the coded frame that it shows, the last one before it where the chunk is empty.

    -1 before the first frame; chunks after the place where the file was cut are left out.
    """
    shown: list[int] = []
    coded = 0
    for size in _chunk_sizes(source, stream):
        coded += size > 0
        shown.append(coded - 1)
    return shown


def _chunk_sizes(source: BinaryIO, stream: int) -> list[int]:
    names = (b"%02ddc" % stream, b"%02ddb" % stream)
    end = source.seek(0, 2)
    sizes: list[int] = []
    at = 0
    while at + 8 <= end:
        source.seek(at)
        head = source.read(12)
        name, size = head[:4], struct.unpack("<L", head[4:8])[0]
        if name in _LISTS and head[8:12] in _LISTS[name]:
            at += 12
            continue
        if name in names:
            if at + 8 + size > end:
                break
            sizes.append(size)
        at += 8 + size + size % 2
    return sizes
