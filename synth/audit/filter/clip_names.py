"""ClipNames: whether the clips stay that a table's cell, or the name of a file beside them, means."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from echofm.readers.suffixes import stem_of

_MARK = re.compile(r"[._-]")


class ClipNames:
    """Clips by their path below the set's root. A name that several clips have means them all; it stays if all do."""

    def __init__(self) -> None:
        self._stays: dict[PurePosixPath, bool] = {}
        self._of_stem: defaultdict[str, set[PurePosixPath]] = defaultdict(set)
        self._of_part: defaultdict[tuple[PurePosixPath, str], set[PurePosixPath]] = defaultdict(set)
        self._in_folder: defaultdict[PurePosixPath, set[PurePosixPath]] = defaultdict(set)

    def add(self, path: PurePosixPath, *, stays: bool) -> None:
        """A clip, by its path below the root."""
        clip = _named(path)
        self._stays[clip] = self._stays.get(clip, True) and stays
        self._of_stem[clip.name].add(clip)
        self._in_folder[clip.parent].add(clip)
        for part in set(_MARK.split(clip.name)):
            self._of_part[clip.parent, part].add(clip)

    def cell(self, text: str, *, folder: PurePosixPath) -> bool | None:
        """Whether what a cell names stays; None where it names no clip. folder: of the table, below the root."""
        path = PurePosixPath(text.strip().replace("\\", "/"))
        named = _named(path)
        if folder / named in self._stays:
            return self._stays[folder / named]
        # A cell may leave the first folders out, or begin above the root.
        return self._all(
            clip
            for clip in self._of_stem.get(named.name, ())
            if all(one == other for one, other in zip(clip.parts[::-1], named.parts[::-1]))
        )

    def companion(self, path: PurePosixPath) -> bool | None:
        """Whether the clips stay that a file goes with; None where it goes with none.

        It goes with the clip whose stem its name is, or begins with before a dot, dash or underscore, the longest
        such, of equals the one in the likest folder. Else with the clips of its folder with which it shares a part of
        the name that not all clips there have: CAMUS's Info_2CH.cfg with patient0001_2CH_half_sequence.
        """
        name = stem_of(Path(path))
        while name:
            if name in self._of_stem:
                return self._all(_likest(self._of_stem[name], path))
            name = name[: max(name.rfind(mark) for mark in "._-")] if _MARK.search(name) else ""
        shared: set[PurePosixPath] = set()
        clips = len(self._in_folder.get(path.parent, ()))
        for part in set(_MARK.split(stem_of(Path(path)))):
            found = self._of_part.get((path.parent, part), set())
            if len(found) < clips or clips == 1:
                shared |= found
        return self._all(shared)

    def _all(self, clips: Iterable[PurePosixPath]) -> bool | None:
        found = [self._stays[clip] for clip in clips]
        return all(found) if found else None


def _named(path: PurePosixPath) -> PurePosixPath:
    """The path without its suffix."""
    stem = stem_of(Path(path))
    return path.with_name(stem) if stem else path


def _likest(clips: Collection[PurePosixPath], path: PurePosixPath) -> list[PurePosixPath]:
    """Those whose folders agree with the path's furthest, counted from the file upwards."""

    def alike(clip: PurePosixPath) -> int:
        same = [one == other for one, other in zip(clip.parent.parts[::-1], path.parent.parts[::-1])]
        return [*same, False].index(False)

    best = max(map(alike, clips))
    return [clip for clip in clips if alike(clip) == best]
