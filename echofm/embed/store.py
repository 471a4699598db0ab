"""Save and load an EmbeddingTable: features.safetensors, rows.parquet, meta.json. No pickle.

Features load as a memory map: 1,000,000 x 1024 float32 (4 GB) open at once and cost memory only where read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.parquet
import pydantic
from pyarrow import types
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import echofm
from echofm.config import Recipe
from echofm.embed.phase import PhaseTokens
from echofm.embed.table import COLUMNS, EmbeddingTable, tidy_rows
from echofm.errors import EchofmError

SCHEMA_VERSION = 1
FEATURES, ROWS, META = "features.safetensors", "rows.parquet", "meta.json"
_PHASE = {
    "phase": ("feature_PD", np.float32),
    "phase_time_s": ("time_s_P", np.float64),
    "phase_frame": ("frame_P", np.float32),
    "phase_window": ("window_P", np.int32),
    "phase_cycle": ("cycle_P", np.float32),
    "phase_start": ("start_N1", np.int64),
}


class TableMeta(Recipe):
    """meta.json: what the two other files must agree with."""

    schema_version: int
    """Layout of the three files; 1."""
    echofm_version: str
    """Version of the package that wrote the table."""
    encoder_digest: str
    """sha256 over the encoder's weights and configuration."""
    contract: dict[str, Any] | None
    """The encoder's input contract."""
    clips: int
    """Number of rows."""
    features: int
    """Numbers per clip."""
    phase_tokens: int | None
    """Token-time features in all; null without."""
    labels: list[str]
    """Label columns, the unit last in the name."""


def save_table(table: EmbeddingTable, folder: Path) -> None:
    """Write the three files, meta.json last: a folder without it is no table."""
    meta = TableMeta(
        schema_version=SCHEMA_VERSION,
        echofm_version=echofm.__version__,
        encoder_digest=table.encoder_digest,
        contract=None if table.contract is None else dict(table.contract),
        clips=len(table),
        features=table.dim,
        phase_tokens=None if table.phase is None else len(table.phase.feature_PD),
        labels=list(table.labels.columns),
    )
    arrays: dict[str, npt.NDArray] = {"video": np.ascontiguousarray(table.video_ND)}
    if table.phase is not None:
        for name, (attribute, dtype) in _PHASE.items():
            arrays[name] = np.ascontiguousarray(getattr(table.phase, attribute), dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / META).unlink(missing_ok=True)
        save_file(arrays, folder / f"{FEATURES}.part")
        table.rows.to_parquet(folder / f"{ROWS}.part", index=False)
        (folder / f"{META}.part").write_text(meta.to_json(), encoding="utf-8")
        for name in (FEATURES, ROWS, META):
            _settle(folder / name)
    except (OSError, SafetensorError) as error:
        for name in (FEATURES, ROWS, META):
            (folder / f"{name}.part").unlink(missing_ok=True)
        raise EchofmError(f"the table cannot be written to {folder} ({_cause(error)})") from None


def load_table(folder: Path) -> EmbeddingTable:
    """Read and check the three files. Raises EchofmError with the file's name and what is wrong with it."""
    meta = _load_meta(folder / META)
    arrays = _load_features(folder / FEATURES)
    rows = _load_rows(folder / ROWS)
    video = arrays.get("video")
    if video is None or video.dtype != np.float32 or video.shape != (meta.clips, meta.features):
        found = "no tensor 'video'" if video is None else f"{video.dtype} {video.shape}"
        raise EchofmError(f"{FEATURES} holds {found}; meta.json promises float32 ({meta.clips}, {meta.features})")
    if len(rows) != meta.clips:
        raise EchofmError(f"{ROWS} holds {len(rows)} rows; meta.json promises {meta.clips}")
    missing = [name for name in (*COLUMNS, *meta.labels) if name not in rows.columns]
    if missing:
        raise EchofmError(f"{ROWS} lacks the columns {', '.join(missing)}")
    table = EmbeddingTable(
        video_ND=video,
        rows=rows[[*COLUMNS, *meta.labels]],
        phase=_phase(arrays, meta),
        encoder_digest=meta.encoder_digest,
        contract=meta.contract,
    )
    table.check_finite()
    return table


def is_table(folder: Path) -> bool:
    """Whether a finished table lies there."""
    return (folder / META).is_file() and (folder / FEATURES).is_file()


def _load_meta(path: Path) -> TableMeta:
    try:
        meta = TableMeta.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise EchofmError(f"{path.parent} holds no embedding table (no {META}); make one with `echofm embed`") from None
    except (OSError, pydantic.ValidationError, UnicodeDecodeError):
        raise EchofmError(f"{META} of the table is damaged or not of this kind; embed the data again") from None
    if meta.schema_version != SCHEMA_VERSION:
        raise EchofmError(
            f"{META} is of schema {meta.schema_version}; this echofm reads {SCHEMA_VERSION}: upgrade it or embed again"
        )
    return meta


def _load_features(path: Path) -> dict[str, npt.NDArray]:
    try:
        # Only the torch front end of safetensors maps tensors; the numpy one copies them.
        with safe_open(str(path), framework="pt") as file:
            arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError) as error:
        raise EchofmError(f"{FEATURES} of the table cannot be read ({_cause(error)}); embed the data again") from None
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _load_rows(path: Path) -> pd.DataFrame:
    try:
        rows = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise EchofmError(f"{ROWS} of the table cannot be read ({_cause(error)}); embed the data again") from None
    plain = (types.is_string, types.is_large_string, types.is_floating, types.is_integer, types.is_boolean)
    for column in rows.schema:
        if not any(test(column.type) for test in (*plain, types.is_null)):
            raise EchofmError(f"{ROWS}: column {column.name!r} is {column.type}; text or numbers are needed")
    # The pandas part of the metadata may come from anywhere and is not needed.
    return tidy_rows(rows.to_pandas(ignore_metadata=True))


def _phase(arrays: dict[str, npt.NDArray], meta: TableMeta) -> PhaseTokens | None:
    if meta.phase_tokens is None:
        return None
    for name, (_, dtype) in _PHASE.items():
        if name not in arrays or arrays[name].dtype != dtype:
            raise EchofmError(f"{FEATURES} lacks the tensor {name!r} of type {np.dtype(dtype)}")
    phase = PhaseTokens(**{attribute: arrays[name] for name, (attribute, _) in _PHASE.items()})
    if len(phase.feature_PD) != meta.phase_tokens:
        raise EchofmError(
            f"{FEATURES} holds {len(phase.feature_PD)} phase tokens; meta.json promises {meta.phase_tokens}"
        )
    return phase


def _settle(path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def _cause(error: Exception) -> str:
    # An OSError's text names its path; its reason alone does not.
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error).splitlines()[0][:120]
