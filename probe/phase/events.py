"""End-diastole and end-systole from a linear readout of the phase tokens.

P tokens, D features. Phases are parts of a cycle in [0, 1), 0 at end-diastole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.embed.table import EmbeddingTable
from echofm.metric.circular import circular_distance

Floats = npt.NDArray[np.floating]
_GRID_S = 0.002


def event_errors(
    table: EmbeddingTable, predicted_P: npt.NDArray[np.complex128], *, systole: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """How far the times of end-diastole and end-systole are off.

    True times are where the true phase passes 0 and the clip's phase of end-systole (`systole`, by clip_id; clips
    without one give end-diastole alone). The predicted time is where the predicted phase passes it, the surest
    passage within half a beat either side.

    A row per event: clip (row of the table), event ("ed" or "es"), time_s, error_s (signed), error_frames (of the
    source; NaN where its frame rate is unknown), chance_s (mean error of a time drawn from the same half beats).
    """
    phase = table.phase
    assert phase is not None
    rates = table.rows["frame_rate_hz"].to_numpy(float)
    rows: list[dict[str, object]] = []
    for clip in range(len(phase)):
        one, part = phase.of(clip), slice(int(phase.start_N1[clip]), int(phase.start_N1[clip + 1]))
        known = np.isfinite(one.cycle_P) & np.isfinite(one.time_s_P)
        if known.sum() < 3:
            continue
        time_s = one.time_s_P[known]
        turns = np.unwrap(2 * np.pi * one.cycle_P[known].astype(np.float64)) / (2 * np.pi)
        beat_s = float(np.ptp(time_s) / max(np.ptp(turns), 1e-9))
        grid_s = np.arange(time_s[0], time_s[-1], _GRID_S)
        predicted = predicted_P[part][known]
        curve = np.interp(grid_s, time_s, predicted.real) + 1j * np.interp(grid_s, time_s, predicted.imag)
        phases = {"ed": 0.0, "es": (systole or {}).get(str(table.clip_id[clip]), np.nan)}
        for event, phase_at in phases.items():
            for true_s in _passages(time_s, turns, phase_at):
                near = np.abs(grid_s - true_s) <= beat_s / 2
                error = _predicted_time_s(grid_s[near], curve[near], phase_at) - true_s
                rows.append(
                    {
                        "clip": clip,
                        "event": event,
                        "time_s": true_s,
                        "error_s": error,
                        "error_frames": error * rates[clip],
                        "chance_s": float(np.abs(grid_s[near] - true_s).mean()),
                    }
                )
    return pd.DataFrame(rows, columns=["clip", "event", "time_s", "error_s", "error_frames", "chance_s"])


def systole_phases(clips: Iterable[Clip]) -> dict[str, float]:
    """clip_id -> phase of end-systole, of the clips whose masks tell it (`end_systole_phase`)."""
    found = ((clip.clip_id, end_systole_phase(clip)) for clip in clips)
    return {clip_id: phase for clip_id, phase in found if phase is not None}


def end_systole_phase(clip: Clip) -> float | None:
    """The phase at which the left ventricle's area has come down to its smallest (within 3 % of its range).

    From the masks of all beats, folded and smoothed over the phase; the first such phase after end-diastole, since the
    area stays small until filling begins. None without masks and phases on ten frames or more, or where the area varies
    by less than a tenth.
    """
    if clip.mask_THW is None or clip.phase_T is None:
        return None
    seen = np.isfinite(clip.phase_T) & ~(clip.mask_THW == NOT_ANNOTATED).all((1, 2))
    if seen.sum() < 10:
        return None
    area = (clip.mask_THW[seen] == LEFT_VENTRICLE).sum((1, 2)).astype(np.float64)
    phases = np.arange(200) / 200
    distance = circular_distance(phases[:, None], clip.phase_T[seen])
    if area.max() <= 0 or np.ptp(area) < 0.1 * area.max() or (distance.min(1) > 0.1).any():
        return None
    weights = np.exp(-0.5 * (distance / 0.02) ** 2) + 1e-12
    curve = weights @ area / weights.sum(1)
    low = curve <= curve.min() + 0.03 * np.ptp(curve)
    # Not from phase 0 on: the smallest area is sought backwards from the minimum, so that a dip elsewhere is no end.
    index = int(curve.argmin())
    while low[index - 1] and index > 0:
        index -= 1
    return float(phases[index])


def _passages(time_s: Floats, turns: Floats, phase_at: float) -> list[float]:
    """When the unwrapped phase, rising, passes a whole number of turns plus `phase_at`."""
    if not np.isfinite(phase_at) or not (np.diff(turns) > 0).all():
        return []
    wanted = np.arange(np.ceil(turns[0] - phase_at), np.floor(turns[-1] - phase_at) + 1) + phase_at
    return np.interp(wanted, turns, time_s).tolist()


def _predicted_time_s(grid_s: Floats, curve: npt.NDArray[np.complex128], phase_at: float) -> float:
    """Where the predicted phase passes `phase_at` forwards, the surest of several; else where it comes nearest."""
    turned = curve * np.exp(-2j * np.pi * phase_at)
    passes = np.flatnonzero((turned.imag[:-1] < 0) & (turned.imag[1:] >= 0) & (turned.real[1:] > 0))
    if len(passes):
        return float(grid_s[1 + passes[turned.real[1 + passes].argmax()]])
    return float(grid_s[np.abs(np.angle(turned)).argmin()])
