"""The parasternal short-axis view (PSAX) at the papillary muscles: the ring, its twist, the right ventricle's crescent.

Heart frame: origin on the long axis, across to the lateral side, along downwards (inferior). Borders run outwards along
each direction: centre, cavity, epicardium, right ventricle's free wall inner and outer. Shapes: T frames, F directions,
K borders, N, M grid.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from echofm.phantom.anatomy import Patient
from echofm.phantom.cycle import Cycle
from echofm.phantom.layers import Extent, MotionTables, stretch
from echofm.phantom.scene import OUTLINE_POINTS, PAINT_STEP_MM, Scene, Tissue, paint_gain
from echofm.phantom.ventricle import VIEW_ANGLES, build_ventricle

Array = npt.NDArray[np.float64]

_EXTENT = Extent(across_mm=(-105.0, 90.0), along_mm=(-95.0, 95.0))
_STEP_MM = 1.5
_DIRECTIONS = 181
_LEVEL = 0.55
_FAR_MM = 30.0
_TWIST_FADES_MM = 25.0
_RV_MIDDLE_RAD, _RV_SPAN_RAD = 0.93 * np.pi, 1.25


def build_psax(patient: Patient, cycle: Cycle, *, device: torch.device | str = "cpu") -> Scene:
    directions = np.linspace(0, 2 * np.pi, _DIRECTIONS)
    reference_FK, current_TFK = _borders(patient, cycle, directions)
    # At mid-level about half of the apex' twist, falling back to none at end-diastole.
    twist_T = np.deg2rad(0.5 * patient.torsion_deg) * (1 - cycle.volume_T) * (patient.ef_percent / 60)
    across, along = _EXTENT.axes(PAINT_STEP_MM, PAINT_STEP_MM)
    tissue = _paint_tissue(patient, directions, reference_FK, across, along)
    ring = _Ring(reference_FK, current_TFK, twist_T, device)
    return Scene(
        view="PSAX",
        cycle=cycle,
        extent=_EXTENT,
        tissue_NM=tissue,
        gain_NM=paint_gain(patient, "PSAX", tissue, across, along, probe_mm=(10.0, -75.0)),
        tables=ring.tables(),
        outline_TSL2=_outline(current_TFK[:, :, 1], directions, twist_T),
    )


def _borders(p: Patient, cycle: Cycle, directions_F: Array) -> tuple[Array, Array]:
    ventricle = build_ventricle(p)
    level = np.array([_LEVEL * p.lv_length_mm])
    squeeze = [ventricle.squeeze_T(cycle, VIEW_ANGLES[view]) for view in ("A4C", "A2C")]
    shortening_T = ventricle.shortening_T(cycle)
    systole_T = 1 - cycle.volume_T
    inner, outer, inner_T, outer_T = [], [], [], []
    one = np.ones(1)
    for angle in directions_F:
        mixed_T = np.cos(angle) ** 2 * squeeze[0] + np.sin(angle) ** 2 * squeeze[1]
        rest = ventricle.cavity_TZ(level, angle, np.zeros(1))
        moved = ventricle.cavity_TZ(level, angle, mixed_T)
        inner.append(rest[0, 0])
        outer.append(ventricle.outer_TZ(level, angle, rest, one)[0, 0])
        inner_T.append(moved[:, 0])
        outer_T.append(ventricle.outer_TZ(level, angle, moved, shortening_T)[:, 0])
    away = np.abs((directions_F - _RV_MIDDLE_RAD + np.pi) % (2 * np.pi) - np.pi)
    crescent = 0.68 * p.rv_width_mm * np.clip(1 - (away / _RV_SPAN_RAD) ** 2, 0, 1) ** 0.8
    wall = p.rv_wall_mm * np.clip((_RV_SPAN_RAD + 0.08 - away) / 0.08, 0, 1)

    def stack(endo: Array, epi: Array, systole: Array) -> Array:
        free = epi + crescent * (1 - 0.27 * systole)[:, None]
        return np.stack([np.zeros_like(endo), endo, epi, free, free + wall * (1 + 0.3 * systole)[:, None]], -1)

    reference = stack(np.array(inner)[None], np.array(outer)[None], np.zeros(1))[0]
    return reference, stack(np.stack(inner_T, 1), np.stack(outer_T, 1), systole_T)


class _Ring:
    """The map of the plane: a radial stretch in every direction, then a twist that fades outside the ring."""

    def __init__(self, reference_FK: Array, current_TFK: Array, twist_T: Array, device: torch.device | str) -> None:
        def send(array: Array) -> torch.Tensor:
            return torch.tensor(array, dtype=torch.float32, device=device)

        far = reference_FK[:, -1:] + _FAR_MM
        frames = len(current_TFK)
        self.reference_FK = send(np.concatenate([reference_FK, far], 1))
        self.current_TFK = send(np.concatenate([current_TFK, np.tile(far, (frames, 1, 1))], 2))
        self.twist_T11 = send(twist_T)[:, None, None]
        self.ring_mm = float(reference_FK[:, 2].mean())
        across, along = (send(axis) for axis in _EXTENT.axes(_STEP_MM, _STEP_MM))
        self.radius = torch.hypot(across[None, :], along[:, None])
        self.direction = torch.atan2(-along[:, None], across[None, :])

    def _borders_at(self, direction_TNM: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index = (direction_TNM % (2 * torch.pi)) * ((_DIRECTIONS - 1) / (2 * torch.pi))
        low = index.long().clamp_(0, _DIRECTIONS - 2)
        share = (index - low)[..., None]
        frame = torch.arange(len(self.current_TFK), device=low.device)[:, None, None]
        reference = torch.lerp(self.reference_FK[low], self.reference_FK[low + 1], share)
        return reference, torch.lerp(self.current_TFK[frame, low], self.current_TFK[frame, low + 1], share)

    def _twist(self, radius_now: torch.Tensor) -> torch.Tensor:
        fading = (1 - (radius_now - self.ring_mm) / _TWIST_FADES_MM).clamp(0, 1)
        return self.twist_T11 * fading

    def tables(self) -> MotionTables:
        """Both ways on the grid."""
        frames = len(self.current_TFK)
        radius = self.radius.expand(frames, -1, -1)
        before = self.direction - self._twist(radius)
        reference, current = self._borders_at(before)
        to_reference = _plane(stretch(radius[..., None], current, reference)[..., 0], before)
        reference, current = self._borders_at(self.direction.expand(frames, -1, -1))
        moved = stretch(radius[..., None], reference, current)[..., 0]
        to_current = _plane(moved, self.direction + self._twist(moved))
        return MotionTables(extent=_EXTENT, to_reference=to_reference, to_current=to_current)


def _plane(radius_TNM: torch.Tensor, direction_TNM: torch.Tensor) -> torch.Tensor:
    """(T, 2, N, M) across, along."""
    return torch.stack([radius_TNM * direction_TNM.cos(), -radius_TNM * direction_TNM.sin()], 1)


def _paint_tissue(
    p: Patient, directions_F: Array, border_FK: Array, across_M: Array, along_N: Array
) -> npt.NDArray[np.uint8]:
    radius = np.hypot(across_M[None, :], along_N[:, None])
    direction = np.arctan2(-along_N[:, None], across_M[None, :]) % (2 * np.pi)
    border = np.stack([np.interp(direction, directions_F, column) for column in border_FK.T[1:]], -1)
    kinds = np.array([Tissue.LV, Tissue.MYOCARDIUM, Tissue.RV, Tissue.RV_WALL, Tissue.OUTSIDE], np.uint8)
    tissue = kinds[(radius[..., None] >= border).sum(-1)]
    for side in (-0.5, 0.5):
        angle = 1.5 * np.pi + side * p.papillary_spread_rad
        rest = float(np.interp(angle, directions_F, border_FK[:, 1]))
        middle = rest - 0.62 * p.papillary_mm
        outwards = across_M[None, :] * np.cos(angle) - along_N[:, None] * np.sin(angle) - middle
        sidewards = across_M[None, :] * np.sin(angle) + along_N[:, None] * np.cos(angle)
        muscle = np.hypot(outwards / (0.75 * p.papillary_mm), sidewards / (0.55 * p.papillary_mm)) < 1
        tissue[muscle & (tissue == Tissue.LV)] = Tissue.PAPILLARY
    return tissue


def _outline(cavity_TF: Array, directions_F: Array, twist_T: Array) -> Array:
    sides = []
    for turn in (-1, 1):
        angle = np.pi / 2 + turn * np.linspace(0, np.pi, OUTLINE_POINTS)
        radius = np.stack([np.interp(angle % (2 * np.pi), directions_F, row) for row in cavity_TF])
        now = angle + twist_T[:, None]
        sides.append(np.stack([radius * np.cos(now), -radius * np.sin(now)], -1))
    return np.stack(sides, 1)
