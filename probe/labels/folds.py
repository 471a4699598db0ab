"""Cross-validation by patient: every patient is tested once in each repeat, chosen and fitted on others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import rows_by_group
from echofm.split import position_of
from probe.labels.target import Target
from probe.partition import Partition

LEAST = 3
SOURCE = "cross-validation"


def require_folds(count: int | None, *, test_clips: object = None) -> None:
    """Raises EchofmError on fewer folds than one to test, one to choose by, one to fit on, and beside another set."""
    if count is not None and test_clips is not None:
        raise EchofmError("--cross-validate tests every patient of one set; leave out --test-on, or it")
    if count is not None and count < LEAST:
        raise EchofmError(
            f"--cross-validate {count}: give {LEAST} or more; one fold is tested, one chooses, the others are fitted on"
        )


def folds(table: EmbeddingTable, goal: Target, *, count: int, repeats: int, seed: int) -> list[list[Partition]]:
    """By repeat, `count` partitions whose test patients are together all that have the label.

    Patients are dealt in the order of a hash of their id, those of one class (the commonest of their clips) one by one
    to all folds, so that a rare class is spread; of a number, as many at a time as there are folds, from the lowest to
    the highest: were the folds' means unlike, what is fitted on the others would err against each, and a probe that
    knows nothing would correlate below 0. Each fold's validation patients are the next fold's test patients.
    The table's own splits are passed over. Raises EchofmError where patients are fewer than folds.
    """
    patients = table.patient_id[goal.rows_M].astype(str)
    clips_of = rows_by_group(patients)
    if len(clips_of) < count:
        raise EchofmError(
            f"--cross-validate {count}: {len(clips_of)} patient(s) have this label; give as many folds at most"
        )
    found = []
    for repeat in range(repeats):
        fold_of = _dealt(clips_of, patients, goal, count=count, seed=seed + repeat)
        rows_of = [
            np.sort(np.concatenate([goal.rows_M[clips] for clips, own in zip(clips_of, fold_of) if own == fold]))
            for fold in range(count)
        ]
        found.append([_partition(rows_of, fold) for fold in range(count)])
        for part in found[-1]:
            goal.require_known(training=part.train, validation=part.val)
    return found


def whole(rounds: list[list[Partition]], goal: Target) -> Partition:
    """One partition that stands for all: its test rows are all rows of the label, the others are the first fold's."""
    first = rounds[0][0]
    note = (
        f"{len(rounds[0])}-fold cross-validation by patient, {len(rounds)} times with folds dealt anew: every clip is "
        "tested by probes that saw none of its patient, and figures are means over the repeats"
    )
    return replace(first, test=goal.rows_M, notes=(note,))


def fold_notes(table: EmbeddingTable, goal: Target, *, count: int) -> list[str]:
    """Classes of so few patients that some fold's probes are not fitted on them."""
    if goal.task not in ("classification", "ordinal"):
        return []
    few = []
    for number, name in enumerate(goal.classes):
        patients = len(set(table.patient_id[goal.rows_M[goal.values_M == number]]))
        if patients < LEAST:
            few.append(f"{name} ({patients})")
    return (
        [f"classes of fewer than {LEAST} patients, which some fold is not fitted on: {', '.join(few)}"] if few else []
    )


def _dealt(
    clips_of: list[npt.NDArray[np.int64]], patients: npt.NDArray[np.str_], goal: Target, *, count: int, seed: int
) -> npt.NDArray[np.int64]:
    """The fold of each patient."""
    strata = [0] * len(clips_of)
    if goal.task in ("classification", "ordinal"):
        strata = [Counter(goal.values_M[clips].tolist()).most_common(1)[0][0] for clips in clips_of]
    elif goal.task == "regression":
        means = [float(goal.values_M[clips].mean()) for clips in clips_of]
        strata = (np.argsort(np.argsort(means, kind="stable")) // count).tolist()
    place = [position_of(patients[clips[0]], seed=seed) for clips in clips_of]
    order = sorted(range(len(clips_of)), key=lambda patient: (strata[patient], place[patient]))
    fold_of = np.empty(len(clips_of), np.int64)
    fold_of[order] = np.arange(len(order)) % count
    return fold_of


def _partition(rows_of: list[npt.NDArray[np.int64]], fold: int) -> Partition:
    val = (fold + 1) % len(rows_of)
    train = [rows for number, rows in enumerate(rows_of) if number not in (fold, val)]
    return Partition(train=np.sort(np.concatenate(train)), val=rows_of[val], test=rows_of[fold], source=SOURCE)
