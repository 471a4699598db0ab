"""Partition: train, validation and test clips with no patient in two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import rows_by_group
from echofm.split import SPLITS, split_of

# Of train, val and test; without a test split train and val keep their ratio.
_FRACTIONS, _WITHOUT_TEST = (0.6, 0.2, 0.2), (0.75, 0.25, 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """Row numbers into the table. source: "table" (its own splits) or "patients" (a hash of the patient id).

    notes: where the table's splits were not simply taken, what was done and why.
    """

    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    source: str
    notes: tuple[str, ...] = ()

    def clips(self) -> dict[str, int]:
        """Clips of each split."""
        return {name: len(rows) for name, rows in self._rows().items()}

    def patients(self, table: EmbeddingTable) -> dict[str, int]:
        """Patients of each split."""
        return {name: len(set(table.patient_id[rows])) for name, rows in self._rows().items()}

    def _rows(self) -> dict[str, npt.NDArray[np.int64]]:
        return {"train": self.train, "val": self.val, "test": self.test}


def partition(table: EmbeddingTable, rows_M: npt.NDArray[np.int64], *, seed: int = 0) -> Partition:
    """The table's own splits where every clip has one and train and test occur; else patients are dealt out by a hash.

    Where no validation clip is among them, validation patients are dealt out of the training patients: the test
    patients stay the table's. Raises EchofmError naming a (hashed) patient that is in two splits, and where a split
    would be empty.
    """
    patients = table.patient_id[rows_M].astype(str)
    given = table.split[rows_M]
    _require_disjoint(patients, given)
    unusable, notes = _unusable(given), []
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
    return Partition(**parts, source="patients" if unusable else "table", notes=tuple(notes))


def _unusable(given: npt.NDArray[np.object_]) -> str:
    """Why splits cannot be taken as they are; empty where they can."""
    without = sum(each is None for each in given)
    if without:
        return f"{without} of {len(given)} clips with this label have none"
    missing = [words for name, words in (("train", "training"), ("test", "test")) if name not in given]
    return f"no clip with this label is a {' or a '.join(missing)} clip" if missing else ""


def _dealt(patients: npt.NDArray[np.str_], *, seed: int, fractions: tuple[float, float, float]) -> npt.NDArray:
    return np.array([split_of(each, seed=seed, fractions=fractions) for each in patients], dtype=object)


def _require_disjoint(patients: npt.NDArray[np.str_], given: npt.NDArray[np.object_]) -> None:
    """Of the clips that have a split: a leak is one whether or not other clips have none."""
    for rows in rows_by_group(patients):
        found = sorted(set(given[rows]) - {None})
        if len(found) > 1:
            raise EchofmError(
                f"patient {patients[rows[0]]} is in the splits {' and '.join(found)}: the test would be leaked to; "
                "write the shards again with patient-disjoint splits (`echofm check` lists such patients)"
            )


def some_patients(
    table: EmbeddingTable, rows: npt.NDArray[np.int64], *, fraction: float, seed: int
) -> npt.NDArray[np.int64]:
    """The clips of a part of the patients, at least two of them; a smaller fraction's patients are among a larger's."""
    clips_of = rows_by_group(table.patient_id[rows].astype(str))
    order = np.random.default_rng(seed).permutation(len(clips_of))
    chosen = order[: max(2, round(fraction * len(clips_of)))]
    return rows[np.sort(np.concatenate([clips_of[i] for i in chosen]))]
