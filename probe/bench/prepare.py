"""A set's table as CardioBench takes it: its splits, its labels, its name of every clip; no patient in two splits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.rows import or_none
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.readers.datasets.labels import SPLIT_WORDS
from echofm.readers.datasets.table import header, read_table
from echofm.split import split_of
from probe.bench.keys import Keys, keys_of, tail
from probe.bench.tasks import AORTIC_STENOSIS, OTHER_VIEW, BenchSet

# Its columns of labels by ours, where a set's own table may be missing.
_LABELS = {
    "myocardial_infarction": "STEMI",
    "wall_motion_abnormality": "abnormal",
    "pulmonary_hypertension": "PAH",
    "atrial_septal_defect": "ASD",
}
_KEYS = ("unique_id", "patient_view_id", "patient_id")
_YES_NO = {"1": "yes", "0": "no", "1.0": "yes", "0.0": "no"}
# EchoNet-Pediatric: tested on fold 0, chosen on fold 1 as its authors do.
_FOLDS = {0.0: "test", 1.0: "val"}
_DEALT = (0.6, 0.2, 0.2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """rows: into the set's tables, those that have a split. table: these, with splits and labels of CardioBench.

    keys: a line a clip of `table`. own_splits: whether the splits are CardioBench's, so that its evaluators can read
    what is predicted. notes: what must be known.
    """

    rows: npt.NDArray[np.int64]
    table: EmbeddingTable
    keys: pd.DataFrame
    own_splits: bool
    notes: tuple[str, ...]

    @property
    def test_keys(self) -> pd.DataFrame:
        """The lines of the test clips."""
        return self.keys[self.table.split == "test"]

    def alike(self, other: EmbeddingTable) -> EmbeddingTable:
        """Another encoder's table of the same set, with the same rows, splits and labels."""
        if len(self.rows) < len(other):
            other = other.select(self.rows)
        return replace(other, rows=self.table.rows)


def find_table(clone: Path | None, words: tuple[str, ...]) -> Path | None:
    """CardioBench's table of a set's splits. Raises EchofmError where the clone has none."""
    if clone is None or not words:
        return None
    folder = clone / "data" / "splits"
    for path in sorted(folder.rglob("*.csv")):
        if all(word in path.stem.casefold() for word in words):
            return path
    raise EchofmError(
        f"--cardiobench: no table of {' '.join(words)} lies in its data/splits; clone "
        "https://github.com/BioMedIA-MBZUAI/CardioBench anew"
    )


def prepared(
    own: BenchSet, table: EmbeddingTable, paths: dict[str, Path], *, splits: Path | None, seed: int
) -> Prepared:
    """paths: clip id to its file. splits: CardioBench's table, where it is at hand.

    Raises EchofmError where nothing is left.
    """
    notes: list[str] = []
    keys = [keys_of(own.dataset, paths[clip], view) for clip, view in zip(table.clip_id, table.view)]
    rows = table.rows.copy()
    if splits is not None:
        listed = _listed(own, splits)
        found = [listed.get(tail(own.dataset, paths[clip])) for clip in table.clip_id]
        rows, keys = _as_listed(rows, keys, found)
    official = splits is not None or not own.table
    if own.name == "echonet-pediatric":
        official = "fold" in rows and bool(rows["fold"].notna().all())
        if official:
            rows = rows.assign(split=pd.array([_FOLDS.get(fold, "train") for fold in rows["fold"]], "string"))
    if own.name == "tmed-2":
        rows = _aortic_stenosis(rows, paths)
    if not rows["split"].notna().any():
        official = False
        dealt = [split_of(str(each), seed=seed, fractions=_DEALT) for each in rows["patient_id"]]
        rows = rows.assign(split=pd.array(dealt, "string"))
        notes.append("no split: patients were dealt out by a hash of their id, which is not CardioBench's split")
        if own.table:
            notes.append("--cardiobench CLONE brings its splits")
    else:
        if without := int(rows["split"].isna().sum()):
            notes.append(f"{without} clips are in no split and were left out")
        if not official:
            notes.append("the splits are the set's own, which here are not CardioBench's")
    keep, leaks = apart(or_none(rows["split"]), rows["patient_id"].to_numpy(object))
    notes += leaks
    if not len(keep):
        raise EchofmError("no clip of it is in any split")
    kept = table.select(keep) if len(keep) < len(table) else table
    kept = replace(kept, rows=rows.iloc[keep].reset_index(drop=True))
    named = pd.DataFrame([keys[row] for row in keep]).assign(clip_id=kept.clip_id, view=kept.rows["view"])
    return Prepared(rows=keep, table=kept, keys=named, own_splits=official, notes=tuple(notes))


def _listed(own: BenchSet, path: Path) -> dict[str, dict[str, str]]:
    """Lines of CardioBench's table by the tail of their path."""
    there = set(header(path))
    optional = [name for name in (*_KEYS, *_LABELS.values()) if name.casefold() in there]
    table = read_table(path, columns=("path", "split"), optional=optional)
    return {tail(own.dataset, line["path"]): line for line in table.to_dict("records")}


def _as_listed(
    rows: pd.DataFrame, keys: list[Keys], found: list[dict[str, str] | None]
) -> tuple[pd.DataFrame, list[Keys]]:
    """Splits and names as listed; labels too, as they are what its evaluators hold predictions against."""
    split = [None if line is None else SPLIT_WORDS.get(line["split"].casefold()) for line in found]
    columns = {"split": pd.array(split, "string")}
    for label, column in _LABELS.items():
        words = [None if line is None else _YES_NO.get(line.get(column, "")) for line in found]
        if any(words):
            columns[label] = pd.array(words, "string")
    names = [
        own | {name: line[name] for name in own if line is not None and line.get(name)}
        for own, line in zip(keys, found)
    ]
    return rows.assign(**columns), names


def _aortic_stenosis(rows: pd.DataFrame, paths: dict[str, Path]) -> pd.DataFrame:
    """Any stenosis against none; a labelled image without a view of its own is CardioBench's Other."""
    if "aortic_stenosis" in rows:
        words = or_none(rows["aortic_stenosis"])
        any_ = [None if word is None else ("no" if word == "no_as" else "yes") for word in words]
        rows = rows.assign(**{AORTIC_STENOSIS: pd.array(any_, "string")})
    labelled = np.array([paths[str(clip)].parent.name.casefold() == "labeled" for clip in rows["clip_id"]])
    return rows.assign(view=rows["view"].where(rows["view"].notna() | ~labelled, OTHER_VIEW))


def apart(
    split_N: npt.NDArray[np.object_], patient_N: npt.NDArray[np.object_]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The rows whose patient is in no later split: test before val before train; what was left out, in words."""
    keep, notes = np.array([each is not None for each in split_N]), []
    for later, earlier in (("test", ("train", "val")), ("val", ("train",))):
        taken = set(patient_N[keep & (split_N == later)])
        leaks = keep & np.isin(split_N, earlier) & np.array([each in taken for each in patient_N])
        if leaks.any():
            keep &= ~leaks
            notes.append(f"{int(leaks.sum())} {'/'.join(earlier)} clips are of {later} patients and were left out")
    return np.flatnonzero(keep), notes
