"""Partition: train, validation and test clips with no patient in two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import rows_by_patient
from echofm.split import SPLITS, split_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """Row numbers into the table. source: "table" (its own splits) or "patients" (a hash of the patient id)."""

    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    source: str

    def clips(self) -> dict[str, int]:
        """Clips of each split."""
        return {name: len(rows) for name, rows in self._rows().items()}

    def patients(self, table: EmbeddingTable) -> dict[str, int]:
        """Patients of each split."""
        return {name: len(set(table.patient_id[rows])) for name, rows in self._rows().items()}

    def _rows(self) -> dict[str, npt.NDArray[np.int64]]:
        return {"train": self.train, "val": self.val, "test": self.test}


def partition(table: EmbeddingTable, rows_M: npt.NDArray[np.int64], *, seed: int = 0) -> Partition:
    """The table's own splits where every clip has one and all three occur; else patients are dealt out by a hash.

    Raises EchofmError naming a (hashed) patient that is in two splits, and where a split would be empty.
    """
    patients = table.patient_id[rows_M].astype(str)
    given = table.split[rows_M]
    own = set(given) == set(SPLITS)
    splits = (
        given.astype(str)
        if own
        else np.array([split_of(each, seed=seed, fractions=(0.6, 0.2, 0.2)) for each in patients])
    )
    if own:
        _require_disjoint(patients, splits)
    parts = {name: rows_M[splits == name] for name in SPLITS}
    empty = [name for name, part in parts.items() if len(part) == 0]
    if empty:
        raise EchofmError(
            f"no clip with this label falls into {', '.join(empty)}: {len(set(patients))} patients are too few, "
            "or --seed deals them out badly"
        )
    return Partition(**parts, source="table" if own else "patients")


def _require_disjoint(patients: npt.NDArray[np.str_], splits: npt.NDArray[np.str_]) -> None:
    for rows in rows_by_patient(patients):
        found = sorted(set(splits[rows]))
        if len(found) > 1:
            raise EchofmError(
                f"patient {patients[rows[0]]} is in the splits {' and '.join(found)}: the test would be leaked to; "
                "write the shards again with patient-disjoint splits (`echofm check` lists such patients)"
            )


def some_patients(
    table: EmbeddingTable, rows: npt.NDArray[np.int64], *, fraction: float, seed: int
) -> npt.NDArray[np.int64]:
    """The clips of a part of the patients, at least two of them; a smaller fraction's patients are among a larger's."""
    clips_of = rows_by_patient(table.patient_id[rows].astype(str))
    order = np.random.default_rng(seed).permutation(len(clips_of))
    chosen = order[: max(2, round(fraction * len(clips_of)))]
    return rows[np.sort(np.concatenate([clips_of[i] for i in chosen]))]
