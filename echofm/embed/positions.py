"""A token's position in its window, and phase features without what that position leaves in them.

An encoder with learned positions adds to every token something of its position in the window. Where a clip is not much
longer than the window, its tokens come from all positions, and frames then look alike for their positions.

P phase tokens of all clips, T positions of a window, D features.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.window import Windows

Floats = npt.NDArray[np.float32]


def token_positions(table: EmbeddingTable) -> npt.NDArray[np.int64] | None:
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
    positions = np.empty(len(phase.frame_P), np.int64)
    for clip in range(len(phase)):
        part = slice(int(phase.start_N1[clip]), int(phase.start_N1[clip + 1]))
        # The frames have the contract's rate already, so they are consecutive here.
        shown = Windows(None, int(frames[clip]), length=int(length), frame_rate_hz=None)
        starts = shown.even_starts_s(max(1, int(windows[clip])))
        first = np.array(starts)[np.minimum(phase.window_P[part], len(starts) - 1)]
        positions[part] = np.round((phase.frame_P[part] - first - (span - 1) / 2) / span).astype(np.int64)
    return np.clip(positions, 0, int(length) // span - 1)


def position_means(table: EmbeddingTable) -> Floats | None:
    """(T, D) the mean feature at each position less that of all: hearts beat out of step, so the position is left.

    None where the positions are unknown.
    """
    position_P = token_positions(table)
    if position_P is None or table.phase is None:
        return None
    feature_PD = np.asarray(table.phase.feature_PD, np.float64)
    mean_TD = np.zeros((position_P.max() + 1, feature_PD.shape[1]))
    for position in np.unique(position_P):
        mean_TD[position] = feature_PD[position_P == position].mean(0) - feature_PD.mean(0)
    return mean_TD.astype(np.float32)


def without_position(table: EmbeddingTable, position_TD: Floats) -> EmbeddingTable:
    """The table, its phase features less what their position alone explains (`position_means`, of training clips).

    Raises EchofmError where the table does not tell the positions.
    """
    position_P = token_positions(table)
    if position_P is None or table.phase is None:
        raise EchofmError(
            "what a token's position in its window explains is to be taken off, and the table does not tell the "
            "positions (contract, frames, windows); embed with `echofm embed`"
        )
    feature_PD = table.phase.feature_PD - position_TD[np.minimum(position_P, len(position_TD) - 1)]
    return replace(table, phase=replace(table.phase, feature_PD=feature_PD))


def without_positions(table: EmbeddingTable, *, train: npt.NDArray[np.int64]) -> EmbeddingTable | None:
    """`without_position` by the means of the rows `train`; None where the table does not tell the positions."""
    if token_positions(table) is None:
        return None
    position_TD = position_means(table.select(train))
    return None if position_TD is None else without_position(table, position_TD)
