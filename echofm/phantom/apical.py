"""The apical views: four chambers (A4C) and two chambers (A2C), apex up.

Borders from left to right in A4C: right-sided wall outer and inner, septum's right side, its left side, lateral wall
inner and outer; beyond the base the same borders bound the atria. A2C has the inferior wall in the septum's place and
no right heart. Shapes: T frames, Z levels, K borders. Heart frame: across to the right, along from the apex down.
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

_EXTENT = Extent(across_mm=(-125.0, 110.0), along_mm=(-50.0, 205.0))


def build_apical(patient: Patient, view: str, cycle: Cycle, *, device: torch.device | str = "cpu") -> Scene:
    ventricle = build_ventricle(patient)
    layers = _layers(patient, ventricle, view, cycle)
    across, along = _EXTENT.axes(scene.PAINT_STEP_MM, scene.PAINT_STEP_MM)
    tissue = _paint_tissue(patient, view, layers, across, along)
    return Scene(
        view=view,
        cycle=cycle,
        extent=_EXTENT,
        tissue_NM=tissue,
        gain_NM=scene.paint_gain(patient, view, tissue, across, along, probe_mm=(-8.0, -27.0)),
        tables=longitudinal_tables(layers, _EXTENT, device=device),
        outline_TSL2=layers.border_points((3, 4) if view == "A4C" else (1, 2), scene.outline_levels(patient)),
        threads=_threads(patient, view, layers, cycle),
        streams=_streams(patient, view, layers, cycle),
    )


def _layers(patient: Patient, ventricle: Ventricle, view: str, cycle: Cycle) -> Layers:
    p, length = patient, patient.lv_length_mm
    level = np.arange(_EXTENT.along_mm[0], _EXTENT.along_mm[1] + 0.5, 1.0)
    shortening_T = ventricle.shortening_T(cycle)
    squeeze_T = ventricle.squeeze_T(cycle, VIEW_ANGLES[view])
    rest_T = np.zeros(1)
    reference = _borders(p, ventricle, view, level, rest_T, np.ones(1), rest_T)[0]
    current = _borders(p, ventricle, view, level, squeeze_T, shortening_T, 1 - cycle.volume_T)
    if view == "A4C":
        _keep_atrial_septum(p, reference, current)
    roof = length + max(p.la_height_mm, p.ra_height_mm) + ATRIAL_WALL_MM
    far = roof + 25
    apex = -p.apex_wall_mm - 6
    knots = np.array([level[0], apex, 0.0, length, far, level[-1]])
    level_TZ = np.stack(
        [np.interp(level, knots, [level[0], apex, 0.0, length * short, far, level[-1]]) for short in shortening_T]
    )
    return Layers(level_Z=level, level_TZ=level_TZ, reference_ZK=reference, current_TZK=current)


def _keep_atrial_septum(p: Patient, reference_ZK: Array, current_TZK: Array) -> None:
    """The right atrium gives way where the left one, filling, would meet it: a septum keeps its thickness. In place.

    Without this its two sides crossed in one patient of three, and everything lateral of it jumped.
    """
    thickness_Z = np.minimum(reference_ZK[:, 3] - reference_ZK[:, 2], p.atrial_septum_mm)
    current_TZK[..., 2] = np.minimum(current_TZK[..., 2], current_TZK[..., 3] - thickness_Z)


def _borders(
    p: Patient, ventricle: Ventricle, view: str, level: Array, squeeze_T: Array, shortening_T: Array, systole_T: Array
) -> Array:
    """(T, Z, K) borders; systole_T is 0 at end-diastole, 1 at end-systole."""
    length = p.lv_length_mm
    right, left = VIEW_ANGLES[view]
    bend = p.lv_bend_mm * np.sin(np.pi * np.clip(level / length, 0, 1))
    inner, outer = {}, {}
    for side in (right, left):
        inner[side] = ventricle.cavity_TZ(level, side, squeeze_T)
        outer[side] = ventricle.outer_TZ(level, side, inner[side], shortening_T)
    beyond = level > length
    base = int(np.argmax(beyond)) - 1
    share = np.clip((level - length) / 14, 0, 1)
    share = share * share * (3 - 2 * share)
    reservoir_T = 1 + 0.1 * systole_T
    annulus_mm = sum(float(ventricle.radius(np.array([length]), side)[0]) for side in (right, left))
    extra = 0.5 * (p.la_width_mm - annulus_mm)
    wall, half = {}, {}
    for side in (right, left):
        rest = float(ventricle.radius(np.array([length]), side)[0])
        widest = rest + (min(extra, 3.0) if view == "A4C" and side == left else max(extra * 1.2, 1.0))
        shape = atrium_width(level, length, rest, widest, p.la_height_mm)
        moved = (inner[side][:, base] / rest)[:, None] * (1 - share) + reservoir_T[:, None] * share
        half[side] = shape * moved
        closing = atrium_width(level, length, rest, widest + ATRIAL_WALL_MM, p.la_height_mm + ATRIAL_WALL_MM)
        thick = (outer[side][:, base] - inner[side][:, base])[:, None] * (1 - share) + ATRIAL_WALL_MM * share
        wall[side] = np.where(closing > 0, closing * moved + thick - ATRIAL_WALL_MM * share, 0.0)
    right_inner = bend + np.where(beyond, half[right], inner[right])
    right_outer = bend + np.where(beyond, np.maximum(wall[right], half[right]), outer[right])
    left_inner = bend - np.where(beyond, half[left], inner[left])
    left_outer = bend - np.where(beyond, np.maximum(wall[left], half[left]), outer[left])
    if view == "A2C":
        return np.stack([left_outer, left_inner, right_inner, right_outer], -1)
    return np.stack(
        [*_right_heart(p, level, bend - outer[left], base, systole_T), left_inner, right_inner, right_outer], -1
    )


def _right_heart(p: Patient, level: Array, septum_TZ: Array, base: int, systole_T: Array) -> tuple[Array, Array, Array]:
    """Right wall outer and inner, and the septum's right side; septum_TZ is the latter over the ventricle."""
    annulus_level = p.lv_length_mm - p.tricuspid_offset_mm
    start = p.rv_apex_level * p.lv_length_mm
    v = np.clip((level - start) / (annulus_level - start), 0, 1)
    beyond = level > annulus_level
    width_Z = p.rv_width_mm * np.where(level <= start, 0, np.sin(np.pi / 2 * v**0.75) * (1 - 0.18 * v**4))
    shrink_T1 = (1 - 0.27 * systole_T)[:, None]
    base_width_T1 = 0.82 * p.rv_width_mm * shrink_T1
    annulus_half = 0.41 * p.rv_width_mm
    widest = max(0.5 * p.ra_width_mm, annulus_half)
    half_Z = atrium_width(level, annulus_level, annulus_half, widest, p.ra_height_mm)
    share = np.clip((level - annulus_level) / 14, 0, 1)
    moved = shrink_T1 * (1 - share) + (1 + 0.08 * systole_T)[:, None] * share
    # The atrium leans away from the septum as it widens, so that the atrial septum stays a wall.
    septum_base = septum_TZ[:, base : base + 1]
    middle = septum_base - base_width_T1 / 2 - (widest - annulus_half) * 0.75 * np.clip(share * 1.5, 0, 1)
    atrium_right, atrium_left = middle + half_Z * moved, middle - half_Z * moved
    right_side = np.where(beyond, np.minimum(atrium_right, septum_base + p.septum_mm - p.atrial_septum_mm), septum_TZ)
    inner = np.where(beyond, np.minimum(atrium_left, right_side), septum_TZ - width_Z * shrink_T1)
    closing = np.clip((level - start + p.rv_wall_mm) / p.rv_wall_mm, 0, 1)
    roof = np.clip((annulus_level + p.ra_height_mm + ATRIAL_WALL_MM - level) / (2 * ATRIAL_WALL_MM), 0, 1) ** 0.5
    thick = np.where(beyond, ATRIAL_WALL_MM * roof, p.rv_wall_mm * (1 + 0.3 * systole_T[:, None]) * closing)
    return inner - thick, inner, right_side


