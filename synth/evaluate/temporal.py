"""How a clip moves, in five numbers, since Frechet distances hardly see time (https://arxiv.org/abs/2404.12391).

Shapes: T frames at 25 Hz, 64 x 64 pixels, S = 5 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.measure import block_reduce

from echofm.clip import Clip
from echofm.conform import conform
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import Videos
from echofm.errors import UnreadableFile
from synth.evaluate.features import Vectors

NAMES = ("change", "persistence", "flow-warp error", "frequency", "periodicity")
_RATE_HZ, _SIZE, _BLOCK, _LAG = 25.0, 64, 4, 5
_LEAST_FRAMES = 12
# From 150 to 40 beats a minute.
_BEAT_LAGS = range(10, 38)
_LEAST = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """Clips of one set, read again. vectors: of those long enough; frames: by clip id (T, 64, 64), every second one."""

    vectors: Vectors
    frames: Mapping[str, npt.NDArray[np.uint8]]


def watched(
    videos: Videos, table: EmbeddingTable, *, synthetic: bool = False, advance: Callable[[], None] = lambda: None
) -> Watched:
    """The clips of a table. synthetic: each clip is its own patient. advance: called after each clip."""
    ids, names = table.clip_id.astype(str), (table.clip_id if synthetic else table.patient_id).astype(str)
    found: dict[int, npt.NDArray[np.uint8]] = {}
    rows: dict[int, npt.NDArray[np.float64]] = {}
    for index, each in enumerate(videos.read([(str(each), None) for each in table.clip_id], _seen)):
        if not isinstance(each, UnreadableFile):
            found[index], row = each
            rows |= {} if row is None else {index: row}
        advance()
    vectors = Vectors(vectors_VD=np.array([*rows.values()]).reshape(-1, len(NAMES)), patients=names[[*rows]])
    return Watched(vectors=vectors, frames={ids[index]: frames for index, frames in found.items()})


def _seen(clip: Clip, _: object) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64] | None]:
    fitted = conform(clip, size=_SIZE, channels=1, frame_rate_hz=_RATE_HZ if clip.frame_time_s is not None else None)
    frames_THW = fitted.frames_TCHW[:, 0]
    found = statistics(frames_THW.astype(np.float32) / 255) if len(frames_THW) >= _LEAST_FRAMES else None
    return frames_THW[::2].copy(), found


def statistics(frames_THW: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(S,) of one clip's frames in [0, 1], at 25 Hz.

    change: log of the root mean square step from frame to frame over the picture's own contrast. persistence: log of
    the step over five frames by that over one, 0 where frames are in no order. flow-warp error: log of the step that
    dense optical flow (OpenCV's DIS) leaves over the whole one. frequency: mean of the time courses of 4 x 4 blocks, in
    Hz, by energy. periodicity: highest autocorrelation of these courses at 40 to 150 beats a minute.
    """
    step = _rms(np.diff(frames_THW, axis=0))
    contrast = max(float(frames_THW.std()), _LEAST)
    long_step = _rms(frames_THW[_LAG:] - frames_THW[:-_LAG])
    course_TB = block_reduce(frames_THW, (1, _BLOCK, _BLOCK), np.mean).reshape(len(frames_THW), -1)
    course_TB = course_TB - course_TB.mean(0)
    energy_F = np.square(np.abs(np.fft.rfft(course_TB, axis=0))).sum(1)
    hertz_F = np.fft.rfftfreq(len(frames_THW), 1 / _RATE_HZ)
    return np.array(
        [
            np.log(max(step, _LEAST) / contrast),
            np.log(max(long_step, _LEAST) / max(step, _LEAST)),
            np.log(max(_warped_step(frames_THW), _LEAST) / max(step, _LEAST)),
            float(energy_F @ hertz_F / max(energy_F.sum(), _LEAST)),
            _periodicity(course_TB),
        ]
    )


def _rms(x: npt.NDArray) -> float:
    return float(np.sqrt(np.square(x).mean()))


def _warped_step(frames_THW: npt.NDArray[np.floating]) -> float:
    import cv2

    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)  # type: ignore[attr-defined]
    grey_THW = np.round(frames_THW * 255).astype(np.uint8)
    rows_HW, columns_HW = np.indices(frames_THW.shape[1:]).astype(np.float32)
    left = []
    for now, after in zip(range(len(grey_THW) - 1), range(1, len(grey_THW))):
        field_HW2 = flow.calc(grey_THW[now], grey_THW[after], None)
        columns, rows = columns_HW + field_HW2[..., 0], rows_HW + field_HW2[..., 1]
        back_HW = cv2.remap(frames_THW[after], columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        left.append(back_HW - frames_THW[now])
    return _rms(np.array(left))


def _periodicity(course_TB: npt.NDArray[np.floating]) -> float:
    lags = [lag for lag in _BEAT_LAGS if lag < len(course_TB) - 2]
    whole = max(float(np.square(course_TB).mean()), _LEAST)
    return max((float((course_TB[lag:] * course_TB[:-lag]).mean()) / whole for lag in lags), default=0.0)
