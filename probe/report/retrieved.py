"""Retrieval: what the features find most like a test clip."""

from __future__ import annotations

import numpy as np
import pandas as pd

from echofm.report.blocks import Block, FilmStrip
from probe.report.frames import FramesOf, evenly, read_ahead

COLUMNS = frozenset(["clip_id", "patient_id", "best_clip_id", "best_patient_id", "average_precision"])
_QUERIES, _FRAMES = 5, 6


def retrieved(predictions: pd.DataFrame, *, frames_of: FramesOf) -> list[Block]:
    """Queries from the best to the worst answered, each above the clip found first; nothing for other predictions."""
    if not set(predictions.columns) >= COLUMNS or predictions.empty:
        return []
    # Of moments many are asked of one clip; a clip is shown once.
    ordered = predictions.sort_values("average_precision", ascending=False, kind="stable").drop_duplicates("clip_id")
    chosen = ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, _QUERIES).round().astype(int))]
    read_ahead(frames_of, chosen[["clip_id", "best_clip_id"]].to_numpy(str).ravel().tolist())
    strips = {}
    for number, (_, row) in enumerate(chosen.iterrows(), 1):
        pair = [frames_of(str(row[name])) for name in ("clip_id", "best_clip_id")]
        if pair[0] is None or pair[1] is None:
            continue
        same = "same patient" if row["patient_id"] == row["best_patient_id"] else "other patient"
        strips[f"{number}. asked, AP {row['average_precision']:.2f}"] = evenly(pair[0], _FRAMES)
        strips[f"{number}. found, {same}"] = evenly(pair[1], _FRAMES)
    if not strips:
        return []
    return [
        FilmStrip(
            rows=strips,
            alt="test clips asked for, each above the clip that the features find most like it",
            caption="Test clips from the best to the worst answered (AP: average precision), each above the clip found "
            "first.",
        )
    ]
