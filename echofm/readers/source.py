"""Row: what a data set says about one file before anyone opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from echofm.clip import Clip, Label


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file of a data set. Holds real names: a Row never leaves the machine's memory.

    patient, study: the names by which the set groups files; hashed by `IdKey` before they leave. study: None where the
        set does not tell; the file may.
    split: "train", "val" or "test" where the set gives one.
    frame_rate_hz: for a file that does not tell its own.
    add_truth: puts the set's own masks, traces or phases on the clip as read, at the clip's native size; it may
        open further files, so it runs where the clip is read, in a worker process. Must be picklable.
    """

    path: Path
    patient: str
    study: str | None = None
    split: str | None = None
    view: str | None = None
    kind: str | None = None
    frame_rate_hz: float | None = None
    labels: Mapping[str, Label] = field(default_factory=dict)
    add_truth: Callable[[Clip], Clip] | None = None


class Source(Protocol):
    """A folder, understood: what it is and the files that it holds, in a stable order."""

    @property
    def name(self) -> str:
        """What the set is called."""
        ...

    def rows(self) -> Iterator[Row]:
        """Every file, lazily, sorted, the same on each call. Raises EchofmError on a missing or wrong table."""
        ...
