"""Where in its window a token lay, and features without what that place leaves in them.

An encoder with learned positions adds to every token something of its place in the window. Where a clip is not much
longer than the window, its tokens come from all places, and moments then look alike for their places.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.window import even_starts_s


def token_places(table: EmbeddingTable) -> npt.NDArray[np.int64] | None:
    """(P,) time index of each phase token in its window; None where the table has no contract, frames or windows."""
    phase, length = table.phase, (table.contract or {}).get("frames")
    windows, frames = (table.rows[name].to_numpy(float) for name in ("windows", "frames"))
    if phase is None or length is None or not (np.isfinite(windows).all() and np.isfinite(frames).all()):
        return None
    within = np.diff(phase.window_P) == 0
    within[phase.start_N1[1:-1] - 1] = False
    steps = np.diff(phase.frame_P)[within]
    if not len(steps) or not np.isfinite(steps).all():
        return None
    span = max(1, round(float(np.median(steps))))
    places = np.empty(len(phase.frame_P), np.int64)
    for clip in range(len(phase)):
        part = slice(int(phase.start_N1[clip]), int(phase.start_N1[clip + 1]))
        starts = even_starts_s(
            None, int(frames[clip]), length=int(length), frame_rate_hz=None, count=max(1, int(windows[clip]))
        )
        first = np.array(starts)[np.minimum(phase.window_P[part], len(starts) - 1)]
        places[part] = np.round((phase.frame_P[part] - first - (span - 1) / 2) / span).astype(np.int64)
    return np.clip(places, 0, int(length) // span - 1)


def without_places(train: EmbeddingTable, *tables: EmbeddingTable) -> list[EmbeddingTable] | None:
    """The tables with, taken from each phase token, the training clips' mean token at its place; None where places are
    unknown."""
    known = token_places(train)
    if known is None or train.phase is None:
        return None
    features = np.asarray(train.phase.feature_PD, np.float64)
    means = np.tile(features.mean(0), (known.max() + 1, 1))
    for place in np.unique(known):
        means[place] = features[known == place].mean(0)
    cleaned = []
    for table in tables:
        places = token_places(table)
        if places is None or table.phase is None:
            return None
        feature_PD = table.phase.feature_PD - means[np.minimum(places, len(means) - 1)].astype(np.float32)
        cleaned.append(replace(table, phase=replace(table.phase, feature_PD=feature_PD)))
    return cleaned
