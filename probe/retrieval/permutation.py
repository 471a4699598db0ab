"""Matches of a few clips against chance and against one another, by permutation: for sets too small for intervals.

F frames of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probe.retrieval.lv_area import AreaMatch, Floats, far_pairs


@dataclass(frozen=True, kw_only=True)
class MatchFigures:
    """Means over clips. p values: part of random moves at least as good (see `match_figures`)."""

    area_difference: float
    same_direction: float
    chance_area_difference: float
    chance_same_direction: float
    p_area_difference: float
    p_same_direction: float
    clips: int
    frames: int


def match_figures(
    matches: Sequence[AreaMatch], *, reach_s: float = 0.04, draws: int = 10_000, seed: int = 0
) -> MatchFigures:
    """Figures over clips, with a permutation test.

    Under the null a match knows nothing of its own frame: in each clip all matches are moved on together by a random
    part of the frames that are far enough away, which keeps their pace and gives the chance level on the average.
    Turning the area curve instead would be no test: a match one beat away is right wherever the curve begins. Of blind
    matches of two simulated clips 7 to 9 % have p < .05: read p as a rough figure.
    p = (1 + draws at least as good) / (1 + draws).
    """
    rng = np.random.default_rng(seed)
    difference, same = np.zeros(draws), np.zeros(draws)
    for each in matches:
        by_move = _by_move(each, reach_s)
        move = rng.integers(by_move.shape[1], size=draws)
        difference += by_move[0, move] / len(matches)
        same += by_move[1, move] / len(matches)
    found = float(np.mean([each.difference_F.mean() for each in matches]))
    agreed = float(np.mean([each.same_F.mean() for each in matches]))
    return MatchFigures(
        area_difference=found,
        same_direction=agreed,
        chance_area_difference=float(np.mean([each.chance_difference for each in matches])),
        chance_same_direction=float(np.mean([each.chance_same for each in matches])),
        p_area_difference=float((1 + (difference <= found + 1e-12).sum()) / (1 + draws)),
        p_same_direction=float((1 + (same >= agreed - 1e-12).sum()) / (1 + draws)),
        clips=len(matches),
        frames=sum(len(each.match_F) for each in matches),
    )


def paired_test(
    ours: Sequence[AreaMatch],
    theirs: Sequence[AreaMatch],
    *,
    block_s: float = 0.5,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Ours minus theirs on the same clips: name -> (difference of the means, two-sided p).

    Under the null the two are exchangeable: their signs are drawn at random for whole blocks of `block_s` seconds,
    since frames beside one another fail together.
    """
    rng = np.random.default_rng(seed)
    sums: dict[str, list[float]] = {"area_difference": [], "same_direction": []}
    for own, other in zip(ours, theirs, strict=True):
        block = np.floor(own.curve.time_s_F / block_s).astype(np.int64)
        for name, ahead in (
            ("area_difference", own.difference_F - other.difference_F),
            ("same_direction", own.same_F.astype(float) - other.same_F),
        ):
            sums[name] += (np.bincount(block, ahead) / len(ahead) / len(ours)).tolist()
    result = {}
    for name, parts in sums.items():
        values = np.array(parts)
        flipped = rng.choice([-1.0, 1.0], size=(draws, len(values))) @ values
        result[name] = (
            float(values.sum()),
            float((1 + (np.abs(flipped) >= abs(values.sum()) - 1e-12).sum()) / (1 + draws)),
        )
    return result


def _by_move(each: AreaMatch, reach_s: float) -> Floats:
    """(2, F - 1): both figures with all matches moved on by 1/F, 2/F, ... of each frame's far ones."""
    area, moves = each.curve.area_F / np.ptp(each.curve.area_F), each.curve.direction_F(reach_s)
    frames = len(area)
    far_FF = far_pairs(each.curve.time_s_F, apart_s=each.apart_s)
    count_F = far_FF.sum(1)
    # Row f lists the frames far from f first, in their order.
    listed_FF = np.argsort(~far_FF, axis=1, kind="stable")
    rank_F = np.cumsum(far_FF, 1)[np.arange(frames), each.match_F] - 1
    found = np.empty((2, frames - 1))
    for step in range(1, frames):
        match = listed_FF[np.arange(frames), (rank_F + count_F * step // frames) % count_F]
        found[:, step - 1] = np.abs(area - area[match]).mean(), (moves == moves[match]).mean()
    return found
