"""Target: what a probe predicts, its task read off the values.

Shapes: M clips that have the label, L labels of a multi-label target.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.readers.datasets.labels import GRADES, ORDERS
from probe.partition import Partition, partition

ClipTask = Literal["regression", "classification", "ordinal", "multilabel"]
_FEWEST_CLIPS, _MOST_LEVELS, _MOST_CLASSES = 10, 20, 200
_SHOWN = 5
_YES_NO = {0: 0.0, 1: 1.0, "no": 0.0, "yes": 1.0}
# Joins the columns of a multi-label target; separates the words of one column.
_JOIN, _BAR = "+", "|"
# A number as tables write it: with a decimal comma, a sign for "less than", a per cent sign.
_WRITTEN_NUMBER = r"\s*[<>=≤≥~]*\s*[-+]?\d+([.,]\d+)?\s*%?\s*"


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """One label of a table, or several, over the clips that have it.

    rows_M: these clips' rows in the table. values_M: float64 (regression), int64 class or level numbers
        (classification, ordinal), or (M, L) float64 of 0, 1 and NaN for unknown (multilabel).
    classes: names of the classes or labels in the order of their numbers, of levels rising; empty for regression.
    left_out: labels of a multi-label target that are the same in every clip that has them.
    """

    name: str
    task: ClipTask
    rows_M: npt.NDArray[np.int64]
    values_M: npt.NDArray
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray:
        """The values of some of these clips, by their rows in the table."""
        return self.values_M[np.searchsorted(self.rows_M, rows)]

    def lacking(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Classes that none of these clips is of; of several labels those that are the same in all that have them."""
        values = self.of(rows)
        if self.task == "multilabel":
            there = (values == 0).any(0) & (values == 1).any(0)
        else:
            there = np.isin(np.arange(len(self.classes)), values)
        return [name for name, found in zip(self.classes, there) if not found]

    def require_shared(self, *, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> None:
        """Raises EchofmError where no class of the test clips is one of the training clips, as where two sets name
        the same things unlike."""
        if not self.classes or self.task == "multilabel":
            return
        ours, theirs = np.unique(self.of(train)), np.unique(self.of(test))
        if not np.isin(theirs, ours).any():
            raise EchofmError(
                f"no class of {self.name!r} is in both sets: training clips have {self._named(ours)}, test clips "
                f"{self._named(theirs)}; give both sets the same words, or numbers"
            )

    def _named(self, numbers: npt.NDArray[np.int64]) -> str:
        more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
        return ", ".join(self.classes[number] for number in numbers[:_SHOWN]) + more

    def require_known(self, **parts: npt.NDArray[np.int64]) -> None:
        """Raises EchofmError where one of several labels is unknown in all clips of a part; parts: name -> rows."""
        if self.task != "multilabel":
            return
        for part, rows in parts.items():
            unknown = np.isnan(self.of(rows)).all(0)
            if unknown.any():
                label = self.classes[int(unknown.argmax())]
                raise EchofmError(
                    f"the label {label!r} of {self.name!r} is unknown in all {len(rows)} {part} clips, so that nothing "
                    "can be fitted and chosen for it; leave it out, or give splits whose clips have it"
                )

    def class_notes(self, part: Partition) -> list[str]:
        """Classes and labels of which the clips of a split tell nothing."""
        if self.task == "regression":
            return []
        several, notes = self.task == "multilabel", []
        if self.left_out:
            notes.append(f"{', '.join(self.left_out)}: the same in every clip that has it, and not probed")
        if unlearnt := ", ".join(self.lacking(part.train)):
            same = f"{unlearnt}: the same in all training clips that have it, and the probe says nothing else"
            notes.append(same if several else f"no training clip is {unlearnt}: the probe cannot say it")
        if unchosen := ", ".join(self.lacking(part.val)):
            same = f"{unchosen}: the same in all validation clips that have it"
            notes.append(f"{same if several else f'no validation clip is {unchosen}'}: nothing was chosen by it")
        if unseen := ", ".join(self.lacking(part.test)):
            same = f"{unseen}: the same in all test clips that have it; without figures, and the means leave it out"
            lost = (
                f"no test clip is {unseen}: what is a mean over classes is not defined; --cross-validate tests on all"
            )
            notes.append(same if several else lost)
        return notes


def read_goal(
    table: EmbeddingTable,
    name: str,
    *,
    task: ClipTask | None = None,
    order: Sequence[str] = (),
    test_clips: Collection[str] | None = None,
    seed: int = 0,
) -> tuple[Target, Partition]:
    """The target and the split of its clips. Raises EchofmError where the one cannot be learnt from the other."""
    goal = read_target(table, name, task=task, order=order)
    part = partition(table, goal.rows_M, seed=seed, test_clips=test_clips)
    if test_clips is not None:
        goal.require_shared(train=part.train, test=part.test)
    goal.require_known(training=part.train, validation=part.val)
    return goal, part


def read_target(table: EmbeddingTable, name: str, *, task: ClipTask | None = None, order: Sequence[str] = ()) -> Target:
    """A label, `view` or `kind` as a target; `a+b+c` are several 0/1 labels at once.

    Text is classified, is ordinal where its order is known, and multi-label where words are joined by `|`; numbers are
    regressed, unless they are 0 and 1. order: the levels' words, rising (ordinal).
    Raises EchofmError where the table has no such column, too few clips have it, or it does not vary.
    """
    if _JOIN in name:
        return _several(table, name, task)
    known = _known(table, name)
    text = not pd.api.types.is_numeric_dtype(known.dtype)
    if text and task is None and not order:
        _require_words(name, known)
    task = task or _task(name, known, text=text, order=order)
    if known.nunique() < 2:
        raise EchofmError(f"the label {name!r} is the same in every clip that has it: there is nothing to learn")
    if task == "multilabel":
        return _words(name, known) if text else _several(table, name, task)
    if task == "ordinal":
        return _levels(name, known, order or _known_order(name, known), text=text)
    if order:
        raise EchofmError(f"an order of levels was given for {name!r}, but the task is {task}; take --task ordinal")
    rows = known.index.to_numpy(np.int64)
    if task == "regression":
        if text:
            raise EchofmError(f"the label {name!r} is text; take --task classification")
        return Target(name=name, task=task, rows_M=rows, values_M=known.to_numpy(np.float64))
    classes, numbers = np.unique(known.map(class_name).to_numpy(str), return_inverse=True)
    if len(classes) > _MOST_CLASSES:
        raise EchofmError(
            f"the label {name!r} has {len(classes)} different values, too many for classes (at most {_MOST_CLASSES}); "
            "is it free text, an id, or a number? --task regression takes numbers"
        )
    return Target(name=name, task=task, rows_M=rows, values_M=numbers.astype(np.int64), classes=tuple(classes.tolist()))


def _known(table: EmbeddingTable, name: str) -> pd.Series:
    """The column where it is not missing, by row number."""
    if name in ("clip_id", "patient_id", "split") or name not in table.rows.columns:
        offered = [column for column in (*table.labels.columns, "view", "kind") if table.rows[column].notna().any()]
        raise EchofmError(f"the table has no label {name!r}; it has: {', '.join(offered) or 'none'}")
    column = table.rows[name].reset_index(drop=True)
    known = column[column.notna()]
    if len(known) < _FEWEST_CLIPS:
        raise EchofmError(f"{len(known)} clips have the label {name!r}; a probe needs {_FEWEST_CLIPS} or more")
    return known


def _require_words(name: str, known: pd.Series) -> None:
    """One cell of text makes a column of numbers text, and each number would become a class of its own."""
    numbers = int(known.str.fullmatch(_WRITTEN_NUMBER).sum())
    if numbers > len(known) / 2 and known.nunique() > _MOST_LEVELS:
        raise EchofmError(
            f"the label {name!r} is text, but {numbers} of its {len(known)} values are numbers; make them all plain "
            "numbers or missing (no decimal comma, sign or unit), or take --task classification"
        )


def _task(name: str, known: pd.Series, *, text: bool, order: Sequence[str]) -> ClipTask:
    if order:
        return "ordinal"
    if not text:
        return "classification" if set(known.unique()) <= {0.0, 1.0} else "regression"
    if known.str.contains(_BAR, regex=False).any():
        return "multilabel"
    levels = ORDERS.get(name, GRADES)
    return "ordinal" if known.nunique() > 2 and set(known.unique()) <= set(levels) else "classification"


def _known_order(name: str, known: pd.Series) -> Sequence[str]:
    return ORDERS.get(name, GRADES if set(known.unique()) <= set(GRADES) else ())


def _levels(name: str, known: pd.Series, order: Sequence[str], *, text: bool) -> Target:
    values = known.map(class_name)
    if not order:
        if text:
            raise EchofmError(f"the order of {name!r}'s levels is not known; give it, rising: --order mild severe")
        if known.nunique() > _MOST_LEVELS:
            raise EchofmError(f"{name!r} has {known.nunique()} values, too many for levels; take --task regression")
        order = [class_name(value) for value in sorted(known.unique())]
    strangers = int((~values.isin(order)).sum())
    if strangers:
        raise EchofmError(f"{strangers} clips have a word for {name!r} that is not among {', '.join(order)}; add it")
    levels = [level for level in order if (values == level).any()]
    numbers = values.map({level: number for number, level in enumerate(levels)}).to_numpy(np.int64)
    rows = known.index.to_numpy(np.int64)
    return Target(name=name, task="ordinal", rows_M=rows, values_M=numbers, classes=tuple(levels))


def _words(name: str, known: pd.Series) -> Target:
    words_M = [{word.strip() for word in str(value).split(_BAR)} - {""} for value in known]
    classes = sorted(set().union(*words_M))
    values = np.array([[float(word in words) for word in classes] for words in words_M])
    return _multilabel(name, known.index.to_numpy(np.int64), values, classes)


def _several(table: EmbeddingTable, name: str, task: ClipTask | None) -> Target:
    columns = name.split(_JOIN)
    if task not in (None, "multilabel"):
        raise EchofmError(f"{name!r} names {len(columns)} labels; they are probed at once by --task multilabel alone")
    for column in columns:
        if not set(_known(table, column).unique()) <= set(_YES_NO):
            raise EchofmError(f"the label {column!r} of {name!r} is not 0 or 1, or yes or no; probe it by itself")
    values = table.rows[columns].astype(object).apply(lambda column: column.map(_YES_NO)).to_numpy(np.float64)
    rows = np.flatnonzero(~np.isnan(values).all(1))
    return _multilabel(name, rows, values[rows], columns)


def _multilabel(name: str, rows: npt.NDArray[np.int64], values: npt.NDArray, classes: Sequence[str]) -> Target:
    varies = np.nanmax(values, 0) > np.nanmin(values, 0)
    if not varies.any():
        raise EchofmError(f"no label of {name!r} varies: there is nothing to learn")
    kept, left_out = (tuple(np.array(classes)[chosen].tolist()) for chosen in (varies, ~varies))
    values = values[:, varies]
    # Of a clip that has none of the labels left nothing can be learnt.
    known = ~np.isnan(values).all(1)
    return Target(
        name=name, task="multilabel", rows_M=rows[known], values_M=values[known], classes=kept, left_out=left_out
    )


def class_name(value: object) -> str:
    """A class's name; numbers that differ have names that differ."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)
