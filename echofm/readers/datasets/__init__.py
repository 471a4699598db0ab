"""The public echo sets and any other folder: point at it, get rows. docs/datasets.md lists what is known of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from echofm.errors import EchofmError
from echofm.ids import file_id
from echofm.readers.datasets.adapter import Adapter, FolderSource
from echofm.readers.datasets.camus import CAMUS
from echofm.readers.datasets.cardiacnet import CARDIACNET
from echofm.readers.datasets.echonet_dynamic import DYNAMIC, SYNTHETIC
from echofm.readers.datasets.echonet_lvh import LVH
from echofm.readers.datasets.echonet_pediatric import PEDIATRIC
from echofm.readers.datasets.generic import GENERIC, MANIFEST, rows_by
from echofm.readers.datasets.mimic import MIMIC
from echofm.readers.datasets.tmed2 import TMED2
from echofm.readers.datasets.walk import Notes
from echofm.readers.patients import RULE_TEXTS, PatientFrom, checked_rule, patient_of
from echofm.readers.source import Row

__all__ = ["ADAPTERS", "FolderSource", "open_source"]

# In the order in which they are tried: a set that shares another's layout comes before it, any folder last.
ADAPTERS: tuple[Adapter, ...] = (
    SYNTHETIC,
    DYNAMIC,
    PEDIATRIC,
    LVH,
    CAMUS,
    TMED2,
    MIMIC,
    CARDIACNET,
    GENERIC,
)


def open_source(path: str | Path, *, dataset: str | None = None, patient_from: str | None = None) -> FolderSource:
    """Understand a folder (one of the public sets, or any other), a manifest table, or a single file.

    dataset: a name of `ADAPTERS` to force; by default found by looking at the folder.
    patient_from: "dicom" (the tag, else the file's name; the default), "parent", "top" (the folder below the source)
        or "stem"; for a plain folder only, the public sets have rules of their own.
    Raises EchofmError where there is no such folder, name or rule. Tables are read with the first row.
    """
    root = Path(os.path.abspath(path))
    rule = checked_rule(patient_from)
    if root.is_file():
        return _one_file(root, rule)
    if not root.is_dir():
        raise EchofmError(f"the source {file_id(root)} is no folder, manifest or file; check the path")
    adapter = _adapter(root, dataset)
    if adapter is not GENERIC:
        if patient_from is not None:
            raise EchofmError(
                f"--patient-from is for plain folders; {adapter.title} has its own rule (--dataset folder forces)"
            )
        return FolderSource(name=adapter.name, root=root, patient_rule=adapter.patient_rule, make_rows=adapter.rows)
    manifest = root / MANIFEST
    return _folder(root, rule, manifest if manifest.is_file() else None)


def _adapter(root: Path, dataset: str | None) -> Adapter:
    if dataset is None:
        return next(adapter for adapter in ADAPTERS if adapter.recognises(root))
    for adapter in ADAPTERS:
        if adapter.name == dataset:
            return adapter
    raise EchofmError(f"no data set is called {dataset!r}; known are {', '.join(a.name for a in ADAPTERS)}")


def _folder(root: Path, patient_from: PatientFrom, manifest: Path | None) -> FolderSource:
    rule = RULE_TEXTS[patient_from]
    if manifest is not None:
        rule = f"{manifest.name}'s column patient, else {rule}"
    return FolderSource(name=GENERIC.name, root=root, patient_rule=rule, make_rows=rows_by(patient_from, manifest))


def _one_file(path: Path, patient_from: PatientFrom) -> FolderSource:
    if path.suffix.lower() == ".csv":
        return _folder(path.parent, patient_from, path)

    def one(_: Path, __: Notes) -> Iterator[Row]:
        yield Row(path=path, patient=patient_of(path, root=path.parent, rule=patient_from))

    return FolderSource(name=GENERIC.name, root=path.parent, patient_rule=RULE_TEXTS[patient_from], make_rows=one)
