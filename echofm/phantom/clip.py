"""One phantom clip: patient and acquisition in, frames and truth out."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from echofm.phantom.acquisition import Acquisition, Spread, draw_acquisition
from echofm.phantom.anatomy import Patient, draw_patient
from echofm.phantom.apical import build_apical
from echofm.phantom.cycle import Cycle, cycle_curves, draw_onsets
from echofm.phantom.doppler import colour_flow, true_velocity
from echofm.phantom.leaflet_motion import with_leaflets
from echofm.phantom.plax import build_plax
from echofm.phantom.probe import Sector, make_pose, make_sector
from echofm.phantom.psax import build_psax
from echofm.phantom.render import Noise, PixelTruth, Scan, drawn_noise, no_noise, pixel_truth, render_grey
from echofm.phantom.scene import Scene
from echofm.phantom.truth import FURTHER, Truth

Array = npt.NDArray[np.float64]

# A clip without a given length shows at least this many beats, so that a whole one can be found in it.
_BEATS = 2.4
# Where the heart lies: turn (degrees), a heart point (shares of the LV's length), its image point (mm).
_POSITIONS = {
    "A4C": (1.0, (0.0, 0.0), (9.0, 27.0)),
    "A2C": (-3.0, (0.0, 0.0), (0.0, 27.0)),
    "PLAX": (-84.0, (0.0, 0.72), (-12.0, 78.0)),
    "PSAX": (0.0, (0.0, 0.0), (8.0, 72.0)),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class PhantomClip:
    """A rendered clip with everything that is known about it.

    frames_THWC: uint8, C 1 or 3. sector_HW: bool. outline_TSL2: the cavity's border in pixels (x, y), two sides,
    points along each.
    """

    patient: Patient
    acquisition: Acquisition
    number: int
    frames_THWC: npt.NDArray[np.uint8]
    time_s: Array
    cycle: Cycle
    sector: Sector
    sector_HW: npt.NDArray[np.bool_]
    pixels: PixelTruth
    outline_TSL2: Array

    @property
    def view(self) -> str:
        return self.acquisition.view

    @property
    def stem(self) -> str:
        """The clip's name: patient, clip number, view."""
        return f"{self.patient.name}-{self.number:02d}-{self.view}"

    @property
    def kind(self) -> str:
        """As Clip.kind."""
        return "bmode" if self.pixels.grey_THW is None else "colour_doppler"

    @property
    def heart_rate_bpm(self) -> float:
        """Of the beats that this clip touches."""
        return float(60 / self.cycle.beat_s.mean())

    def part(self, begin: int, end: int) -> PhantomClip:
        """Frames begin .. end - 1; time starts anew."""
        keep = slice(begin, end)
        shift_s = float(self.time_s[begin])
        curves = ("phase_T", "systole_T", "volume_T", "filling_T", "ejection_T", "mitral_T", "aortic_T")
        cycle = replace(
            self.cycle,
            onset_s=self.cycle.onset_s - shift_s,
            **{name: getattr(self.cycle, name)[keep] for name in curves},
        )
        return replace(
            self,
            frames_THWC=self.frames_THWC[keep],
            time_s=self.time_s[keep] - shift_s,
            cycle=cycle,
            pixels=self.pixels.part(begin, end),
            outline_TSL2=self.outline_TSL2[keep],
        )

    def key_frames(self) -> tuple[int, int]:
        """End-diastole and the end-systole after it: the extreme volumes of the first beat that is whole enough."""
        onset, beat = self.cycle.onset_s, self.cycle.beat_s
        begin = next((float(o) for o, b in zip(onset, beat) if o >= 0 and o + 0.6 * b <= self.time_s[-1]), None)
        volume = self.cycle.volume_T
        if begin is None:
            # Too short for a whole systole: the largest fall of volume that it shows.
            fall = np.triu(volume[:, None] - volume[None, :], 1)
            first, last = np.unravel_index(fall.argmax(), fall.shape)
            return int(first), int(last)
        length = float(beat[list(onset).index(begin)])
        early = np.flatnonzero((self.time_s > begin - 0.05) & (self.time_s < begin + 0.2 * length))
        later = np.flatnonzero((self.time_s > begin) & (self.time_s < begin + 0.7 * length))
        return int(early[volume[early].argmax()]), int(later[volume[later].argmin()])


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine: same seed, same bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def render_clip(
    patient: int | Patient,
    *,
    clip: int = 0,
    view: str = "A4C",
    seed: int = 0,
    size: int = 112,
    frames: int | None = None,
    frame_rate_hz: float | None = None,
    colour: bool = False,
    overlay: bool = False,
    spread: Spread = "usual",
    acquisition: Acquisition | None = None,
    device: torch.device | str = "cpu",
    noise: Noise = drawn_noise,
    truth: Collection[Truth] = (),
) -> PhantomClip:
    """Render one clip of a patient (a number, or a Patient of one's own making).

    frames None: as many as 2.4 beats take. frame_rate_hz None: drawn with the acquisition, 20 to 80 Hz.
    spread: how unlike drawn acquisitions are. acquisition: one's own instead of the drawn one.
    noise: another draw, or none, of what is new in every frame.
    truth: of "velocity" and "clean", what shall be known as well; the rest always is.
    """
    person = draw_patient(seed, patient) if isinstance(patient, int) else patient
    taken = acquisition or draw_acquisition(
        person.seed,
        person.number,
        clip,
        view=view,
        frame_rate_hz=frame_rate_hz,
        overlay=overlay,
        colour=colour,
        spread=spread,
    )
    count = frames or int(np.ceil(_BEATS * 60 / person.heart_rate_bpm * taken.frame_rate_hz))
    time_s = np.arange(count) / taken.frame_rate_hz
    onset_s = draw_onsets(person, clip, float(time_s[-1]))
    cycle = cycle_curves(time_s, onset_s, atrial_kick=person.rhythm != "atrial_fibrillation")
    with one_thread(), torch.inference_mode():
        scan = make_scan(person, taken, clip, time_s, cycle, size=size, device=device)
        return _rendered(scan, noise=noise, truth=truth)


