"""Low-rank motion: a clip's displacement as a few spatial modes, each with its course over the cycle.

T times, K modes, R rows and C columns of the grid, P = 2 H + 1 numbers of a course of H harmonics, N clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import load_file, save_file

from echofm.atomic import whole_file
from echofm.errors import EchofmError

MODES = "modes.safetensors"
CELLS, HARMONICS = 14, 3
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Modes:
    """mode_K2RC: unit fields, right and down. course_KT: pixels, at the window's times. energy: share held of the sum
    of squared displacements.

    harmonic_KP: course = h0 + sum_k h(2k-1) cos 2 pi k p + h(2k) sin 2 pi k p, p the part of a cycle since the fullest
    frame; NaN where no cycle is known. With the modes these are all numbers of the motion: any length, periodic.
    """

    mode_K2RC: Floats
    course_KT: Floats
    harmonic_KP: Floats
    energy: float

    def field(self, phase_T: npt.NDArray[np.floating]) -> Floats:
        """(T, 2, R, C) pixels at these parts of a cycle, from the harmonics."""
        return np.einsum("kp,tp,kdrc->tdrc", self.harmonic_KP, _waves(phase_T), self.mode_K2RC).astype(np.float32)


def clip_modes(
    field_T2RC: npt.NDArray[np.floating],
    *,
    modes: int,
    phase_T: npt.NDArray[np.floating] | None,
    harmonics: int = HARMONICS,
) -> Modes:
    """The best `modes` fields for a window's displacements since its fullest frame (singular value decomposition).

    phase_T: parts of a cycle since that frame; None where no cycle is known. No mean is taken off, so that no motion
    stays no motion. A mode's sign is such that its course is mostly positive.
    """
    times, shape = len(field_T2RC), field_T2RC.shape[1:]
    left_TK, value_K, right_KV = np.linalg.svd(field_T2RC.reshape(times, -1).astype(np.float64), full_matrices=False)
    modes = min(modes, len(value_K))
    course_KT = (left_TK * value_K).T[:modes]
    sign_K1 = np.where(course_KT.sum(1, keepdims=True) < 0, -1.0, 1.0)
    total = np.square(value_K).sum()
    if phase_T is None:
        harmonic_KP = np.full((modes, 2 * harmonics + 1), np.nan)
    else:
        harmonic_KP = np.linalg.lstsq(_waves(phase_T, harmonics), (sign_K1 * course_KT).T, rcond=None)[0].T
    return Modes(
        mode_K2RC=(sign_K1 * right_KV[:modes]).reshape(-1, *shape).astype(np.float32),
        course_KT=(sign_K1 * course_KT).astype(np.float32),
        harmonic_KP=harmonic_KP.astype(np.float32),
        energy=float(np.square(value_K[:modes]).sum() / total) if total > 0 else 1.0,
    )


def save_modes(modes: Sequence[Modes], folder: Path) -> None:
    """Beside a table, a row for each of its rows. Raises OSError where it cannot be written."""
    arrays = {
        name: np.stack([getattr(each, name) for each in modes]) for name in ("mode_K2RC", "course_KT", "harmonic_KP")
    }
    arrays["energy"] = np.array([each.energy for each in modes], np.float32)
    with whole_file(folder / MODES) as draft:
        save_file(arrays, draft)


def load_modes(folder: str | Path) -> list[Modes]:
    """Of a table that `echofm synth motion --modes` wrote. Raises EchofmError where there are none."""
    path = Path(folder) / MODES
    try:
        arrays = load_file(path)
        energy = arrays.pop("energy")
        rows = [{name: array[row] for name, array in arrays.items()} for row in range(len(energy))]
    except (OSError, KeyError, safetensors.SafetensorError):
        raise EchofmError(f"{path}: no modes; make them by `echofm synth motion RUN SRC TABLE --modes 4`") from None
    return [Modes(**row, energy=float(share)) for row, share in zip(rows, energy, strict=True)]


def _waves(phase_T: npt.NDArray[np.floating], harmonics: int = HARMONICS) -> npt.NDArray[np.float64]:
    """(T, P): 1, cos, sin of every harmonic."""
    turn_TH = 2 * np.pi * np.asarray(phase_T, np.float64)[:, None] * np.arange(1, harmonics + 1)
    waves_TH2 = np.stack([np.cos(turn_TH), np.sin(turn_TH)], 2)
    return np.concatenate([np.ones((len(turn_TH), 1)), waves_TH2.reshape(len(turn_TH), -1)], 1)
