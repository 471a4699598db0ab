"""Partition: train, validation and test clips with no patient in two of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import rows_by_group
from echofm.split import SPLITS, split_of

# Of train, val and test; without a test split train and val keep their ratio.
_FRACTIONS, _WITHOUT_TEST = (0.6, 0.2, 0.2), (0.75, 0.25, 0.0)
_LEFT_OUT = "left out"
# Fewer test patients than these are said so in words.
FEW_PATIENTS = 50
_SAME_SPLITS = "write the shards again with patient-disjoint splits (`echofm check` lists such patients)"
_SAME_NAMES = (
    "leave that patient out of one of the two sets; where they number different patients alike, write or embed one of "
    "them under another key (`--id-key`)"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """Row numbers into the table. source: as `ProbeResult.splits_from`.

    notes: where the table's splits were not simply taken, what was done and why.
    """

    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    source: str
    notes: tuple[str, ...] = ()

    def described(self, table: EmbeddingTable) -> dict[str, Any]:
        """What a ProbeResult says of encoder and clips: digest, whence the splits, clips and patients of each."""
        rows = {"train": self.train, "val": self.val, "test": self.test}
        return {
            "encoder_digest": table.encoder_digest,
            "splits_from": self.source,
            "clips": {name: len(each) for name, each in rows.items()},
            "patients": {name: len(set(table.patient_id[each])) for name, each in rows.items()},
        }


def partition(
    table: EmbeddingTable, rows_M: npt.NDArray[np.int64], *, seed: int = 0, test_clips: Collection[str] | None = None
) -> Partition:
    """The table's own splits where every clip has one and train and test occur; else patients are dealt out by a hash.

    Where no validation clip is among them, validation patients are dealt out of the training patients: the test
    patients stay the table's. test_clips: ids of the clips to test on, another set's; of the other clips those that the
    table keeps for training and validation are used so, all of them where it does not split them. Raises EchofmError
    naming a (hashed) patient that is in two splits, where a split would be empty, and where a test clip is not there.
    """
    notes: list[str] = []
    given = table.split[rows_M]
    if test_clips is not None:
        unknown = set(test_clips) - set(table.clip_id)
        if unknown:
            # A test clip under a name that the table does not know would be fitted on.
            raise EchofmError(
                f"{len(unknown)} of the {len(test_clips)} clips to test on are not in the table; give clip ids as the "
                "other set's table has them"
            )
        elsewhere = pd.Index(table.clip_id[rows_M]).isin(test_clips)
        given, notes = _tested_elsewhere(given, elsewhere)
        rows_M, given = rows_M[given != _LEFT_OUT], given[given != _LEFT_OUT]
    patients = table.patient_id[rows_M].astype(str)
    _require_disjoint(patients, given, two_sets=test_clips is not None)
    unusable = _unusable(given)
    if unusable:
        splits = _dealt(patients, seed=seed, fractions=_FRACTIONS)
        # A table that has no splits at all has none to lose.
        if any(given):
            moved = int(((splits == "test") & (given == "train")).sum())
            notes.append(
                f"the table's splits were not used because {unusable}: patients were dealt out by a hash of their id; "
                f"{moved} of the {(splits == 'test').sum()} test clips were training clips of the table"
            )
    else:
        splits = given.astype(str)
        if "val" not in splits:
            train = splits == "train"
            splits[train] = _dealt(patients[train], seed=seed, fractions=_WITHOUT_TEST)
            notes.append(
                "no clip with this label is a validation clip of the table: a quarter of its training patients, by a "
                "hash of their id, are the validation patients"
            )
    parts = {name: rows_M[splits == name] for name in SPLITS}
    empty = [name for name, part in parts.items() if len(part) == 0]
    if empty:
        raise EchofmError(
            f"no clip with this label falls into {', '.join(empty)}: {len(set(patients))} patients are too few, "
            "or --seed deals them out badly"
        )
    source = "patients" if unusable else "table" if test_clips is None else "test clips"
    return Partition(**parts, source=source, notes=tuple(notes))


def _tested_elsewhere(
    given: npt.NDArray[np.object_], elsewhere: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.object_], list[str]]:
    """The split of each clip where the test clips are another set's, and what must be said of it."""
    if not elsewhere.any():
        raise EchofmError("none of the clips to test on has this label")
    if elsewhere.all():
        raise EchofmError("no clip but those to test on has this label: there is nothing to fit on")
    own, splits, notes = given[~elsewhere], given.copy(), []
    splits[elsewhere] = "test"
    if any(each is None for each in own) or "train" not in own:
        if any(own):
            notes.append("the table's own splits were not used: all of its clips are for training and validation")
        splits[~elsewhere] = "train"
    elif left_out := int((own == "test").sum()):
        splits[~elsewhere & (given == "test")] = _LEFT_OUT
        notes.append(f"the {left_out} test clips of the set that was trained on were left out")
    return splits, notes


