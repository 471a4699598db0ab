"""What the periodic priors are worth on the phantom: do they match moments of one phase, alone or along trajectories?

    python -m benchmarks.phantom_priors SHARDS

Every second frame of every fifth validation clip; for each the most similar one of the clip at least 0.5 s away.
Printed: the part of matches within 5 % of a cycle, means over clips, of all rhythms and of the regular one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import tyro

from echofm.clip import Clip
from echofm.progress import progress_bar
from echofm.shards.read import ShardSet
from probe.retrieval.lv_area import best_matches, far_pairs, prior_similarity

_STEP, _EVERY, _TOLERANCE = 2, 5, 0.05
_REACHES = (0, 2, 4, 8, 12)


def agreement(similarity_FF: npt.NDArray, clip: Clip) -> float:
    """Part of the frames whose best match is within 5 % of a cycle."""
    assert clip.phase_T is not None and clip.frame_time_s is not None
    match = best_matches(similarity_FF, far_pairs(clip.frame_time_s))
    apart = np.abs(clip.phase_T - clip.phase_T[match])
    return float((np.minimum(apart, 1 - apart) <= _TOLERANCE).mean())


def thinned(clip: Clip) -> Clip:
    """Every second frame."""
    assert clip.phase_T is not None and clip.frame_time_s is not None
    return clip.replace(
        frames_TCHW=clip.frames_TCHW[::_STEP],
        phase_T=clip.phase_T[::_STEP],
        frame_time_s=clip.frame_time_s[::_STEP],
        mask_THW=None,
    )


def main(shards: tyro.conf.Positional[Path], threads: int = 1) -> None:
    """Print the table.

    Args:
        shards: Of a phantom.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    val = ShardSet.open(shards).split("val")
    clips = [thinned(val.clip(index)) for index in range(0, len(val), _EVERY)]
    regular = np.array([clip.labels["rhythm"] == "regular" for clip in clips])
    print(f"phantom, {len(clips)} clips\n\n| prior | frames either way | all rhythms | regular |\n|---|---|---|---|")
    for motion, name in ((False, "pixel"), (True, "pixel+difference")):
        with progress_bar(name, len(_REACHES)) as bar:
            for reach in _REACHES:
                priors = (prior_similarity(clip, motion=motion, reach=reach) for clip in clips)
                found = np.array([agreement(prior_FF, clip) for prior_FF, clip in zip(priors, clips)])
                print(f"| {name} | {reach} | {found.mean():.1%} | {found[regular].mean():.1%} |", flush=True)
                bar.advance(1)


if __name__ == "__main__":
    tyro.cli(main)
