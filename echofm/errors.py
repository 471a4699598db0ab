"""The errors that a user meets: one line, what is wrong, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class EchofmError(ValueError):
    """A user's mistake or bad input; its text names the thing, the reason and the fix.

    The command line prints the text alone (exit code 2). The text never holds a patient's name, a path
    below a data folder, or any other tag of a file: files are named by `echofm.ids.file_id`.
    """


class UnreadableFile(EchofmError):
    """One input file that cannot be used. `reason` is free of patient data and fits a set-aside row.

    Parameters
    ----------
    file_id: keyed hash of the file's path with its suffix, `echofm.ids.file_id(path)`.
    reason: one sentence, the cause and where it helps the fix.
    kind: what an intact file holds that is no clip of a heart (a word of `echofm.readers.kinds`), to be counted by;
        None where it is damaged or of a form that is not read.
    """

    def __init__(self, file_id: str, reason: str, kind: str | None = None) -> None:
        super().__init__(f"file {file_id}: {reason}")
        self.file_id = file_id
        self.reason = reason
        self.kind = kind

    def __reduce__(self) -> tuple[type, tuple[str, str, str | None]]:
        return type(self), (self.file_id, self.reason, self.kind)


@contextmanager
def os_errors_as(text: str) -> Iterator[None]:
    """Turns an OSError into the one line that a user needs. text: {reason} in it becomes the system's own word."""
    try:
        yield
    except OSError as error:
        raise EchofmError(text.replace("{reason}", error.strerror or type(error).__name__)) from None
