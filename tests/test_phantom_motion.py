"""The phantom's displacement, heart rate and identity are in its frames, not only in its tables."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
from simpson import discs

from benchmarks.phantom_flow import JUDGES, errors, measure
from echofm.phantom import generate, render_clip
from echofm.phantom.acquisition import VIEWS, draw_acquisition
from echofm.phantom.anatomy import draw_patient
from echofm.phantom.clip import make_scan
from echofm.phantom.cycle import cycle_curves
from echofm.phantom.render import pixel_truth
from echofm.phantom.video import write_mjpeg

Errors = dict[str, npt.NDArray[np.float64]]


@pytest.fixture(scope="module")
def against_dis() -> dict[str, list[Errors]]:
    """By view, what `python -m benchmarks.phantom_flow` measures, of two patients."""
    return {view: [measure(number, view) for number in (1, 8)] for view in VIEWS}


def truth_and_dis(results: list[Errors], region: str, judge: str) -> tuple[float, float]:
    """Mean errors over the clips that have the region."""
    values = [result[region] for result in results if np.isfinite(result[region]).all()]
    truth, dis = np.mean(values, axis=0)[:, JUDGES.index(judge)]
    return float(truth), float(dis)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("judge", JUDGES)
def test_true_displacement_explains_myocardium_and_leaflets_better_than_optical_flow(
    view: str, judge: str, against_dis: dict[str, list[Errors]]
) -> None:
    # No leaflet lies in the plane of PSAX.
    for region in ("myocardium", "leaflets") if view != "PSAX" else ("myocardium",):
        truth, optical_flow = truth_and_dis(against_dis[view], region, judge)
        assert truth < 0.99 * optical_flow


@pytest.mark.parametrize("region", ["all walls", "whole sector"])
@pytest.mark.parametrize("judge", JUDGES)
def test_it_does_so_over_all_walls_and_the_whole_sector(
    region: str, judge: str, against_dis: dict[str, list[Errors]]
) -> None:
    """Over the views together; in a single clip noise may decide."""
    truth, optical_flow = truth_and_dis([one for results in against_dis.values() for one in results], region, judge)
    assert truth < optical_flow


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("region", ["surroundings", "whole sector"])
def test_it_does_so_in_every_view_where_noise_is_taken_off_the_frames(
    view: str, region: str, against_dis: dict[str, list[Errors]]
) -> None:
    truth, optical_flow = truth_and_dis(against_dis[view], region, "no noise")
    assert truth < optical_flow


def test_a_shift_by_half_a_pixel_wins_on_still_noise() -> None:
    """Why noise is no judge of motion: interpolation smooths it, and so the wrong field has the smaller error."""
    noise = np.random.default_rng(0).integers(0, 40, (2, 80, 80), dtype=np.uint8)
    where = {"all": np.ones((1, 80, 80), bool)}
    still, shifted = (errors(noise, np.full((1, 2, 80, 80), shift), where)["all"] for shift in (0.0, 0.5))
    assert shifted < 0.9 * still


@pytest.mark.parametrize("view", ["A4C", "A2C", "PLAX"])
def test_a_pixel_on_a_leaflet_moves_with_it(view: str) -> None:
    clip = render_clip(1, view=view, frames=24)
    scan = make_scan(clip.patient, clip.acquisition, clip.number, clip.time_s, clip.cycle, size=112)
    apart = []
    for thread in scan.scene.threads:
        points = clip.sector.to_pixels(scan.pose.to_image(thread.points_TP2))
        # Its free half: near the hinge the pixel may be the wall's.
        for point in range(points.shape[1] // 2, points.shape[1], 4):
            path = points[:, point]
            columns, rows = path[:-1].round().astype(int).T
            seen = clip.pixels.displacement_T2HW[np.arange(23), :, rows, columns].astype(float)
            apart.append(np.linalg.norm(seen - np.diff(path, axis=0), axis=1))
    moved = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert moved.max() > 1.5 and np.quantile(apart, 0.9) < 0.25


def heart_rate_by_autocorrelation_bpm(frames_THW: npt.NDArray[np.uint8], frame_rate_hz: float) -> float:
    """Lag (parabola through the peak) at which the frames resemble themselves most, between 0.35 and 1.6 s.

    Breathing and the hand, slower than a beat, are taken out first: they favour short lags.
    """
    pixels = frames_THW[:, ::2, ::2].reshape(len(frames_THW), -1).astype(float)
    pixels -= scipy.ndimage.gaussian_filter1d(pixels, 0.45 * frame_rate_hz, axis=0)
    similar = pixels @ pixels.T
    lags = np.arange(int(0.35 * frame_rate_hz), min(int(1.6 * frame_rate_hz), len(frames_THW) - 4))
    power = np.diag(similar)
    score = []
    for lag in lags:
        norm = np.sqrt(power[:-lag] * power[lag:])
        score.append((np.diag(similar, lag) / norm).mean())
    best = int(np.argmax(score))
    if 0 < best < len(score) - 1:
        before, here, after = score[best - 1 : best + 2]
        shift = 0.5 * (before - after) / (before - 2 * here + after)
    else:
        shift = 0.0
    return 60 * frame_rate_hz / (lags[best] + shift)


def decoded(path: Path) -> npt.NDArray[np.uint8]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


@pytest.mark.parametrize("patient", [number for number in range(12) if draw_patient(0, number).rhythm == "regular"][:3])
def test_heart_rate_from_the_written_videos(patient: int, tmp_path: Path) -> None:
    clip = render_clip(patient, frame_rate_hz=50.0)
    write_mjpeg(tmp_path / "clip.avi", clip.frames_THWC, 50.0)
    measured = heart_rate_by_autocorrelation_bpm(decoded(tmp_path / "clip.avi"), 50.0)
    assert measured == pytest.approx(clip.heart_rate_bpm, rel=0.03)


def heart_shape(number: int, clip: int) -> npt.NDArray[np.float64]:
    """Cavity and outer diameters in discs (mm), length and atrium's size at both ends of systole: from masks alone."""
    patient = draw_patient(0, number)
    taken = draw_acquisition(0, number, clip, view="A4C", frame_rate_hz=50.0, overlay=False, colour=False)
    time_s = np.array([0.0, 0.4])
    cycle = cycle_curves(time_s, np.array([0.0, 1.0]), atrial_kick=True)
    scan = make_scan(patient, taken, clip, time_s, cycle, size=112)
    parts = []
    for mask in pixel_truth(scan).mask_THW:
        cavity_mm, length_mm = discs(mask, scan.sector.spacing_mm, count=6)
        outer_mm, _ = discs(np.where(mask == 2, 1, mask), scan.sector.spacing_mm, count=6)
        atrium_mm = np.sqrt((mask == 3).sum()) * scan.sector.spacing_mm
        parts += [*cavity_mm[:5], *outer_mm[:5], length_mm, atrium_mm]
    return np.array(parts)


