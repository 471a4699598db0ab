"""What is noted about each file, in the process that read it: pixels stay there."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from echofm.check.codec import codec_of
from echofm.check.fingerprint import Fingerprint, fingerprint
from echofm.clip import NOT_ANNOTATED, Clip, Label
from echofm.ids import IdKey
from echofm.readers.patients import PatientBy
from echofm.readers.source import Row

THUMBNAIL_PIXELS = 128
_OUTLINE_RGB = (255, 176, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """One readable file. Ids are hashes.

    split: the set's own, None where it gives none. frame_rate_hz, seconds: None where unknown or there is one frame.
    mask_share: part of the frames that has a mask.
    thumbnail: PNG of the middle frame with the sector's outline, for the files of the contact sheet.
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


def examine(row: Row, clip: Clip, *, key: IdKey, sheet: frozenset[Path]) -> Facts:
    """Note the facts about a clip as read; `sheet` holds the files to be shown."""
    rate = clip.frame_rate_hz
    frames, _, height, width = clip.frames_TCHW.shape
    return Facts(
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
        thumbnail=thumbnail(clip) if row.path in sheet else None,
    )


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
