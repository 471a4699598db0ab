"""Does like look alike? For every frame the most similar one far away in time, judged by the ventricle's area.

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

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.errors import EchofmError
from echofm.loss.periodic import along_trajectories, motion_prior, pixel_prior
from probe.moments import Moments, Reading, frame_features, frame_similarity

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaCurve:
    """area_F: the left ventricle's area per frame, any unit. time_s_F: seconds, evenly spaced."""

    area_F: Floats
    time_s_F: Floats

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return float((len(self.time_s_F) - 1) / (self.time_s_F[-1] - self.time_s_F[0]))

    def direction_F(self, reach_s: float = 0.04) -> npt.NDArray[np.int8]:
        """1 filling, -1 ejecting, 0 neither: sign of the area `reach_s` later minus that as much earlier."""
        last, index = len(self.area_F) - 1, np.arange(len(self.area_F))
        step = max(1, round(reach_s * self.frame_rate_hz))
        change = self.area_F[np.minimum(index + step, last)] - self.area_F[np.maximum(index - step, 0)]
        return np.sign(change).astype(np.int8)


def mask_area(clip: Clip) -> AreaCurve | None:
    """The area curve of a clip whose every frame has a mask with a left ventricle in it; None for others."""
    if clip.mask_THW is None or clip.frame_time_s is None or len(clip.mask_THW) < 2:
        return None
    area = (clip.mask_THW == LEFT_VENTRICLE).sum((1, 2)).astype(np.float64)
    whole = not (clip.mask_THW == NOT_ANNOTATED).all((1, 2)).any()
    return AreaCurve(area_F=area, time_s_F=clip.frame_time_s) if whole and area.min() > 0 else None


def far_pairs(time_s_F: Floats, *, apart_s: float = 0.5) -> npt.NDArray[np.bool_]:
    """(F, F) True where two frames are at least `apart_s` seconds apart."""
    return np.abs(time_s_F[:, None] - time_s_F) >= apart_s - 1e-6