def share_found(known: int, patients: int) -> float:
    """Share of patients whose second clip is the nearest to their first, among those from `known` on."""
    shapes = np.array([[heart_shape(number, clip) for number in range(patients)] for clip in (0, 1)])
    # How far two acquisitions of one heart differ is learnt on other patients than those looked up.
    repeat = np.sqrt(np.mean((shapes[0, :known] - shapes[1, :known]) ** 2, 0))
    first, second = shapes[:, known:] / repeat
    distance = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return float((distance.argmin(1) == np.arange(patients - known)).mean())


def test_clips_of_a_patient_share_their_anatomy_and_those_of_others_do_not() -> None:
    assert share_found(8, 24) >= 0.95


@pytest.mark.slow
def test_seventy_patients_differ_by_their_masks() -> None:
    assert share_found(20, 90) >= 0.95


@pytest.mark.slow
def test_heart_rates_of_a_written_folder(tmp_path: Path) -> None:
    views = ("A4C", "A2C", "PLAX", "PSAX")
    generate(
        tmp_path / "d",
        patients=24,
        clips_per_patient=1,
        views=views,
        seed=1,
        frames=150,
        frame_rate_hz=50.0,
    )
    errors = []
    for path in sorted((tmp_path / "d" / "Videos").glob("*.avi")):
        truth = np.load(tmp_path / "d" / "truth" / f"{path.stem}.npz", allow_pickle=False)
        if str(truth["rhythm"]) == "regular":
            rate_hz = 1 / float(np.diff(truth["frame_time_s"]).mean())
            measured = heart_rate_by_autocorrelation_bpm(decoded(path), rate_hz)
            errors.append(measured / float(truth["heart_rate_bpm"]) - 1)
    assert len(errors) > 10 and np.abs(errors).max() < 0.03
