"""The data sets that are known, and which one a folder is, also where it lies some folders deeper.

A new one: its file, its line here, its look-alike in tests/lookalikes.py.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from echofm.errors import EchofmError
from echofm.readers.datasets import (
    camus,
    cardiacnet,
    cardiacuda,
    echonet_dynamic,
    echonet_lvh,
    echonet_pediatric,
    echonet_synthetic,
    echophase,
    hmcqu,
    mimic,
    segrwma,
    tmed2,
)
from echofm.readers.datasets.folder import MANIFEST, Folder, Notes, media_files
from echofm.readers.datasets.generic import rows as any_rows
from echofm.readers.patients import RULE_TEXTS
from echofm.readers.source import Row
from echofm.readers.suffixes import STILL, media_suffix

# physionet.org/files/mimic-iv-echo/1.0 below the folder of downloads.
_DEPTH = 4
_MOST_FOLDERS = 5000
# Parts of the names under which the public sets come.
_SETS_WORDS: tuple[str, ...] = (
    *("echo", "dynamic", "ped_", "synthetic", "lvh", "camus", "tmed", "approved_users", "mimic", "physionet"),
    *("cardiac", "hmc", "wall", "rwma", "uda", "udc", "a4c", "psax", "files", "1.0", "0.1"),
)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One data set.

    name: as given to `--dataset`. title: as people call it.
    recognises: whether a folder is this set; looks at names and table headers only.
    rows: the set's files, sorted; counts in `notes` what it passes over. Raises EchofmError on a wrong table.
    patient_rule: how files are grouped by patient, for reports.
    is_cut: whether the publisher has cut the images to the sector. A hospital's folder may have the same layout, so
        that is believed only where the user names the set.
    """

    name: str
    title: str
    recognises: Callable[[Folder], bool]
    rows: Callable[[Path, Notes], Iterator[Row]]
    patient_rule: str
    is_cut: bool = False


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """A folder, understood. `notes` says what the last walk through `rows()` passed over, and how often.

    is_cut: the user named a set whose publisher has cut the images.
    """

    name: str
    root: Path
    patient_rule: str
    make_rows: Callable[[Path, Notes], Iterator[Row]]
    is_cut: bool = False
    notes: Notes = field(default_factory=Notes)

    @property
    def unread(self) -> Counter[str]:
        """Files of kinds that are not read, by suffix, of the last walk."""
        return self.notes.unread

    def rows(self, *, doubtful: bool = False) -> Iterator[Row]:
        """Every file, lazily, sorted, the same on each call.

        Raises EchofmError on a missing or wrong table and, after the last row, where it is not known who the patients
        are, with the ways out. doubtful: not then.
        """
        self.notes.clear()
        try:
            for row in self.make_rows(self.root, self.notes):
                yield replace(row, cut_by_publisher=True) if self.is_cut else row
        except OSError as error:
            # Its text holds a path.
            raise EchofmError(
                f"a folder of this data set cannot be read ({error.strerror}); check its rights"
            ) from None
        if self.notes.doubt is not None and not doubtful:
            raise EchofmError(self.notes.doubt)


def _set(name: str, title: str, home: Any, patient_rule: str, *, is_cut: bool = False) -> Adapter:
    """home: the module with `recognises(folder)` and `rows(root, notes)`."""
    return Adapter(
        name=name, title=title, recognises=home.recognises, rows=home.rows, patient_rule=patient_rule, is_cut=is_cut
    )


