"""The parasternal long-axis view (PLAX): right ventricle above, septum, left ventricle, aortic root and left atrium.

Heart frame: along from the apex to the base, across upwards (anterior). Borders from below: posterior wall outer and
inner, floor and top of the aortic root's posterior wall, septum's left side (beyond the base the anterior aortic
wall's), its right side, right ventricle's free wall inner and outer. Shapes: T frames, Z levels, K borders.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from echofm.phantom import scene
from echofm.phantom.anatomy import Patient, generator
from echofm.phantom.cycle import Cycle
from echofm.phantom.layers import Extent, Layers, longitudinal_tables
from echofm.phantom.scene import Scene, Stream, Thread, Tissue
from echofm.phantom.ventricle import ATRIAL_WALL_MM, VIEW_ANGLES, Ventricle, atrium_width, build_ventricle

Array = npt.NDArray[np.float64]

_EXTENT = Extent(across_mm=(-110.0, 100.0), along_mm=(-60.0, 190.0))
_AORTIC_WALL_MM = 2.5
_ROOT_LIFT_MM = 5.0
_CUSPS_BEYOND_MM = 4.0
# Of the ventricle's width at the base, the outflow tract; the mitral annulus takes the rest.
_OUTFLOW_SHARE = 0.42


def build_plax(patient: Patient, cycle: Cycle, *, device: torch.device | str = "cpu") -> Scene:
    layers = _layers(patient, build_ventricle(patient), cycle)
    across, along = _EXTENT.axes(scene.PAINT_STEP_MM, scene.PAINT_STEP_MM)
    tissue = _paint_tissue(patient, layers, across, along)
    # The probe stands on the chest, above the base of the septum.
    probe = (85.0, 0.75 * patient.lv_length_mm)
    return Scene(
        view="PLAX",
        cycle=cycle,
        extent=_EXTENT,
        tissue_NM=tissue,
        gain_NM=scene.paint_gain(patient, "PLAX", tissue, across, along, probe_mm=probe),
        tables=longitudinal_tables(layers, _EXTENT, device=device),
        outline_TSL2=layers.border_points((1, 4), scene.outline_levels(patient)),
        threads=_valves(patient, layers, cycle),
        streams=_streams(patient, layers, cycle),
    )


def _layers(p: Patient, ventricle: Ventricle, cycle: Cycle) -> Layers:
    level = np.arange(_EXTENT.along_mm[0], _EXTENT.along_mm[1] + 0.5, 1.0)
    shortening_T = ventricle.shortening_T(cycle)
    squeeze_T = ventricle.squeeze_T(cycle, VIEW_ANGLES["PLAX"])
    rest_T = np.zeros(1)
    far = p.lv_length_mm + p.la_height_mm + 30
    apex = -p.apex_wall_mm - 6
    knots = [level[0], apex, 0.0, p.lv_length_mm, far, level[-1]]
    moved = [[*knots[:3], p.lv_length_mm * short, *knots[4:]] for short in shortening_T]
    return Layers(
        level_Z=level,
        level_TZ=np.stack([np.interp(level, knots, row) for row in moved]),
        reference_ZK=_borders(p, ventricle, level, rest_T, np.ones(1), rest_T)[0],
        current_TZK=_borders(p, ventricle, level, squeeze_T, shortening_T, 1 - cycle.volume_T),
    )


def _borders(
    p: Patient, ventricle: Ventricle, level: Array, squeeze_T: Array, shortening_T: Array, systole_T: Array
) -> Array:
    """(T, Z, K) borders; systole_T is 0 at end-diastole, 1 at end-systole."""
    upper, lower = VIEW_ANGLES["PLAX"]
    length = p.lv_length_mm
    beyond = level > length
    base = int(np.argmax(beyond)) - 1
    inner = {side: ventricle.cavity_TZ(level, side, squeeze_T) for side in (upper, lower)}
    outer = {side: ventricle.outer_TZ(level, side, inner[side], shortening_T) for side in (upper, lower)}
    share = np.clip((level - length) / 16, 0, 1)
    share = share * share * (3 - 2 * share)
    lift_T1 = _ROOT_LIFT_MM * systole_T[:, None]
    top = inner[upper][:, base : base + 1]
    lvot = _OUTFLOW_SHARE * sum(float(ventricle.radius(np.array([length]), side)[0]) for side in (upper, lower))
    lvot *= p.lvot_mm / 21
    root = lvot * p.aortic_root_mm / p.lvot_mm
    # The root widens to its sinuses beyond the outflow tract, and leans upwards.
    lean = 0.16 * np.clip(level - length, 0, None)
    sinus = lvot + (root - lvot) * np.sin(np.pi * np.clip((level - length) / 34, 0, 0.68))
    front = top + lean + 0.35 * (sinus - lvot) + lift_T1 * share
    back = front - sinus
    anterior_inner = np.where(beyond, front, inner[upper])
    wall_T1 = outer[upper][:, base : base + 1] - top
    anterior_outer = np.where(beyond, front + wall_T1 * (1 - share) + _AORTIC_WALL_MM * share, outer[upper])
    rest = float(ventricle.radius(np.array([length]), lower)[0])
    floor = np.where(beyond, back - _AORTIC_WALL_MM, 0.0)
    hinge = top - lvot
    cavity_top, cavity_floor = hinge * np.ones_like(level), (hinge - _AORTIC_WALL_MM) * np.ones_like(level)
    roof, back = np.where(beyond, back, cavity_top), np.where(beyond, floor, cavity_floor)
    start = hinge[0, 0] - _AORTIC_WALL_MM + rest
    width = atrium_width(level, length, float(start), max(p.la_width_mm * 0.95, float(start)), p.la_height_mm + 8)
    annulus_T1 = (back[:, base : base + 1] + inner[lower][:, base : base + 1]) / start
    depth = width * (annulus_T1 * (1 - share) + (1 + 0.12 * systole_T)[:, None] * share)
    posterior_inner = np.where(beyond, back - depth, -inner[lower])
    posterior_wall = (outer[lower] - inner[lower])[:, base : base + 1] * (1 - share) + ATRIAL_WALL_MM * share
    posterior_outer = np.where(beyond, posterior_inner - posterior_wall, -outer[lower])
    # Along the ventricle the two inner borders only carry the blood along: keep them within the cavity.
    back = np.where(beyond, back, np.clip(back, posterior_inner, anterior_inner))
    roof = np.where(beyond, roof, np.clip(roof, back, anterior_inner))
    start_rv = (p.rv_apex_level + 0.05) * length
    v = np.clip((level - start_rv) / (0.45 * length), 0, 1)
    right = 0.72 * p.rv_width_mm * np.sin(np.pi / 2 * v) ** 0.8 * (1 - 0.27 * systole_T)[:, None]
    closing = np.clip((level - start_rv + p.rv_wall_mm) / p.rv_wall_mm, 0, 1)
    free_inner = anterior_outer + right
    free_outer = free_inner + p.rv_wall_mm * closing * (1 + 0.3 * systole_T)[:, None]
    borders = (posterior_outer, posterior_inner, back, roof, anterior_inner, anterior_outer, free_inner, free_outer)
    return np.stack(borders, -1)


def _paint_tissue(p: Patient, layers: Layers, across: Array, along: Array) -> npt.NDArray[np.uint8]:
    count = scene.paint_borders(layers.reference_ZK, layers.level_Z, across, along)
    out, wall, cavity = Tissue.OUTSIDE, Tissue.MYOCARDIUM, Tissue.LV
    ventricle = np.array([out, wall, cavity, cavity, cavity, wall, Tissue.RV, Tissue.RV_WALL, out])
    root = [out, Tissue.ATRIAL_WALL, Tissue.LA, Tissue.FIBROUS, Tissue.AORTA, Tissue.FIBROUS, Tissue.RV]
    base = np.array([*root, Tissue.RV_WALL, out])
    tissue = np.where((along > p.lv_length_mm)[:, None], base[count], ventricle[count]).astype(np.uint8)
    # The descending aorta lies behind the atrioventricular groove.
    floor = float(np.interp(p.lv_length_mm + 8, layers.level_Z, layers.reference_ZK[:, 0]))
    from_centre = np.hypot(across[None, :] - (floor - 15), along[:, None] - (p.lv_length_mm + 6))
    tissue[(from_centre < 12.5) & (tissue == out)] = Tissue.FIBROUS
    tissue[(from_centre < 11) & (tissue == Tissue.FIBROUS) & (count == 0)] = Tissue.AORTA
    return tissue


def _valves(p: Patient, layers: Layers, cycle: Cycle) -> list[Thread]:
    rng = generator(p.seed, "texture", p.number, 20)
    along = np.tile([0.0, 1.0], (len(cycle.phase_T), 1))
    mitral = scene.two_leaflets(
        layers.hinges(p.lv_length_mm, (2, 1)),
        lengths_mm=(p.anterior_leaflet + 0.15, p.posterior_leaflet),
        opening_T=cycle.mitral_T,
        open_rad=np.deg2rad(p.mitral_opening_deg),
        towards_T2=-along,
        gain=3.0 * p.leaflet_gain,
        rng=rng,
    )
    aortic = scene.two_leaflets(
        layers.hinges(p.lv_length_mm + _CUSPS_BEYOND_MM, (4, 3)),
        lengths_mm=(0.53, 0.53),
        opening_T=cycle.aortic_T,
        open_rad=np.deg2rad(82),
        towards_T2=along,
        gain=2.2 * p.leaflet_gain,
        rng=rng,
    )
    return mitral + aortic


def _streams(p: Patient, layers: Layers, cycle: Cycle) -> list[Stream]:
    basewards = np.tile([0.0, 1.0], (len(cycle.phase_T), 1))
    mitral = layers.hinges(p.lv_length_mm, (2, 1))
    aortic = layers.hinges(p.lv_length_mm + _CUSPS_BEYOND_MM, (4, 3))
    return [
        scene.stream(mitral, patient=p, rate_T=cycle.filling_T, towards_T2=-basewards, area_cm2=4.5, length_mm=40),
        scene.stream(aortic, patient=p, rate_T=cycle.ejection_T, towards_T2=basewards, area_cm2=3.5, length_mm=45),
    ]
