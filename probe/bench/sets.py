"""Which of CardioBench's sets lie in a folder, and where each set's own folder is."""

from __future__ import annotations

from pathlib import Path

from echofm.errors import EchofmError
from echofm.readers.datasets.folder import Folder
from echofm.readers.datasets.registry import sets_in
from probe.bench.tasks import SETS, BenchSet


def find(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """By the name of a `BenchSet` its folder; and what must be known of the others, in words.

    Raises EchofmError where there is no folder, or no set in it.
    """
    if not folder.is_dir():
        raise EchofmError(f"--sets {folder}: no such folder; give the one that the sets' folders lie in")
    found: dict[str, Path] = {}
    notes = []
    for adapter, home in sets_in(folder):
        for own in (each for each in SETS if each.dataset == adapter.name):
            root = home if not own.part else _half(home, own)
            if root is not None and found.setdefault(own.name, root) != root:
                notes.append(f"{own.title} lies in several folders; the first is taken")
    if not found:
        where = "; ".join(f"{each.title}: {each.where}" for each in SETS)
        raise EchofmError(f"--sets {folder}: none of CardioBench's sets lies there, with its tables; {where}")
    return found, notes


def _half(home: Path, own: BenchSet) -> Path | None:
    """Of CardiacNet: the folder of the half, itself given or beside the other one."""
    root = Folder(home).folder(own.part)
    if root is not None:
        return root
    group = own.part.rpartition("-")[2]
    # Unpacked alone a half may lie under any name.
    return home if Folder(home).folder(group, f"Non-{group}") is not None else None
