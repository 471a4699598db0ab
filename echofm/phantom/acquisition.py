"""Acquisition: how one clip of a patient was taken. Differs from clip to clip; drawn from (seed, patient, clip)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from echofm.phantom.anatomy import generator

VIEWS = ("A4C", "A2C", "PLAX", "PSAX")
Spread = Literal["usual", "varied"]
"""How unlike acquisitions are: those of one laboratory, or of many with their hands, machines and conventions."""
ON_SCREEN_DB = 28.0
"""Level above plain myocardium that is shown white at a gain of 0 dB."""


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """Machine settings and the operator's hand. Angles of the sector are seen from the probe, 0 straight down."""

    view: str
    depth_mm: float
    sector_deg: float
    frame_rate_hz: float
    frequency_mhz: float
    cycles: float
    """Length of the transmitted pulse, in periods."""
    aperture_mm: float
    focus_mm: float
    gain_db: float
    tgc_db: tuple[float, ...]
    """Deviation from a flat image at equally spaced depths, as an operator leaves the sliders."""
    dynamic_range_db: float
    noise_db: float
    """Electronic noise, relative to myocardium."""
    tilt_deg: float
    shift_mm: tuple[float, float]
    """Where the heart lies off its usual place: across, down."""
    mirrored: bool
    """Shown the other way round, as some laboratories do."""
    breathing_mm: float
    breathing_s: float
    hand_mm: float
    clutter_db: float
    """Near-field haze relative to myocardium."""
    clutter_mm: float
    reverberation_db: float
    reverberation_mm: float
    shadow_deg: float | None
    shadow_width_deg: float
    shadow_db: float
    shading_db: float
    """How uneven the image is: parts of the sector that ribs, lung and fat let through less."""
    text: bool
    ecg: bool
    colour: bool
    nyquist_m_per_s: float


def draw_acquisition(
    seed: int,
    patient: int,
    clip: int,
    *,
    view: str,
    frame_rate_hz: float | None,
    overlay: bool,
    colour: bool,
    spread: Spread = "usual",
) -> Acquisition:
    """The acquisition of one clip. frame_rate_hz None: drawn, 50 Hz in half of the clips, else 20 to 80 Hz."""
    rng = generator(seed, "acquisition", patient, clip)
    depth = {"A4C": 168.0, "A2C": 164.0, "PLAX": 158.0, "PSAX": 142.0}[view]
    fraction = float(rng.uniform())
    rate = float(rng.uniform(20, 80))
    # Colour costs frame rate: several pulses a beam.
    drawn_rate = float(round(20 + 0.25 * (rate - 20))) if colour else 50.0 if fraction < 0.5 else float(round(rate))
    gain_db, range_db = float(rng.normal(1.5, 3)), float(rng.uniform(54, 68))
    usual = Acquisition(
        view=view,
        depth_mm=float(np.clip(rng.normal(depth, 8), depth - 14, depth + 20)),
        sector_deg=float(rng.uniform(78, 94)),
        frame_rate_hz=drawn_rate if frame_rate_hz is None else frame_rate_hz,
        frequency_mhz=float(rng.uniform(1.7, 3.4)),
        cycles=float(rng.uniform(1.6, 2.8)),
        aperture_mm=float(rng.uniform(17, 23)),
        focus_mm=float(rng.uniform(70, 120)),
        gain_db=gain_db,
        tgc_db=tuple(float(value) for value in rng.normal(0, 2.0, 6)),
        dynamic_range_db=range_db,
        # The operator turns the gain up until noise is just seen: at a small share of the grey scale.
        noise_db=ON_SCREEN_DB - gain_db - range_db * (1 - float(rng.uniform(0.08, 0.16))),
        tilt_deg=float(np.clip(rng.normal(0, 4.5), -10, 10)),
        shift_mm=(float(rng.uniform(-5, 5)), float(rng.uniform(-4, 4))),
        mirrored=False,
        breathing_mm=float(rng.uniform(0.3, 2.5)),
        breathing_s=float(rng.uniform(3, 5.5)),
        hand_mm=float(rng.uniform(0.0, 0.8)),
        clutter_db=float(rng.uniform(-26, -10)),
        clutter_mm=float(rng.uniform(10, 32)),
        reverberation_db=float(rng.uniform(-30, -14)),
        reverberation_mm=float(rng.uniform(9, 20)),
        shadow_deg=float(rng.uniform(-40, 40)) if rng.uniform() < 0.45 else None,
        shadow_width_deg=float(rng.uniform(3, 9)),
        shadow_db=float(rng.uniform(8, 22)),
        shading_db=float(rng.uniform(2, 9)),
        text=overlay and bool(rng.uniform() < 0.8),
        ecg=overlay and bool(rng.uniform() < 0.7),
        colour=colour,
        nyquist_m_per_s=float(rng.uniform(0.5, 0.75)),
    )
    return usual if spread == "usual" else _varied(usual, generator(seed, "varied", patient, clip))


def _varied(usual: Acquisition, rng: np.random.Generator) -> Acquisition:
    """The same machine in other hands: what an operator turns, holds or meets, drawn wider; the rest stays."""
    gain_db, range_db = float(rng.normal(0, 5)), float(rng.uniform(48, 76))
    return replace(
        usual,
        depth_mm=float(rng.uniform(135, 205)),
        sector_deg=float(rng.uniform(68, 100)),
        gain_db=gain_db,
        tgc_db=tuple(float(value) for value in rng.normal(0, 4.0, 6)),
        dynamic_range_db=range_db,
        noise_db=ON_SCREEN_DB - gain_db - range_db * (1 - float(rng.uniform(0.06, 0.26))),
        tilt_deg=float(np.clip(rng.normal(0, 9), -22, 22)),
        shift_mm=(float(rng.uniform(-14, 14)), float(rng.uniform(-10, 10))),
        mirrored=bool(rng.uniform() < 0.5),
        clutter_db=float(rng.uniform(-26, -4)),
        shadow_deg=float(rng.uniform(-40, 40)) if rng.uniform() < 0.7 else None,
        shadow_width_deg=float(rng.uniform(3, 12)),
        shadow_db=float(rng.uniform(8, 30)),
        shading_db=float(rng.uniform(2, 14)),
    )
