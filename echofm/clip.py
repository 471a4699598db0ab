"""Clip and ClipBatch: the only forms in which pixels travel.

Shapes: B clips, T frames, C channels (1 grey or 3 RGB), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError
from echofm.fan import Fan

if TYPE_CHECKING:
    import torch

Label = float | int | str
# What a label may be called wherever it is kept.
LABEL_NAME = r"^[a-z][a-z0-9_]{0,63}$"
# The classes of every mask.
BACKGROUND, LEFT_VENTRICLE, MYOCARDIUM, LEFT_ATRIUM, NOT_ANNOTATED = 0, 1, 2, 3, 255


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One cine loop as read: de-identified pixels, true times, truth where the source has it.

    frames_TCHW: uint8, C 1 (BT.601 luma) or 3 (RGB); zero outside the sector in every frame.
    sector_HW: bool, True inside the ultrasound sector. fan: the beams of which it is made, in this clip's pixels; None
        where no fan was found in it (a mask that was given, an image that fills its frame).
    frame_time_s: (T,) seconds since the first frame, strictly increasing; None where the file does not tell.
    clip_id, patient_id, study_id: keyed hashes (echofm.ids), never a name, a path or a tag. A study is one examination
        of a patient; None where the source does not tell.
    patient_by: how the reader knew the patient: "given" by the source, "tag", "placeholder", "study" or "name" (of the
        file); see echofm.readers.patients.
    pixel_spacing_mm: (row, column) millimetres between pixel centres; None where unknown.
    view: "A4C", "A2C", "PLAX", "PSAX", ...; None where unknown.
    kind: a word of `echofm.readers.kinds.KINDS`. simulated: True for the phantom's clips.
    labels: one naming scheme, the unit last in the name: ef_percent, edv_ml, esv_ml, heart_rate_bpm, ivsd_cm.
    phase_T: cardiac phase in [0, 1), 0 at end-diastole, NaN where unknown; None without such truth.
    mask_THW: uint8 classes BACKGROUND .. LEFT_ATRIUM, NOT_ANNOTATED; None without such truth.
    """

    frames_TCHW: npt.NDArray[np.uint8]
    sector_HW: npt.NDArray[np.bool_]
    clip_id: str
    patient_id: str
    study_id: str | None = None
    patient_by: str = "given"
    fan: Fan | None = None
    frame_time_s: npt.NDArray[np.float64] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    kind: str = "unknown"
    simulated: bool = False
    labels: Mapping[str, Label] = field(default_factory=dict)
    phase_T: npt.NDArray[np.float32] | None = None
    mask_THW: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        frames = self.frames_TCHW
        assert frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[1] in (1, 3), frames.shape
        assert len(frames) > 0, "a clip has at least one frame"
        assert self.sector_HW.shape == frames.shape[2:] and self.sector_HW.dtype == np.bool_
        for per_frame in (self.frame_time_s, self.phase_T, self.mask_THW):
            assert per_frame is None or len(per_frame) == len(frames)

    @property
    def frame_rate_hz(self) -> float | None:
        """Mean frames per second; None where the times are unknown or there is one frame."""
        if self.frame_time_s is None or len(self.frame_time_s) < 2:
            return None
        return float((len(self.frame_time_s) - 1) / (self.frame_time_s[-1] - self.frame_time_s[0]))

    def replace(self, **changes: Any) -> Clip:
        """A copy with the named fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipBatch:
    """Clips of one length and size, ready for a model.

    video_BCTHW: uint8 as stored until `to`, float32 in [0, 1] after it.
    sector_BHW: bool. valid_BT: bool, False on frames repeated because the clip was too short.
    frame_time_s_BT: seconds from the window's first frame, NaN where unknown.
    draw_B: int64, one seed per clip from (seed, epoch, clip id): every random choice about the clip comes
        from it, so that no choice depends on the number of processes or workers.
    """

    video_BCTHW: torch.Tensor
    sector_BHW: torch.Tensor
    valid_BT: torch.Tensor
    frame_time_s_BT: torch.Tensor
    draw_B: torch.Tensor
    clip_ids: Sequence[str]
    patient_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def to(self, device: torch.device | str) -> ClipBatch:
        """Move to a device; bytes become float32 in [0, 1] there, once, after the transfer."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("video_BCTHW", "sector_BHW", "valid_BT", "frame_time_s_BT", "draw_B")
        }
        if not moved["video_BCTHW"].is_floating_point():
            moved["video_BCTHW"] = moved["video_BCTHW"].float().div_(255)
        return replace(self, **moved)

    def pin_memory(self) -> ClipBatch:
        """Page-locked copies of the tensors, for the loader's asynchronous transfer."""
        names = ("video_BCTHW", "sector_BHW", "valid_BT", "frame_time_s_BT", "draw_B")
        return replace(self, **{name: getattr(self, name).pin_memory() for name in names})

    def __getitem__(self, part: slice) -> ClipBatch:
        """A contiguous part of the batch, for gradient accumulation."""
        if not isinstance(part, slice):
            raise EchofmError("a ClipBatch is cut by slices, e.g. batch[0:4]")
        names = (
            "video_BCTHW",
            "sector_BHW",
            "valid_BT",
            "frame_time_s_BT",
            "draw_B",
            "clip_ids",
            "patient_ids",
        )
        return replace(self, **{name: getattr(self, name)[part] for name in names})
