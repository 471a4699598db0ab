"""Splits of a job: the set's own where it gives one, else drawn for the patient; never one patient in two."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import cast, get_args

from echofm.errors import EchofmError
from echofm.ids import IdKey
from echofm.readers.patients import may_have_tag
from echofm.readers.source import Row
from echofm.readers.suffixes import stem_of
from echofm.shards.manifest import Split
from echofm.split import SPLITS, position_of

_MOST_CLASSES = 20


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


def stratified(
    rows: Sequence[Row],
    given: Sequence[Split | None],
    *,
    label: str,
    seed: int,
    fractions: Sequence[float],
    key: IdKey,
) -> list[Split | None]:
    """The splits with every patient of a class, and of no split, dealt by these fractions of that class.

    Within a class patients stand in the order of the hash that draws splits, so only the shares are made exact: each
    split gets at least one patient of a class that has enough. A patient of several classes counts for the rarest;
    one without the label is left to the hash (None).
    Raises EchofmError where no row has the label, it has too many values for classes, or a file has to be read to know
    its patient.
    """
    names = [_name(row) for row in rows]
    values: dict[str, set[str]] = defaultdict(set)
    for row, name, split in zip(rows, names, given):
        if split is None and label in row.labels:
            values[name].add(str(row.labels[label]))
    sizes = Counter(value for several in values.values() for value in several)
    if not sizes or len(sizes) > _MOST_CLASSES:
        found = f"{len(sizes)} values" if sizes else "no value in a file without a split"
        raise EchofmError(f"--stratify {label}: {found}; name a label of 2 to {_MOST_CLASSES} classes")
    classes: dict[str, list[str]] = defaultdict(list)
    for name, several in values.items():
        classes[min(several, key=lambda value: (sizes[value], value))].append(name)
    dealt: dict[str, Split] = {}
    for members in classes.values():
        members.sort(key=lambda name: position_of(key.patient(name), seed=seed))
        for split, count in zip(get_args(Split), _shares(len(members), fractions)):
            dealt |= dict.fromkeys(members[:count], split)
            members = members[count:]
    return [split or dealt.get(name) for split, name in zip(given, names)]


def _name(row: Row) -> str:
    if row.patient:
        return row.patient
    if may_have_tag(row.path):
        raise EchofmError(
            "--stratify deals patients before a file is read, and these are told by a DICOM tag: name them in a "
            "manifest.csv, or take --patient-from parent or top"
        )
    return stem_of(row.path)


def _shares(count: int, fractions: Sequence[float]) -> list[int]:
    """Whole numbers near `count` times the fractions, with that sum; none is 0 that has a fraction, if it can be."""
    shares = [int(count * fraction) for fraction in fractions]
    by_rest = sorted(range(len(fractions)), key=lambda at: (shares[at] - count * fractions[at], at))
    for at in [at for at in by_rest if fractions[at] > 0][: count - sum(shares)]:
        shares[at] += 1
    # The rarest class goes to training first, then to the test.
    for at in (0, 2, 1):
        if fractions[at] > 0 and shares[at] == 0 and max(shares) > 1:
            shares[shares.index(max(shares))] -= 1
            shares[at] = 1
    return shares
