"""What may be given to an encoder beside a batch of its contract: arrays, and a clip as read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import Clip
from echofm.conform import conform
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.window import Windows


def as_video(given: npt.NDArray | Clip, contract: InputContract) -> torch.Tensor:
    """(B, C, T, H, W) as the contract's values: an array as it is, or the windows that cover a clip.

    Raises EchofmError on anything else.
    """
    if isinstance(given, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(given))
    if not isinstance(given, Clip):
        raise EchofmError(f"a {type(given).__name__} is no video; give a tensor or array (B, C, T, H, W), or a Clip")
    channels = 1 if contract.colour == "grey_bt601" else 3
    clip = conform(given, size=contract.size, frame_rate_hz=contract.frame_rate_hz, channels=channels)
    frames_TCHW, times = clip.frames_TCHW, clip.frame_time_s
    windows = Windows(times, len(frames_TCHW), length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    cut = [frames_TCHW[windows.indices(start)[0]] for start in windows.even_starts_s(None)]
    low, high = contract.value_range
    video_BTCHW = torch.from_numpy(np.stack(cut)).float() / 255 * (high - low) + low
    return video_BTCHW.transpose(1, 2)
