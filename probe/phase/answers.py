"""What the phase probe answers for test clips: times of events, figures beside chance, a row per token, notes.

P tokens. Phases are parts of a cycle in [0, 1), 0 at end-diastole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.metric.circular import circular_distance
from probe.phase.match import APART_S, TOLERANCE
from probe.protocol import Array, Figure, Key, ratio

Floats = npt.NDArray[np.floating]
_GRID_S = 0.002


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """Test clips and what was found in them.

    beats, plane: matches in another beat by the features and by the reader's two numbers (`in_another_beat`); others:
    in other patients (`in_other_patients`); events: `event_errors`. predicted_P: of the linear reader.
    """

    test: EmbeddingTable
    beats: pd.DataFrame
    plane: pd.DataFrame
    others: pd.DataFrame
    events: pd.DataFrame
    predicted_P: npt.NDArray[np.complex128]

    def figures(self) -> tuple[dict[Key, Figure], dict[Key, Figure]]:
        """Of each metric that anything was asked of, and of its chance level: sum over count, by clip."""
        phase = phase_of(self.test)
        error = 100 * circular_distance(np.angle(self.predicted_P) / (2 * np.pi), phase.cycle_P)
        sums = {"phase_error_percent": self._by_clip(phase.clip_P, error)}
        chances = {"phase_error_percent": self._by_clip(phase.clip_P, np.where(np.isfinite(error), 25.0, np.nan))}
        for name, found, values in (
            ("cycle_retrieval", self.beats, self.beats["hit"]),
            ("match_error_percent", self.beats, 100 * self.beats["distance"]),
            ("same_direction", self.beats, self.beats["same_direction"]),
            ("cycle_retrieval_readout", self.plane, self.plane["hit"]),
            ("patient_retrieval", self.others, self.others["hit"]),
        ):
            sums[name] = self._by_clip(found["clip"], values)
            if name.endswith(("retrieval", "readout")):
                chances[name] = self._by_clip(found["clip"], found["chance"])
        for event in ("ed", "es"):
            some = self.events[self.events["event"] == event]
            sums[f"{event}_error_ms"] = self._by_clip(some["clip"], 1000 * some["error_s"].abs())
            sums[f"{event}_error_frames"] = self._by_clip(some["clip"], some["error_frames"].abs())
            chances[f"{event}_error_ms"] = self._by_clip(some["clip"], 1000 * some["chance_s"])
        asked = {name for name, each in sums.items() if each[:, 1].sum() > 0}
        patients_N = self.test.patient_id.astype(str)
        own, chance = (
            {
                Key(name): Figure(of=_mean(each), patients_N=patients_N, rows_N=each[:, 1] > 0)
                for name, each in found.items()
                if name in asked
            }
            for found in (sums, chances)
        )
        return own, chance

    def _by_clip(self, clip: npt.ArrayLike, values: npt.ArrayLike) -> Array:
        """(N, 2) sum and count of the known values."""
        index, number = np.asarray(clip).astype(np.int64), np.asarray(values, np.float64)
        known = np.isfinite(number)
        sums = np.bincount(index[known], number[known], minlength=len(self.test))
        return np.stack([sums, np.bincount(index[known], minlength=len(self.test))], 1)

    def frame(self) -> pd.DataFrame:
        """A row per test token of known phase: clip_id, patient_id, view, time_s, true_phase, predicted_phase,
        match_time_s, match_phase, hit (NaN where nothing was asked), event ("ed" or "es" at the token nearest an
        event), event_error_ms."""
        phase = phase_of(self.test)
        ids = {name: self.test.rows[name].to_numpy(object)[phase.clip_P] for name in ("clip_id", "patient_id", "view")}
        tokens = pd.DataFrame(ids)
        tokens["time_s"], tokens["true_phase"] = phase.time_s_P, phase.cycle_P.astype(np.float64)
        tokens["predicted_phase"] = np.angle(self.predicted_P) / (2 * np.pi) % 1
        token = self.beats["token"].to_numpy(np.int64)
        for name in ("match_time_s", "match_phase", "hit"):
            tokens[name] = np.nan
            tokens.loc[token, name] = self.beats[name].to_numpy(np.float64)
        event, error = np.full(len(tokens), None, object), np.full(len(tokens), np.nan)
        for each in self.events.itertuples():
            first, last = phase.start_N1[each.clip], phase.start_N1[each.clip + 1]
            nearest = first + int(np.nanargmin(np.abs(phase.time_s_P[first:last] - each.time_s)))
            event[nearest], error[nearest] = each.event, 1000 * each.error_s
        tokens["event"], tokens["event_error_ms"] = event, error
        return tokens[tokens["true_phase"].notna()].reset_index(drop=True)

    def notes(self, *, with_systole: bool) -> list[str]:
        """How fine the tokens are, what was asked, what may mislead."""
        phase, notes = phase_of(self.test), []
        step, turn = np.diff(phase.time_s_P), np.diff(phase.cycle_P.astype(np.float64)) % 1
        good = (np.diff(phase.clip_P) == 0) & np.isfinite(step) & np.isfinite(turn) & (step > 0)
        if good.any():
            known = int(np.isfinite(phase.cycle_P).sum())
            notes = [
                f"Tokens are {1000 * np.median(step[good]):.0f} ms apart, {100 * np.median(turn[good]):.1f} % of the "
                f"median cycle; a match counts within {100 * TOLERANCE:g} %, at {APART_S:g} s or more.",
                f"{len(self.beats)} of {known} test tokens have a token of their phase that far away; the others are "
                "not asked.",
            ]
        else:
            notes = ["Frame times are unknown: nothing could be asked about other beats, nor in milliseconds."]
        if not with_systole:
            notes.append("No end-systole is known for these clips (it needs masks): end-diastole alone is timed.")
        return notes


def phase_of(table: EmbeddingTable) -> PhaseTokens:
    assert table.phase is not None
    return table.phase


def density_notes(table: EmbeddingTable) -> list[str]:
    """A warning unless a window began at every frame."""
    length = (table.contract or {}).get("frames")
    windows, frames = (table.rows[name].to_numpy(float) for name in ("windows", "frames"))
    known = isinstance(length, int) and np.isfinite(windows).all() and np.isfinite(frames).all()
    if known and (windows >= np.maximum(1, frames - length + 1)).all():
        return []
    return [
        f"Warning: {'not' if known else 'it is not known whether'} every frame began a window when these clips were "
        "embedded; tokens carry their place in the window, so that moments may look alike for their places: embed with "
        "--windows 100000."
    ]


def _mean(sums_N2: Array) -> Callable[[Array], Array]:
    return lambda weights_WN: ratio(weights_WN @ sums_N2[:, 0], weights_WN @ sums_N2[:, 1])


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
                error = predicted_time_s(grid_s[near], curve[near], phase_at) - true_s
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


def predicted_time_s(grid_s: Floats, curve: npt.NDArray[np.complex128], phase_at: float) -> float:
    """Where the predicted phase passes `phase_at` forwards, the surest of several; else where it comes nearest."""
    turned = curve * np.exp(-2j * np.pi * phase_at)
    passes = np.flatnonzero((turned.imag[:-1] < 0) & (turned.imag[1:] >= 0) & (turned.real[1:] > 0))
    if len(passes):
        return float(grid_s[1 + passes[turned.real[1 + passes].argmax()]])
    return float(grid_s[np.abs(np.angle(turned)).argmin()])
