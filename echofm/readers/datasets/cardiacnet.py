"""CardiacNet (Yang et al., ECCV 2024): apical four-chamber cines as NIfTI, pulmonary hypertension and septal defects.

CardiacNet-{PAH,ASD}/{PAH,Non-PAH,ASD,Non-ASD}/NNN_image.nii.gz, or a folder NNN_image.nii with one file of any name;
NNN_label.nii.gz, sparse or missing. Many controls stand in both halves. https://github.com/xmed-lab/CardiacNet
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from echofm.clip import BACKGROUND, LEFT_VENTRICLE
from echofm.readers.datasets.folder import Folder, Notes, is_regular
from echofm.readers.datasets.truth import MaskFiles
from echofm.readers.source import Row
from echofm.readers.suffixes import NIFTI, media_suffix, stem_of

_HOMES = ("CardiacNet-PAH", "CardiacNet-ASD")
_GROUPS = {
    "PAH": ("pulmonary_hypertension", "yes"),
    "Non-PAH": ("pulmonary_hypertension", "no"),
    "ASD": ("atrial_septal_defect", "yes"),
    "Non-ASD": ("atrial_septal_defect", "no"),
}
# Of the four chambers only this one's class is sure: two public loaders of the group name the others differently.
_CLASSES = {0: BACKGROUND, 1: LEFT_VENTRICLE}


@dataclass(frozen=True)
class _Case:
    """One image of a group. inner: the file's own stem where it lies in a folder of its own, else ""."""

    group: Path
    number: str
    path: Path
    inner: str


def _groups(root: Folder) -> list[Path]:
    if root.path.name.casefold() in map(str.casefold, _GROUPS):
        return [root.path]
    homes = [Folder(home) for home in map(root.folder, _HOMES) if home is not None] or [root]
    return [path for home in homes for group in _GROUPS if (path := home.folder(group)) is not None]


def recognises(root: Folder) -> bool:
    groups = map(Folder, _groups(root))
    return any("_image.nii" in path.name for group in groups for path in (*group.folders[:3], *group.files[:3]))


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    rows: list[Row] = []
    # Controls by the name that they have in both halves.
    seen: dict[tuple[str, int], list[int]] = {}
    for group in _groups(Folder(root)):
        label, value = _GROUPS[next(name for name in _GROUPS if name.casefold() == group.name.casefold())]
        for case in _cases(group, notes):
            row = _row(case, label, value, notes)
            key = case.inner, case.path.stat().st_size
            copy = next((at for at in seen.get(key, ()) if filecmp.cmp(rows[at].path, row.path, shallow=False)), None)
            if copy is not None and label not in rows[copy].labels:
                notes["images that stand in both halves, read once with both labels"] += 1
                first = rows[copy]
                truth = first.add_truth or row.add_truth
                rows[copy] = replace(first, labels={**first.labels, label: value}, add_truth=truth)
                continue
            if case.inner:
                seen.setdefault(key, []).append(len(rows))
            rows.append(row)
    yield from rows


def _row(case: _Case, label: str, value: str, notes: Notes) -> Row:
    files = Folder(case.group)
    names = [f"{case.number}_label{suffix}" for suffix in NIFTI]
    entries = [path for name in names if (path := files.table(name) or files.folder(name)) is not None]
    mask = next((path for entry in entries if (path := _unpacked(entry)) is not None), None)
    if mask is None:
        notes["cases without a label file"] += 1
    # Each centre numbers anew, so a sick patient's inner name tells nobody apart; controls of one name in both halves
    # are very likely the same people, and one patient is the safe side.
    is_control = value == "no" and case.inner
    return Row(
        path=case.path,
        patient=f"cardiacnet/control/{case.inner}" if is_control else f"cardiacnet/{case.group.name}/{case.number}",
        view="A4C",
        kind="bmode",
        labels={label: value},
        add_truth=MaskFiles(files={None: mask}, classes=_CLASSES, sparse=True) if mask else None,
    )


def _cases(group: Path, notes: Notes) -> Iterator[_Case]:
    folder = Folder(group)
    for entry in sorted((*folder.files, *folder.folders)):
        number, found, rest = entry.name.partition("_image")
        if not found or rest.casefold() not in NIFTI:
            continue
        path = _unpacked(entry)
        if path is None:
            notes["folders named like an image that hold no or several images"] += 1
        elif is_regular(path, notes):
            yield _Case(group, number, path, stem_of(path) if path != entry else "")


def _unpacked(entry: Path) -> Path | None:
    """The file, also where it lies in a folder of the file's name; None where that holds no or several."""
    if not entry.is_dir():
        return entry
    inside = [path for path in Folder(entry).files if media_suffix(path) in NIFTI]
    return inside[0] if len(inside) == 1 else None
