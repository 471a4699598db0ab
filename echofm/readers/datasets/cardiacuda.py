"""CardiacUDA (Yang et al., ICCV 2023; also CardiacUDC): cines of several views from several sites as NIfTI.

cardiacUDC_dataset/Site_*/patientN-V_image.nii.gz and _label.nii.gz: lines of pixels around the chambers on some frames.
V 4 is the apical four-chamber view, with the classes left ventricle, left atrium, right atrium, right ventricle (two
public loaders agree); the other views are read without view and mask. label_all_frame/ holds some of the cines again
under names that do not tell whose they are, and other classes: it is read when it is given alone.
https://www.kaggle.com/datasets/xiaoweixumedicalai/cardiacudc-dataset
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from echofm.clip import BACKGROUND, LEFT_ATRIUM, LEFT_VENTRICLE
from echofm.readers.datasets.folder import Folder, Notes, is_regular
from echofm.readers.datasets.truth import MaskFiles
from echofm.readers.source import Row

_NAME = re.compile(r"((?:patient|normal)-?\d+)-(\d)_image(\.nii(?:\.gz)?)", re.IGNORECASE)
_SITE = re.compile(r"Site_\w+", re.IGNORECASE)
_DENSE = "label_all_frame"
_A4C = "4"
_CLASSES = {0: BACKGROUND, 1: LEFT_VENTRICLE, 2: LEFT_ATRIUM, 3: BACKGROUND, 4: BACKGROUND}
# Of the folder of dense labels the first class alone is known.
_DENSE_CLASSES = {0: BACKGROUND, 1: LEFT_VENTRICLE}


def _is_home(folder: Folder) -> bool:
    name = folder.path.name
    is_named = _SITE.fullmatch(name) is not None or name.casefold() == _DENSE
    return is_named and any("_image.nii" in path.name for path in folder.files[:4])


def _homes(root: Folder) -> list[Folder]:
    """The folders of the sites, or the one folder that was given."""
    return [root] if _is_home(root) else [folder for folder in map(Folder, root.folders) if _is_home(folder)]


def recognises(root: Folder) -> bool:
    return bool(_homes(root))


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    homes = _homes(Folder(root))
    for home in homes:
        site = home.path.name.casefold()
        if site == _DENSE and len(homes) > 1:
            notes[f"cines of {_DENSE}/ (left out, as they are the sites' again; give that folder alone)"] += sum(
                _NAME.fullmatch(path.name) is not None for path in home.files
            )
            continue
        for path in home.files:
            match = _NAME.fullmatch(path.name)
            if match is None or not is_regular(path, notes):
                continue
            is_a4c = match[2] == _A4C
            mask = home.table(path.name.replace("_image", "_label"))
            if not is_a4c:
                notes["cines of views other than four-chamber (read without view and mask)"] += 1
            yield Row(
                path=path,
                patient=f"cardiacuda/{site}/{match[1].casefold()}",
                view="A4C" if is_a4c else None,
                kind="bmode",
                add_truth=_truth(mask, _DENSE_CLASSES if site == _DENSE else _CLASSES) if is_a4c else None,
            )


def _truth(mask: Path | None, classes: dict[int, int]) -> MaskFiles | None:
    return None if mask is None else MaskFiles(files={None: mask}, classes=classes, sparse=True, contours=True)
