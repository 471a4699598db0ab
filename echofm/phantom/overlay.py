"""What a scanner burns into the image: text, an ECG trace, an orientation mark. Fake names only."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from echofm.metric.circular import circular_difference
from echofm.phantom.anatomy import generator
from echofm.phantom.clip import PhantomClip

Array = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

_FAMILY = ("PHANTOM", "TESTCASE", "SPECIMEN", "MADEUP", "NOBODY", "EXAMPLE")
_GIVEN = ("ADA", "BELA", "CARO", "DARI", "ELIS", "FINN", "GOR", "HANA", "IVO", "JULE")
# Gaussian waves of one beat: phase, width, height in mV. R falls on end-diastole.
_ECG = ((0.86, 0.025, 0.14), (-0.018, 0.008, -0.1), (0.0, 0.009, 1.0), (0.02, 0.009, -0.22), (0.3, 0.045, 0.28))


def fake_identity(seed: int, patient: int) -> tuple[str, datetime.date]:
    """A DICOM person name that nobody has, and a birth date."""
    rng = generator(seed, "tags", patient)
    name = f"{_FAMILY[rng.integers(len(_FAMILY))]}^{_GIVEN[rng.integers(len(_GIVEN))]}^{patient:05d}"
    return name, datetime.date(1901, 1, 1) + datetime.timedelta(days=int(rng.integers(0, 20000)))


def electrocardiogram(phase: Array) -> Array:
    """The trace (mV) at phases of the beat in [0, 1)."""
    phase = np.asarray(phase, float)[..., None]
    centre, width, height = np.array(_ECG).T
    away = circular_difference(phase, centre)
    return (height * np.exp(-0.5 * (away / width) ** 2)).sum(-1)


def burn_in(frames_THWC: Frames, clip: PhantomClip, *, trace_rows: tuple[int, int] | None = None) -> Frames:
    """Frames with the overlay that the acquisition asks for: text in the corners, ECG in given rows or at the foot."""
    height, width, channels = frames_THWC.shape[1:]
    still = Image.new("L", (width, height))
    draw = ImageDraw.Draw(still)
    if clip.acquisition.text:
        font = ImageFont.load_default(max(7, height // 26))
        name, born = fake_identity(clip.patient.seed, clip.patient.number)
        lines = (name.replace("^", " "), f"*{born.isoformat()}", f"{clip.acquisition.frequency_mhz:.1f} MHz")
        for row, line in enumerate(lines):
            draw.text((1, 1 + row * height // 20), line, fill=200, font=font)
        right = f"{clip.acquisition.depth_mm / 10:.0f} cm"
        draw.text((width - 1 - draw.textlength(right, font=font), 1), right, fill=200, font=font)
        draw.text((1, height - height // 14), f"HR {clip.heart_rate_bpm:.0f}", fill=200, font=font)
    burnt = np.maximum(frames_THWC, np.asarray(still)[None, :, :, None])
    if clip.acquisition.ecg:
        top, bottom = trace_rows or (int(height * 0.93), height - 1)
        burnt = _sweep(burnt, clip, top, bottom)
    assert burnt.shape[3] == channels
    return burnt


def with_overlay(clip: PhantomClip) -> PhantomClip:
    """The clip with its overlay on the square image itself."""
    return dataclasses.replace(clip, frames_THWC=burn_in(clip.frames_THWC, clip))


def _sweep(frames_THWC: Frames, clip: PhantomClip, top: int, bottom: int) -> Frames:
    """The whole trace dimly, the part until now brightly."""
    frames = frames_THWC.copy()
    count, _, width, _ = frames.shape
    time = np.linspace(0, clip.time_s[-1], width)
    beat = np.clip(np.searchsorted(clip.cycle.onset_s, time, side="right") - 1, 0, len(clip.cycle.beat_s) - 1)
    phase = (time - clip.cycle.onset_s[beat]) / clip.cycle.beat_s[beat]
    rows = bottom - (electrocardiogram(phase) + 0.3) / 1.4 * (bottom - top)
    pixel = np.clip(np.round(rows), top, bottom).astype(int)
    reached = np.linspace(0, width - 1, count).astype(int)
    for column in range(width):
        before = pixel[max(0, column - 1)]
        low, high = sorted((before, pixel[column]))
        frames[:, low : high + 1, column] = np.where(reached >= column, 230, 90)[:, None, None]
    return frames
