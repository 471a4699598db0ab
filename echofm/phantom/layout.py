"""Layout: how a public set lies on the disk, as far as all layouts agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echofm.phantom.clip import PhantomClip
from echofm.phantom.overlay import with_overlay


class Layout:
    """A public set's folders, files and tables.

    views: what it holds. other_views: whether others may be put into it. clips_per_patient: None any number.
    colour: whether it holds colour Doppler. size: pixels a side. overlay: whether text is burned in.
    """

    name: str
    views: tuple[str, ...]
    other_views = False
    clips_per_patient: int | None = None
    colour = True
    size = 112
    overlay = False

    def prepare(self, clip: PhantomClip) -> tuple[str, PhantomClip]:
        """The file's stem, and the clip as the file shows it; truth is kept for that."""
        return clip.stem, with_overlay(clip)

    def write_clip(self, root: Path, stem: str, clip: PhantomClip, split: str) -> dict[str, Any]:
        """Write one clip's files; return what the tables need. Runs in a worker."""
        raise NotImplementedError

    def finish(self, root: Path, rows: Sequence[dict[str, Any]]) -> None:
        """Write the tables, if there are any, rows in the order of patients and clips."""
