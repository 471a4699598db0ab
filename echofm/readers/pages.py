"""Frames that are no echo: the page of a patient or of a report before or after a cine, which names the patient.

The frames of a cine look alike from one to the next: on the real cines measured they correlate with .84 to 1.00 in the
median, and with .68 at least (.27 where a colour box flashes up). A page correlates with .2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded
from echofm.readers.kinds import no_clip

# Samples along the shorter side by which frames are compared.
_SAMPLES = 40
# Two frames between which the scene may have changed; and a scene that is another than the cine's.
_CUT, _FOREIGN = 0.5, 0.45
_SHORTEST = 3
# Part of the frames that the cine must be.
_LEAST_CINE = 0.6


def without_pages(decoded: Decoded) -> tuple[Decoded, int]:
    """The cine without the frames before and after it that are no part of it, and the number of the first frame kept.

    Refused where such frames lie in its middle, or are the most.
    """
    belongs_T = _belongs(decoded.frames_TCHW)
    if belongs_T.all():
        return decoded, 0
    kept = np.flatnonzero(belongs_T)
    first, end = int(kept[0]), int(kept[-1]) + 1
    if len(kept) < max(end - first, _LEAST_CINE * len(belongs_T)):
        raise no_clip("several_scenes")
    time_s = decoded.frame_time_s
    if time_s is not None:
        time_s = None if end - first == 1 else time_s[first:end] - time_s[first]
    return replace(decoded, frames_TCHW=decoded.frames_TCHW[first:end], frame_time_s=time_s), first


def _belongs(frames_TCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(T,) whether a frame shows the scene that most frames show."""
    samples_TN = _samples(frames_TCHW)
    alike = (samples_TN[1:] * samples_TN[:-1]).sum(axis=1)
    if len(alike) >= _SHORTEST and alike.max() < _CUT:
        # No two frames look alike: noise, in which no sector will be found.
        return np.ones(len(frames_TCHW), bool)
    scene_T = np.concatenate([[0], np.cumsum(alike < _CUT)])
    if scene_T[-1] == 0:
        return np.ones(len(frames_TCHW), bool)
    longest = int(np.bincount(scene_T).argmax())
    cine_N = _normed(np.median(samples_TN[scene_T == longest], axis=0))
    likeness = np.bincount(scene_T, samples_TN @ cine_N) / np.bincount(scene_T)
    return likeness[scene_T] >= _FOREIGN


def _samples(frames_TCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(T, N) samples of each frame, of mean 0 and length 1; 0 where a frame is all one grey."""
    step = max(1, min(frames_TCHW.shape[2:]) // _SAMPLES)
    some_TN = frames_TCHW[:, :, ::step, ::step].reshape(len(frames_TCHW), -1).astype(np.float32)
    return _normed(some_TN - some_TN.mean(axis=1, keepdims=True))


def _normed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
