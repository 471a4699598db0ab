"""Time points that look alike: in another beat of the same clip, and in other patients' clips of the same view.

P tokens of all clips, T tokens of one clip, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.loss.periodic import along_trajectories
from echofm.metric.circular import circular_difference, circular_distance
from echofm.nearest import nearest

Floats = npt.NDArray[np.floating]
# A match is right within so much of a cycle; in the same clip it must be so far away.
TOLERANCE, APART_S = 0.05, 0.5
_FEWEST_TOKENS, _MOST_QUERIES = 3, 20_000


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """How two moments are compared: centred, without the clip's mean; motion_weight, how much their changes count;
    reach_s, seconds to either side over which the ways to and from them are compared, within a clip alone."""

    centred: bool = True
    motion_weight: float = 0.0
    reach_s: float = 0.0


COMPARINGS = tuple(
    Comparing(centred=centred, motion_weight=weight, reach_s=reach_s)
    for centred in (True, False)
    for weight in (0.0, 0.25, 0.5)
    for reach_s in (0.0, 0.16, 0.32, 0.48, 0.64)
)


def descriptors(phase: PhaseTokens, comparing: Comparing) -> npt.NDArray[np.float32]:
    """(P, D) or (P, 2 D): vectors whose inner product is the similarity of two moments.

    With motion_weight w it is (1 - w) cos(features) + w cos(changes), a change being the next token minus the previous,
    one-sided at a clip's ends.
    """
    parts = [_of_clip(np.asarray(phase.of(clip).feature_PD, np.float64), comparing) for clip in range(len(phase))]
    return np.concatenate(parts).astype(np.float32)


def in_another_beat(
    table: EmbeddingTable, features_PK: Floats, *, reach_s: float = 0.0, systole: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """For each token the most similar one of its clip at least half a second away.

    features_PK: what is compared by inner product, a row per token of `table.phase`.
    reach_s: the inner products of the tokens up to so much earlier and later are averaged in (`along_trajectories`).
    systole: clip_id -> phase of end-systole; before it the heart ejects, after it it fills.

    The time of a match is read between tokens: the top of the parabola through the similarity of the match and its
    two neighbours, where these are far enough away too; tokens are far apart beside the tolerance.

    A row per token of known phase that has a partner of the same phase (within 5 % of a cycle) far enough away: clip
    (row of the table), token (of all), match (of all), match_time_s and match_phase (between tokens), distance
    (cycles), hit (distance within the tolerance), chance (part of the far tokens that would hit), same_direction (NaN
    where end-systole is unknown).
    """
    phase = table.phase
    assert phase is not None
    parts: list[dict[str, Any]] = []
    for clip in range(len(phase)):
        first = int(phase.start_N1[clip])
        one = phase.of(clip)
        known = np.flatnonzero(np.isfinite(one.cycle_P) & np.isfinite(one.time_s_P))
        if len(known) < _FEWEST_TOKENS:
            continue
        cycle = one.cycle_P[known]
        similarity_TT = _similarity(features_PK[first : first + len(one.time_s_P)], one.time_s_P, reach_s)
        far_TT = np.abs(one.time_s_P[known, None] - one.time_s_P[known]) >= APART_S - 1e-6
        right_TT = far_TT & (circular_distance(cycle[:, None], cycle) <= TOLERANCE + 1e-6)
        known_TT = np.where(far_TT, similarity_TT[np.ix_(known, known)], -np.inf)
        match = known_TT.argmax(1)
        asked = np.flatnonzero(right_TT.any(1))
        time_s, matched = _between_tokens(known_TT[asked], match[asked], known, one.time_s_P[known], cycle)
        es = (systole or {}).get(str(table.clip_id[clip]), np.nan)
        matches = _matches(clip, first + known[asked], first + known[match[asked]], cycle[asked], matched)
        parts.append(
            matches
            | {"match_time_s": time_s, "match_phase": matched}
            | {"chance": right_TT[asked].sum(1) / far_TT[asked].sum(1)}
            | {"same_direction": _same_side(cycle[asked], matched, es)}
        )
    return _frame(parts)


def in_other_patients(table: EmbeddingTable, features_PK: Floats, *, seed: int = 0) -> pd.DataFrame:
    """For each token the most similar one among other patients' clips of the same view.

    Columns clip, token, match, distance, hit and chance as in `in_another_beat`. Of more than 20,000 tokens so many are
    drawn as queries; clips of unknown view are one view.
    """
    phase = table.phase
    assert phase is not None
    owner = phase.clip_P
    views = np.array([view or "" for view in table.view], str)[owner]
    patients = table.patient_id.astype(str)[owner]
    known = np.isfinite(phase.cycle_P) & (np.linalg.norm(features_PK, axis=1) > 0)
    rng = np.random.default_rng(seed)
    parts: list[dict[str, Any]] = []
    for view in np.unique(views[known]):
        gallery = np.flatnonzero(known & (views == view))
        if len(np.unique(patients[gallery])) < 2:
            continue
        share = max(1, round(_MOST_QUERIES * len(gallery) / known.sum()))
        asked = np.sort(rng.permutation(gallery)[:share])
        by_patient = patients[asked], patients[gallery]
        found = gallery[nearest(features_PK[asked], features_PK[gallery], exclude_QN=by_patient).index_QK[:, 0]]
        matches = _matches(owner[asked], asked, found, phase.cycle_P[asked], phase.cycle_P[found])
        parts.append(matches | {"chance": _chance(phase.cycle_P, patients, asked, gallery)})
    return _frame(parts)


def _matches(clip: Any, token: npt.NDArray, match: npt.NDArray, cycle: Floats, matched: Floats) -> dict[str, Any]:
    distance = circular_distance(cycle, matched)
    hit = (distance <= TOLERANCE + 1e-6).astype(float)
    return {"clip": clip, "token": token, "match": match, "distance": distance, "hit": hit}


def _frame(parts: list[dict[str, Any]]) -> pd.DataFrame:
    names = ("clip", "token", "match", "match_time_s", "match_phase", "distance", "hit", "chance", "same_direction")
    found = [pd.DataFrame(part) for part in parts] or [pd.DataFrame({name: np.zeros(0) for name in names})]
    return pd.concat(found, ignore_index=True)


def _similarity(features_TK: Floats, time_s_T: npt.NDArray[np.float64], reach_s: float) -> Floats:
    """(T, T) inner products of a clip's tokens, along the ways to and from them."""
    similarity_TT = features_TK @ features_TK.T
    step_s = np.median(np.diff(time_s_T)) if len(time_s_T) > 1 else np.nan
    reach = round(reach_s / step_s) if step_s > 0 else 0
    return along_trajectories(torch.from_numpy(similarity_TT)[None], reach=reach)[0].numpy()


