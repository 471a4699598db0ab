"""A label's predictions on the test clips as figures: every metric, by clip, study, patient and subgroup.

Shapes: N test clips, S seeds, K classes or labels. Predictions are (N, S) values or (N, S, K) probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.estimators.logistic import median_level
from echofm.intervals import rows_by_group
from probe.labels.elsewhere import ELSEWHERE
from probe.labels.metrics import METRICS, OVER_LABELS, Metric, auroc, average_precision, of_label
from probe.labels.target import Target
from probe.partition import Partition
from probe.protocol import Answers, Array, Figure, Key, redraw
from probe.result import Pooling, Subgroup

Metrics = Mapping[tuple[str, str], Metric]
# Looked at where a table has them. Bands of numbers: EF by the heart-failure guidelines' 40 and 50 %, the rest by
# what is usual, so that figures of two data sets can be set side by side.
COLUMNS = ("view", "dataset", "image_quality", "sex", "ef_percent", "frame_rate_hz", "heart_rate_bpm", "age_years")
_BANDS = {
    "ef_percent": (40.0, 50.0),
    "frame_rate_hz": (30.0, 50.0, 80.0),
    "heart_rate_bpm": (60.0, 90.0),
    "age_years": (18.0, 40.0, 65.0),
}
# Below these an interval over patients says nothing.
_FEWEST_CLIPS, _FEWEST_PATIENTS = 10, 5


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelAnswers(Answers):
    """predicted_NS: a column per seed. fewer: by part of the labels, the answers with those alone."""

    predicted_NS: npt.NDArray
    fewer: Mapping[float, LabelAnswers] = field(default_factory=dict)

    def with_fewer(self, fewer: Mapping[float, LabelAnswers], metric: str) -> LabelAnswers:
        """With the answers of fewer labels, and the one figure of label efficiency: the mean of the metric by clip over
        all parts tried, by the logarithm of the part (trapezoid)."""
        if not fewer:
            return self
        key = Key(metric)
        parts = sorted([*fewer, 1.0])
        figures = [(fewer[part] if part < 1 else self).figures[key] for part in parts]
        step = np.diff(np.log(parts))
        weight_P = (np.append(step, 0) + np.append(0, step)) / (2 * step.sum())

        def over_labels(weights_WN: Array) -> Array:
            return np.tensordot(weight_P, np.stack([figure.of(weights_WN) for figure in figures]), 1)

        over = {Key(metric + OVER_LABELS): replace(figures[-1], of=over_labels)}
        return replace(self, fewer=fewer, figures={**self.figures, **over})


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What predictions are held against: the true value and the patient of each test clip, and what it is measured by.

    studies_N: None where a study is no level of its own.
    """

    values_N: npt.NDArray
    patients_N: npt.NDArray[np.str_]
    metrics: Metrics
    studies_N: npt.NDArray[np.str_] | None = None

    def answers(self, predicted_NS: npt.NDArray, **chosen: float | str) -> LabelAnswers:
        """Every metric by clip and, where the label is the study's or the patient's own, by those.

        A label that changes from study to study of one patient has no figure by patient.
        """
        figures = self.figures(predicted_NS)
        groups: dict[Pooling, npt.NDArray[np.str_]] = {"patient": self.patients_N}
        if self.studies_N is not None:
            groups = {"study": self.studies_N, **groups}
        for level, groups_N in groups.items():
            pooled = self._pooled(groups_N, predicted_NS)
            if pooled is not None:
                figures |= pooled[0].figures(pooled[1], level)
        return LabelAnswers(figures=figures, chosen=chosen, predicted_NS=predicted_NS)

    def among(self, rows_N: npt.NDArray[np.bool_], predicted_NS: npt.NDArray) -> dict[Key, Figure]:
        """Figures of some clips by clip; patients are still redrawn from all."""
        rows = np.flatnonzero(rows_N)
        some = replace(self, values_N=self.values_N[rows]).figures(predicted_NS[rows])

        def of(figure: Figure) -> Callable[[Array], Array]:
            return lambda weights_WN: figure.of(weights_WN[:, rows])

        return {key: replace(figure, of=of(figure)) for key, figure in some.items()}

    def figures(self, predicted_NS: npt.NDArray, level: Pooling = "clip") -> dict[Key, Figure]:
        """Every metric of these rows."""

        def of(metric: Metric) -> Callable[[Array], Array]:
            def mean_over_seeds(weights_WN: Array) -> Array:
                seeds = range(predicted_NS.shape[1])
                return np.mean([metric.redrawn(self.values_N, predicted_NS[:, s], weights_WN) for s in seeds], axis=0)

            return mean_over_seeds

        return {
            Key(name, label, level): Figure(of=of(metric), patients_N=self.patients_N)
            for (name, label), metric in self.metrics.items()
        }

    def _pooled(self, groups_N: npt.NDArray[np.str_], predicted_NS: npt.NDArray) -> tuple[Truth, npt.NDArray] | None:
        """The truth of which each group of clips is one row, and its mean predictions.

        None where clips of a group differ in their truth or their patient, or each group is one clip.
        """
        rows_of = rows_by_group(groups_N)
        first = [rows[0] for rows in rows_of]
        alike = all(_alike(self.values_N[rows]) and _alike(self.patients_N[rows]) for rows in rows_of)
        if not alike or len(rows_of) == len(groups_N):
            return None
        whole = replace(self, values_N=self.values_N[first], patients_N=self.patients_N[first])
        return whole, np.stack([predicted_NS[rows].mean(0) for rows in rows_of])


