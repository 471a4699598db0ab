"""Splits of a job: the set's own where it gives one, else a hash of the patient; never one patient in two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from echofm.errors import EchofmError
from echofm.ids import IdKey
from echofm.readers.source import Row
from echofm.shards.manifest import Split
from echofm.split import SPLITS


def given_splits(rows: Sequence[Row], *, key: IdKey) -> list[Split | None]:
    """The split that the set gives each row's patient, None where it gives none.

    One file's split is its patient's; a patient whose name only the file knows (Row.patient "") has the row's alone.
    Raises EchofmError naming the hashed patient where a set puts one patient into two splits.
    """
    given: dict[str, Split] = {}
    for row in rows:
        if row.split is None:
            continue
        if row.split not in SPLITS:
            raise EchofmError(f"the set names a split that is none of {', '.join(SPLITS)}; correct its table")
        if row.patient:
            put(given, row.patient, cast(Split, row.split), patient_id=key.patient(row.patient))
    return [given.get(row.patient) if row.patient else cast("Split | None", row.split) for row in rows]


def put(splits: dict[str, Split], patient: str, split: Split, *, patient_id: str) -> None:
    """Note a patient's split. Raises EchofmError where another is noted already."""
    if splits.setdefault(patient, split) != split:
        raise EchofmError(
            f"patient {patient_id} is in two splits ({splits[patient]} and {split}), so what is learnt would leak; "
            "give all of the patient's files one split in the set's table"
        )
