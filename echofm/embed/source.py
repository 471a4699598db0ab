"""EchoSet: a set as somebody gave it, whatever it is: a table, an .npz of features, shards, a folder, a file.

`SET:train` and `SET:val,test` take some of a set's splits. Someone else's features come as an .npz of arrays: keys
`features` (N, D) and `encoder` (any name, the same in all files) are needed; `patient_id` (N) is needed for real clips;
`clip_id`, `split`, `view` (N) and `phase` (N, T, D'), a vector per frame or time, may be there; every other key of N
texts or numbers is a label.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.embed.options import EmbedOptions
from echofm.embed.store import META, is_table
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import Videos
from echofm.errors import EchofmError
from echofm.split import SPLITS

# What holds features or weights, and no clip.
_NO_CLIPS = (".npy", ".parquet", ".feather", ".h5", ".hdf5", ".pkl", ".pt", ".pth", ".safetensors", ".json")
MAX_GB = 64.0
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_TEXT = ("clip_id", "patient_id", "split", "view")
_KEYS = ("features", "encoder", "phase", *_TEXT)


@dataclass(frozen=True, kw_only=True)
class EchoSet:
    """Exactly one of table and videos is there. name: of the set in messages. splits: to take; none: all."""

    name: str = ""
    splits: Sequence[str] = ()
    table: EmbeddingTable | None = None
    videos: Videos | None = None

    def chosen(self, table: EmbeddingTable) -> EmbeddingTable:
        """The clips of `splits` in a table of the whole set. Raises EchofmError where there are none."""
        if not self.splits:
            return table
        kept = table.select(np.isin(table.split.astype(str), self.splits))
        if len(kept) == 0:
            held = sorted({str(each) for each in table.split if each is not None}) or ["none"]
            raise EchofmError(
                f"the {self.name} set has no clip of split {','.join(self.splits)}; it has {', '.join(held)}"
            )
        return kept


def parsed(given: str) -> tuple[Path, list[str]]:
    """`SET` or `SET:split,split`: the path and the splits, none where all are meant."""
    path, colon, names = given.rpartition(":")
    splits = names.split(",")
    return (Path(path), splits) if colon and set(splits) <= set(SPLITS) else (Path(given), [])


def open_set(
    given: str | Path | EmbeddingTable,
    *,
    name: str,
    options: EmbedOptions | None = None,
    has_patients: bool = True,
    show_progress: bool = True,
) -> EchoSet:
    """Find out what a set is. Nothing is embedded yet (`echofm.embed.cache`).

    name: of the set in messages, e.g. "training". has_patients: False for synthetic clips, whose .npz may lack
    patients. Raises EchofmError where it is nothing that can be read.
    """
    options = options or EmbedOptions()
    if isinstance(given, EmbeddingTable):
        return EchoSet(name=name, table=given)
    path, splits = parsed(str(given))
    if is_features(path):
        return EchoSet(name=name, splits=splits, table=load_features(path, name=name, has_patients=has_patients))
    if not path.exists():
        raise EchofmError(f"the {name} set is not there; check the path given")
    if path.is_file() and path.suffix.lower() in _NO_CLIPS:
        raise EchofmError(
            f"the {name} set is a {path.suffix.lower()} file; features of another model are read from an .npz or an "
            "embedding table (docs/audit.md), clips from a folder or shards"
        )
    try:
        videos = options.videos(path, has_patients=has_patients, show_progress=show_progress)
    except EchofmError as error:
        hint = "; features of another model are read from an .npz (docs/audit.md)" if path.suffix == ".csv" else ""
        raise EchofmError(f"the {name} set: {error}{hint}") from None
    return EchoSet(name=name, splits=splits, videos=videos)


def is_features(path: str | Path) -> bool:
    """Whether features lie there already: the folder of a table, or an .npz."""
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return path.is_file()
    return path.is_dir() and (is_table(path) or (path / META).is_file())


def load_features(path: str | Path, *, name: str = "", has_patients: bool = True) -> EmbeddingTable:
    """The table of a folder or an .npz. name: of the set in errors. Raises EchofmError where it is damaged."""
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return load_arrays(path, name=name or "feature", needs_patients=has_patients)
    try:
        return EmbeddingTable.load(path)
    except EchofmError as error:
        raise EchofmError(f"the {name} table: {error}" if name else str(error)) from None


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