GENERIC = Adapter(
    name="folder",
    title="any folder",
    recognises=lambda _: True,
    rows=any_rows,
    patient_rule=RULE_TEXTS["dicom"],
)
# In the order in which they are tried: a set that shares another's layout comes before it, any folder last.
ADAPTERS: tuple[Adapter, ...] = (
    _set("echonet-synthetic", "EchoNet-Synthetic", echonet_synthetic, "one video per (generated) patient", is_cut=True),
    _set(
        "echonet-dynamic",
        "EchoNet-Dynamic",
        echonet_dynamic,
        "one video per patient; in a phantom the first part of the name",
        is_cut=True,
    ),
    _set("echonet-pediatric", "EchoNet-Pediatric", echonet_pediatric, "the first part of the file's name", is_cut=True),
    _set("echonet-lvh", "EchoNet-LVH", echonet_lvh, "one video per patient", is_cut=True),
    _set("camus", "CAMUS", camus, "the patientNNNN folder", is_cut=True),
    _set("tmed-2", "TMED-2", tmed2, "the number before `s` in the image's name"),
    _set("mimic-iv-echo", "MIMIC-IV-ECHO", mimic, "subject_id"),
    _set(
        "cardiacnet",
        "CardiacNet",
        cardiacnet,
        "the case's number within its group; controls by the name that they have in both halves",
    ),
    _set("hmc-qu", "HMC-QU", hmcqu, "the name's ES and number"),
    _set("segrwma", "segRWMA", segrwma, "patientN of the file's name"),
    _set("cardiacuda", "CardiacUDA", cardiacuda, "the first part of the file's name, within its site"),
    _set("unity-echophase", "UNITY EchoPhase", echophase, "the first part of the video's name"),
    GENERIC,
)


def recognised(root: Path, adapters: Sequence[Adapter]) -> tuple[Adapter, Path]:
    """The data set and the folder in which it lies, `root` or one below; any folder where there is none.

    Raises EchofmError, with the folders to give instead, where several sets lie below, or one beside other echo files:
    read as any folder they would lose their labels and splits.
    """
    found = _first(Folder(root), adapters)
    if found is not None:
        return found, root
    if (root / MANIFEST).is_file():
        return GENERIC, root
    below = list(_below(root, adapters))
    if not below:
        return GENERIC, root
    named = " and ".join(f"{adapter.title} in {shown(home, root)}" for adapter, home in below[:8])
    way_out = "give one of these folders (--dataset folder takes all files as any folder's, without their tables)"
    if len(below) > 1:
        raise EchofmError(f"several data sets lie below the folder given: {named}; {way_out}")
    if len(adapters) == 1:
        # It was asked for by its name.
        return below[0]
    homes = {home for _, home in below}
    others = (path for path in media_files(root, Notes()) if not homes & set(path.parents))
    if any(media_suffix(path) not in STILL for path in others):
        raise EchofmError(f"a data set lies below the folder given, beside other echo files: {named}; {way_out}")
    return below[0]


def sets_in(root: Path) -> list[tuple[Adapter, Path]]:
    """Every data set below a folder, where it may be a link, with its own folder; the folder itself where it is one."""
    own = _first(Folder(root), ADAPTERS)
    below = list(_below(root, ADAPTERS, links=True))
    # Halves and views of a set look like the set.
    return [(own, root)] if own is not None and all(found is own for found, _ in below) else below


def above(root: Path, adapters: Sequence[Adapter]) -> Adapter | None:
    """The set that a folder is a part of, where the folders above it are one."""
    return next((found for path in root.parents[:3] if (found := _first(Folder(path), adapters)) is not None), None)


def shown(path: Path, root: Path) -> str:
    """A folder below `root`, its parts in clear where they are a public set's own names, else `*`."""
    parts = path.relative_to(root).parts
    return "/".join(part if any(word in part.casefold() for word in _SETS_WORDS) else "*" for part in parts)


def _first(folder: Folder, adapters: Sequence[Adapter]) -> Adapter | None:
    return next((each for each in adapters if each is not GENERIC and each.recognises(folder)), None)


def _below(root: Path, adapters: Sequence[Adapter], *, links: bool = False) -> Iterator[tuple[Adapter, Path]]:
    """Sets below a folder, the upper ones first; none is looked for inside another. links: also what it links to."""
    todo, seen = deque([(root, 0)]), 0
    while todo and seen < _MOST_FOLDERS:
        path, depth = todo.popleft()
        seen += 1
        folder = Folder(path)
        found = _first(folder, adapters) if depth else None
        if found is not None:
            yield found, path
        elif depth < _DEPTH:
            followed = links and not depth
            todo.extend((inner, depth + 1) for inner in folder.folders if followed or not inner.is_symlink())
