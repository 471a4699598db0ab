"""The truth beside each clip: OUT/truth/STEM.npz, and its way onto a Clip."""

from __future__ import annotations

import zipfile
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from echofm.clip import Clip
from echofm.errors import UnreadableFile
from echofm.ids import file_id

FOLDER = "truth"
Truth = Literal["displacement", "velocity", "grey", "clean"]
"""What is kept on request: dense displacement; velocity along the beam; of a colour clip its grey; noise-free grey."""
FURTHER: dict[Truth, tuple[str, str, str]] = {
    "displacement": ("displacement_px", "displacement_T2HW", "displacement_px_T2HW"),
    "velocity": ("velocity_m_per_s", "velocity_THW", "velocity_m_per_s_THW"),
    "grey": ("grey", "grey_THW", "paired_TCHW"),
    "clean": ("clean", "clean_THW", "clean_TCHW"),
}
"""The name of each in the truth's file, in the phantom's PixelTruth and in a Clip."""
_LABELS = ("ef_percent", "edv_ml", "esv_ml", "heart_rate_bpm")


def truth_path(root: Path, stem: str) -> Path:
    """Where the truth of a clip lies."""
    return root / FOLDER / f"{stem}.npz"


def write_truth(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    """A .npz as numpy reads it, lightly packed, with the same bytes for the same arrays."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            # A ZipInfo of its own carries no date of today.
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def add_truth(clip: Clip, path: Path) -> Clip:
    """The clip, marked as simulated, with the phantom's phase, masks, view, kind, labels and all dense truth kept.

    Raises UnreadableFile where the truth is missing, damaged, or of other frames than the clip.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            phase = stored["phase"].astype(np.float32)
            mask = stored["mask"]
            labels = {name: float(stored[name]) for name in _LABELS} | {"rhythm": str(stored["rhythm"])}
            view, kind = str(stored["view"]), str(stored["kind"])
            further = {name: stored[key] for name, (key, _, _) in FURTHER.items() if key in stored}
    except FileNotFoundError:
        raise UnreadableFile(file_id(path), "the phantom's truth is missing; make the folder again") from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError, SyntaxError, TokenError):
        raise UnreadableFile(file_id(path), "the phantom's truth is damaged; make the folder again") from None
    frames, _, height, width = clip.frames_TCHW.shape
    if mask.shape != (frames, height, width):
        raise UnreadableFile(
            file_id(path), f"truth is for {mask.shape} (frames, rows, columns), the clip has {(frames, height, width)}"
        )
    held = {FURTHER[name][2]: _as_held(name, array) * clip.sector_HW for name, array in further.items()}
    labels = {**clip.labels, **labels}
    return clip.replace(phase_T=phase, mask_THW=mask, view=view, kind=kind, simulated=True, labels=labels, **held)


def _as_held(name: Truth, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As `Clip` has it: frames with a channel, a displacement for every frame."""
    if name == "displacement":
        return np.concatenate([array, np.full((1, *array.shape[1:]), np.nan, array.dtype)])
    return array if name == "velocity" else array[:, None]
