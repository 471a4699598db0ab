"""Rendering: a scene seen by an acquisition, as grey frames and as truth on the same pixels.

Shapes: T frames, A samples, L beams, H rows, W columns of the image; N, M of painted planes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import torch
import torch.nn.functional as F

from echofm.clip import LEFT_ATRIUM, LEFT_VENTRICLE, MYOCARDIUM
from echofm.phantom.acquisition import ON_SCREEN_DB, Acquisition
from echofm.phantom.anatomy import Patient, generator
from echofm.phantom.probe import PointSpread, Pose, Sector, compress
from echofm.phantom.scene import BLOOD, PAINT_STEP_MM, Scene, Tissue, smooth_noise

# Tissue code to class of Clip.mask_THW; papillary muscles and leaflets count as cavity, as readers trace them.
_CLASS = np.zeros(len(Tissue), np.uint8)
_CLASS[[Tissue.LV, Tissue.PAPILLARY]] = LEFT_VENTRICLE
_CLASS[Tissue.MYOCARDIUM] = MYOCARDIUM
_CLASS[Tissue.LA] = LEFT_ATRIUM

Noise = Callable[[Patient, int, tuple[int, ...]], torch.Tensor]
"""Normal numbers of a shape, for a patient's clip of this number."""

STEPS_PER_PIXEL = 32
"""Of the displacement: such steps pack well, and are far below what any tracker resolves."""

_TEXTURE_MM = 0.5
_BREATHING_RAD = 0.15
"""Turn for each mm of breathing."""
_OUT_OF_PLANE_RAD = {"A4C": 0.35, "A2C": 0.35, "PLAX": 0.3, "PSAX": 0.6}


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """One heart as one acquisition sees it. number: of the patient's clip. time_s: (T,) of its frames."""

    patient: Patient
    acquisition: Acquisition
    number: int
    time_s: npt.NDArray[np.float64]
    scene: Scene
    sector: Sector
    pose: Pose

    @property
    def device(self) -> torch.device:
        """That renders."""
        return self.scene.tables.to_reference.device

    def send(self, array: npt.ArrayLike) -> torch.Tensor:
        """In float32 to the device."""
        return torch.tensor(array, dtype=torch.float32, device=self.device)

    def generator(self, purpose: str, *keys: int) -> np.random.Generator:
        """Of what is drawn for this clip."""
        return generator(self.patient.seed, purpose, self.patient.number, self.number, *keys)

    def material(self, points_P2: torch.Tensor) -> torch.Tensor:
        """(T, P, 2) where what lies at image points in every frame was at end-diastole, as grid_sample wants it."""
        grid = self.scene.extent.normalise(self.pose.to_heart(points_P2))[:, :, None]
        found = F.grid_sample(self.scene.tables.to_reference, grid, align_corners=True, padding_mode="border")
        return self.scene.extent.normalise(found[..., 0].mT)

    @cached_property
    def pixels_P2(self) -> torch.Tensor:
        """Image points of the pixels' centres."""
        return self.send(self.sector.pixel_points().reshape(-1, 2))

    @cached_property
    def codes_THW(self) -> npt.NDArray[np.uint8]:
        """The Tissue at each pixel; beyond the painted plane Tissue.OUTSIDE, outside the sector any."""
        material = self.material(self.pixels_P2).view(1, len(self.time_s), -1, 2)
        codes = F.grid_sample(self.send(self.scene.tissue_NM)[None, None], material, mode="nearest", align_corners=True)
        return codes.view(-1, self.sector.size, self.sector.size).to(torch.uint8).cpu().numpy()

    @property
    def blood_THW(self) -> npt.NDArray[np.bool_]:
        """Pixels of blood, and any outside the sector."""
        return np.isin(self.codes_THW, BLOOD)


