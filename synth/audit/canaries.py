"""Canaries: training clips, transformed as a generator that memorises would, planted to see what the audit catches.

A recall without such plants means nothing: an encoder that sees no identity finds no copy, and its clean result is
worth nothing. Each kind has strengths from faithful to far, so that the report can draw recall against strength.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from PIL import Image

from echofm.clip import Clip

Frames = npt.NDArray[np.uint8]

# Copies in these are what no usable audit may miss: recall under this part on any of them voids a clean result.
FAITHFUL = ("exact", "re-encoded")
REQUIRED_RECALL = 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class Canary:
    """One planted copy. kind and strength: see KINDS. source_clip_id: the training clip that it is made from."""

    kind: str
    strength: float
    source_clip_id: str
    clip: Clip


def exact(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """The clip itself."""
    return frames_TCHW


def re_encoded(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Every frame through JPEG; strength is 100 - quality."""
    return np.stack([[_through_jpeg(channel, 100 - round(strength)) for channel in frame] for frame in frames_TCHW])


def noise(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """White noise of standard deviation `strength` grey levels, clipped to the range."""
    return _bytes(frames_TCHW + strength * rng.standard_normal(frames_TCHW.shape, np.float32))


def gain(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Brighter or darker (either sign by chance) by `strength` grey levels."""
    return _bytes(frames_TCHW.astype(np.float32) + strength * rng.choice([-1, 1]))


def crop(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Zoomed in about the centre so that the part `strength` of each side is lost."""
    size = np.array(frames_TCHW.shape[2:])
    scale = np.array([1 - strength] * 2)
    offset = (size - 1) / 2 * (1 - scale)
    planes = frames_TCHW.reshape(-1, *size)
    zoomed = [scipy.ndimage.affine_transform(plane, scale, offset, order=1, mode="nearest") for plane in planes]
    return np.stack(zoomed).reshape(frames_TCHW.shape)


def flip(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Left and right exchanged."""
    return np.ascontiguousarray(frames_TCHW[..., ::-1])


def shift_in_time(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Started later by the part `strength` of the clip, the beginning put at the end."""
    return np.roll(frames_TCHW, -round(strength * len(frames_TCHW)), axis=0)


def speed(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Played faster by the part `strength`, looped to the same length."""
    frames = len(frames_TCHW)
    return frames_TCHW[np.round(np.arange(frames) * (1 + strength)).astype(int) % frames]


Transform = Callable[[Frames, float, np.random.Generator], Frames]
KINDS: dict[str, tuple[Transform, tuple[float, ...]]] = {
    "exact": (exact, (0.0,)),
    "re-encoded": (re_encoded, (10.0, 50.0)),
    "noise": (noise, (4.0, 12.0, 32.0)),
    "gain": (gain, (10.0, 30.0)),
    "crop": (crop, (0.03, 0.08, 0.15)),
    "flip": (flip, (1.0,)),
    "shift in time": (shift_in_time, (0.1, 0.3)),
    "speed": (speed, (0.1, 0.3)),
}
IN_BETWEEN = (0.1, 0.25, 0.5)


def canaries(clips: Sequence[Clip], *, seed: int = 0) -> Iterator[Canary]:
    """Every kind at every strength for each training clip, "in-between" another patient's clip, and new beats.

    in-between: the grey values of a second patient's clip, mixed in by the part `strength`.
    new beat: another clip of the same patient, where the set has one; made from the training clip that remains.
    Pixels outside the sector stay zero. The same clips and seed give the same canaries.
    """
    for number, clip in enumerate(clips):
        rng = np.random.default_rng([seed, number])
        for kind, (transform, strengths) in KINDS.items():
            for strength in strengths:
                frames = transform(clip.frames_TCHW, strength, rng)
                yield _canary(kind, strength, clip, frames, mirrored=kind == "flip")
        other = _of_another_patient(clips, number)
        if other is not None:
            for strength in IN_BETWEEN:
                yield _canary("in-between", strength, clip, _mixed(clip.frames_TCHW, other.frames_TCHW, strength))
        beat = next((c for c in clips if c.patient_id == clip.patient_id and c.clip_id != clip.clip_id), None)
        if beat is not None:
            yield Canary(kind="new beat", strength=1.0, source_clip_id=clip.clip_id, clip=beat)


def _canary(kind: str, strength: float, clip: Clip, frames_TCHW: Frames, *, mirrored: bool = False) -> Canary:
    sector = clip.sector_HW[:, ::-1] if mirrored else clip.sector_HW
    planted = clip.replace(frames_TCHW=frames_TCHW * sector, sector_HW=np.ascontiguousarray(sector))
    return Canary(kind=kind, strength=strength, source_clip_id=clip.clip_id, clip=planted)


def _of_another_patient(clips: Sequence[Clip], number: int) -> Clip | None:
    own = clips[number]
    rest = [*clips[number + 1 :], *clips[:number]]
    same_size = (c for c in rest if c.frames_TCHW.shape[1:] == own.frames_TCHW.shape[1:])
    return next((c for c in same_size if c.patient_id != own.patient_id), None)


def _mixed(frames_TCHW: Frames, other_TCHW: Frames, part: float) -> Frames:
    looped = other_TCHW[np.arange(len(frames_TCHW)) % len(other_TCHW)]
    return _bytes((1 - part) * frames_TCHW.astype(np.float32) + part * looped)


def _bytes(values: npt.NDArray[np.floating]) -> Frames:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _through_jpeg(plane_HW: Frames, quality: int) -> Frames:
    stream = io.BytesIO()
    Image.fromarray(plane_HW).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