def _paint_tissue(p: Patient, view: str, layers: Layers, across: Array, along: Array) -> npt.NDArray[np.uint8]:
    count = scene.paint_borders(layers.reference_ZK, layers.level_Z, across, along)
    beyond = (along > p.lv_length_mm)[:, None]
    if view == "A2C":
        ventricle = np.array([Tissue.OUTSIDE, Tissue.MYOCARDIUM, Tissue.LV, Tissue.MYOCARDIUM, Tissue.OUTSIDE])
        atrium = np.array([Tissue.OUTSIDE, Tissue.ATRIAL_WALL, Tissue.LA, Tissue.ATRIAL_WALL, Tissue.OUTSIDE])
        return np.where(beyond, atrium[count], ventricle[count]).astype(np.uint8)
    ventricle_kinds = [Tissue.OUTSIDE, Tissue.RV_WALL, Tissue.RV, Tissue.MYOCARDIUM, Tissue.LV, Tissue.MYOCARDIUM]
    atrium_kinds = [Tissue.OUTSIDE, Tissue.ATRIAL_WALL, Tissue.RA, Tissue.ATRIAL_WALL, Tissue.LA, Tissue.ATRIAL_WALL]
    tables = [np.array([*row, Tissue.OUTSIDE]) for row in (ventricle_kinds, atrium_kinds)]
    tissue = np.where(beyond, tables[1][count], tables[0][count])
    right_atrium = (along > p.lv_length_mm - p.tricuspid_offset_mm)[:, None] & (tissue == Tissue.RV)
    tissue[right_atrium] = Tissue.RA
    # Between the atrial roofs lies the fat and fibrous tissue behind the heart, not a wall.
    behind = (along > p.lv_length_mm + 0.62 * min(p.la_height_mm, p.ra_height_mm))[:, None] & (count == 3)
    tissue[behind] = Tissue.FIBROUS
    return tissue.astype(np.uint8)