def drawn_noise(patient: Patient, clip: int, shape: tuple[int, ...]) -> torch.Tensor:
    """What is new in every frame of a clip, normal numbers: electronic noise and the scatterers of blood."""
    rng = generator(patient.seed, "noise", patient.number, clip)
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def no_noise(patient: Patient, clip: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Neither electronic noise nor an echo of blood."""
    return torch.zeros(shape)


def render_envelope(scan: Scan, *, noise: Noise = drawn_noise) -> torch.Tensor:
    """(T, A, L) envelope before compression, myocardium of mean square 2 at full gain."""
    scene, sector, taken = scan.scene, scan.sector, scan.acquisition
    frames, samples, beams = len(scan.time_s), sector.samples, sector.beams
    grid = scan.material(scan.send(sector.polar_points().reshape(-1, 2))).view(1, frames, samples * beams, 2)
    painted = scan.send(_painted(scene, scan.patient))
    sampled = F.grid_sample(painted[None], grid, align_corners=True, padding_mode="border")[0]
    # Through-plane motion brings other scatterers into the slice: the texture turns into a second one and back.
    breath_T = np.sin(2 * np.pi * scan.time_s / taken.breathing_s + taken.tilt_deg)
    out_of_plane_T = _OUT_OF_PLANE_RAD[scene.view] * (1 - scene.cycle.volume_T)
    turn = scan.send(out_of_plane_T + _BREATHING_RAD * taken.breathing_mm * breath_T)
    cos, sin = turn.cos()[:, None], turn.sin()[:, None]
    noise_2TQ = noise(scan.patient, scan.number, (2, frames, samples * beams)).to(scan.device)
    static = _static_clutter(scan)
    blood = sampled[4]
    parts = []
    for part in (0, 1):
        field = sampled[part] * cos + sampled[2 + part] * sin + blood * noise_2TQ[part]
        parts.append(field.view(frames, samples, beams) + static[part])
    parts[0] += _splat(scan)
    # One stack along the last axis, so that one matrix product serves all frames.
    stacked = torch.cat(parts).permute(1, 2, 0).contiguous()
    blurred = PointSpread(taken, sector, scan.device)(stacked).view(samples, beams, 2, frames)
    electronic = noise_2TQ.view(2, frames, samples, beams).roll((7, 13), (2, 3)).permute(2, 3, 0, 1)
    sensitivity = scan.send(10 ** ((_beam_profile_db(taken, sector) + _shading_db(scan)) / 20))
    blurred = blurred * sensitivity[..., None, None] + electronic * 10 ** (taken.noise_db / 20)
    return torch.hypot(blurred[:, :, 0], blurred[:, :, 1]).permute(2, 0, 1)


def render_grey(scan: Scan, *, noise: Noise = drawn_noise) -> npt.NDArray[np.uint8]:
    """(T, H, W) uint8: gains, compression and scan conversion of the envelope."""
    a, sector = scan.acquisition, scan.sector
    share = np.linspace(0, len(a.tgc_db) - 1, sector.samples)
    depth_db = np.interp(share, np.arange(len(a.tgc_db)), a.tgc_db) + a.gain_db - ON_SCREEN_DB
    envelope = render_envelope(scan, noise=noise)
    grey = sector.scan_convert(compress(envelope, scan.send(depth_db[:, None]), a.dynamic_range_db))
    return (grey * 255).round().to(torch.uint8).cpu().numpy()


def _painted(scene: Scene, patient: Patient) -> npt.NDArray[np.float32]:
    """(5, N, M): two complex scatterer fields times the tissue's gain, and the blood's amplitude."""
    rng = generator(patient.seed, "texture", patient.number, 100 + sum(map(ord, scene.view)))
    # Scatterers are band-limited to what the polar grid can follow: speckle moves with tissue by parts of a sample.
    texture = rng.standard_normal((4, *scene.gain_NM.shape), np.float32)
    blur = _TEXTURE_MM / PAINT_STEP_MM
    texture = scipy.ndimage.gaussian_filter(texture, (0, blur, blur), mode="wrap") * (2 * np.pi**0.5 * blur)
    blood = np.isin(scene.tissue_NM, BLOOD) * np.float32(patient.blood_gain)
    return np.concatenate([texture * scene.gain_NM, blood[None]])


def _static_clutter(scan: Scan) -> torch.Tensor:
    """(2, A, L) what does not move with the heart: near-field haze and reverberation bands under the chest wall."""
    a, sector, rng = scan.acquisition, scan.sector, scan.generator("noise", 1)
    depth = sector.range_mm[:, None]
    haze = 10 ** (a.clutter_db / 20) * np.exp(-depth / a.clutter_mm)
    skin = 2.0 * np.exp(-depth / 2.5)
    bands = np.exp(-0.5 * (((depth + a.reverberation_mm / 2) % a.reverberation_mm - a.reverberation_mm / 2) / 0.8) ** 2)
    bands = 10 ** (a.reverberation_db / 20) * bands * np.exp(-depth / 30) * (depth > 4)
    patches = np.exp(0.6 * smooth_noise(rng, (sector.samples, sector.beams), 6 * PAINT_STEP_MM))
    noise = rng.standard_normal((2, sector.samples, sector.beams))
    return scan.send(noise * (haze * patches + bands + skin))


def _splat(scan: Scan) -> torch.Tensor:
    """(T, A, L) the echo amplitudes of all threads, shared bilinearly among the nearest samples."""
    threads, sector, frames = scan.scene.threads, scan.sector, len(scan.time_s)
    image = torch.zeros(frames * sector.samples * sector.beams, device=scan.device)
    if threads:
        points = np.concatenate([scan.pose.to_image(thread.points_TP2) for thread in threads], 1)
        amplitude = scan.send(np.concatenate([thread.gain_P for thread in threads])).expand(frames, -1)
        index = sector.to_polar(scan.send(points))
        low = index.floor()
        share = index - low
        frame = torch.arange(frames, device=scan.device)[:, None]
        for right in (0, 1):
            for below in (0, 1):
                beam, sample = low[..., 0].long() + right, low[..., 1].long() + below
                inside = (beam >= 0) & (beam < sector.beams) & (sample >= 0) & (sample < sector.samples)
                weight = (share[..., 0] if right else 1 - share[..., 0]) * (
                    share[..., 1] if below else 1 - share[..., 1]
                )
                flat = (frame * sector.samples + sample) * sector.beams + beam
                image.index_add_(0, flat[inside], (weight * amplitude)[inside])
    return image.view(frames, sector.samples, sector.beams)


def _beam_profile_db(a: Acquisition, sector: Sector) -> np.ndarray:
    """(A, L) sensitivity across the sector: weaker at its edges, and a shadow behind a rib or lung."""
    angle = np.rad2deg(sector.beam_rad)[None, :]
    profile = -7.0 * (np.abs(angle) / (a.sector_deg / 2)) ** 3
    if a.shadow_deg is not None:
        begins = np.clip((sector.range_mm[:, None] - 12) / 20, 0, 1)
        profile = profile - a.shadow_db * begins * np.exp(-0.5 * ((angle - a.shadow_deg) / a.shadow_width_deg) ** 2)
    return np.broadcast_to(profile, (sector.samples, sector.beams))


def _shading_db(scan: Scan) -> np.ndarray:
    """(A, L) loss on the way through the chest, in wide patches: at most zero."""
    sector, rng = scan.sector, scan.generator("noise", 2)
    noise = rng.standard_normal((sector.samples, sector.beams))
    patches = scipy.ndimage.gaussian_filter(noise, (0.13 * sector.samples, 0.11 * sector.beams), mode="wrap")
    return -scan.acquisition.shading_db * np.clip(patches / patches.std() + 0.5, 0, None)


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelTruth:
    """What lies at each pixel. mask_THW: classes of Clip.mask_THW, 0 outside the sector.

    displacement_T2HW: (T - 1) frames; pixels (right, down) from frame t to t + 1 of what is at a pixel of frame t.
    grey_THW: the frames without colour, None where they have none.
    On request, else None. velocity_THW: m/s along the beam, towards the probe positive, of blood and tissue, 0 outside
    the sector. clean_THW: grey, without electronic noise or an echo of blood.
    """

    mask_THW: npt.NDArray[np.uint8]
    displacement_T2HW: npt.NDArray[np.float16]
    grey_THW: npt.NDArray[np.uint8] | None = None
    velocity_THW: npt.NDArray[np.float16] | None = None
    clean_THW: npt.NDArray[np.uint8] | None = None

    def part(self, begin: int, end: int) -> PixelTruth:
        """Of frames begin .. end - 1."""
        cut = {name: array[begin:end] for name, array in vars(self).items() if array is not None}
        return PixelTruth(**cut | {"displacement_T2HW": self.displacement_T2HW[begin : end - 1]})

    def padded(self, above: int, beside: int) -> PixelTruth:
        """On a larger image: so many pixels above and below, so many at each side."""
        held = {name: array for name, array in vars(self).items() if array is not None}
        margins = ((above, above), (beside, beside))
        return PixelTruth(
            **{name: np.pad(array, (*((0, 0),) * (array.ndim - 2), *margins)) for name, array in held.items()}
        )


def pixel_truth(scan: Scan) -> PixelTruth:
    """Masks and the tissue's displacement on the image's pixels."""
    size, frames, sector, pose = scan.sector.size, len(scan.time_s), scan.sector, scan.pose
    inside = sector.inside()
    material = scan.material(scan.pixels_P2)[:-1, :, None]
    following = F.grid_sample(scan.scene.tables.to_current[1:], material, align_corners=True)[..., 0].mT
    later = Pose(rotation_T22=pose.rotation_T22[1:], offset_T2=pose.offset_T2[1:])
    moved = (later.to_image_torch(following) - scan.pixels_P2) / sector.spacing_mm
    steps = (moved * STEPS_PER_PIXEL).round() / STEPS_PER_PIXEL
    field = steps.mT.reshape(frames - 1, 2, size, size).cpu().numpy().astype(np.float16)
    return PixelTruth(mask_THW=_CLASS[scan.codes_THW] * inside, displacement_T2HW=field * inside)