def truth_of(table: EmbeddingTable, goal: Target, part: Partition) -> Truth:
    """Of the test clips. Studies are left out where some clip's is unknown or each patient has one: the figure would be
    the patients'."""
    patients_N = table.patient_id[part.test].astype(str)
    studies = table.rows["study_id"].iloc[part.test]
    known = studies.notna().all() and studies.nunique() > len(np.unique(patients_N))
    return Truth(
        values_N=goal.of(part.test),
        patients_N=patients_N,
        metrics=metrics_of(goal, elsewhere=part.source == "test clips"),
        studies_N=studies.to_numpy(str) if known else None,
    )


def metrics_of(goal: Target, *, elsewhere: bool = False) -> Metrics:
    """By name and label: those of the task, and of several labels two of each. elsewhere: tested on another set."""
    found = {(name, ""): metric for name, metric in METRICS[goal.task].items()}
    if elsewhere:
        found |= {(name, ""): metric for name, metric in ELSEWHERE[goal.task].items()}
    if goal.task == "multilabel":
        for number, label in enumerate(goal.classes):
            found["auroc", label] = of_label(auroc, number)
            found["average_precision", label] = of_label(average_precision, number)
    return found


def prediction_frame(table: EmbeddingTable, goal: Target, part: Partition, predicted_NS: npt.NDArray) -> pd.DataFrame:
    """Test predictions, a row per clip."""
    truth, mean = goal.of(part.test), predicted_NS.mean(1)
    columns: dict[str, npt.NDArray] = {"clip_id": table.clip_id[part.test], "patient_id": table.patient_id[part.test]}
    if goal.task == "regression":
        columns |= {"true": truth, "predicted": mean}
    elif goal.task == "multilabel":
        columns |= {f"true_{name}": truth[:, number] for number, name in enumerate(goal.classes)}
    else:
        names = np.array(goal.classes)
        answer = median_level(mean) if goal.task == "ordinal" else mean.argmax(1)
        columns |= {"true": names[truth], "predicted": names[answer]}
    columns |= {f"probability_{name}": mean[:, number] for number, name in enumerate(goal.classes)}
    return pd.DataFrame(columns)


def subgroups(
    rows: pd.DataFrame, goal: Target, truth: Truth, predicted_NS: npt.NDArray, *, draws: int, seed: int
) -> list[Subgroup]:
    """Figures by view, data set, ... of the test clips in `rows`; patients are redrawn from all test patients.

    A group with fewer than 10 clips or 5 patients is left out, and so are a column that falls into one group and the
    target itself, where it is a class.
    """
    found = []
    for column in COLUMNS:
        if column not in rows.columns or (column == goal.name and goal.task != "regression"):
            continue
        groups = _groups(rows[column].reset_index(drop=True))
        for value, members in groups.items() if len(groups) > 1 else ():
            patients = len(set(truth.patients_N[members]))
            if members.sum() < _FEWEST_CLIPS or patients < _FEWEST_PATIENTS:
                continue
            redrawn = redraw(truth.among(members, predicted_NS), draws=draws, seed=seed)
            scores = {
                key.metric: replace(each, patients=patients).estimate for key, each in redrawn.items() if not key.of
            }
            found.append(
                Subgroup(column=column, value=value, clips=int(members.sum()), patients=patients, scores=scores)
            )
    return found


def _groups(values: pd.Series) -> dict[str, npt.NDArray[np.bool_]]:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return {str(word): (values == word).to_numpy(bool, na_value=False) for word in sorted(values.dropna().unique())}
    numbers, edges = values.to_numpy(np.float64, na_value=np.nan), _BANDS.get(str(values.name), ())
    if not edges:
        return {}
    ends = (-np.inf, *edges, np.inf)
    bands = {_band(low, high): (numbers >= low) & (numbers < high) for low, high in pairwise(ends)}
    return {name: members for name, members in bands.items() if members.any()}


def _band(low: float, high: float) -> str:
    if low == -np.inf:
        return f"below {high:g}"
    return f"{low:g} and above" if high == np.inf else f"{low:g} to {high:g}"


def _alike(values_N: npt.NDArray) -> bool:
    every = np.broadcast_to(values_N[0], values_N.shape)
    return np.array_equal(values_N, every, equal_nan=values_N.dtype.kind == "f")
