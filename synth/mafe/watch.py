"""One clip watched: its middle window followed, its flow, its modes.

T times, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from echofm.clip import Clip
from echofm.embed.inputs import conformed
from echofm.embed.rhythm import cycle_length_s
from echofm.shards.windows import Windowing, cut_windows
from synth.mafe.follow import STRIDE, Followed, animated, flow_on, follow
from synth.mafe.modes import CELLS, Modes, clip_modes
from synth.mafe.network import Mafe
from synth.mafe.phase import thumbnails


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """followed: the middle window, alone in its batch. flow_T2HW: pixels, where in the fullest frame lies what is at a
    pixel at each time. time_s_T: since that frame, NaN where unknown. index_T: the times' frames of the clip under the
    contract. cycle_s: of the clip; None where nothing repeats."""

    followed: Followed
    flow_T2HW: npt.NDArray[np.float32]
    time_s_T: npt.NDArray[np.float64]
    index_T: npt.NDArray[np.int64]
    cycle_s: float | None

    @property
    def phase_T(self) -> npt.NDArray[np.float64] | None:
        """Parts of a cycle since the fullest frame; None where unknown."""
        return None if self.cycle_s is None else self.time_s_T / self.cycle_s % 1

    def modes(self, count: int) -> Modes:
        """Its motion in so many modes."""
        field = F.adaptive_avg_pool2d(torch.from_numpy(self.flow_T2HW), CELLS).numpy()
        return clip_modes(field, modes=count, phase_T=self.phase_T)


def watched(net: Mafe, clip: Clip) -> Watched:
    """Watch a clip as read. A clip of unknown frame times has neither times nor a cycle."""
    contract = net.config.contract
    clip = conformed(clip, contract)
    windowing = Windowing(length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    (window,) = windowing.spread(0, clip.clip_id, clip.frame_time_s, len(clip.frames_TCHW), count=1)
    device = next(net.parameters()).device
    followed = follow(net, cut_windows(clip, [window]).to(device).video_BCTHW, both_ways=True)
    reference = int(followed.reference_B[0])
    time_s_T = window.frame_time_s_L[::STRIDE]
    cycle_s = None
    if clip.frame_time_s is not None:
        cycle_s = cycle_length_s(thumbnails(clip.frames_TCHW.mean(1)), clip.frame_time_s)
    return Watched(
        followed=followed,
        flow_T2HW=flow_on(net, followed, 0, followed.anatomy(0)[1]).cpu().numpy(),
        time_s_T=time_s_T - time_s_T[reference],
        index_T=window.indices_L[::STRIDE],
        cycle_s=cycle_s,
    )


def swapped(net: Mafe, anatomy: Watched, motion: Watched) -> npt.NDArray[np.float32]:
    """(T, H, W): the fullest frame of one clip moved as another moves, [0, 1]."""
    return animated(net, motion.followed, 0, anatomy.followed.anatomy(0)).cpu().numpy()