def _between_tokens(
    similarity_QT: Floats,
    match_Q: npt.NDArray[np.int64],
    known_T: npt.NDArray[np.int64],
    time_s_T: npt.NDArray[np.float64],
    cycle_T: Floats,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(Q,) seconds and phase of the matches, at the top of the parabola through each and its neighbours.

    similarity_QT: -inf where a token may not be matched. known_T: the tokens' places in the clip.
    """
    query, last = np.arange(len(match_Q)), len(known_T) - 1
    before, after = np.maximum(match_Q - 1, 0), np.minimum(match_Q + 1, last)
    left, top, right = (similarity_QT[query, place].astype(np.float64) for place in (before, match_Q, after))
    usable = np.isfinite(left) & np.isfinite(right) & (known_T[after] - known_T[before] == 2)
    bend = np.where(usable, left - 2 * top + right, 0.0)
    rise = np.where(usable, left - right, 0.0)
    # Half a token either way at most: the match is the highest of the three.
    part = np.divide(0.5 * rise, bend, out=np.zeros_like(bend), where=bend < 0).clip(-0.5, 0.5)
    near = np.where(part > 0, after, before)
    turn = circular_difference(cycle_T[near], cycle_T[match_Q])
    time_s = time_s_T[match_Q] + np.abs(part) * (time_s_T[near] - time_s_T[match_Q])
    return time_s, (cycle_T[match_Q] + np.abs(part) * turn) % 1


def _of_clip(x_TD: npt.NDArray[np.float64], comparing: Comparing) -> npt.NDArray[np.float64]:
    still = _unit(x_TD - x_TD.mean(0) if comparing.centred else x_TD)
    weight = comparing.motion_weight
    if not weight:
        return still
    padded = np.concatenate([x_TD[:1], x_TD, x_TD[-1:]])
    return np.concatenate([(1 - weight) ** 0.5 * still, weight**0.5 * _unit(padded[2:] - padded[:-2])], 1)


def _unit(x_TD: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return x_TD / np.maximum(np.linalg.norm(x_TD, axis=1, keepdims=True), 1e-12)


def _same_side(first: Floats, second: Floats, end_systole: float) -> npt.NDArray[np.float64]:
    if not np.isfinite(end_systole):
        return np.full(len(first), np.nan)
    return ((first < end_systole) == (second < end_systole)).astype(float)


def _chance(cycle: Floats, patients: npt.NDArray, asked: npt.NDArray, gallery: npt.NDArray) -> npt.NDArray[np.float64]:
    """Part of the other patients' tokens within the tolerance of each query, counted in sorted phases."""
    counts = _within(cycle[asked], cycle[gallery])
    total = np.full(len(asked), len(gallery))
    for patient in np.unique(patients[asked]):
        own, queries = gallery[patients[gallery] == patient], np.flatnonzero(patients[asked] == patient)
        counts[queries] -= _within(cycle[asked[queries]], cycle[own])
        total[queries] -= len(own)
    return counts / total


def _within(queries: Floats, phases: Floats) -> npt.NDArray[np.int64]:
    ordered = np.sort(np.concatenate([phases - 1.0, phases, phases + 1.0]).astype(np.float64))
    reach = TOLERANCE + 1e-6
    return np.searchsorted(ordered, queries + reach, "right") - np.searchsorted(ordered, queries - reach)
