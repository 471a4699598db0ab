"""What is noted about each file, in the process that read it: pixels stay there."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from echofm.check.codec import codec_of
from echofm.check.fingerprint import Fingerprint, fingerprint
from echofm.clip import BACKGROUND, NOT_ANNOTATED, Clip, Label
from echofm.ids import IdKey
from echofm.readers.patients import PatientBy
from echofm.readers.sector import LOST
from echofm.readers.source import Row

THUMBNAIL_PIXELS = 128
_OUTLINE_RGB = (255, 176, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """One clip: a readable file, or one of the images that it declares. Ids are hashes.

    split: the set's own, None where it gives none. frame_rate_hz, seconds: None where unknown or there is one frame.
    mask_share: part of the frames that has a mask.
    lit_outside, dropped_frames: as in `Clip`. trace_outside: part of the set's own trace that the sector leaves out,
        None without one.
    thumbnail: PNG of the middle frame with the sector's outline, of files in_sheet, the contact sheet's, and where the
        sector loses much.
    """

    file_id: str
    clip_id: str
    patient_id: str
    study_id: str | None
    patient_by: PatientBy
    split: str | None
    view: str | None
    kind: str
    codec: str
    frames: int
    height: int
    width: int
    frame_rate_hz: float | None
    seconds: float | None
    sector_share: float
    file_bytes: int
    labels: Mapping[str, Label]
    mask_share: float
    has_phase: bool
    sector_print: Fingerprint
    picture_print: Fingerprint
    thumbnail: bytes | None
    in_sheet: bool = False
    lit_outside: float | None = None
    trace_outside: float | None = None
    dropped_frames: int = 0

    @property
    def lost(self) -> float:
        """The larger part that the sector leaves out, of the trace or of what changes; a still's words do not count."""
        return max(self.trace_outside or 0.0, (self.lit_outside or 0.0) if self.frames > 1 else 0.0)


def examine(row: Row, clips: list[Clip], *, key: IdKey, sheet: frozenset[Path]) -> list[Facts]:
    """Note the facts about a file's clips as read; `sheet` holds the files to be shown."""
    return [_facts(row, clip, key=key, sheet=sheet) for clip in clips]


def _facts(row: Row, clip: Clip, *, key: IdKey, sheet: frozenset[Path]) -> Facts:
    rate = clip.frame_rate_hz
    frames, _, height, width = clip.frames_TCHW.shape
    facts = Facts(
        file_id=key.file(row.path),
        clip_id=clip.clip_id,
        patient_id=clip.patient_id,
        study_id=clip.study_id,
        patient_by=cast(PatientBy, clip.patient_by),
        split=row.split,
        view=clip.view,
        kind=clip.kind,
        codec=codec_of(row.path),
        frames=frames,
        height=height,
        width=width,
        frame_rate_hz=rate,
        seconds=None if rate is None else frames / rate,
        sector_share=float(clip.sector_HW.mean()),
        file_bytes=os.stat(row.path).st_size,
        labels=dict(clip.labels),
        mask_share=_mask_share(clip),
        has_phase=clip.phase_T is not None,
        sector_print=fingerprint(clip),
        picture_print=fingerprint(clip, whole_picture=True),
        thumbnail=None,
        in_sheet=row.path in sheet,
        lit_outside=clip.lit_outside,
        trace_outside=_trace_outside(clip),
        dropped_frames=clip.dropped_frames,
    )
    return replace(facts, thumbnail=thumbnail(clip)) if facts.in_sheet or facts.lost > LOST else facts


def _trace_outside(clip: Clip) -> float | None:
    if clip.mask_THW is None:
        return None
    traced_THW = (clip.mask_THW != NOT_ANNOTATED) & (clip.mask_THW != BACKGROUND)
    return float(traced_THW[:, ~clip.sector_HW].sum() / max(1, traced_THW.sum()))


def _mask_share(clip: Clip) -> float:
    if clip.mask_THW is None:
        return 0.0
    return float((clip.mask_THW != NOT_ANNOTATED).any(axis=(1, 2)).mean())


def thumbnail(clip: Clip) -> bytes:
    """The middle frame as PNG, at most THUMBNAIL_PIXELS a side, the sector's outline drawn in orange."""
    frame_CHW = clip.frames_TCHW[len(clip.frames_TCHW) // 2]
    picture = Image.fromarray(np.moveaxis(frame_CHW, 0, -1) if len(frame_CHW) == 3 else frame_CHW[0]).convert("RGB")
    picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    sector = np.asarray(Image.fromarray(clip.sector_HW).resize(picture.size))
    pixels = np.asarray(picture).copy()
    pixels[sector & ~binary_erosion(sector)] = _OUTLINE_RGB
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()
