"""The left ventricle's area in every frame: from masks, or read from an encoder's tokens by a small head.

F frames of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.errors import EchofmError
from echofm.estimators.head import FittedHead, HeadKind, fit_head
from echofm.estimators.traced_frames import TracedFrames, fitted_to, frame_tokens

if TYPE_CHECKING:
    from echofm.hub import Encoder

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


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftVentricleReader:
    """Reads the ventricle's area from an encoder's tokens, a frame at a time."""

    encoder: Encoder
    head: FittedHead

    def areas(self, tokens_FRCD: npt.NDArray[np.floating]) -> Floats:
        """(F,) area of each frame, a share of the picture in [0, 1]."""
        return (self.head.predict(tokens_FRCD) == LEFT_VENTRICLE).mean((1, 2))

    def curve(self, clip: Clip, *, batch: int = 16, device: torch.device | str = "cpu") -> AreaCurve:
        """The area in every frame of a clip. Raises EchofmError where the clip's frame times are unknown."""
        if clip.frame_time_s is None:
            raise EchofmError(f"clip {clip.clip_id} does not state its frame times; an area curve needs them")
        clip = fitted_to(clip, self.encoder)
        assert clip.frame_time_s is not None
        tokens_FRCD = frame_tokens(self.encoder, clip, range(len(clip.frames_TCHW)), batch=batch, device=device)
        return AreaCurve(area_F=self.areas(tokens_FRCD), time_s_F=clip.frame_time_s)


def fit_left_ventricle(
    encoder: Encoder,
    train: TracedFrames,
    val: TracedFrames,
    *,
    head: HeadKind = "linear",
    steps: int = 600,
    seed: int = 0,
) -> LeftVentricleReader:
    """Fit on training patients' traced frames, choose on validation patients' (see `traced_frames`)."""
    fitted = fit_head(
        head,
        (train.tokens_FRCD, train.mask_FHW),
        (val.tokens_FRCD, val.mask_FHW),
        classes=int(train.mask_FHW[train.mask_FHW != NOT_ANNOTATED].max()) + 1,
        steps=steps,
        seed=seed,
    )
    return LeftVentricleReader(encoder=encoder, head=fitted)
