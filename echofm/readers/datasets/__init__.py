"""The public echo sets and any other folder: point at it, get rows. docs/datasets.md lists what is known of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from echofm.errors import EchofmError
from echofm.readers.datasets.folder import MANIFEST, Folder, Notes
from echofm.readers.datasets.generic import rows
from echofm.readers.datasets.registry import ADAPTERS, GENERIC, Adapter, FolderSource, above, recognised
from echofm.readers.datasets.table import header
from echofm.readers.patients import RULE_TEXTS, PatientFrom, checked_rule, patient_of
from echofm.readers.source import Row

__all__ = ["ADAPTERS", "FolderSource", "open_source"]


def open_source(path: str | Path, *, dataset: str | None = None, patient_from: str | None = None) -> FolderSource:
    """Understand a folder (one of the public sets, or any other), a manifest table, or a single file.

    dataset: a name of `ADAPTERS` to force; by default found by looking at the folder and at those below it. The images
        of a set named so are kept whole where its publisher has cut them (`Adapter.is_cut`).
    patient_from: "dicom" (the tag, else the file's name), "parent", "top" (the folder below the source), "stem" or
        "study" (each DICOM study); for a plain folder only, the public sets have rules of their own. By default as
        "dicom", but where that does not tell the patients, `rows()` refuses.
    Raises EchofmError where there is no such folder, name or rule, or where several sets lie below the folder. Tables
    are read with the first row.
    """
    root = Path(os.path.abspath(path))
    rule = checked_rule(patient_from)
    if root.is_file():
        if not _is_list_of_a_set(root):
            return _one_file(root, rule)
        root = root.parent
    if not root.is_dir():
        raise EchofmError(f"the source {path} is no folder, manifest or file; check the path")
    adapter, root = recognised(root, ADAPTERS if dataset is None else [_named(dataset)])
    if dataset is not None:
        adapter = _named(dataset)
    if adapter is not GENERIC:
        if patient_from is not None:
            raise EchofmError(
                f"--patient-from is for plain folders; {adapter.title} has its own rule (--dataset folder forces)"
            )
        return FolderSource(
            name=adapter.name,
            root=root,
            patient_rule=adapter.patient_rule,
            make_rows=adapter.rows,
            is_cut=adapter.is_cut and dataset is not None,
        )
    manifest = root / MANIFEST
    around = above(root, ADAPTERS) if dataset is None else None
    return _folder(root, rule, manifest if manifest.is_file() else None, around=around)


def _is_list_of_a_set(path: Path) -> bool:
    """Whether a file is the table of a public set, and stands for its folder."""
    if path.suffix.lower() != ".csv" or "path" in header(path):
        return False
    folder = Folder(path.parent)
    return any(adapter.recognises(folder) for adapter in ADAPTERS if adapter is not GENERIC)


def _named(dataset: str) -> Adapter:
    for adapter in ADAPTERS:
        if adapter.name == dataset:
            return adapter
    raise EchofmError(f"no data set is called {dataset!r}; known are {', '.join(a.name for a in ADAPTERS)}")


def _folder(
    root: Path, patient_from: PatientFrom | None, manifest: Path | None, *, around: Adapter | None = None
) -> FolderSource:
    rule = RULE_TEXTS[patient_from or "dicom"]
    if manifest is not None:
        rule = f"{manifest.name}'s column patient, else {rule}"

    def make_rows(root: Path, notes: Notes) -> Iterator[Row]:
        if around is not None and manifest is None:
            notes[f"the folder is a part of {around.title}: give the whole set to have its labels and splits"] += 1
        return rows(root, notes, patient_from=patient_from, manifest=manifest)

    return FolderSource(name=GENERIC.name, root=root, patient_rule=rule, make_rows=make_rows)


def _one_file(path: Path, patient_from: PatientFrom | None) -> FolderSource:
    if path.suffix.lower() == ".csv":
        return _folder(path.parent, patient_from, path)
    rule = patient_from or "dicom"

    def one(_: Path, __: Notes) -> Iterator[Row]:
        patient = patient_of(path, root=path.parent, rule=rule)
        yield Row(path=path, patient=patient, patient_from=patient_from)

    return FolderSource(name=GENERIC.name, root=path.parent, patient_rule=RULE_TEXTS[rule], make_rows=one)
