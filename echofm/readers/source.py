"""Row: what a data set says about one file before anyone opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from echofm.clip import Clip, Label
from echofm.readers.frames import frame_files
from echofm.readers.patients import PatientFrom

# Headers whose pixels lie in a file of their own, by its usual suffixes.
_PIXELS_OF = {".mhd": (".raw", ".zraw")}
_MISSING = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file of a data set, or one folder of frames. Holds real names: a Row never leaves the machine's memory.

    patient, study: the names by which the set groups files; hashed by `IdKey` before they leave. study: None where the
        set does not tell; the file may.
    split: "train", "val" or "test" where the set gives one.
    patient_from: the rule that the user chose for patients whom the source does not name; None where none was chosen,
        so that doubts are told.
    frame_rate_hz: for a file that does not tell its own.
    cut_by_publisher: its publisher has cut it to the sector, and the user named the set: its pixels are kept, but for
        marks beside the fan.
    add_truth: puts the set's own masks, traces or phases on the clip as read, at the clip's native size; it may
        open further files, so it runs where the clip is read, in a worker process. Must be picklable. The files that
        it comes from are its `paths`, if it has such.
    """

    path: Path
    patient: str
    patient_from: PatientFrom | None = None
    study: str | None = None
    split: str | None = None
    view: str | None = None
    kind: str | None = None
    frame_rate_hz: float | None = None
    cut_by_publisher: bool = False
    labels: Mapping[str, Label] = field(default_factory=dict)
    add_truth: Callable[[Clip], Clip] | None = None

    def state(self) -> tuple[tuple[int, int], ...]:
        """Bytes and time of change (ns) of its file, of the pixels beside a header, and of its truth's files."""
        paths: list[Path] = []
        for path in (self.path, *frame_files(self.path), *getattr(self.add_truth, "paths", ())):
            paths += [path, *(path.with_suffix(pixels) for pixels in _PIXELS_OF.get(path.suffix.lower(), ()))]
        return (_state(paths[0]), *(state for path in paths[1:] if (state := _state(path)) != _MISSING))


class Source(Protocol):
    """A folder, understood: what it is and the files that it holds, in a stable order."""

    @property
    def name(self) -> str:
        """What the set is called."""
        ...

    def rows(self) -> Iterator[Row]:
        """Every file, lazily, sorted, the same on each call. Raises EchofmError on a missing or wrong table."""
        ...


def _state(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        # The reader will say why; here it only must not count as unchanged once it can be read.
        return _MISSING
    return stat.st_size, stat.st_mtime_ns
