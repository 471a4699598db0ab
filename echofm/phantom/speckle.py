"""From scatterers to grey: point-spread function, envelope, compression. Polar grid: A samples, L beams, T frames.

Scatterers are complex Gaussian, the point-spread function is separable, so the envelope of even tissue is Rayleigh
(Wagner et al., Statistics of speckle in ultrasound B-scans, IEEE Trans. Sonics Ultrason. 1983).
"""

from __future__ import annotations

import numpy as np
import torch

from echofm.phantom.acquisition import Acquisition
from echofm.phantom.probe import SPEED_OF_SOUND_M_PER_S, Sector

_FILTER = 0.6
"""Standard deviation of the receiver's filter, in samples."""


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
