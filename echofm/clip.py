"""Clip and ClipBatch: the only forms in which pixels travel.

Shapes: B clips, T frames, C channels (1 grey or 3 RGB), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
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
# What a Clip says of itself, and shards of it, beside its labels.
FACTS = ("clip_id", "patient_id", "study_id", "pixel_spacing_mm", "fan", "view", "kind", "simulated")
# What a Clip holds of every frame, beside its time; displacement apart, a frame's does not depend on the others.
FRAME_FIELDS = (
    "frames_TCHW",
    "phase_T",
    "mask_THW",
    "paired_TCHW",
    "clean_TCHW",
    "velocity_m_per_s_THW",
    "displacement_px_T2HW",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One cine loop as read: de-identified pixels, true times, truth where the source has it.

    frames_TCHW: uint8, C 1 (BT.601 luma) or 3 (RGB); zero outside the sector in every frame.
    sector_HW: bool, True inside the ultrasound sector. fan: the beams of which it is made, in this clip's pixels; None
        where no fan was found in it (a mask that was given, an image that fills its frame).
    lit_outside: part of a cine's changing (of a still's lit) pixels that the sector leaves out; None where unknown.
    dropped_frames: how many frames before and after the cine were no echo and are left out.
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
    paired_TCHW: uint8, C 1: of a colour clip the same moments in grey. clean_TCHW: uint8, C 1, without noise.
    displacement_px_T2HW: float16, pixels of this clip (right, down) from a frame to the next one of what is at a pixel
        of the frame; NaN in the last frame, 0 outside the sector.
    velocity_m_per_s_THW: float16, along the beam, towards the probe positive. These four are the phantom's, on request.
    """

    frames_TCHW: npt.NDArray[np.uint8]
    sector_HW: npt.NDArray[np.bool_]
    clip_id: str
    patient_id: str
    study_id: str | None = None
    patient_by: str = "given"
    fan: Fan | None = None
    lit_outside: float | None = None
    dropped_frames: int = 0
    frame_time_s: npt.NDArray[np.float64] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    kind: str = "unknown"
    simulated: bool = False
    labels: Mapping[str, Label] = field(default_factory=dict)
    phase_T: npt.NDArray[np.float32] | None = None
    mask_THW: npt.NDArray[np.uint8] | None = None
    paired_TCHW: npt.NDArray[np.uint8] | None = None
    clean_TCHW: npt.NDArray[np.uint8] | None = None
    displacement_px_T2HW: npt.NDArray[np.float16] | None = None
    velocity_m_per_s_THW: npt.NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        frames = self.frames_TCHW
        assert frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[1] in (1, 3), frames.shape
        assert len(frames) > 0, "a clip has at least one frame"
        assert self.sector_HW.shape == frames.shape[2:] and self.sector_HW.dtype == np.bool_
        for name in ("frame_time_s", *FRAME_FIELDS):
            per_frame = getattr(self, name)
            assert per_frame is None or len(per_frame) == len(frames), name

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

    video_BCTHW: uint8 as stored until `to`, float32 in [0, 1] after it; from shards of latents those, standardised,
        float16 until `to`, float32 after it.
    sector_BHW: bool. valid_BT: bool, False on frames repeated because the clip was too short.
    frame_time_s_BT: seconds from the window's first frame, NaN where unknown.
    draw_B: int64, one seed per clip from (seed, epoch, clip id): every random choice about the clip comes
        from it, so that no choice depends on the number of processes or workers.

    The others only where a loader was asked to `carry` them, named as in Clip; frames without a mask are NOT_ANNOTATED,
    clips without phase, displacement or velocity have NaN. emptying_BT: `echofm.shards.carry.emptying_T` of the clip's
    masks, NaN where unknown. beam_B2HW: `echofm.fan.beams` of the clip. paired, clean: as video, C 1.
    displacement_px_BT2HW: from a frame of the window to its next one, NaN where there is none.
    """

    video_BCTHW: torch.Tensor
    sector_BHW: torch.Tensor
    valid_BT: torch.Tensor
    frame_time_s_BT: torch.Tensor
    draw_B: torch.Tensor
    clip_ids: Sequence[str]
    patient_ids: Sequence[str]
    labels: Sequence[Mapping[str, Label]] | None = None
    views: Sequence[str | None] | None = None
    mask_BTHW: torch.Tensor | None = None
    emptying_BT: torch.Tensor | None = None
    beam_B2HW: torch.Tensor | None = None
    phase_BT: torch.Tensor | None = None
    paired_BCTHW: torch.Tensor | None = None
    clean_BCTHW: torch.Tensor | None = None
    displacement_px_BT2HW: torch.Tensor | None = None
    velocity_m_per_s_BTHW: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def held(self) -> dict[str, Any]:
        """What the batch holds, by field: tensors with the clips along their first axis, and lists."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}

    def to(self, device: torch.device | str) -> ClipBatch:
        """Move to a device; there, once, bytes of frames become float32 in [0, 1] and float16 becomes float32."""
        moved: dict[str, Any] = {name: value.to(device, non_blocking=True) for name, value in self._tensors().items()}
        for name, value in moved.items():
            if name.endswith("_BCTHW") and not value.is_floating_point():
                moved[name] = value.float().div_(255)
            elif value.is_floating_point() and value.element_size() == 2:
                moved[name] = value.float()
        return replace(self, **moved)

    def share_memory(self) -> ClipBatch:
        """The same with its tensors in memory that processes share. RuntimeError where there is too little."""
        for tensor in self._tensors().values():
            tensor.share_memory_()
        return self

    def pin_memory(self) -> ClipBatch:
        """Page-locked copies of the tensors, for the loader's asynchronous transfer."""
        pinned: dict[str, Any] = {name: value.pin_memory() for name, value in self._tensors().items()}
        return replace(self, **pinned)

    def __getitem__(self, part: slice) -> ClipBatch:
        """A contiguous part of the batch, for gradient accumulation."""
        if not isinstance(part, slice):
            raise EchofmError("a ClipBatch is cut by slices, e.g. batch[0:4]")
        return replace(self, **{name: value[part] for name, value in self.held().items()})

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self.held().items() if hasattr(value, "pin_memory")}
