"""How CardioBench names a clip, from the file's path alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath

from echofm.readers.suffixes import stem_of

Keys = dict[str, str]
# Folders of CardiacNet within which a file's name tells it from all others.
_GROUPS = frozenset(["pah", "non-pah", "asd", "non-asd"])


def keys_of(dataset: str, path: Path, view: str | None) -> Keys:
    """By column of CardioBench's prediction files. dataset: name of its adapter."""
    return _OF[dataset](path, view or "")


def tail(dataset: str, path: str | Path) -> str:
    """What is alike in CardioBench's tables and on a user's disk: a file's name without suffix, of CardiacNet with its
    folders from the group on."""
    parts = [stem_of(Path(part)).casefold() for part in PurePath(str(path).replace("\\", "/")).parts]
    groups = [place for place, part in enumerate(parts) if part in _GROUPS and dataset == "cardiacnet"]
    return "/".join(parts[groups[-1] :] if groups else parts[-1:])


def _cardiacnet(path: Path, view: str) -> Keys:
    return {"unique_id": f"{stem_of(Path(path.parent.name))}_{stem_of(path).removesuffix('_image')}"}


def _camus(path: Path, view: str) -> Keys:
    patient, _, rest = stem_of(path).partition("_")
    return {"patient_id": patient, "unique_id": f"{patient}_{rest.partition('_')[0]}"}


def _hmcqu(path: Path, view: str) -> Keys:
    found = re.match(r"ES\d+", path.name, re.IGNORECASE)
    return {"unique_id": f"{found[0].upper() if found else stem_of(path)}_{view}"}


def _segrwma(path: Path, view: str) -> Keys:
    patient = path.name.partition("-")[0]
    return {"patient_id": patient, "patient_view_id": f"{patient}_{view}"}


_OF: Mapping[str, Callable[[Path, str], Keys]] = {
    "echonet-dynamic": lambda path, view: {"FileName": stem_of(path)},
    "echonet-pediatric": lambda path, view: {"FileName": f"{stem_of(path)}.avi"},
    "echonet-lvh": lambda path, view: {"HashedFileName": stem_of(path)},
    "tmed-2": lambda path, view: {"query_key": path.name, "study_id": path.name.partition("_")[0]},
    "camus": _camus,
    "cardiacnet": _cardiacnet,
    "hmc-qu": _hmcqu,
    "segrwma": _segrwma,
}
