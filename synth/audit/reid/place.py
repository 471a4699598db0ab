"""A moment's place in its window, and what an encoder with learned temporal positions says of the place alone.

N clips, P moments of all clips, T places of a window, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.window import even_starts_s

Floats = npt.NDArray[np.float32]


def places(table: EmbeddingTable) -> npt.NDArray[np.int64] | None:
    """(P,) which token of its window each moment is, from 0; None where the table does not tell.

    The windows' starts are not in a table; they follow from a clip's frames, the contract and the number of windows.
    """
    phase, contract = table.phase, table.contract
    frames_N = table.rows["frames"].to_numpy(float)
    if phase is None or not contract or not contract.get("frames") or not np.isfinite(frames_N).all():
        return None
    length, asked = int(contract["frames"]), table.settings.get("windows")
    count = asked if isinstance(asked, int) else None
    place_P = np.empty(len(phase.feature_PD))
    for clip, frames in enumerate(frames_N.astype(int)):
        own = slice(phase.start_N1[clip], phase.start_N1[clip + 1])
        # The frames have the contract's rate already, so they are consecutive here.
        starts = np.array(even_starts_s(None, frames, length=length, frame_rate_hz=None, count=count))
        window = phase.window_P[own]
        if len(window) and window.max() >= len(starts):
            return None
        place_P[own] = phase.frame_P[own] - starts[window]
    steps = np.diff(phase.frame_P)[np.diff(phase.window_P) == 0]
    steps = steps[steps > 0]
    if len(steps) == 0 or not np.isfinite(place_P).all():
        return None
    step = float(np.median(steps))
    return np.clip(np.round((place_P - (step - 1) / 2) / step), 0, np.ceil(length / step) - 1).astype(np.int64)


def place_means(table: EmbeddingTable) -> Floats | None:
    """(T, D) the mean feature at each place less that of all: hearts beat out of step, so what is left is the place."""
    place_P = places(table)
    if place_P is None or table.phase is None:
        return None
    feature_PD = np.asarray(table.phase.feature_PD, np.float64)
    count_T = np.bincount(place_P)
    total_TD = np.stack([np.bincount(place_P, column) for column in feature_PD.T], 1)
    mean_TD = total_TD / np.maximum(count_T, 1)[:, None]
    mean_TD[count_T == 0] = feature_PD.mean(0)
    return (mean_TD - feature_PD.mean(0)).astype(np.float32)


def without_place(table: EmbeddingTable, place_TD: Floats | None) -> Floats:
    """(P, D) the phase features less what their place alone explains; as they are where `place_TD` is None.

    Raises EchofmError where the table does not tell the places that are to be taken off.
    """
    assert table.phase is not None
    if place_TD is None:
        return table.phase.feature_PD
    place_P = places(table)
    if place_P is None:
        raise EchofmError(
            "the motion head takes off what a moment's place in its window explains, and the table does not tell the "
            "places (contract, frames, windows); embed with `echofm embed`"
        )
    return table.phase.feature_PD - place_TD[np.minimum(place_P, len(place_TD) - 1)]
