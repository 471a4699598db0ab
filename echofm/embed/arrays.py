"""Someone else's features: an .npz of arrays becomes an EmbeddingTable, checked before memory is taken for it.

Keys: `features` (N, D) and `encoder` (any name, the same in all files) are needed; `patient_id` (N) is needed for
real clips; `clip_id`, `split`, `view` (N) and `phase` (N, T, D'), a vector per frame or time, may be there; every
other key of N texts or numbers is a label.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError

MAX_GB = 64.0
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_TEXT = ("clip_id", "patient_id", "split", "view")
_KEYS = ("features", "encoder", "phase", *_TEXT)


def load_arrays(path: Path, *, name: str, needs_patients: bool = True, max_gb: float = MAX_GB) -> EmbeddingTable:
    """Read one .npz. `name` is the set's name in errors. Raises EchofmError naming the key that is wrong."""
    arrays = _read(path, name, max_gb=max_gb)
    features = _needed(arrays, "features", name)
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise EchofmError(f"the {name} file's features are {features.dtype} {features.shape}; floats (N, D) are needed")
    encoder = _needed(arrays, "encoder", name)
    if encoder.size != 1 or encoder.dtype.kind not in "US":
        raise EchofmError(f"the {name} file's key encoder is no single text; name the encoder, alike in all files")
    digest = _texts(encoder.reshape(1), "encoder", 1, name)[0]
    phase = arrays.get("phase")
    if phase is not None and (
        phase.shape[:1] != (len(features),)
        or phase.ndim != 3
        or 0 in phase.shape
        or not np.issubdtype(phase.dtype, np.floating)
    ):
        raise EchofmError(f"the {name} file's phase is {phase.dtype} {phase.shape}; floats (N, T, D') are needed")
    texts = {key: _texts(arrays[key], key, len(features), name) for key in _TEXT if key in arrays}
    if needs_patients and "patient_id" not in texts:
        raise EchofmError(f"the {name} file has no patient_id; the audit counts patients, not clips: add the key")
    clips = texts.get("clip_id") or [f"{name} {row}" for row in range(len(features))]
    labels = {key: _label(arrays[key], key, len(features), name) for key in arrays if key not in _KEYS}
    try:
        return EmbeddingTable.from_arrays(
            features,
            clip_id=clips,
            patient_id=texts.get("patient_id") or clips,
            split=texts.get("split"),
            view=texts.get("view"),
            phase=phase,
            encoder_digest=digest or "unnamed",
            labels=labels or None,
        )
    except EchofmError as error:
        raise EchofmError(f"the {name} file: {error}") from None


def _read(path: Path, name: str, *, max_gb: float) -> Mapping[str, npt.NDArray]:
    try:
        with zipfile.ZipFile(path) as packed:
            held = sum(member.file_size for member in packed.infolist())
        if held > max_gb * 1e9:
            raise EchofmError(
                f"the {name} file unpacks to {held / 1e9:.0f} GB, more than {max_gb:g}; save it as an embedding table "
                "(EmbeddingTable.from_arrays(...).save), which stays on disk"
            )
        with np.load(path, allow_pickle=False) as stored:
            # Frames, say, are not loaded: without features nothing is there to compare.
            arrays = {key: stored[key] for key in stored.files if key in _KEYS or "features" in stored.files}
        if not all(isinstance(each, np.ndarray) for each in arrays.values()):
            raise ValueError("a member that is no array")
        return arrays
    except EchofmError:
        raise
    # RuntimeError: encrypted, or packed by a method that zipfile does not know.
    except (OSError, ValueError, RuntimeError, EOFError, MemoryError, SyntaxError, TokenError, *_BAD_ZIP) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise EchofmError(
            f"the {name} file is no sound .npz of plain arrays ({reason}); write it by numpy.savez, without objects"
        ) from None


def _needed(arrays: Mapping[str, npt.NDArray], key: str, name: str) -> npt.NDArray:
    if key not in arrays:
        raise EchofmError(f"the {name} file has no key {key}; see docs/audit.md for what it needs")
    return arrays[key]


def _texts(values: npt.NDArray, key: str, rows: int, name: str) -> list[str]:
    if values.shape != (rows,) or values.dtype.kind not in "USiu":
        raise EchofmError(f"the {name} file's {key} is {values.dtype} {values.shape}; {rows} texts are needed")
    try:
        return [str(each) for each in (np.strings.decode(values) if values.dtype.kind == "S" else values.astype(str))]
    except UnicodeDecodeError:
        raise EchofmError(f"the {name} file's {key} holds bytes that are no UTF-8; save texts (dtype U)") from None


def _label(values: npt.NDArray, key: str, rows: int, name: str) -> list[Any]:
    if values.shape != (rows,):
        raise EchofmError(
            f"the {name} file has an unknown key of shape {values.shape}; known are {', '.join(_KEYS)}, and labels, "
            f"{rows} texts or numbers each"
        )
    return values.astype(float).tolist() if values.dtype.kind in "fiub" else _texts(values, key, rows, name)
