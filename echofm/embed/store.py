"""Save and load an EmbeddingTable: features.safetensors, rows.parquet, meta.json. No pickle.

Features load as a memory map: 1,000,000 x 1024 float32 (4 GB) open at once and cost memory only where read.
"""

from __future__ import annotations

from collections.abc import Sequence
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

import echofm
from echofm.atomic import whole_files
from echofm.embed.alike import TableLike, require_alike, require_one_encoder
from echofm.embed.phase import PhaseTokens, joined_starts
from echofm.embed.rows import COLUMNS, check_columns, stack_rows, tidy_rows
from echofm.embed.tensors import write_tensors
from echofm.embed.tokens import SpaceTimeTokens, require_one_grid
from echofm.errors import EchofmError
from echofm.schema import FrozenModel

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


class TableMeta(FrozenModel):
    """meta.json: what the two other files must agree with."""

    schema_version: int
    """Layout of the three files; 1."""
    echofm_version: str
    """Version of the package that wrote the table."""
    encoder_digest: str
    """sha256 over the encoder's weights and configuration."""
    contract: dict[str, Any] | None
    """The encoder's input contract."""
    settings: dict[str, Any]
    """How the encoder was applied: windows per clip, precision."""
    clips: int
    """Number of rows."""
    features: int
    """Numbers per clip."""
    motion: list[int] | None = None
    """Rows, columns and features of a clip's motion map; null without."""
    phase_tokens: int | None
    """Token-time features in all; null without."""
    tokens: list[int] | None = None
    """Times, rows, columns and features of a clip's space-time tokens; null without."""
    labels: list[str]
    """Label columns, the unit last in the name."""


def save_tables(tables: Sequence[TableLike], folder: Path) -> None:
    """Write tables of one encoder as one, one after another; features pass through memory in pieces.

    meta.json is written last: a folder without it is no table.
    """
    require_one_encoder(tables)
    rows = stack_rows([table.rows for table in tables])
    check_columns(rows)
    require_alike(tables)
    phases = [table.phase for table in tables if table.phase is not None]
    tokens = [table.tokens for table in tables if table.tokens is not None]
    meta = TableMeta(
        schema_version=SCHEMA_VERSION,
        echofm_version=echofm.__version__,
        encoder_digest=tables[0].encoder_digest,
        contract=None if tables[0].contract is None else dict(tables[0].contract),
        settings=dict(tables[0].settings),
        clips=len(rows),
        features=tables[0].dim,
        motion=None if tables[0].motion_NRCD is None else list(tables[0].motion_NRCD.shape[1:]),
        phase_tokens=sum(len(phase.feature_PD) for phase in phases) if phases else None,
        tokens=list(tokens[0].feature_NTRCD.shape[1:]) if tokens else None,
        labels=[name for name in rows.columns if name not in COLUMNS],
    )
    try:
        pieces = {"video": [table.video_ND for table in tables], **_pieces(phases), **_token_pieces(tokens)}
        motions = [table.motion_NRCD for table in tables if table.motion_NRCD is not None]
        pieces |= {"motion": motions} if motions else {}
        with whole_files([folder / name for name in (FEATURES, ROWS, META)]) as (features, table_rows, about):
            write_tensors(features, pieces)
            rows.to_parquet(table_rows, index=False)
            about.write_text(meta.to_json(), encoding="utf-8")
            # The features of one table must not lie beside the rows of another.
            (folder / META).unlink(missing_ok=True)
    except OSError as error:
        raise EchofmError(f"the table cannot be written to {folder} ({_cause(error)})") from None


def _pieces(phases: Sequence[PhaseTokens]) -> dict[str, list[npt.NDArray]]:
    """The phase tensors of several tables, piece by piece; offsets run on from table to table."""
    if not phases:
        return {}
    pieces: dict[str, list[npt.NDArray]] = {
        name: [getattr(phase, attribute).astype(dtype, copy=False) for phase in phases]
        for name, (attribute, dtype) in _PHASE.items()
        if name != "phase_start"
    }
    widths = {piece.shape[1] for piece in pieces["phase"]}
    if len(widths) != 1:
        raise EchofmError(f"phase features of different widths cannot be put together: {sorted(widths)}")
    return pieces | {"phase_start": [joined_starts(phases)]}


def _token_pieces(tokens: Sequence[SpaceTimeTokens]) -> dict[str, list[npt.NDArray]]:
    if not tokens:
        return {}
    require_one_grid(tokens)
    return {"tokens": [each.feature_NTRCD for each in tokens]}


def load_parts(folder: Path) -> dict[str, Any]:
    """The fields of an `EmbeddingTable` out of its three files, checked against one another.

    Raises EchofmError with the file's name and what is wrong with it.
    """
    meta = _load_meta(folder / META)
    arrays = _load_features(folder / FEATURES)
    rows = _load_rows(folder / ROWS)
    video = arrays.get("video")
    if video is None or video.dtype != np.float32 or video.shape != (meta.clips, meta.features):
        found = "no tensor 'video'" if video is None else f"{video.dtype} {video.shape}"
        raise EchofmError(f"{FEATURES} holds {found}; meta.json promises float32 ({meta.clips}, {meta.features})")
    if len(rows) != meta.clips:
        raise EchofmError(f"{ROWS} holds {len(rows)} rows; meta.json promises {meta.clips}")
    if "study_id" not in rows.columns:
        # Tables written before there were studies.
        rows = rows.assign(study_id=pd.array([None] * len(rows), "string"))
    missing = [name for name in (*COLUMNS, *meta.labels) if name not in rows.columns]
    if missing:
        raise EchofmError(f"{ROWS} lacks the columns {', '.join(missing)}")
    return {
        "video_ND": video,
        "rows": rows[[*COLUMNS, *meta.labels]],
        "motion_NRCD": _motion(arrays, meta),
        "phase": _phase(arrays, meta),
        "tokens": _tokens(arrays, meta),
        "encoder_digest": meta.encoder_digest,
        "contract": meta.contract,
        "settings": meta.settings,
    }


def is_table(folder: Path) -> bool:
    """Whether a finished table lies there."""
    return (folder / META).is_file() and (folder / FEATURES).is_file()


def _load_meta(path: Path) -> TableMeta:
    try:
        meta = TableMeta.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
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


def _motion(arrays: dict[str, npt.NDArray], meta: TableMeta) -> npt.NDArray[np.float32] | None:
    if meta.motion is None:
        return None
    array, shape = arrays.get("motion"), (meta.clips, *meta.motion)
    if array is None or array.dtype != np.float32 or array.shape != shape:
        found = "no tensor 'motion'" if array is None else f"{array.dtype} {array.shape}"
        raise EchofmError(f"{FEATURES} holds {found}; meta.json promises motion features float32 {shape}")
    return array


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


def _tokens(arrays: dict[str, npt.NDArray], meta: TableMeta) -> SpaceTimeTokens | None:
    if meta.tokens is None:
        return None
    array, shape = arrays.get("tokens"), (meta.clips, *meta.tokens)
    if array is None or array.dtype != np.float32 or array.shape != shape:
        found = "no tensor 'tokens'" if array is None else f"{array.dtype} {array.shape}"
        raise EchofmError(f"{FEATURES} holds {found}; meta.json promises space-time tokens float32 {shape}")
    return SpaceTimeTokens(feature_NTRCD=array)


def _cause(error: Exception) -> str:
    # An OSError's text names its path; its reason alone does not.
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error).splitlines()[0][:120]