def best_matches(similarity_FF: npt.NDArray, far_FF: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(F,) for each frame the most similar of those far from it, the first of equals. Raises where one has none."""
    if not far_FF.any(1).all():
        raise EchofmError("a frame has no other far enough from it; the clip is shorter than twice the gap")
    return np.where(far_FF, similarity_FF, -np.inf).argmax(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class CycleMatch:
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
    apart_s: float


def judge(similarity_FF: npt.NDArray, curve: AreaCurve, *, apart_s: float = 0.5, reach_s: float = 0.04) -> CycleMatch:
    """Match every frame by a similarity and judge the matches by the area curve."""
    far = far_pairs(curve.time_s_F, apart_s=apart_s)
    match = best_matches(similarity_FF, far)
    area, moves = curve.area_F / np.ptp(curve.area_F), curve.direction_F(reach_s)
    return CycleMatch(
        curve=curve,
        match_F=match,
        difference_F=np.abs(area - area[match]),
        same_F=moves == moves[match],
        chance_difference=float(np.abs(area[:, None] - area)[far].mean()),
        chance_same=float((moves[:, None] == moves)[far].mean()),
        apart_s=apart_s,
    )


@dataclass(frozen=True, kw_only=True)
class CycleFigures:
    """Means over clips. p values: part of random moves at least as good (see `cycle_figures`)."""

    area_difference: float
    same_direction: float
    chance_area_difference: float
    chance_same_direction: float
    p_area_difference: float
    p_same_direction: float
    clips: int
    frames: int


def cycle_figures(
    matches: Sequence[CycleMatch], *, reach_s: float = 0.04, draws: int = 10_000, seed: int = 0
) -> CycleFigures:
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
    return CycleFigures(
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
    ours: Sequence[CycleMatch],
    theirs: Sequence[CycleMatch],
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


def _by_move(each: CycleMatch, reach_s: float) -> Floats:
    """(2, F - 1): both figures with all matches moved on by 1/F, 2/F, ... of each frame's far ones."""
    area, moves = each.curve.area_F / np.ptp(each.curve.area_F), each.curve.direction_F(reach_s)
    frames = len(area)
    far_FF = far_pairs(each.curve.time_s_F, apart_s=each.apart_s)
    count_F = far_FF.sum(1)
    # Row f lists the frames far from f first, in their order.
    listed_FF = np.argsort(~far_FF, axis=1, kind="stable")
    place_F = np.cumsum(far_FF, 1)[np.arange(frames), each.match_F] - 1
    found = np.empty((2, frames - 1))
    for step in range(1, frames):
        match = listed_FF[np.arange(frames), (place_F + count_F * step // frames) % count_F]
        found[:, step - 1] = np.abs(area - area[match]).mean(), (moves == moves[match]).mean()
    return found


def prior_similarity(clip: Clip, *, motion: bool = False, reach: int = 0) -> npt.NDArray[np.float64]:
    """(F, F) similarity of the frames themselves by EchoFM's pixel prior, or with their changes weighed in.

    reach: frames to either side over which the ways to and from two frames are compared.
    """
    video_BCTHW = torch.from_numpy(clip.frames_TCHW).float().transpose(0, 1)[None] / 255
    prior = motion_prior if motion else pixel_prior
    return along_trajectories(prior(video_BCTHW, tubelet=1), reach=reach)[0].double().numpy()


def area_similarity(curve: AreaCurve, *, reach: int) -> npt.NDArray[np.float64]:
    """(F, F) by the true areas, `reach` frames to either side: what the volume alone tells."""
    area = torch.from_numpy(curve.area_F)
    return along_trajectories(-(area[:, None] - area).square()[None], reach=reach)[0].numpy()


def moment_similarity(moments: Moments, reading: Reading) -> npt.NDArray[np.float64]:
    """(F, F) similarity of a clip's frames by an encoder, read as `reading` says."""
    return _similarity(frame_features(moments, reading), moments, reading)


def _similarity(features_FK: npt.NDArray[np.float32], moments: Moments, reading: Reading) -> npt.NDArray[np.float64]:
    time_s = moments.frame_time_s
    return frame_similarity(features_FK, reading, frame_rate_hz=(len(time_s) - 1) / (time_s[-1] - time_s[0]))


READINGS = tuple(
    Reading(source=source, windows=windows, centre_places=places, motion_weight=weight, along_s=along_s)
    for source in ("phase", "tokens", "grid")
    for windows in ("middle", "all")
    for places in (False, True)
    for weight in (0.0, 0.25, 0.5)
    for along_s in (0.0, 0.08, 0.16, 0.32)
)


def rate_readings(
    clips: Iterable[tuple[Moments, AreaCurve]], *, readings: Sequence[Reading] = READINGS
) -> pd.DataFrame:
    """How well each reading matches frames of clips with known areas, best first; to choose one, on other clips than
    those it is then judged on.

    Columns: reading, area_difference, same_direction, merit (same_direction - area_difference), means over clips.
    """
    found: list[list[tuple[float, float]]] = [[] for _ in readings]
    for moments, curve in clips:
        read: dict[Reading, npt.NDArray[np.float32]] = {}
        for place, reading in enumerate(readings):
            still = replace(reading, motion_weight=0.0, along_s=0.0)
            if still not in read:
                read[still] = frame_features(moments, still)
            each = judge(_similarity(read[still], moments, reading), curve)
            found[place].append((float(each.difference_F.mean()), float(each.same_F.mean())))
    if not found or not found[0]:
        raise EchofmError("no clip with a left-ventricle mask on every frame, longer than a second; give others")
    means = np.mean(np.array(found), axis=1)
    frame = pd.DataFrame({"reading": list(readings), "area_difference": means[:, 0], "same_direction": means[:, 1]})
    frame["merit"] = frame["same_direction"] - frame["area_difference"]
    return frame.sort_values("merit", ascending=False, kind="stable", ignore_index=True)
