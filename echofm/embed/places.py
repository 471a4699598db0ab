"""A token's place in its window, and phase features without what that place leaves in them.

An encoder with learned positions adds to every token something of its place in the window. Where a clip is not much
longer than the window, its tokens come from all places, and moments then look alike for their places.

P phase tokens of all clips, T places of a window, D features.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.window import even_starts_s

Floats = npt.NDArray[np.float32]


def token_places(table: EmbeddingTable) -> npt.NDArray[np.int64] | None:
    """(P,) time index of each phase token in its window; None where the table has no contract, frames or windows.

    The windows' starts are not in a table; they follow from a clip's frames, the contract and the number of windows.
    """
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
        # The frames have the contract's rate already, so they are consecutive here.
        starts = even_starts_s(
            None, int(frames[clip]), length=int(length), frame_rate_hz=None, count=max(1, int(windows[clip]))
        )
        first = np.array(starts)[np.minimum(phase.window_P[part], len(starts) - 1)]
        places[part] = np.round((phase.frame_P[part] - first - (span - 1) / 2) / span).astype(np.int64)
    return np.clip(places, 0, int(length) // span - 1)


def place_means(table: EmbeddingTable) -> Floats | None:
    """(T, D) the mean feature at each place less that of all: hearts beat out of step, so what is left is the place.

    None where the places are unknown.
    """
    place_P = token_places(table)
    if place_P is None or table.phase is None:
        return None
    feature_PD = np.asarray(table.phase.feature_PD, np.float64)
    mean_TD = np.zeros((place_P.max() + 1, feature_PD.shape[1]))
    for place in np.unique(place_P):
        mean_TD[place] = feature_PD[place_P == place].mean(0) - feature_PD.mean(0)
    return mean_TD.astype(np.float32)


def without_place(table: EmbeddingTable, place_TD: Floats) -> EmbeddingTable:
    """The table, its phase features less what their place alone explains (`place_means`, of training clips).

    Raises EchofmError where the table does not tell the places.
    """
    place_P = token_places(table)
    if place_P is None or table.phase is None:
        raise EchofmError(
            "what a moment's place in its window explains is to be taken off, and the table does not tell the places "
            "(contract, frames, windows); embed with `echofm embed`"
        )
    feature_PD = table.phase.feature_PD - place_TD[np.minimum(place_P, len(place_TD) - 1)]
    return replace(table, phase=replace(table.phase, feature_PD=feature_PD))


def without_places(table: EmbeddingTable, *, train: npt.NDArray[np.int64]) -> EmbeddingTable | None:
    """`without_place` by the means of the rows `train`; None where the table does not tell the places."""
    if token_places(table) is None:
        return None
    place_TD = place_means(table.select(train))
    return None if place_TD is None else without_place(table, place_TD)
