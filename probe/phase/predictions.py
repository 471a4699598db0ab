"""What the phase probe predicts of every test token, as a table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable


def phase_predictions(
    test: EmbeddingTable, predicted_P: npt.NDArray[np.complex128], beats: pd.DataFrame, events: pd.DataFrame
) -> pd.DataFrame:
    """A row per test token of known phase: clip_id, patient_id, view, time_s, true_phase, predicted_phase,
    match_time_s, match_phase, hit (NaN where nothing was asked), event ("ed" or "es" at the token nearest an event),
    event_error_ms.

    beats, events: as `in_another_beat` and `event_errors` give them.
    """
    phase = test.phase
    assert phase is not None
    owner = np.repeat(np.arange(len(phase)), np.diff(phase.start_N1))
    tokens = pd.DataFrame(
        {
            "clip_id": test.clip_id[owner],
            "patient_id": test.patient_id.astype(str)[owner],
            "view": test.rows["view"].to_numpy(object)[owner],
            "time_s": phase.time_s_P,
            "true_phase": phase.cycle_P.astype(np.float64),
            "predicted_phase": np.angle(predicted_P) / (2 * np.pi) % 1,
        }
    )
    token = beats["token"].to_numpy(np.int64)
    for name in ("match_time_s", "match_phase", "hit"):
        tokens[name] = np.nan
        tokens.loc[token, name] = beats[name].to_numpy(np.float64)
    event, error = np.full(len(tokens), None, object), np.full(len(tokens), np.nan)
    for each in events.itertuples():
        first, last = phase.start_N1[each.clip], phase.start_N1[each.clip + 1]
        nearest = first + int(np.nanargmin(np.abs(phase.time_s_P[first:last] - each.time_s)))
        event[nearest], error[nearest] = each.event, 1000 * each.error_s
    tokens["event"], tokens["event_error_ms"] = event, error
    return tokens[tokens["true_phase"].notna()].reset_index(drop=True)
