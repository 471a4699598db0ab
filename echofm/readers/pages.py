"""Frames that are no echo: the page of a patient or of a report before or after a cine, which names the patient.

Two things tell such frames. The frames of a cine look alike from one to the next (correlation), and where the screen
changes they hold the same greys (half the difference of two histograms). On 33 real cines neighbours correlate with .68
at least, .84 to 1.00 in the median, and no frame's greys differ from the median frame's by more than .20, no
neighbours' by more than .19; a page's differ by .57 at least, whatever stands still around it. A page shows no fan and
stands still: another cine, or a page that is faded in, sets the file aside.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded
from echofm.readers.kinds import no_clip

Frames = npt.NDArray[np.uint8]
# Samples along the shorter side by which frames are compared.
_SAMPLES, _GREY_SAMPLES = 40, 80
# Two frames between which the scene may have changed, by correlation; a scene that is another than the cine's; greys
# that differ; grey levels by which a pixel changes, and above black.
_CUT, _FOREIGN, _OTHER_GREYS, _CHANGES = 0.5, 0.45, 0.4, 16
_SHORTEST = 3
# Part of the frames that the cine must be; of the pixels that change in what is no page.
_LEAST_CINE, _MOVES = 0.6, 0.05


def without_pages(decoded: Decoded) -> tuple[Decoded, int]:
    """The cine without the pages before and after it, and the number of the first frame kept.

    Refused where frames of another scene lie in its middle, are the most, or are no page.
    """
    frames_TCHW = decoded.frames_TCHW
    belongs_T, abrupt_T = _scenes(frames_TCHW)
    if belongs_T.all():
        return decoded, 0
    kept = np.flatnonzero(belongs_T)
    if len(kept) == 0:
        raise no_clip("several_scenes")
    first, end = int(kept[0]), int(kept[-1]) + 1
    if len(kept) < max(end - first, _LEAST_CINE * len(belongs_T)):
        raise no_clip("several_scenes")
    cine_TCHW = frames_TCHW[kept]
    if first:
        first = _pages_in(frames_TCHW[:first], cine_TCHW, is_abrupt=abrupt_T[first - 1])
    if end < len(belongs_T):
        end = len(belongs_T) - _pages_in(frames_TCHW[end:][::-1], cine_TCHW, is_abrupt=abrupt_T[end - 1])
    time_s = decoded.frame_time_s
    if time_s is not None:
        time_s = None if end - first == 1 else time_s[first:end] - time_s[first]
    return replace(decoded, frames_TCHW=frames_TCHW[first:end], frame_time_s=time_s), first


def _pages_in(frames_TCHW: Frames, cine_TCHW: Frames, *, is_abrupt: bool) -> int:
    """How many frames at an end, the outermost first, are a page or black: all, or those before a slow change begins.

    Refused where they are neither page nor slow change: another cine, or a page that is faded in.
    """
    is_lit_T = frames_TCHW.max(axis=(1, 2, 3)) >= _CHANGES
    n_black = int(is_lit_T.argmax()) if is_lit_T.any() else len(frames_TCHW)
    lit_TCHW = frames_TCHW[n_black:]
    if len(lit_TCHW) == 0:
        return n_black
    if not is_abrupt:
        if not _are_dimmed(lit_TCHW, cine_TCHW):
            raise no_clip("several_scenes")
        return n_black
    moves = (np.ptp(lit_TCHW[:, :, ::4, ::4], axis=0) > _CHANGES).mean() > _MOVES
    if moves or _has_fan(lit_TCHW[:1]):
        raise no_clip("several_scenes")
    return len(frames_TCHW)


def _are_dimmed(frames_TCHW: Frames, cine_TCHW: Frames) -> bool:
    """Whether all frames are the cine's picture at other gains, told where the screen changes."""
    both_TCHW = np.concatenate([frames_TCHW, cine_TCHW])
    changes_CHW = np.ptp(both_TCHW, axis=0) > _CHANGES
    samples_TN = both_TCHW[:, changes_CHW].astype(np.float32)
    samples_TN = _normed(samples_TN - samples_TN.mean(axis=1, keepdims=True))
    cine_N = _normed(np.median(samples_TN[len(frames_TCHW) :], axis=0))
    return bool((samples_TN[: len(frames_TCHW)] @ cine_N).min() >= _FOREIGN)


def _has_fan(frames_TCHW: Frames) -> bool:
    from echofm.readers.refused import Refused
    from echofm.readers.sector import find_sector

    try:
        find_sector(Decoded(frames_TCHW=frames_TCHW))
    except Refused as refused:
        return refused.kind == "several_images"
    return True


def _scenes(frames_TCHW: Frames) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(T,) whether a frame shows the scene that most frames show; (T - 1,) whether the screen changes after it."""
    samples_TN = _samples(frames_TCHW)
    alike = (samples_TN[1:] * samples_TN[:-1]).sum(axis=1)
    if len(alike) >= _SHORTEST and alike.max() < _CUT:
        # No two frames look alike: noise, in which no sector will be found.
        return np.ones(len(frames_TCHW), bool), np.zeros(len(alike), bool)
    scene_T = np.concatenate([[0], np.cumsum(alike < _CUT)])
    in_longest_T = scene_T == np.bincount(scene_T).argmax()
    cine_N = _normed(np.median(samples_TN[in_longest_T], axis=0))
    likeness = np.bincount(scene_T, samples_TN @ cine_N) / np.bincount(scene_T)
    greys_TG = _greys(frames_TCHW)
    other_greys_T = _differ(greys_TG, np.median(greys_TG[in_longest_T], axis=0)) > _OTHER_GREYS
    belongs_T = (likeness[scene_T] >= _FOREIGN) & ~other_greys_T
    return belongs_T, (alike < _CUT) | (_differ(greys_TG[1:], greys_TG[:-1]) > _OTHER_GREYS)


def _differ(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.abs(one - other).sum(axis=-1) / 2


def _greys(frames_TCHW: Frames) -> npt.NDArray[np.float64]:
    """(T, 32) the histogram of each frame where the screen changes, so that what stands still around it is no part."""
    step = max(1, min(frames_TCHW.shape[2:]) // _GREY_SAMPLES)
    some_TN = frames_TCHW[:, 0, ::step, ::step].reshape(len(frames_TCHW), -1)
    changes_N = np.ptp(some_TN, axis=0) > _CHANGES
    some_TN = some_TN[:, changes_N] if changes_N.any() else some_TN
    return np.stack([np.bincount(frame_N >> 3, minlength=32) / len(frame_N) for frame_N in some_TN])


def _samples(frames_TCHW: Frames) -> npt.NDArray[np.float32]:
    """(T, N) samples of each frame, of mean 0 and length 1; 0 where a frame is all one grey."""
    step = max(1, min(frames_TCHW.shape[2:]) // _SAMPLES)
    some_TN = frames_TCHW[:, :, ::step, ::step].reshape(len(frames_TCHW), -1).astype(np.float32)
    return _normed(some_TN - some_TN.mean(axis=1, keepdims=True))


def _normed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
