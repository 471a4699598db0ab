"""Speckle, cycle and tissue obey their laws."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from benchmarks.phantom_statistics import speckle_statistics
from echofm.phantom import render_clip
from echofm.phantom.acquisition import VIEWS, Spread, draw_acquisition
from echofm.phantom.anatomy import RHYTHMS, draw_patient
from echofm.phantom.clip import build_scene
from echofm.phantom.cycle import cycle_curves, draw_onsets
from echofm.phantom.layers import stretch
from echofm.phantom.overlay import electrocardiogram
from echofm.phantom.ventricle import build_ventricle


def test_even_tissue_is_rayleigh_and_its_speckle_widens_with_depth() -> None:
    taken = draw_acquisition(0, 0, 0, view="A4C", frame_rate_hz=50.0, overlay=False, colour=False)
    speckle = speckle_statistics(taken, frames=8)
    assert speckle.rayleigh_ks < 0.02
    assert (np.diff(speckle.lateral_mm) > 0).all() and (np.diff(speckle.axial_mm) > 0).all()
    assert (speckle.lateral_mm > speckle.axial_mm).all(), "resolution is better along the beam"


def test_patients_span_the_ranges_asked_for() -> None:
    patients = [draw_patient(0, number) for number in range(400)]
    ef = np.array([p.ef_percent for p in patients])
    edv = np.array([p.edv_ml for p in patients])
    rate = np.array([p.heart_rate_bpm for p in patients])
    assert 15 <= ef.min() < 20 and 72 < ef.max() <= 80
    assert 60 <= edv.min() < 75 and 180 < edv.max() <= 250
    assert 45 <= rate.min() < 50 and 110 < rate.max() <= 140
    assert {p.rhythm for p in patients} == set(RHYTHMS) and any(p.weak for p in patients)


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_a_cycle_goes_through_its_phases(rhythm: str) -> None:
    onset = np.array([0.0, 0.8, 1.6])
    time = np.arange(0, 1.6, 0.002)
    cycle = cycle_curves(time, onset, atrial_kick=rhythm != "atrial_fibrillation")
    assert cycle.volume_T.min() == pytest.approx(0, abs=1e-6) and cycle.volume_T.max() == pytest.approx(1, abs=1e-6)
    assert ((cycle.phase_T >= 0) & (cycle.phase_T < 1)).all()
    still = (cycle.filling_T < 1e-6) & (cycle.ejection_T < 1e-6)
    assert 0.1 < still.mean() < 0.6, "isovolumic phases and diastasis"
    assert not ((cycle.mitral_T > 1e-6) & (cycle.aortic_T > 1e-6)).any(), "never both valves open"
    assert (cycle.aortic_T[cycle.ejection_T > 0.5] > 0).all() and (cycle.mitral_T[cycle.filling_T > 0.5] > 0).all()
    late = cycle.filling_T[(cycle.phase_T > 0.85) & (cycle.phase_T < 0.97)].max()
    early = cycle.filling_T[cycle.phase_T < 0.8].max()
    assert (late / early > 0.25) == (rhythm != "atrial_fibrillation"), "the kick needs a beating atrium"


def test_fibrillating_beats_are_irregular() -> None:
    spread = {}
    for number in range(60):
        patient = draw_patient(0, number)
        beats = np.diff(draw_onsets(patient, 0, 20.0))
        spread.setdefault(patient.rhythm, []).append(beats.std() / beats.mean())
    assert np.mean(spread["regular"]) < 0.01 < np.mean(spread["respiratory"]) < np.mean(spread["atrial_fibrillation"])


def test_the_myocardium_keeps_its_volume() -> None:
    patient = draw_patient(0, 8)
    ventricle = build_ventricle(patient)
    time = np.linspace(0, 0.79, 20)
    cycle = cycle_curves(time, np.array([0.0, 0.8]), atrial_kick=True)
    level = np.linspace(5, patient.lv_length_mm, 200)
    squeeze, shortening = ventricle.squeeze_T(cycle, (0.0, np.pi)), ventricle.shortening_T(cycle)
    inner = ventricle.cavity_TZ(level, 0.0, squeeze)
    outer = ventricle.outer_TZ(level, 0.0, inner, shortening)
    slab = (outer**2 - inner**2).mean(1) * shortening
    np.testing.assert_allclose(slab, slab[0], rtol=1e-9)
    thickening = (outer - inner).mean(1)
    assert thickening[cycle.volume_T.argmin()] > 1.15 * thickening[0]


@pytest.mark.parametrize("view", VIEWS)
def test_tissue_maps_there_and_back(view: str) -> None:
    """A material grid moved to now and pulled back by the other table lies where it was, inside the heart."""
    patient = draw_patient(0, 3)
    cycle = cycle_curves(np.linspace(0, 0.7, 6), np.array([0.0, 0.8]), atrial_kick=True)
    scene = build_scene(patient, view, cycle, device="cpu")
    across = torch.linspace(-20, 20, 9)
    along = torch.linspace(*((-20, 20) if view == "PSAX" else (20, 80)), 9)
    points = torch.cartesian_prod(across, along).expand(6, -1, -1)

    def sample(table: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        grid = scene.extent.normalise(at)[:, :, None]
        return torch.nn.functional.grid_sample(table, grid, align_corners=True)[..., 0].mT

    back = sample(scene.tables.to_reference, sample(scene.tables.to_current, points))
    assert (back - points).norm(dim=-1).quantile(0.95) < 0.3
    assert (sample(scene.tables.to_current, points)[3] - points[3]).norm(dim=-1).max() > 2


def test_stretch_is_exact_between_borders() -> None:
    source, target = torch.tensor([-10.0, 0.0, 4.0, 20.0]), torch.tensor([-8.0, 0.0, 6.0, 20.0])
    position = torch.tensor([-12.0, -10.0, -5.0, 2.0, 4.0, 12.0, 25.0])
    moved = stretch(position, source, target)
    torch.testing.assert_close(moved, torch.tensor([-10.0, -8.0, -4.0, 3.0, 6.0, 13.0, 25.0]))
    torch.testing.assert_close(stretch(moved, target, source), position)


def test_the_r_wave_falls_on_end_diastole() -> None:
    phase = np.linspace(0, 1, 1000, endpoint=False)
    trace = electrocardiogram(phase)
    assert phase[trace.argmax()] < 0.005 or phase[trace.argmax()] > 0.995


def test_stretch_jumps_where_borders_part() -> None:
    """Borders that touch at end-diastole and part later must not pull back what lies beyond them."""
    source, target = torch.tensor([-10.0, 0.0, 0.0, 20.0]), torch.tensor([-12.0, -4.0, 3.0, 25.0])
    position = torch.tensor([-10.0, -5.0, 10.0, 20.0, 25.0])
    torch.testing.assert_close(stretch(position, source, target), torch.tensor([-12.0, -8.0, 14.0, 25.0, 30.0]))
    back = stretch(torch.tensor([-8.0, -1.0, 14.0, 30.0]), target, source)
    torch.testing.assert_close(back, torch.tensor([-5.0, 0.0, 10.0, 25.0]))


# The two sides of these patients' atrial septum once crossed, and all that lies lateral of it jumped by millimetres.
@pytest.mark.parametrize(("view", "number"), [("A4C", 40), ("A4C", 41), ("A4C", 43), ("PLAX", 45)])
def test_the_two_maps_agree_in_the_whole_plane(view: str, number: int) -> None:
    """What lies at a place now came from where the other table sends it back from."""
    cycle = cycle_curves(np.linspace(0, 0.75, 16), np.array([0.0, 0.8]), atrial_kick=True)
    scene = build_scene(draw_patient(0, number), view, cycle, device="cpu")
    now = torch.cartesian_prod(torch.linspace(-80, 60, 141), torch.linspace(3, 120, 118)).expand(16, -1, -1)

    def sample(table: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        grid = scene.extent.normalise(at)[:, :, None]
        return torch.nn.functional.grid_sample(table, grid, align_corners=True)[..., 0].mT

    again = sample(scene.tables.to_current, sample(scene.tables.to_reference, now))
    assert ((again - now).norm(dim=-1) > 1).float().mean() < 0.004


@pytest.mark.gpu
def test_the_gpu_renders_the_same_clip() -> None:
    for view in VIEWS:
        one, other = (render_clip(3, view=view, frames=16, device=device) for device in ("cpu", "cuda"))
        difference = np.abs(one.frames_THWC.astype(int) - other.frames_THWC.astype(int))
        assert difference.mean() < 0.2 and np.quantile(difference, 0.999) <= 4
        assert (one.pixels.mask_THW != other.pixels.mask_THW).mean() < 1e-3


@pytest.mark.parametrize("view", VIEWS)
def test_a_mirrored_acquisition_shows_the_same_heart_the_other_way_round(view: str) -> None:
    seen = render_clip(3, view=view, frames=3, spread="varied")
    way_round = (replace(seen.acquisition, mirrored=mirrored) for mirrored in (False, True))
    usual, mirrored = (render_clip(3, frames=3, acquisition=each) for each in way_round)
    flipped = mirrored.pixels.mask_THW[..., ::-1]
    # A pixel centre may lie on a border, which belongs to one side.
    assert (flipped == usual.pixels.mask_THW).mean() > 0.998 and (mirrored.pixels.mask_THW == flipped).mean() < 0.99
    moved, back = usual.pixels.displacement_T2HW, mirrored.pixels.displacement_T2HW[..., ::-1].copy()
    back[:, 0] *= -1
    assert np.abs(moved).max() > 0.1 and np.abs(moved - back).mean() < 0.05 * np.abs(moved).mean()
    middle = (len(usual.sector_HW) - 1) / 2
    assert np.allclose(mirrored.outline_TSL2[..., 0] - middle, middle - usual.outline_TSL2[..., 0])


def test_varied_acquisitions_differ_more_and_begin_from_the_usual_ones() -> None:
    def drawn(spread: Spread) -> dict[str, np.ndarray]:
        options = {"view": "A4C", "frame_rate_hz": None, "overlay": False, "colour": False}
        taken = [asdict(draw_acquisition(0, number, 0, spread=spread, **options)) for number in range(200)]
        return {
            name: np.array([each[name] for each in taken]) for name in ("depth_mm", "tilt_deg", "mirrored", "cycles")
        }

    usual, varied = drawn("usual"), drawn("varied")
    assert (
        varied["depth_mm"].std() > 2 * usual["depth_mm"].std()
        and varied["tilt_deg"].std() > 1.5 * usual["tilt_deg"].std()
    )
    assert not usual["mirrored"].any() and 0.4 < varied["mirrored"].mean() < 0.6
    assert (varied["cycles"] == usual["cycles"]).all()
