"""A reader of labels from frozen features: ridge or logistic regression, its penalty chosen over patients.

Shapes: N clips, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold

from echofm.embed.table import EmbeddingTable
from echofm.estimators.logistic import BlockLogistic
from echofm.estimators.penalised import INVERSE_PENALTIES, penalty_path
from echofm.estimators.ridge import ALPHAS, ridge_path
from echofm.estimators.rows import Rows
from synth.evaluate.rhythm import rhythms

_FOLDS = 5
# What a condition of a generator may be, and what is read back.
RATE = "heart_rate_bpm"
NUMBERS = ("ef_percent", RATE)
CLASSES = ("view",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Features of the clips whose label is known, with patients: in a synthetic set the clips themselves."""

    features_ND: npt.NDArray[Any]
    label_N: npt.NDArray
    patients: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label_N)

    @property
    def varies(self) -> bool:
        """Whether it holds two labels or more."""
        return len(np.unique(self.label_N)) > 1

    def some(self, index: npt.ArrayLike) -> Labelled:
        """Some of the clips."""
        index = np.asarray(index)
        return Labelled(features_ND=self.features_ND[index], label_N=self.label_N[index], patients=self.patients[index])

    def and_also(self, other: Labelled) -> Labelled:
        """Both sets' clips."""
        return Labelled(
            features_ND=np.concatenate([self.features_ND, other.features_ND]),
            label_N=np.concatenate([self.label_N, other.label_N]),
            patients=np.concatenate([self.patients, other.patients]),
        )


def labelled(
    table: EmbeddingTable, target: str, features_ND: npt.NDArray[Any], *, synthetic: bool = False
) -> Labelled | None:
    """The clips of a table with this label; None where there are none."""
    column = table.rows[target] if target in table.rows.columns else None
    if column is None or not column.notna().any():
        return None
    known = column.notna().to_numpy()
    values = column[known].astype(str if target in CLASSES else float).to_numpy()
    names = (table.clip_id if synthetic else table.patient_id).astype(str)
    return Labelled(features_ND=features_ND[known], label_N=values, patients=names[known])


def _looks(table: EmbeddingTable) -> npt.NDArray[np.float32]:
    """Clip vectors beside motion vectors."""
    motion = [] if table.motion_NRCD is None else [table.motion_NRCD.reshape(len(table), -1)]
    return np.concatenate([table.video_ND, *motion], axis=1)


def labelled_sets(
    train: EmbeddingTable, holdout: EmbeddingTable, synthetic: EmbeddingTable, target: str, *, least: int
) -> tuple[Labelled, Labelled, Labelled] | None:
    """Their clips with this label; None where a set has fewer than `least`, or all of them alike.

    A heart rate is read from how soon a clip repeats where the tables have token times, all else from clip and motion
    vectors.
    """
    tables = train, holdout, synthetic
    features = (rhythms(tables) if target == RATE else None) or [_looks(each) for each in tables]
    parts = [
        labelled(table, target, own, synthetic=table is synthetic) for table, own in zip(tables, features, strict=True)
    ]
    fit = [each for each in parts if each is not None and len(each) >= least and each.varies]
    return (fit[0], fit[1], fit[2]) if len(fit) == len(parts) else None


def fit_reader(train: Labelled, *, chosen_on: Labelled | None = None) -> Any:
    """Fitted to all clips, at the penalty that predicts best the patients of five folds left out.

    chosen_on: other clips, whose prediction chooses the penalty instead.
    Raises ValueError where fewer than two labels or patients are there.
    """
    if not train.varies or len(np.unique(train.patients)) < 2:
        raise ValueError("a reader needs two labels and two patients or more")
    numeric = train.label_N.dtype.kind == "f"
    if chosen_on is not None:
        path = _path(train, numeric)
        return path[int(np.argmin([_error(model, chosen_on, numeric) for model in path]))]
    folds = GroupKFold(min(_FOLDS, len(np.unique(train.patients))))
    error = np.zeros(len(ALPHAS if numeric else INVERSE_PENALTIES))
    for fit, left in folds.split(train.features_ND, groups=train.patients):
        error += [_error(model, train.some(left), numeric) for model in _path(train.some(fit), numeric)]
    return _path(train, numeric)[int(error.argmin())]


def _error(model: Any, clips: Labelled, numeric: bool) -> float:
    """Squared, or clips in the wrong class; summed."""
    predicted = model.predict(clips.features_ND)
    return float(np.square(predicted - clips.label_N).sum() if numeric else (predicted != clips.label_N).sum())


def _path(train: Labelled, numeric: bool) -> list[Any]:
    rows = Rows(features_ND=train.features_ND)
    if numeric:
        return list(ridge_path(rows, train.label_N))
    classes, numbers = np.unique(train.label_N, return_inverse=True)
    if len(classes) < 2:
        return [_Constant(classes[0])] * len(INVERSE_PENALTIES)
    path = penalty_path(BlockLogistic, rows, numbers)
    for model in path:
        model.classes_ = classes
    return list(path)


@dataclass(frozen=True)
class _Constant:
    """What a fold with one class knows."""

    value: str

    def predict(self, X: npt.NDArray) -> npt.NDArray:
        """That class for every row."""
        return np.full(len(X), self.value)
