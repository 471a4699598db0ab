"""How soon a clip's features repeat: what a heart rate is read from, to which a clip's mean and spread are blind.

N clips, L distances in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from echofm.embed.positions import position_means, token_positions, without_position
from echofm.embed.rhythm import first_return_s, repetition
from echofm.embed.table import EmbeddingTable

# Seconds apart; from the shortest beat to a long one.
_LAGS_S = np.arange(0.2, 1.501, 0.05)
# Where no beat is seen.
_USUAL_BPM = 75.0

Floats = npt.NDArray[np.float32]


def rhythms(tables: Sequence[EmbeddingTable]) -> list[Floats] | None:
    """Of each table (N, L + 1): mean cosine similarity of token times so far apart, 0 where the clip is too short, and
    beats a minute. What a token's position in its window explains in the first table is taken off all. None where one
    has no token times.
    """
    if any(table.phase is None for table in tables):
        return None
    if all(token_positions(table) is not None for table in tables):
        position_TD = position_means(tables[0])
        assert position_TD is not None
        tables = [without_position(table, position_TD) for table in tables]
    return [_rhythm(table) for table in tables]


def _rhythm(table: EmbeddingTable) -> Floats:
    assert table.phase is not None
    values = np.zeros((len(table), len(_LAGS_S) + 1), np.float32)
    values[:, -1] = _USUAL_BPM
    for clip in range(len(table)):
        one = table.phase.of(clip)
        found = repetition(one.feature_PD, one.time_s_P)
        if found is None:
            continue
        step_s, mean_L = found
        values[clip, :-1] = np.interp(_LAGS_S, step_s * np.arange(len(mean_L)), mean_L, right=0)
        length_s = first_return_s(step_s, mean_L)
        if length_s is not None:
            values[clip, -1] = 60 / length_s
    return values
