"""Refused: why a file cannot be used, in words of our own."""

from __future__ import annotations


class Refused(Exception):
    """Raised inside the readers; `read_clip` turns it into `UnreadableFile` under the file's id.

    reason: one sentence without path, tag or a library's message (which may quote either).
    kind: what the file is, where it is intact but no clip of a heart (echofm.readers.kinds).
    """

    def __init__(self, reason: str, *, kind: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
