"""Tissue motion: at every level of the heart a stack of layers whose borders move, stretching what lies between.

One monotone piecewise-linear map per level, so that the map from now to end-diastole and back are both exact.
Shapes: T frames, Z levels, K borders, Y positions across, N table side. Heart frame: (across y, along z) in mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]

_FAR_MM = 30.0
_THIN_MM = 1e-3
# Across finer than along: interpolation rounds off the bends at the borders and so moves them, by an eighth of this.
_TABLE_STEPS_MM = (0.75, 1.5)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Borders of a plane of the heart at end-diastole and in every frame.

    level_Z: reference levels (mm, or rad about the axis), increasing. level_TZ: where each lies in frame t.
    reference_ZK, current_TZK: borders across (mm), not decreasing along K, at those levels.
    """

    level_Z: Array
    level_TZ: Array
    reference_ZK: Array
    current_TZK: Array

    def with_still_surroundings(self) -> Layers:
        """Two more borders, far out and at rest, so that motion fades away outside the heart."""
        low, high = self.reference_ZK[:, :1] - _FAR_MM, self.reference_ZK[:, -1:] + _FAR_MM
        frames = len(self.level_TZ)
        return Layers(
            level_Z=self.level_Z,
            level_TZ=self.level_TZ,
            reference_ZK=np.concatenate([low, self.reference_ZK, high], 1),
            current_TZK=np.concatenate(
                [np.tile(low, (frames, 1, 1)), self.current_TZK, np.tile(high, (frames, 1, 1))], 2
            ),
        )

    def at_levels(self, level_TL: Array) -> tuple[Array, Array]:
        """Reference and current borders (T, L, K) at reference levels (T, L)."""
        index = np.interp(level_TL, self.level_Z, np.arange(len(self.level_Z)))
        low = np.minimum(index.astype(int), len(self.level_Z) - 2)
        share = (index - low)[..., None]
        reference = self.reference_ZK[low] * (1 - share) + self.reference_ZK[low + 1] * share
        frame = np.arange(len(level_TL))[:, None]
        current = self.current_TZK[frame, low] * (1 - share) + self.current_TZK[frame, low + 1] * share
        return reference, current

    def move(self, points_P2: Array) -> Array:
        """(T, P, 2) where material points given at end-diastole (across, along) are in every frame."""
        frames = len(self.level_TZ)
        level = np.tile(points_P2[:, 1], (frames, 1))
        reference, current = self.at_levels(level)
        across = stretch(
            torch.from_numpy(points_P2[:, :1].copy()), torch.from_numpy(reference), torch.from_numpy(current)
        )
        along = np.stack([np.interp(points_P2[:, 1], self.level_Z, row) for row in self.level_TZ])
        return np.stack([across[..., 0].numpy(), along], -1)

    def border_points(self, borders: tuple[int, int], level_L: Array) -> Array:
        """(T, 2, L, 2) where the points of two borders at these levels are in every frame."""
        across = [np.interp(level_L, self.level_Z, self.reference_ZK[:, k]) for k in borders]
        return np.stack([self.move(np.stack([across_L, level_L], -1)) for across_L in across], 1)

    def hinges(self, level: float, borders: tuple[int, int]) -> Array:
        """(T, 2, 2) the same at one level, as leaflets hang there."""
        return self.border_points(borders, np.array([level]))[:, :, 0]


def stretch(position: torch.Tensor, source_K: torch.Tensor, target_K: torch.Tensor) -> torch.Tensor:
    """Positions (..., Y) moved by the map that carries borders source (..., K) onto target (..., K).

    Linear between neighbouring borders, a plain shift beyond the outermost. Where two source borders touch and their
    targets do not, what lies beyond them jumps.
    """
    first = source_K[..., :1]
    moved = target_K[..., :1] + (position - first).clamp_max_(0)
    for k in range(source_K.shape[-1] - 1):
        start, width = source_K[..., k : k + 1], (source_K[..., k + 1] - source_K[..., k]).unsqueeze(-1)
        opened, is_thin = (target_K[..., k + 1] - target_K[..., k]).unsqueeze(-1), width < _THIN_MM
        slope = torch.where(is_thin, 0.0, opened / width.clamp_min(_THIN_MM))
        moved += (position - start).clamp_min_(0).minimum(width).mul_(slope)
        jump = torch.where(is_thin, opened, 0.0)
        if bool((jump > _THIN_MM).any()):
            moved += jump * (position > start)
    return moved.add_((position - source_K[..., -1:]).clamp_min_(0))


def _axis(span_mm: tuple[float, float], step_mm: float) -> Array:
    return np.linspace(*span_mm, int(np.ceil((span_mm[1] - span_mm[0]) / step_mm)) + 1)


@dataclass(frozen=True, kw_only=True)
class MotionTables:
    """The map both ways on a grid of the heart frame. (T, 2, N, M): channels across, along in mm; rows along.

    to_reference: material point now at the node. to_current: where the material point of the node is now.
    """

    extent: Extent
    to_reference: torch.Tensor
    to_current: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Extent:
    """A rectangle of the heart frame, mm."""

    across_mm: tuple[float, float]
    along_mm: tuple[float, float]

    def axes(self, across_step_mm: float, along_step_mm: float) -> tuple[Array, Array]:
        """Node positions (across, along) no further apart than the steps."""
        return _axis(self.across_mm, across_step_mm), _axis(self.along_mm, along_step_mm)

    def normalise(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 2) in mm to the [-1, 1] of torch's grid_sample with align_corners=True."""
        low = points.new_tensor([self.across_mm[0], self.along_mm[0]])
        high = points.new_tensor([self.across_mm[1], self.along_mm[1]])
        return (points - low) * (2 / (high - low)) - 1


def longitudinal_tables(layers: Layers, extent: Extent, *, device: torch.device | str) -> MotionTables:
    """Tables of a plane that holds the long axis: levels are depths along it."""
    layers = layers.with_still_surroundings()
    across, along = extent.axes(*_TABLE_STEPS_MM)
    position = torch.tensor(across, dtype=torch.float32, device=device)
    frames = len(layers.level_TZ)

    def send(array: Array) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32, device=device)

    def table(level_TL: Array, other_level_TL: Array, backwards: bool) -> torch.Tensor:
        reference, current = map(send, layers.at_levels(level_TL))
        source, target = (current, reference) if backwards else (reference, current)
        moved = stretch(position, source, target)
        return torch.stack([moved, send(other_level_TL)[..., None].expand_as(moved)], 1)

    reference_level = np.stack([np.interp(along, row, layers.level_Z) for row in layers.level_TZ])
    current_level = np.stack([np.interp(along, layers.level_Z, row) for row in layers.level_TZ])
    return MotionTables(
        extent=extent,
        to_reference=table(reference_level, reference_level, True),
        to_current=table(np.tile(along, (frames, 1)), current_level, False),
    )