def _unusable(given: npt.NDArray[np.object_]) -> str:
    """Why splits cannot be taken as they are; empty where they can."""
    without = sum(each is None for each in given)
    if without:
        return f"{without} of {len(given)} clips with this label have none"
    missing = [words for name, words in (("train", "training"), ("test", "test")) if name not in given]
    return f"no clip with this label is a {' or a '.join(missing)} clip" if missing else ""


def _dealt(patients: npt.NDArray[np.str_], *, seed: int, fractions: tuple[float, float, float]) -> npt.NDArray:
    return np.array([split_of(each, seed=seed, fractions=fractions) for each in patients], dtype=object)


def _require_disjoint(patients: npt.NDArray[np.str_], given: npt.NDArray[np.object_], *, two_sets: bool) -> None:
    """Of the clips that have a split: a leak is one whether or not other clips have none."""
    for rows in rows_by_group(patients):
        found = sorted(set(given[rows]) - {None})
        if len(found) > 1:
            fix = _SAME_NAMES if two_sets and "test" in found else _SAME_SPLITS
            raise EchofmError(
                f"patient {patients[rows[0]]} is in the splits {' and '.join(found)}: the test would be leaked to; "
                f"{fix}"
            )


def same_clips(other: EmbeddingTable, table: EmbeddingTable, name: str, *, phase: bool = False) -> EmbeddingTable:
    """The other table's rows of the table's clips, in its order. Raises EchofmError where it lacks clips, or phase
    tokens if needed."""
    index = pd.Index(other.clip_id).get_indexer(pd.Index(table.clip_id))
    if (index < 0).any():
        raise EchofmError(
            f"{int((index < 0).sum())} clips are not in the table of {name!r}; embed the same data with both encoders"
        )
    if phase and other.phase is None:
        raise EchofmError(f"table {name!r} has no phase tokens; embed the clips with phase on")
    # Rows in the table's order already stay where they are, mapped from disk perhaps.
    return other if np.array_equal(index, np.arange(len(other))) else other.select(index)


def some_patients(
    table: EmbeddingTable, rows: npt.NDArray[np.int64], *, fraction: float, seed: int
) -> npt.NDArray[np.int64]:
    """The clips of a part of the patients, at least two of them; a smaller fraction's patients are among a larger's."""
    clips_of = rows_by_group(table.patient_id[rows].astype(str))
    order = np.random.default_rng(seed).permutation(len(clips_of))
    chosen = order[: max(2, round(fraction * len(clips_of)))]
    return rows[np.sort(np.concatenate([clips_of[i] for i in chosen]))]


def few_patients(
    table: EmbeddingTable, rows_M: npt.NDArray[np.int64], part: Partition, *, folds: bool = True
) -> list[str]:
    """Says so in words where the test patients are few. rows_M: all clips that have the label. folds: whether a
    cross-validation can be asked for."""
    tested, patients = len(set(table.patient_id[part.test])), len(set(table.patient_id[rows_M]))
    if tested >= FEW_PATIENTS:
        return []
    can = folds and part.source in ("table", "patients")
    more = f"; --cross-validate 5 tests on all {patients} patients" if can else ""
    return [f"only {tested} test patients: figures rest on few hearts, and another {tested} may give others{more}"]
