"""Patient: one heart in millimetres. Fixed across the clips of a patient; drawn from (seed, patient) alone.

Every random choice of the phantom comes from `generator`: (seed, what for, patient, clip) and nothing else.

Sizes follow the reference ranges of Lang et al., Recommendations for cardiac chamber quantification (JASE 2015,
https://doi.org/10.1016/j.echo.2014.10.003), widened to disease.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

RHYTHMS = ("regular", "respiratory", "atrial_fibrillation")
_PURPOSES = ("patient", "acquisition", "texture", "noise", "beats", "split", "tags", "doppler", "varied")


def _drawn(mean: float, sd: float, low: float, high: float, *, grows: bool = False) -> Any:
    """A field drawn from a clipped normal; grows: with the root of the heart's size."""
    return field(metadata={"normal": (mean, sd, low, high), "grows": grows})


@dataclass(frozen=True, kw_only=True)
class WeakSegment:
    """A region of the left ventricle that moves less: severity 0 none .. 1 akinetic.

    angle_rad: about the long axis, 0 lateral, pi/2 anterior, pi septal, 3 pi/2 inferior. level: 0 apex .. 1 base.
    """

    angle_rad: float
    level: float
    severity: float


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Anatomy and physiology. Lengths in mm at end-diastole, `*_gain` are echo amplitudes relative to myocardium."""

    number: int
    seed: int
    ef_percent: float
    edv_ml: float
    heart_rate_bpm: float
    rhythm: str
    lv_length_mm: float
    lv_widest: float = _drawn(0.62, 0.06, 0.48, 0.76)
    """Level of the widest diameter, 0 apex .. 1 base."""
    lv_roundness: float = _drawn(2.0, 0.25, 1.5, 2.7)
    """Exponent of the apical cap: 2 an ellipse, below it pointed, above it blunt."""
    lv_base_narrowing: float = _drawn(0.2, 0.08, 0.04, 0.38)
    lv_eccentricity: float = _drawn(1.0, 0.06, 0.86, 1.16)
    """A4C diameter over A2C diameter."""
    lv_bend_mm: float = _drawn(0, 2.5, -5, 5)
    lv_asymmetry: float = _drawn(0, 0.04, -0.08, 0.08)
    """Share of the diameter on the lateral side, minus one half."""
    septum_mm: float
    free_wall_mm: float
    apex_wall_mm: float = _drawn(7, 1.5, 4, 11)
    rv_width_mm: float = _drawn(33, 6, 20, 48, grows=True)
    rv_apex_level: float = _drawn(0.24, 0.06, 0.1, 0.4)
    rv_wall_mm: float = _drawn(4.5, 0.8, 3, 7)
    la_width_mm: float = _drawn(40, 6, 28, 58, grows=True)
    la_height_mm: float = _drawn(47, 7, 32, 66, grows=True)
    ra_width_mm: float = _drawn(38, 6, 26, 56, grows=True)
    ra_height_mm: float = _drawn(44, 6, 32, 62, grows=True)
    atrial_septum_mm: float = _drawn(3.2, 0.6, 2, 5)
    tricuspid_offset_mm: float = _drawn(6, 1.5, 3, 10)
    anterior_leaflet: float = _drawn(0.66, 0.04, 0.58, 0.76)
    """Length over the annulus diameter; so for the posterior one."""
    posterior_leaflet: float = _drawn(0.48, 0.04, 0.4, 0.56)
    leaflet_gain: float = _drawn(1.0, 0.25, 0.5, 1.6)
    mitral_opening_deg: float = _drawn(68, 7, 50, 82)
    aortic_root_mm: float = _drawn(32, 3, 25, 42)
    lvot_mm: float = _drawn(21, 1.8, 17, 26)
    papillary_mm: float = _drawn(8, 1.2, 5.5, 11)
    papillary_spread_rad: float = _drawn(1.75, 0.15, 1.3, 2.1)
    septum_gain: float = _drawn(1.15, 0.2, 0.7, 1.7)
    lateral_gain: float = _drawn(0.85, 0.2, 0.45, 1.4)
    pericardium_gain: float = _drawn(4.5, 1.2, 2, 8)
    patchiness: float = _drawn(0.45, 0.12, 0.15, 0.8)
    blood_gain: float = _drawn(0.024, 0.009, 0.008, 0.06)
    torsion_deg: float = _drawn(11, 3, 3, 18)
    weak: WeakSegment | None

    @property
    def esv_ml(self) -> float:
        """End-systolic volume by definition of the ejection fraction."""
        return self.edv_ml * (1 - self.ef_percent / 100)

    @property
    def name(self) -> str:
        """The name under which the data set groups this patient's files; of seeds other than 0 it tells the seed."""
        return f"P{self.number:05d}" if self.seed == 0 else f"P{self.seed}N{self.number:05d}"


def draw_patient(seed: int, number: int) -> Patient:
    """The patient of this number under this seed; EF 15-80 %, EDV 60-250 ml, heart rate 45-140 bpm."""
    rng = generator(seed, "patient", number)

    def normal(mean: float, sd: float, low: float, high: float) -> float:
        return float(np.clip(rng.normal(mean, sd), low, high))

    ef = normal(61, 7, 50, 80) if rng.uniform() < 0.4 else float(rng.uniform(15, 75))
    dilated = 1 + 0.7 * max(0.0, (50 - ef) / 35)
    edv = normal(105 * dilated, 28, 60, 250)
    size = (edv / 115) ** (1 / 3)
    length = normal(86 * size, 5, 62, 118)
    septum = normal(10, 1.8, 6.5, 16)
    weak = None
    if ef < 55 and rng.uniform() < 0.5:
        weak = WeakSegment(
            angle_rad=float(rng.uniform(0, 2 * np.pi)),
            level=float(rng.uniform(0.15, 0.75)),
            severity=float(rng.uniform(0.4, 0.9)),
        )
    tall = {
        each.name: normal(*each.metadata["normal"]) * (size**0.5 if each.metadata["grows"] else 1)
        for each in fields(Patient)
        if each.metadata
    }
    # Together longer than the annulus, or the mitral valve could not close; about 1 draw in 300 is not.
    tall["posterior_leaflet"] = max(tall["posterior_leaflet"], 1.001 - tall["anterior_leaflet"])
    return Patient(
        number=number,
        seed=seed,
        ef_percent=ef,
        edv_ml=edv,
        heart_rate_bpm=normal(76, 18, 45, 140),
        rhythm=RHYTHMS[int(rng.choice(3, p=(0.7, 0.18, 0.12)))],
        lv_length_mm=length,
        septum_mm=septum,
        free_wall_mm=float(np.clip(septum * rng.normal(0.95, 0.08), 6, 16)),
        weak=weak,
        **tall,
    )


def generator(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """An independent stream per purpose, so that a new draw in one never moves another."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose), *keys])
