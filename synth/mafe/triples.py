"""Which frames of a clip are shown together: two of a beat, and one between them that is to be predicted.

T frames of the clip, K triples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synth.mafe.phase import Beats

# Of a cycle; a beat's ejection takes about a third, filling most of the rest.
_NEAREST, _FURTHEST = 0.1, 0.5
# Where no cycle is known: that of 75 beats a minute.
_CYCLE_S = 0.8
# Of the triples whose middle frame is the last itself, so that the whole motion is learnt too.
_WHOLE = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Triples:
    """index_K3: frames (first, middle, last), first < middle <= last. time_K: of the middle, 0 first, 1 last."""

    index_K3: npt.NDArray[np.int64]
    time_K: npt.NDArray[np.float32]


def chosen_triples(
    time_s_T: npt.NDArray[np.float64], beats: Beats | None, *, count: int, rng: np.random.Generator
) -> Triples:
    """Every second one near a fullest and the emptiest frame after it, the others any two frames of a beat.

    beats: of the clip, None where none were found. The clip has three frames or more.
    """
    pairs = beats.pairs if beats is not None else []
    cycle_s = beats.cycle_s if beats is not None else _CYCLE_S
    found = []
    for number in range(count):
        if pairs and number % 2 == 0:
            first, last = pairs[int(rng.integers(len(pairs)))]
        else:
            # From a frame after which there is room; in a clip shorter than that from its first ones.
            gap_s = rng.uniform(_NEAREST, _FURTHEST) * cycle_s
            room = int(np.searchsorted(time_s_T, time_s_T[-1] - gap_s, side="right"))
            first = int(rng.integers(max(1, min(room, len(time_s_T) - 2))))
            last = int(np.abs(time_s_T - time_s_T[first] - gap_s).argmin())
        last = min(max(last, first + 2), len(time_s_T) - 1)
        first = min(first, last - 2)
        middle = last if rng.uniform() < _WHOLE else int(rng.integers(first + 1, last))
        found.append((first, middle, last))
    index_K3 = np.array(found, np.int64)
    first_K, middle_K, last_K = time_s_T[index_K3].T
    return Triples(index_K3=index_K3, time_K=((middle_K - first_K) / (last_K - first_K)).astype(np.float32))