def _rendered(scan: Scan, *, noise: Noise, truth: Collection[Truth]) -> PhantomClip:
    grey = render_grey(scan, noise=noise)
    pixels = pixel_truth(scan)
    frames_THWC, tissue_px = grey[..., None], pixels.displacement_T2HW
    if scan.acquisition.colour and scan.scene.streams:
        frames_THWC = colour_flow(scan, grey, tissue_px)
        pixels = replace(pixels, grey_THW=grey)
    if "velocity" in truth:
        pixels = replace(pixels, velocity_THW=true_velocity(scan, tissue_px))
    if "clean" in truth:
        pixels = replace(pixels, clean_THW=render_grey(scan, noise=no_noise))
    outline_TSL2 = scan.scene.outline_TSL2
    outline_mm = scan.pose.to_image(outline_TSL2.reshape(len(outline_TSL2), -1, 2)).reshape(outline_TSL2.shape)
    return PhantomClip(
        patient=scan.patient,
        acquisition=scan.acquisition,
        number=scan.number,
        frames_THWC=frames_THWC,
        time_s=scan.time_s,
        cycle=scan.scene.cycle,
        sector=scan.sector,
        sector_HW=scan.sector.inside(),
        pixels=with_leaflets(scan, pixels),
        outline_TSL2=scan.sector.to_pixels(outline_mm),
    )


def make_scan(
    patient: Patient,
    acquisition: Acquisition,
    number: int,
    time_s: Array,
    cycle: Cycle,
    *,
    size: int,
    device: torch.device | str = "cpu",
) -> Scan:
    """The patient's heart where the usual window of the acquisition's view, and the operator's hand, put it."""
    angle, pivot, position = _POSITIONS[acquisition.view]
    pivot_mm = (pivot[0] * patient.lv_length_mm, pivot[1] * patient.lv_length_mm)
    return Scan(
        patient=patient,
        acquisition=acquisition,
        number=number,
        time_s=time_s,
        scene=build_scene(patient, acquisition.view, cycle, device=device),
        sector=make_sector(acquisition, size),
        pose=make_pose(acquisition, time_s, angle_deg=angle, pivot_mm=pivot_mm, at_mm=position),
    )


def build_scene(patient: Patient, view: str, cycle: Cycle, *, device: torch.device | str) -> Scene:
    """The scene of any view."""
    if view == "PLAX":
        return build_plax(patient, cycle, device=device)
    if view == "PSAX":
        return build_psax(patient, cycle, device=device)
    return build_apical(patient, view, cycle, device=device)


def truth_arrays(clip: PhantomClip, truth: Collection[Truth] = tuple(FURTHER)) -> dict[str, np.ndarray]:
    """What is known about a clip, as arrays without pickles; of `FURTHER` what is named and the clip has.

    docs/phantom.md lists the names.
    """
    end_diastole, end_systole = clip.key_frames()
    patient, pixels = clip.patient, clip.pixels
    dense = {key: getattr(pixels, field) for name, (key, field, _) in FURTHER.items() if name in truth}
    further = {key: array for key, array in dense.items() if array is not None}
    return further | {
        "patient": np.array(patient.name),
        "view": np.array(clip.view),
        "kind": np.array(clip.kind),
        "rhythm": np.array(patient.rhythm),
        "ef_percent": np.array(patient.ef_percent),
        "edv_ml": np.array(patient.edv_ml),
        "esv_ml": np.array(patient.esv_ml),
        "heart_rate_bpm": np.array(clip.heart_rate_bpm),
        "beat_s": clip.cycle.beat_s,
        "onset_s": clip.cycle.onset_s,
        "frame_time_s": clip.time_s,
        "phase": clip.cycle.phase_T.astype(np.float32),
        "volume_ml": (patient.esv_ml + clip.cycle.volume_T * (patient.edv_ml - patient.esv_ml)).astype(np.float32),
        "ed_frame": np.array(end_diastole),
        "es_frame": np.array(end_systole),
        "pixel_spacing_mm": np.array(clip.sector.spacing_mm),
        "sector": clip.sector_HW,
        "mask": pixels.mask_THW,
        "outline_px": clip.outline_TSL2.astype(np.float32),
        "anatomy_json": np.array(json.dumps(asdict(patient))),
        "acquisition_json": np.array(json.dumps(asdict(clip.acquisition))),
    }
