"""End-diastole and end-systole from a linear readout of the phase tokens.

P tokens, D features. Phases are parts of a cycle in [0, 1), 0 at end-diastole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.ridge import GramRidge, ridge_path
from echofm.estimators.rows import Rows
from echofm.metric.circular import circular_distance

Floats = npt.NDArray[np.floating]
_GRID_S = 0.002
# Neighbouring tokens on each side; a Gram matrix of more than so many columns is not worth its time.
_CONTEXTS, _WIDEST = (0, 1, 3, 6), 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout:
    """A ridge regression of (cos, sin) of the phase on phase tokens.

    context: neighbouring tokens on each side that are read along. centred: without the clip's mean token.
    error: mean absolute phase error on validation patients, cycles.
    """

    model: GramRidge
    context: int
    centred: bool
    error: float

    def predict(self, phase: PhaseTokens) -> npt.NDArray[np.complex128]:
        """(P,) complex: its angle is 2 pi times the phase, its length how sure the readout is."""
        X_PD = _inputs(phase, context=self.context, centred=self.centred)
        return _as_complex(self.model.predict(X_PD))


def fit_readout(train: EmbeddingTable, val: EmbeddingTable) -> Readout:
    """Fit on training patients; penalty, context and centring by the phase error on validation patients."""
    assert train.phase is not None and val.phase is not None
    known, judged = np.isfinite(train.phase.cycle_P), np.isfinite(val.phase.cycle_P)
    if known.sum() < 10 or not judged.any():
        raise EchofmError(
            "too few tokens of known phase in training or validation clips; the truth must be in the table"
        )
    angle, truth = 2 * np.pi * train.phase.cycle_P[known].astype(np.float64), val.phase.cycle_P[judged]
    best: Readout | None = None
    width = train.phase.feature_PD.shape[1]
    contexts = [context for context in _CONTEXTS if context <= 1 or (2 * context + 1) * width <= _WIDEST]
    for context, centred in product(contexts, (False, True)):
        X_PD = _inputs(train.phase, context=context, centred=centred)[known]
        V_PD = _inputs(val.phase, context=context, centred=centred)[judged]
        path = ridge_path(Rows(features_ND=X_PD), np.stack([np.cos(angle), np.sin(angle)], 1))
        for model in path:
            said = np.angle(_as_complex(model.predict(V_PD))) / (2 * np.pi)
            error = float(circular_distance(said, truth).mean())
            if best is None or error < best.error:
                best = Readout(model=model, context=context, centred=centred, error=error)
    assert best is not None
    return best


def event_errors(
    table: EmbeddingTable, said_P: npt.NDArray[np.complex128], *, systole: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """How far the moments of end-diastole and end-systole are off.

    The true moments are where the true phase passes 0 and the clip's phase of end-systole (`systole`, by clip_id; clips
    without one give end-diastole alone). The predicted moment is where the predicted phase passes it, the surest
    passage within half a beat either side.

    A row per event: clip (row of the table), event ("ed" or "es"), time_s, error_s (signed), error_frames (of the
    source; NaN where its frame rate is unknown), chance_s (mean error of a moment drawn from the same half beats).
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
        said = said_P[part][known]
        curve = np.interp(grid_s, time_s, said.real) + 1j * np.interp(grid_s, time_s, said.imag)
        places = {"ed": 0.0, "es": (systole or {}).get(str(table.clip_id[clip]), np.nan)}
        for event, place in places.items():
            for true_s in _passages(time_s, turns, place):
                near = np.abs(grid_s - true_s) <= beat_s / 2
                error = _moment(grid_s[near], curve[near], place) - true_s
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
    places = np.arange(200) / 200
    distance = circular_distance(places[:, None], clip.phase_T[seen])
    if area.max() <= 0 or np.ptp(area) < 0.1 * area.max() or (distance.min(1) > 0.1).any():
        return None
    weights = np.exp(-0.5 * (distance / 0.02) ** 2) + 1e-12
    curve = weights @ area / weights.sum(1)
    low = curve <= curve.min() + 0.03 * np.ptp(curve)
    # Not from phase 0 on: the smallest moment is sought backwards from the minimum, so that a dip elsewhere is no end.
    place = int(curve.argmin())
    while low[place - 1] and place > 0:
        place -= 1
    return float(places[place])


def _as_complex(plane_P2: Floats) -> npt.NDArray[np.complex128]:
    return plane_P2[:, 0] + 1j * plane_P2[:, 1]


def _inputs(phase: PhaseTokens, *, context: int, centred: bool) -> npt.NDArray[np.float32]:
    parts = []
    for clip in range(len(phase)):
        x_TD = np.asarray(phase.of(clip).feature_PD, np.float32)
        if centred and len(x_TD):
            x_TD = x_TD - x_TD.mean(0)
        index = np.arange(len(x_TD))[:, None] + np.arange(-context, context + 1)
        parts.append(x_TD[index.clip(0, max(0, len(x_TD) - 1))].reshape(len(x_TD), (2 * context + 1) * x_TD.shape[1]))
    return np.concatenate(parts)


def _passages(time_s: Floats, turns: Floats, place: float) -> list[float]:
    """When the unwrapped phase, rising, passes a whole number of turns plus `place`."""
    if not np.isfinite(place) or not (np.diff(turns) > 0).all():
        return []
    wanted = np.arange(np.ceil(turns[0] - place), np.floor(turns[-1] - place) + 1) + place
    return np.interp(wanted, turns, time_s).tolist()


def _moment(grid_s: Floats, curve: npt.NDArray[np.complex128], place: float) -> float:
    """Where the predicted phase passes `place` forwards, the surest of several; else where it comes nearest."""
    turned = curve * np.exp(-2j * np.pi * place)
    passes = np.flatnonzero((turned.imag[:-1] < 0) & (turned.imag[1:] >= 0) & (turned.real[1:] > 0))
    if len(passes):
        return float(grid_s[1 + passes[turned.real[1 + passes].argmax()]])
    return float(grid_s[np.abs(np.angle(turned)).argmin()])
