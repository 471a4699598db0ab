"""What the phase probe answers for test clips: figures beside chance, a row per token, notes for the reader.

P tokens of the test clips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.metric.circular import circular_distance
from probe.phase.match import APART_S, TOLERANCE
from probe.protocol import Array, Figure, Key, ratio


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
        tokens = self.test.rows[["clip_id", "patient_id", "view"]].iloc[phase.clip_P].reset_index(drop=True)
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
