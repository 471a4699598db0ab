"""Colour-flow Doppler over the greyscale image: true velocities along the beam, and what a machine shows of them.

Shapes: T frames, H rows, W columns. Velocities in m/s, positive towards the probe.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from echofm.colour_flow import WALL_FILTER, aliased, colour_map
from echofm.phantom.render import Scan
from echofm.phantom.scene import Stream

Array = npt.NDArray[np.float64]

_NOISE = 0.07
_PRIORITY_GREY = 110
_FLASH_M_PER_S = 0.045
_BEGINS_MM, _BOX_HALF_RAD = 18.0, 0.36


def colour_flow(
    scan: Scan, grey_THW: npt.NDArray[np.uint8], tissue_px_T2HW: npt.NDArray[np.float16]
) -> npt.NDArray[np.uint8]:
    """(T, H, W, 3) grey under aliased, wall-filtered, noisy velocities in a box; flashes where tissue moves fast."""
    rng = scan.generator("doppler", 1)
    box = _box(scan)
    velocity = blood_velocity(scan) * box
    tissue = tissue_velocity(scan, tissue_px_T2HW)
    smooth = (0.0, 1.2, 1.2)
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal(velocity.shape), smooth) * 4.3
    nyquist = scan.acquisition.nyquist_m_per_s
    blood = np.abs(velocity) > 0
    flashing = (np.abs(tissue) > _FLASH_M_PER_S) & (noise > 0.4) & box
    # A flash shows the wall's motion, exaggerated by the echo's strength.
    seen = np.where(blood, velocity + _NOISE * nyquist * noise, np.where(flashing, 4 * tissue, 0.0))
    seen = aliased(seen, nyquist)
    shown = (np.abs(seen) > WALL_FILTER * nyquist) & (flashing | (grey_THW < _PRIORITY_GREY))
    # Colour is measured on a coarser grid than grey: lone pixels do not occur.
    shown &= scipy.ndimage.uniform_filter(shown.astype(np.float32), (0, 3, 3)) > 0.5
    return np.where(shown[..., None], colour_map(seen / nyquist), grey_THW[..., None]).astype(np.uint8)


def _box(scan: Scan) -> npt.NDArray[np.bool_]:
    """(H, W) the operator's box: round the valves."""
    starts = np.concatenate([scan.pose.to_image(stream.start_T2[:, None]) for stream in scan.scene.streams], 1)
    middle = starts.mean((0, 1))
    points = scan.sector.pixel_points()
    distance, angle = np.linalg.norm(points, axis=-1), np.arctan2(points[..., 0], points[..., 1])
    about = np.arctan2(middle[0], middle[1])
    ahead = (distance > _BEGINS_MM) & (distance < np.linalg.norm(middle) + 30)
    return ahead & (np.abs(angle - about) < _BOX_HALF_RAD) & scan.sector.inside()


def true_velocity(scan: Scan, tissue_px_T2HW: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """(T, H, W) m/s along the beam: of the jets where there is blood, else of the tissue; 0 outside the sector."""
    velocity = np.where(scan.blood_THW, blood_velocity(scan), tissue_velocity(scan, tissue_px_T2HW))
    return (velocity * scan.sector.inside()).astype(np.float16)


def tissue_velocity(scan: Scan, tissue_px_T2HW: npt.NDArray[np.float16]) -> Array:
    """(T, H, W) displacement along the beam over the time of a frame; the last frame has the one before's."""
    moved = np.concatenate([tissue_px_T2HW, tissue_px_T2HW[-1:]]).astype(np.float64)
    points = scan.sector.pixel_points()
    beam = points / np.linalg.norm(points, axis=-1, keepdims=True)
    along_px = -(moved * np.moveaxis(beam, -1, 0)).sum(1)
    return along_px * scan.sector.spacing_mm * 1e-3 * scan.acquisition.frame_rate_hz


def blood_velocity(scan: Scan) -> Array:
    """(T, H, W) along the beam, of the jets in blood; 0 in tissue."""
    pixels, size = scan.sector.pixel_points().reshape(-1, 2), scan.sector.size
    here = scan.pose.to_heart(scan.pixels_P2).cpu().numpy().astype(np.float64)
    flow = sum((_stream_velocity(stream, here) for stream in scan.scene.streams), np.zeros_like(here))
    in_image = flow @ scan.pose.rotation_T22.transpose(0, 2, 1)
    beam = pixels / np.linalg.norm(pixels, axis=-1, keepdims=True)
    along = -(in_image * beam).sum(-1)
    return along.reshape(-1, size, size) * scan.blood_THW


def _stream_velocity(stream: Stream, points_TP2: Array) -> Array:
    """(T, P, 2) m/s: a jet that widens and dies away downstream, and converges upstream."""
    offset = points_TP2 - stream.start_T2[:, None]
    direction = stream.direction_T2[:, None]
    along = (offset * direction).sum(-1)
    aside = offset[..., 0] * direction[..., 1] - offset[..., 1] * direction[..., 0]
    reach = np.where(along > 0, stream.length_mm, 0.35 * stream.length_mm)
    width = stream.width_mm * (1 + 0.5 * np.abs(along) / stream.length_mm)
    shape = np.exp(-((along / reach) ** 2) - 0.5 * (aside / width) ** 2)
    return (stream.speed_T[:, None] * shape)[..., None] * direction
