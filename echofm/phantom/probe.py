"""A phased array: where samples of a sector and the heart in it lie, point spread, compression, scan conversion.

Image plane: x to the right and d down from the probe's face, mm. Polar grid: A samples along a beam, L beams.
Scatterers are complex Gaussian, the point-spread function is separable, so the envelope of even tissue is Rayleigh
(Wagner et al., Statistics of speckle in ultrasound B-scans, IEEE Trans. Sonics Ultrason. 1983).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from echofm.phantom.acquisition import Acquisition

Array = npt.NDArray[np.float64]

SPEED_OF_SOUND_M_PER_S = 1540.0
_FIRST_SAMPLE_MM = 1.5

_FILTER = 0.6
"""Standard deviation of the receiver's filter, in samples."""


@dataclass(frozen=True, kw_only=True)
class Sector:
    """The polar grid and the square image that it is shown in; probe at the top, in the middle."""

    depth_mm: float
    angle_rad: float
    """Whole opening."""
    samples: int
    beams: int
    size: int
    """Side of the square image, pixels."""

    @property
    def spacing_mm(self) -> float:
        """Millimetres per pixel, both ways."""
        return self.depth_mm * 1.03 / self.size

    @property
    def range_mm(self) -> Array:
        """(A,) distance of samples from the probe."""
        return np.linspace(_FIRST_SAMPLE_MM, self.depth_mm, self.samples)

    @property
    def beam_rad(self) -> Array:
        """(L,) direction of beams."""
        return np.linspace(-self.angle_rad / 2, self.angle_rad / 2, self.beams)

    def polar_points(self) -> Array:
        """(A, L, 2) x, d of every sample."""
        distance, angle = self.range_mm[:, None], self.beam_rad[None, :]
        return np.stack([distance * np.sin(angle), distance * np.cos(angle)], -1)

    def pixel_points(self) -> Array:
        """(H, W, 2) x, d of every pixel centre."""
        along = (np.arange(self.size) + 0.5) * self.spacing_mm
        x = along - self.size * self.spacing_mm / 2
        d = along - 0.015 * self.depth_mm
        return np.stack(np.broadcast_arrays(x[None, :], d[:, None]), -1)

    def to_pixels(self, points: Array) -> Array:
        """Points (..., 2) x, d in mm to pixel coordinates (x, y), 0 at the first pixel's centre."""
        x, d = points[..., 0], points[..., 1] + 0.015 * self.depth_mm
        return np.stack([x / self.spacing_mm + self.size / 2 - 0.5, d / self.spacing_mm - 0.5], -1)

    def to_polar(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 2) x, d to fractional (beam, sample) indices."""
        distance = points.square().sum(-1).sqrt()
        angle = torch.atan2(points[..., 0], points[..., 1])
        sample = (distance - _FIRST_SAMPLE_MM) * ((self.samples - 1) / (self.depth_mm - _FIRST_SAMPLE_MM))
        beam = (angle / self.angle_rad + 0.5) * (self.beams - 1)
        return torch.stack([beam, sample], -1)

    def inside(self) -> npt.NDArray[np.bool_]:
        """(H, W) True on pixels that the sector covers."""
        points = self.pixel_points()
        distance, angle = np.hypot(*np.moveaxis(points, -1, 0)), np.arctan2(points[..., 0], points[..., 1])
        ahead = (distance >= _FIRST_SAMPLE_MM) & (distance <= self.depth_mm)
        return ahead & (np.abs(angle) <= self.angle_rad / 2) & (points[..., 1] > 0)

    def scan_convert(self, polar_TAL: torch.Tensor) -> torch.Tensor:
        """(T, H, W) the polar image on the square's pixels, bilinear; 0 outside the sector."""
        points = torch.tensor(self.pixel_points(), dtype=torch.float32, device=polar_TAL.device)
        index = self.to_polar(points)
        scale = index.new_tensor([2 / (self.beams - 1), 2 / (self.samples - 1)])
        image = F.grid_sample(polar_TAL[None], (index * scale - 1)[None], align_corners=True, padding_mode="border")[0]
        return image * torch.tensor(self.inside(), device=polar_TAL.device)


