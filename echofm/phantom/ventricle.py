"""The left ventricle as a solid: its outline in any plane through the long axis, and how that outline contracts.

Volume is the biplane method of discs over the A4C and A2C planes; the myocardium keeps its volume (incompressible).
Angles about the long axis: 0 lateral, pi/2 anterior, pi septal, 3 pi/2 inferior. Levels z in mm from the apex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.phantom.anatomy import Patient
from echofm.phantom.cycle import Cycle

Array = npt.NDArray[np.float64]

# (right or upper side, left or lower side) of each long-axis view, as angles about the axis.
VIEW_ANGLES = {"A4C": (0.0, np.pi), "A2C": (np.pi / 2, 3 * np.pi / 2), "PLAX": (0.72 * np.pi, 1.72 * np.pi)}
_SHORTENING_PER_EF = 0.30
_DISCS = 400

ATRIAL_WALL_MM = 3.0
_WIDEST_AT = 0.42


def profile(patient: Patient, level_mm: Array) -> Array:
    """Cavity radius over its widest at levels (mm) from the apex: a rounded cap, then a narrowing to the base."""
    u = np.clip(level_mm / patient.lv_length_mm, 0, 1)
    widest = patient.lv_widest
    cap = np.maximum(0, 1 - np.abs(1 - u / widest) ** patient.lv_roundness) ** (1 / patient.lv_roundness)
    below = 1 - patient.lv_base_narrowing * ((u - widest) / (1 - widest)) ** 2
    return np.where(level_mm <= 0, 0.0, np.where(u < widest, cap, below))


@dataclass(frozen=True, kw_only=True)
class Ventricle:
    """Scaled so that the biplane end-diastolic volume is the patient's."""

    patient: Patient
    radius_mm: float
    """Widest radius, mean over the axis' two sides and over A4C and A2C (geometric)."""

    def radius(self, level_mm: Array, angle_rad: float) -> Array:
        """End-diastolic cavity radius (mm) at levels, on the side of that angle."""
        p = self.patient
        lateral, anterior = np.cos(angle_rad), np.sin(angle_rad)
        squash = p.lv_eccentricity**0.5
        ellipse = 1 / np.hypot(lateral / squash, anterior * squash)
        side = 1 + 2 * p.lv_asymmetry * lateral
        return self.radius_mm * ellipse * side * profile(p, level_mm)

    def wall(self, level_mm: Array, angle_rad: float) -> Array:
        """End-diastolic wall thickness (mm); septal and lateral values blended around the axis, thinner at the apex."""
        p = self.patient
        septal = 0.5 * (1 - np.cos(angle_rad))
        thick = septal * p.septum_mm + (1 - septal) * p.free_wall_mm
        u = np.clip(level_mm / p.lv_length_mm, 0, 1)
        return p.apex_wall_mm + (thick - p.apex_wall_mm) * np.clip(u / 0.3, 0, 1) ** 0.7

    def motion(self, level_mm: Array, angle_rad: float) -> Array:
        """Relative inward motion of the wall, 1 where normal; less at the base and in a weak segment."""
        p = self.patient
        u = np.clip(level_mm / p.lv_length_mm, 0, 1)
        usual = 1 - 0.25 * np.clip((u - 0.75) / 0.25, 0, 1) ** 2
        if p.weak is None:
            return usual
        around = (np.cos(angle_rad - p.weak.angle_rad) - 1) / 0.25
        along = -(((u - p.weak.level) / 0.22) ** 2)
        return usual * (1 - p.weak.severity * np.exp(around + along))

    def shortening_T(self, cycle: Cycle) -> Array:
        """Length of the long axis over that at end-diastole."""
        return 1 - _SHORTENING_PER_EF * self.patient.ef_percent / 100 * (1 - cycle.volume_T)

    def squeeze_T(self, cycle: Cycle, angles_rad: tuple[float, float]) -> Array:
        """Radial contraction c: radius = radius_ED (1 - c motion), such that the plane's disc volume follows the EF.

        The discs' diameters are linear in c, so the volume is quadratic in it: solved in closed form.
        """
        level = (np.arange(_DISCS) + 0.5) / _DISCS * self.patient.lv_length_mm
        sides = [(self.radius(level, angle), self.motion(level, angle)) for angle in angles_rad]
        whole = sum(radius for radius, _ in sides)
        moving = sum(radius * motion for radius, motion in sides)
        a, b, c0 = np.mean(moving**2), -2 * np.mean(whole * moving), np.mean(whole**2)
        target_T = 1 - self.patient.ef_percent / 100 * (1 - cycle.volume_T)
        wanted_T = target_T / self.shortening_T(cycle) * c0
        return (-b - np.sqrt(b * b - 4 * a * (c0 - wanted_T))) / (2 * a)

    def cavity_TZ(self, level_mm: Array, angle_rad: float, squeeze_T: Array) -> Array:
        """Cavity radius in every frame at material levels."""
        return self.radius(level_mm, angle_rad) * (1 - squeeze_T[:, None] * self.motion(level_mm, angle_rad))

    def outer_TZ(self, level_mm: Array, angle_rad: float, cavity_TZ: Array, shortening_T: Array) -> Array:
        """Epicardial radius in every frame: a slab of wall keeps its volume, R^2 = r^2 + (R0^2 - r0^2) / shortening."""
        inner = self.radius(level_mm, angle_rad)
        # The outline stretched to start one wall below the cavity's apex, so that the wall closes round it.
        p = self.patient
        start = p.apex_wall_mm
        stretched = (level_mm + start) * p.lv_length_mm / (p.lv_length_mm + start)
        closing = np.sqrt(np.clip((level_mm + start) / (2 * start), 0, 1))
        outer = self.radius(stretched, angle_rad) + self.wall(stretched, angle_rad) * closing
        return np.sqrt(cavity_TZ**2 + (outer**2 - inner**2) / shortening_T[:, None])


def build_ventricle(patient: Patient) -> Ventricle:
    """The ventricle whose biplane method-of-discs volume at end-diastole is the patient's EDV."""
    level = (np.arange(_DISCS) + 0.5) / _DISCS * patient.lv_length_mm
    unit = Ventricle(patient=patient, radius_mm=1.0)
    diameters = [sum(unit.radius(level, angle) for angle in VIEW_ANGLES[view]) for view in ("A4C", "A2C")]
    volume_mm3 = np.pi / 4 * patient.lv_length_mm * np.mean(diameters[0] * diameters[1])
    return Ventricle(patient=patient, radius_mm=float(np.sqrt(patient.edv_ml * 1000 / volume_mm3)))


def atrium_width(level_mm: Array, start_mm: float, annulus_mm: float, widest_mm: float, height_mm: float) -> Array:
    """Width at levels beyond the annulus: widening to 42 % of the height, then a rounded roof. 0 beyond it."""
    q = np.clip((level_mm - start_mm) / height_mm, 0, 1)
    opening = annulus_mm + (widest_mm - annulus_mm) * np.sin(np.pi / 2 * np.clip(q / _WIDEST_AT, 0, 1))
    roof = widest_mm * np.sqrt(np.clip(1 - ((q - _WIDEST_AT) / (1 - _WIDEST_AT)) ** 2, 0, 1))
    return np.where(q < _WIDEST_AT, opening, roof)
