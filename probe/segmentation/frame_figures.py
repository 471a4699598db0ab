"""Figures of predicted outlines: frame by frame, and how the ventricle's area changes.

F frames, H rows, W columns of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.clip import NOT_ANNOTATED
from echofm.estimators.left_ventricle import STRUCTURES, TracedFrames
from echofm.metric.overlap import dice, hausdorff_95
from probe.labels.metrics import pearson
from probe.protocol import Array, Figure, Key, mean_where, ratio

METRICS = ("dice", "hd95_px", "hd95_mm")


def frame_table(test: TracedFrames, predicted_FHW: npt.NDArray[np.uint8], classes: Sequence[int]) -> pd.DataFrame:
    """A row per test frame: clip_id, patient_id, view, frame, event, then per structure dice_<name>, hd95_px_<name>,
    hd95_mm_<name>, area_<name> and true_area_<name> (pixels)."""
    columns: dict[str, list[float]] = {}
    for row, (mask_HW, predicted_HW) in enumerate(zip(test.mask_FHW, predicted_FHW)):
        known_HW = mask_HW != NOT_ANNOTATED
        spacing = test.rows["row_mm"].iloc[row], test.rows["column_mm"].iloc[row]
        for number in classes:
            name, true, own = STRUCTURES[number], mask_HW == number, (predicted_HW == number) & known_HW
            figures = {
                "dice": dice(true, own),
                "hd95_px": hausdorff_95(true, own),
                "hd95_mm": hausdorff_95(true, own, spacing=spacing) if np.isfinite(spacing).all() else np.nan,
                "area": float(own.sum()),
                "true_area": float(true.sum()),
            }
            for key, value in figures.items():
                columns.setdefault(f"{key}_{name}", []).append(value)
    kept = test.rows[["clip_id", "patient_id", "view", "frame", "event"]].reset_index(drop=True)
    return pd.concat([kept, pd.DataFrame(columns)], axis=1)


def figures_of(frame: pd.DataFrame, names: Sequence[str]) -> dict[Key, Figure]:
    """Of a method's `frame_table`: overlap of all structures and of each, of all frames and at ED and ES; the
    correlation of the ventricle's fractional area change with the truth, a clip each, where it is segmented."""
    patients = frame["patient_id"].to_numpy(str)
    found: dict[Key, Figure] = {}
    for metric in METRICS:
        values = frame[[f"{metric}_{name}" for name in names]].to_numpy()
        for event in ("", "ed", "es"):
            rows = np.ones(len(frame), bool) if not event else (frame["event"] == event).to_numpy()
            for of, columns in (("", slice(None)), *((name, slice(n, n + 1)) for n, name in enumerate(names))):
                some = values[:, columns]
                if np.isfinite(some[rows]).any():
                    key = Key(f"{metric}_{event}" if event else metric, of)
                    found[key] = Figure(of=_mean_over_structures(some), patients_N=patients, rows_N=rows)
    if names[0] == STRUCTURES[1]:
        change = _area_changes(frame, names[0])
        true, predicted = (change[column].to_numpy(float) for column in ("true", "predicted"))
        if len(change) >= 3 and min(true.std(), predicted.std()) >= 1e-9:
            key = Key("area_change_r", names[0])
            found[key] = Figure(
                of=lambda weights_WN: pearson.redrawn(true, predicted, weights_WN),
                patients_N=change["patient_id"].to_numpy(str),
            )
    return found


def _mean_over_structures(values_FS: npt.NDArray) -> Callable[[Array], Array]:
    """The mean over structures of their means over the frames that show them."""
    known_FS = np.isfinite(values_FS).astype(np.float64)
    there_FS = np.where(known_FS > 0, values_FS, 0.0)

    def of(weights_WF: Array) -> Array:
        mean_WS = ratio(weights_WF @ there_FS, weights_WF @ known_FS)
        return mean_where(mean_WS, ~np.isnan(mean_WS))

    return of


def _area_changes(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """(ED - ES area) / ED area of each clip, true and predicted; 0 where no ED area was predicted."""
    found = []
    for (patient, _), rows in frame.groupby(["patient_id", "clip_id"], sort=True):
        events = rows.drop_duplicates("event").set_index("event")
        if {"ed", "es"} <= set(events.index):
            pair = {}
            for key, column in (("true", f"true_area_{name}"), ("predicted", f"area_{name}")):
                first, last = events.loc["ed", column], events.loc["es", column]
                pair[key] = (first - last) / first if first > 0 else 0.0
            found.append({"patient_id": patient} | pair)
    return pd.DataFrame(found, columns=["patient_id", "true", "predicted"])