def make_sector(acquisition: Acquisition, size: int) -> Sector:
    """The sector of an acquisition, sampled finely enough for an image of this size."""
    scale = max(1.0, size / 112)
    return Sector(
        depth_mm=acquisition.depth_mm,
        angle_rad=float(np.deg2rad(acquisition.sector_deg)),
        samples=int(176 * min(scale, 2.5)),
        beams=int(112 * min(scale, 1.6)),
        size=size,
    )


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the heart frame lies in the image plane, frame by frame: x, d = R (across, along) + offset.

    rotation_T22: orthogonal; a turn, and a reflection where the image is mirrored.
    """

    rotation_T22: Array
    offset_T2: Array

    def to_image(self, points_TP2: Array) -> Array:
        """Heart frame to image plane."""
        return points_TP2 @ self.rotation_T22.transpose(0, 2, 1) + self.offset_T2[:, None]

    def to_heart(self, points_P2: torch.Tensor) -> torch.Tensor:
        """(T, P, 2) the heart-frame positions of points (P, 2) of the image plane."""
        rotation = torch.tensor(self.rotation_T22, dtype=points_P2.dtype, device=points_P2.device)
        offset = torch.tensor(self.offset_T2, dtype=points_P2.dtype, device=points_P2.device)
        return (points_P2 - offset[:, None]) @ rotation

    def to_image_torch(self, points_TP2: torch.Tensor) -> torch.Tensor:
        """As to_image, on tensors."""
        rotation = torch.tensor(self.rotation_T22, dtype=points_TP2.dtype, device=points_TP2.device)
        offset = torch.tensor(self.offset_T2, dtype=points_TP2.dtype, device=points_TP2.device)
        return points_TP2 @ rotation.transpose(1, 2) + offset[:, None]


def make_pose(
    acquisition: Acquisition,
    time_s: Array,
    *,
    angle_deg: float,
    pivot_mm: tuple[float, float],
    at_mm: tuple[float, float],
) -> Pose:
    """The pose that puts the heart point `pivot` at the image point `at`, turned by angle and the operator's tilt.

    Breathing and the hand move it slowly. A mirrored acquisition shows all of it the other way round.
    """
    a = acquisition
    breath = np.sin(2 * np.pi * time_s / a.breathing_s + a.tilt_deg)
    hand = np.stack([np.sin(1.7 * time_s + a.shift_mm[0]), np.sin(1.1 * time_s + a.shift_mm[1])], -1) * a.hand_mm
    angle_T = np.deg2rad(angle_deg + a.tilt_deg + 0.4 * a.breathing_mm * breath)
    cos, sin = np.cos(angle_T), np.sin(angle_T)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    position = np.array(at_mm) + np.array(a.shift_mm) + hand
    position[:, 1] += a.breathing_mm * breath
    offset = position - rotation @ np.array(pivot_mm)
    if a.mirrored:
        rotation[:, 0] *= -1
        offset[:, 0] *= -1
    return Pose(rotation_T22=rotation, offset_T2=offset)


def axial_width_mm(acquisition: Acquisition, range_mm: np.ndarray) -> np.ndarray:
    """Standard deviation of the pulse along the beam; attenuation of high frequencies widens it with depth."""
    wavelength = SPEED_OF_SOUND_M_PER_S / acquisition.frequency_mhz * 1e-3
    return 0.3 * acquisition.cycles * wavelength * (1 + 0.25 * range_mm / 150)


def lateral_width_rad(acquisition: Acquisition, range_mm: np.ndarray) -> np.ndarray:
    """Standard deviation of the beam across, in angle: diffraction (wavelength over aperture), wider off the focus."""
    wavelength = SPEED_OF_SOUND_M_PER_S / acquisition.frequency_mhz * 1e-3
    limit = 0.42 * wavelength / acquisition.aperture_mm
    off_focus = acquisition.aperture_mm * 0.06 * np.abs(1 / range_mm - 1 / acquisition.focus_mm)
    return np.hypot(limit, np.minimum(off_focus, 2.5 * limit))


def axial_blur_mm(acquisition: Acquisition, sector: Sector) -> np.ndarray:
    """(A,) standard deviation along the beam, the receiver's filter included: what the grid cannot carry is blurred."""
    return np.hypot(axial_width_mm(acquisition, sector.range_mm), _FILTER * (sector.range_mm[1] - sector.range_mm[0]))


def lateral_blur_rad(acquisition: Acquisition, sector: Sector) -> np.ndarray:
    """(A,) standard deviation across the beam, in angle, the receiver's filter included."""
    step_rad = sector.beam_rad[1] - sector.beam_rad[0]
    return np.hypot(lateral_width_rad(acquisition, sector.range_mm), _FILTER * step_rad)


class PointSpread:
    """Blurs complex scatterers, as banded matrices along and across, so that the width may change with depth."""

    def __init__(self, acquisition: Acquisition, sector: Sector, device: torch.device | str) -> None:
        ranges, beams = sector.range_mm, sector.beam_rad
        axial = _kernel(ranges[:, None] - ranges[None, :], axial_blur_mm(acquisition, sector)[:, None])
        across = beams[None, :, None] - beams[None, None, :]
        lateral = _kernel(across, lateral_blur_rad(acquisition, sector)[:, None, None])
        self._axial_AA = torch.tensor(axial, dtype=torch.float32, device=device)
        self._lateral_ALL = torch.tensor(lateral, dtype=torch.float32, device=device)

    def __call__(self, field_ALN: torch.Tensor) -> torch.Tensor:
        """Blur real fields stacked along N (frames x real and imaginary)."""
        samples, beams, count = field_ALN.shape
        across = torch.bmm(self._lateral_ALL, field_ALN)
        return (self._axial_AA @ across.view(samples, beams * count)).view(samples, beams, count)


def _kernel(offset: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Gaussian rows of unit energy: white unit-variance scatterers keep their variance."""
    rows = np.exp(-0.5 * (offset / width) ** 2)
    rows[rows < 1e-4] = 0
    return rows / np.sqrt((rows**2).sum(-1, keepdims=True))


def compress(envelope: torch.Tensor, gain_db: torch.Tensor | float, dynamic_range_db: float) -> torch.Tensor:
    """Envelope to grey in [0, 1]: 0 dB plus gain is white, the dynamic range below it black, with a soft toe."""
    level_db = 20 * torch.log10(envelope.clamp_min(1e-6)) + gain_db
    return ((level_db + dynamic_range_db) / dynamic_range_db).clamp_(0, 1) ** 1.8