def _threads(p: Patient, view: str, layers: Layers, cycle: Cycle) -> list[Thread]:
    rng = generator(p.seed, "texture", p.number, 10 + int(view == "A2C"))
    frames = len(cycle.phase_T)
    apexwards = np.tile([0.0, -1.0], (frames, 1))
    mitral = (3, 4) if view == "A4C" else (2, 1)
    threads = scene.two_leaflets(
        layers.hinges(p.lv_length_mm, mitral),
        lengths_mm=(p.anterior_leaflet, p.posterior_leaflet),
        opening_T=cycle.mitral_T,
        open_rad=np.deg2rad(p.mitral_opening_deg),
        towards_T2=apexwards,
        gain=3.5 * p.leaflet_gain,
        rng=rng,
    )
    if view == "A4C":
        threads += scene.two_leaflets(
            layers.hinges(p.lv_length_mm - p.tricuspid_offset_mm, (2, 1)),
            lengths_mm=(0.5, 0.6),
            opening_T=cycle.mitral_T,
            open_rad=np.deg2rad(p.mitral_opening_deg),
            towards_T2=apexwards,
            gain=2.5 * p.leaflet_gain,
            rng=rng,
        )
    return threads


def _streams(p: Patient, view: str, layers: Layers, cycle: Cycle) -> list[Stream]:
    apexwards = np.tile([0.0, -1.0], (len(cycle.phase_T), 1))
    mitral = layers.hinges(p.lv_length_mm, (3, 4) if view == "A4C" else (2, 1))
    streams = [
        scene.stream(mitral, patient=p, rate_T=cycle.filling_T, towards_T2=apexwards, area_cm2=4.5, length_mm=42)
    ]
    if view == "A4C":
        tricuspid = layers.hinges(p.lv_length_mm - p.tricuspid_offset_mm, (2, 1))
        outflow = mitral.copy()
        # The outflow tract leaves beside the septum and out of this plane: the stream ends at the base.
        outflow[:, 1] = 0.55 * outflow[:, 0] + 0.45 * outflow[:, 1]
        outflow[..., 1] -= 12
        streams += [
            scene.stream(
                tricuspid, patient=p, rate_T=cycle.filling_T, towards_T2=apexwards, area_cm2=7.0, length_mm=32
            ),
            scene.stream(
                outflow, patient=p, rate_T=cycle.ejection_T, towards_T2=-apexwards, area_cm2=4.5, length_mm=14
            ),
        ]
    return streams
