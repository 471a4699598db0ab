"""CAMUS (Leclerc et al., IEEE TMI 2019): apical two- and four-chamber half cycles with masks, 500 patients.

database_nifti/patientNNNN/ with Info_{2CH,4CH}.cfg and NIfTI files, or the older release's training/ and testing/ with
MetaImage (.mhd + .raw). https://www.creatis.insa-lyon.fr/Challenge/camus/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from echofm.clip import BACKGROUND, LEFT_ATRIUM, LEFT_VENTRICLE, MYOCARDIUM, Label
from echofm.errors import EchofmError
from echofm.readers.datasets.folder import Folder, Notes, listing
from echofm.readers.datasets.labels import number, numbers, sex, word
from echofm.readers.datasets.truth import InTurn, MaskFiles, phantom_truth
from echofm.readers.source import Row

_VIEWS = {"2CH": "A2C", "4CH": "A4C"}
_ENDINGS = (("half_sequence", ".nii.gz"), ("half_sequence", ".nii"), ("sequence", ".mhd"))
_CLASSES = {0: BACKGROUND, 1: LEFT_VENTRICLE, 2: MYOCARDIUM, 3: LEFT_ATRIUM}
_SUBGROUPS = {"training": "train", "validation": "val", "testing": "test"}
_MAX_INFO_BYTES = 65536


def _homes(root: Folder) -> list[Folder]:
    """The folders that hold patients: of the release's parent folder, or the folder itself."""
    inside = (root.folder(name) for name in ("database_nifti", "training", "testing"))
    return [Folder(path) for path in inside if path is not None] or [root]


def _patients(home: Folder) -> list[Path]:
    return [path for path in home.folders if re.match(r"patient\d", path.name)]


def recognises(root: Folder) -> bool:
    patients = (Folder(patient) for home in _homes(root) for patient in _patients(home)[:3])
    return any(re.fullmatch(r"Info_.CH\.cfg", path.name) for patient in patients for path in patient.files)


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    splits = _splits(Folder(root)) or _splits(Folder(root.parent))
    for home in _homes(Folder(root)):
        for patient in _patients(home):
            files = listing(patient, notes)
            for short, view in _VIEWS.items():
                path = _sequence(files, patient.name, short)
                if path is None:
                    notes["patients' views without a sequence"] += 1
                    continue
                yield _row(files, path, view=view, short=short, split=splits.get(patient.name), root=root, notes=notes)


def _sequence(files: dict[str, Path], patient: str, short: str) -> Path | None:
    names = (f"{patient}_{short}_{ending}{suffix}" for ending, suffix in _ENDINGS)
    return next((files[name] for name in names if name in files), None)


def _row(
    files: dict[str, Path], path: Path, *, view: str, short: str, split: str | None, root: Path, notes: Notes
) -> Row:
    patient = path.parent.name
    info = _info(files.get(f"Info_{short}.cfg"), notes)
    suffix = path.name[path.name.index("sequence") + len("sequence") :]
    stem = path.name.removesuffix(suffix)
    whole = files.get(f"{stem}_gt{suffix}")
    masks: dict[int | None, Path] = {} if whole is None else {None: whole}
    for instant in ("ED", "ES"):
        frame, mask = number(info.get(instant, "")), files.get(f"{patient}_{short}_{instant}_gt{suffix}")
        # The cfg counts frames from 1, and ED may be the last frame.
        if whole is None and frame is not None and mask is not None:
            masks[int(frame) - 1] = mask
    generated = phantom_truth(root, stem)
    own = MaskFiles(
        files=masks if generated is None else {},
        classes=_CLASSES,
        frame_rate_hz=number(info.get("FrameRate", "")),
    )
    return Row(
        path=path,
        patient=f"camus/{patient}",
        split=split,
        view=view,
        kind="bmode",
        labels=_labels(info, notes),
        add_truth=own if generated is None else InTurn((own, generated)),
    )


def _info(path: Path | None, notes: Notes) -> dict[str, str]:
    """`Key: value` lines; empty, and counted, where the file is missing, unreadable or no text."""
    if path is not None:
        try:
            text = path.read_bytes()[:_MAX_INFO_BYTES].decode("utf-8-sig")
            return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
        except (OSError, UnicodeDecodeError):
            pass
    notes["views without a readable Info_*.cfg (no labels)"] += 1
    return {}


def _labels(info: dict[str, str], notes: Notes) -> dict[str, Label]:
    # The older release writes LVef, LVedv and LVesv, this one EF.
    named = {
        "ef_percent": info.get("EF", info.get("LVef", "")),
        "edv_ml": info.get("LVedv", ""),
        "esv_ml": info.get("LVesv", ""),
        "age_years": info.get("Age", ""),
    }
    labels = numbers(named, notes)
    for name, value in (("sex", sex(info.get("Sex", ""))), ("image_quality", word(info.get("ImageQuality", "")))):
        if value is not None:
            labels[name] = value
    return labels


def _splits(folder: Folder) -> dict[str, str]:
    splits: dict[str, str] = {}
    home = folder.folder("database_split")
    for name, split in _SUBGROUPS.items():
        path = None if home is None else Folder(home).table(f"subgroup_{name}.txt")
        if path is None:
            continue
        try:
            patients = path.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError):
            raise EchofmError(f"{path.name} cannot be read as text; download it again") from None
        for patient in patients:
            if splits.setdefault(patient, split) != split:
                raise EchofmError(f"{path.name} lists a patient that another subgroup also lists; correct it")
    return splits
