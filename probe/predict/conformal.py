"""Conformal intervals: how wide a prediction must be to hold the truth for nine of ten new patients.

A patient's clips share one weight (Lee, Barber and Willett 2023, arXiv 2306.06342): the margin is the quantile of the
validation patients' misses, each patient's clips weighing 1 / (patients + 1) together, a new patient's miss infinite.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from probe.labels.target import ClipTask

LEVEL = 0.9
# By what a prediction is of: one clip, or the mean over a study's clips.
Margins = dict[str, float]


def margins_of(task: ClipTask, values_N: npt.NDArray, predicted_N: npt.NDArray, rows: pd.DataFrame) -> Margins:
    """By level, "clip" and "study", of validation clips: the half width of an interval, or of classes 1 minus the least
    probability that is still in the set. Infinite where there are too few patients; empty for several labels."""
    if task == "multilabel":
        return {}
    patients = rows["patient_id"].to_numpy(str)
    studies = studies_of(rows)
    firsts = np.unique(studies, return_index=True)[1]
    mean = np.stack([predicted_N[studies == studies[first]].mean(0) for first in firsts])
    missed = {"clip": _misses(task, values_N, predicted_N), "study": _misses(task, values_N[firsts], mean)}
    owners = {"clip": patients, "study": patients[firsts]}
    return {level: margin(missed[level], owners[level]) for level in missed}


def margin(misses_N: npt.NDArray[np.float64], patients_N: npt.NDArray[np.str_]) -> float:
    """The weighted quantile; infinite below 9 patients, as nine of ten cannot be told from fewer."""
    _, number, count = np.unique(patients_N, return_inverse=True, return_counts=True)
    weight_N = 1 / (count[number] * (len(count) + 1))
    order = np.argsort(misses_N, kind="stable")
    reached = np.cumsum(weight_N[order]) >= LEVEL - 1e-9
    return float(misses_N[order][reached.argmax()]) if reached.any() else float("inf")


def studies_of(rows: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Each clip's study, its patient where no study is known."""
    return rows["study_id"].fillna(rows["patient_id"]).to_numpy(str)


def _misses(task: ClipTask, values_N: npt.NDArray, predicted_N: npt.NDArray) -> npt.NDArray[np.float64]:
    if task == "regression":
        return np.abs(np.asarray(predicted_N, np.float64) - values_N)
    return 1 - predicted_N[np.arange(len(values_N)), values_N]
