"""Frames matched far away in time: for each the most similar one, measured by the left ventricle's area.

A match is good where both frames show a ventricle of the same area that moves the same way, filling or ejecting.
F frames of a clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from echofm.clip import Clip
from echofm.errors import EchofmError
from echofm.estimators.left_ventricle import AreaCurve
from echofm.loss.periodic import along_trajectories, motion_prior, pixel_prior
from probe.retrieval.frames import ClipWindows, Reading, frame_features, frame_similarity

Floats = npt.NDArray[np.float64]
# How far in time a match must be away.
APART_S = 0.5
READINGS = tuple(
    Reading(source=source, windows=windows, centre_positions=positions, motion_weight=weight, along_s=along_s)
    for source in ("phase", "tokens", "grid")
    for windows in ("middle", "all")
    for positions in (False, True)
    for weight in (0.0, 0.25, 0.5)
    for along_s in (0.0, 0.08, 0.16, 0.32)
)


def far_pairs(time_s_F: Floats) -> npt.NDArray[np.bool_]:
    """(F, F) True where two frames are at least half a second apart."""
    return np.abs(time_s_F[:, None] - time_s_F) >= APART_S - 1e-6


def best_matches(similarity_FF: npt.NDArray, far_FF: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(F,) for each frame the most similar of those far from it, the first of equals. Raises where one has none."""
    if not far_FF.any(1).all():
        raise EchofmError("a frame has no other far enough from it; the clip is shorter than twice the gap")
    return np.where(far_FF, similarity_FF, -np.inf).argmax(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaMatch:
    """The matches of one clip's frames and what they are worth.

    difference_F: |area - area of the match| over the clip's range. same_F: both move the same way.
    chance_difference, chance_same: the same for all pairs far enough apart.
    """

    curve: AreaCurve
    match_F: npt.NDArray[np.int64]
    difference_F: Floats
    same_F: npt.NDArray[np.bool_]
    chance_difference: float
    chance_same: float


def match_frames(similarity_FF: npt.NDArray, curve: AreaCurve) -> AreaMatch:
    """Match every frame by a similarity and measure the matches by the area curve."""
    far = far_pairs(curve.time_s_F)
    match = best_matches(similarity_FF, far)
    area, moves = curve.area_F / np.ptp(curve.area_F), curve.direction_F()
    return AreaMatch(
        curve=curve,
        match_F=match,
        difference_F=np.abs(area - area[match]),
        same_F=moves == moves[match],
        chance_difference=float(np.abs(area[:, None] - area)[far].mean()),
        chance_same=float((moves[:, None] == moves)[far].mean()),
    )


def prior_similarity(clip: Clip, *, motion: bool = False, reach: int = 0) -> Floats:
    """(F, F) similarity of the frames themselves by EchoFM's pixel prior, or with their changes weighed in.

    reach: frames to either side over which the ways to and from two frames are compared.
    """
    video_BCTHW = torch.from_numpy(clip.frames_TCHW).float().transpose(0, 1)[None] / 255
    prior = motion_prior if motion else pixel_prior
    return along_trajectories(prior(video_BCTHW, tubelet=1), reach=reach)[0].double().numpy()


def encoder_similarity(
    encoded: ClipWindows, reading: Reading, features_FK: npt.NDArray[np.float32] | None = None
) -> Floats:
    """(F, F) similarity of a clip's frames by an encoder, read as `reading` says; features_FK: where read already."""
    time_s = encoded.frame_time_s
    features_FK = frame_features(encoded, reading) if features_FK is None else features_FK
    return frame_similarity(features_FK, reading, frame_rate_hz=(len(time_s) - 1) / (time_s[-1] - time_s[0]))


def rate_readings(
    clips: Iterable[tuple[ClipWindows, AreaCurve]], *, readings: Sequence[Reading] = READINGS
) -> pd.DataFrame:
    """How well each reading matches frames of clips with known areas, best first; to choose one, on other clips than
    those it is then measured on.

    Columns: reading, area_difference, same_direction, merit (same_direction - area_difference), means over clips.
    """
    found: list[list[tuple[float, float]]] = [[] for _ in readings]
    for encoded, curve in clips:
        read: dict[Reading, npt.NDArray[np.float32]] = {}
        for index, reading in enumerate(readings):
            still = replace(reading, motion_weight=0.0, along_s=0.0)
            if still not in read:
                read[still] = frame_features(encoded, still)
            each = match_frames(encoder_similarity(encoded, reading, read[still]), curve)
            found[index].append((float(each.difference_F.mean()), float(each.same_F.mean())))
    if not found or not found[0]:
        raise EchofmError("no clip with a left-ventricle mask on every frame, longer than a second; give others")
    means = np.mean(np.array(found), axis=1)
    frame = pd.DataFrame({"reading": list(readings), "area_difference": means[:, 0], "same_direction": means[:, 1]})
    frame["merit"] = frame["same_direction"] - frame["area_difference"]
    return frame.sort_values("merit", ascending=False, kind="stable", ignore_index=True)


def chance_of_matches(matches: Sequence[AreaMatch], *, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """p values of the matches' area differences and directions, by permutation: for sets too small for intervals.

    Under the null a match knows nothing of its own frame: in each clip all matches are moved on together by a random
    part of the frames that are far enough away, which keeps their pace and gives the chance level on the average.
    Turning the area curve instead would be no test: a match one beat away is right wherever the curve begins. Of blind
    matches of two simulated clips 7 to 9 % have p < .05: read p as a rough figure.
    p = (1 + draws at least as good) / (1 + draws).
    """
    rng = np.random.default_rng(seed)
    difference, same = np.zeros(draws), np.zeros(draws)
    for each in matches:
        by_move = _by_move(each)
        move = rng.integers(by_move.shape[1], size=draws)
        difference += by_move[0, move] / len(matches)
        same += by_move[1, move] / len(matches)
    found = np.mean([each.difference_F.mean() for each in matches])
    agreed = np.mean([each.same_F.mean() for each in matches])
    as_good = (difference <= found + 1e-12).sum(), (same >= agreed - 1e-12).sum()
    return float((1 + as_good[0]) / (1 + draws)), float((1 + as_good[1]) / (1 + draws))


def _by_move(each: AreaMatch) -> Floats:
    """(2, F - 1): both figures with all matches moved on by 1/F, 2/F, ... of each frame's far ones."""
    area, moves = each.curve.area_F / np.ptp(each.curve.area_F), each.curve.direction_F()
    frames, index = len(area), np.arange(len(area))
    far_FF = far_pairs(each.curve.time_s_F)
    count_F = far_FF.sum(1)
    # Row f lists the frames far from f first, in their order.
    listed_FF = np.argsort(~far_FF, axis=1, kind="stable")
    rank_F = np.cumsum(far_FF, 1)[index, each.match_F] - 1
    found = np.empty((2, frames - 1))
    for step in range(1, frames):
        match = listed_FF[index, (rank_F + count_F * step // frames) % count_F]
        found[:, step - 1] = np.abs(area - area[match]).mean(), (moves == moves[match]).mean()
    return found
