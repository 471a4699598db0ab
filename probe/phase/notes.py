"""What a reader of the phase probe's figures must know: how fine the tokens are, what was asked, what may mislead."""

from __future__ import annotations

import numpy as np

from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable


def phase_notes(
    table: EmbeddingTable,
    phase: PhaseTokens | None,
    *,
    queries: int,
    with_systole: bool,
    tolerance: float,
    apart_s: float,
) -> list[str]:
    """Notes on the test clips' tokens `phase`, of which `queries` have a partner in another beat."""
    assert phase is not None
    notes: list[str] = []
    steps: list[float] = []
    turns: list[float] = []
    for clip in range(len(phase)):
        one = phase.of(clip)
        step, turn = np.diff(one.time_s_P), np.diff(one.cycle_P.astype(np.float64)) % 1
        good = np.isfinite(step) & np.isfinite(turn) & (step > 0)
        steps += step[good].tolist()
        turns += turn[good].tolist()
    if steps:
        each = 100 * float(np.median(turns))
        notes.append(
            f"Tokens are {1000 * np.median(steps):.0f} ms apart, {each:.1f} % of the median cycle; a match counts "
            f"within {100 * tolerance:g} %, at {apart_s:g} s or more."
        )
        known = int(np.isfinite(phase.cycle_P).sum())
        notes.append(
            f"{queries} of {known} test tokens have a token of their phase that far away; the others are not asked."
        )
    else:
        notes.append("Frame times are unknown: nothing could be asked about other beats, nor in milliseconds.")
    if not with_systole:
        notes.append("No end-systole is known for these clips (it needs masks): end-diastole alone is timed.")
    dense = _dense(table)
    if dense is not True:
        notes.append(
            "Warning: "
            + ("it is not known whether " if dense is None else "not ")
            + "every frame began a window when these clips were embedded; tokens carry their place in the window, "
            "so that moments may look alike for their places: embed with --windows 100000."
        )
    return notes


def _dense(table: EmbeddingTable) -> bool | None:
    """Whether a window began at every frame; None where the table does not tell."""
    length = (table.contract or {}).get("frames")
    windows, frames = (table.rows[name].to_numpy(float) for name in ("windows", "frames"))
    if length is None or not np.isfinite(windows).all() or not np.isfinite(frames).all():
        return None
    return bool((windows >= np.maximum(1, frames - int(length) + 1)).all())
