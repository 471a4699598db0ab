"""CardiacNet (Yang et al., ECCV 2024): apical four-chamber cines as NIfTI, pulmonary hypertension and septal defects.

CardiacNet-{PAH,ASD}/{PAH,Non-PAH,ASD,Non-ASD}/NNN_image.nii.gz and NNN_label.nii.gz, the labels sparse or missing.
https://github.com/xmed-lab/CardiacNet
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from echofm.clip import BACKGROUND, LEFT_ATRIUM, LEFT_VENTRICLE
from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.mask_files import MaskFiles
from echofm.readers.datasets.walk import Notes, is_regular
from echofm.readers.source import Row

_GROUPS = {
    "PAH": ("pulmonary_hypertension", "yes"),
    "Non-PAH": ("pulmonary_hypertension", "no"),
    "ASD": ("atrial_septal_defect", "yes"),
    "Non-ASD": ("atrial_septal_defect", "no"),
}
# The set's classes are left ventricle, right ventricle, left atrium, right atrium; ours have no right heart.
_CLASSES = {0: BACKGROUND, 1: LEFT_VENTRICLE, 2: BACKGROUND, 3: LEFT_ATRIUM, 4: BACKGROUND}
_SUFFIXES = (".nii.gz", ".nii")


def _groups(root: Path) -> list[Path]:
    homes = [root / "CardiacNet-PAH", root / "CardiacNet-ASD"]
    homes = [home for home in homes if home.is_dir()] or [root]
    return [home / group for home in homes for group in _GROUPS if (home / group).is_dir()]


def _is_cardiacnet(root: Path) -> bool:
    return any(any(group.glob("*_image.nii*")) for group in _groups(root))


def _rows(root: Path, notes: Notes) -> Iterator[Row]:
    for group in _groups(root):
        name, value = _GROUPS[group.name]
        for entry in sorted(group.iterdir()):
            case, _, rest = entry.name.partition("_image")
            if rest not in _SUFFIXES:
                continue
            path = _unpacked(entry, notes)
            if path is None:
                continue
            mask = next((m for s in _SUFFIXES if (m := _mask(group / f"{case}_label{s}")) is not None), None)
            if mask is None:
                notes["cases without a label file"] += 1
            yield Row(
                path=path,
                patient=f"cardiacnet/{group.name}/{case}",
                view="A4C",
                kind="bmode",
                labels={name: value},
                add_truth=MaskFiles(files={None: mask}, classes=_CLASSES, sparse=True) if mask else None,
            )


def _unpacked(entry: Path, notes: Notes) -> Path | None:
    """The file, also where unpacking left a folder of the file's name with the file inside."""
    if not entry.is_dir():
        return entry if is_regular(entry, notes) else None
    inside = sorted(path for path in entry.iterdir() if path.name.endswith(_SUFFIXES) and path.is_file())
    if len(inside) != 1:
        notes["folders named like an image that hold no or several images"] += 1
        return None
    return inside[0]


def _mask(entry: Path) -> Path | None:
    if entry.is_file():
        return entry
    inside = sorted(entry.glob("*.nii*")) if entry.is_dir() else []
    return inside[0] if len(inside) == 1 else None


CARDIACNET = Adapter(
    name="cardiacnet",
    title="CardiacNet",
    recognises=_is_cardiacnet,
    rows=_rows,
    patient_rule="the case's number within its group",
)
