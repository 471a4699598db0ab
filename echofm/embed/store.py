"""Save and load an EmbeddingTable: features.safetensors, rows.parquet, meta.json. No pickle.

Features load as a memory map: 1,000,000 x 1024 float32 (4 GB) open at once and cost memory only where read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

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
from echofm.embed.phase import PhaseTokens, joined_starts
from echofm.embed.rows import COLUMNS, check_columns, stack_rows, tidy_rows
from echofm.embed.tokens import SpaceTimeTokens, require_one_grid
from echofm.errors import EchofmError
from echofm.schema import FrozenModel

if TYPE_CHECKING:
    from echofm.embed.table import EmbeddingTable

SCHEMA_VERSION = 1
FEATURES, ROWS, META = "features.safetensors", "rows.parquet", "meta.json"
_DTYPES = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64"}
_BLOCK_BYTES = 1 << 26
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
    echofm_version: str
    encoder_digest: str
    """sha256 over the encoder's weights and configuration."""
    phase_digest: str = ""
    """Of what decides the phase features beside that."""
    contract: dict[str, Any] | None
    settings: dict[str, Any]
    """How the encoder was applied: windows per clip, precision."""
    clips: int
    features: int
    motion: list[int] | None = None
    """Rows, columns and features of a clip's motion map; null without."""
    phase_tokens: int | None
    """Token-time features in all; null without."""
    tokens: list[int] | None = None
    """Times, rows, columns and features of a clip's space-time tokens; null without."""
    labels: list[str]
    """Label columns, the unit last in the name."""


def require_one_encoder(tables: Sequence[EmbeddingTable]) -> None:
    """Raises EchofmError where the tables come from different encoders: their features share no coordinates."""
    if not tables:
        raise EchofmError("no table was given")
    digests = list(dict.fromkeys(table.encoder_digest for table in tables))
    if len(digests) > 1:
        shown = ", ".join(digest[:12] for digest in digests)
        raise EchofmError(f"the tables come from different encoders ({shown}); embed all data with one")
    if len({table.phase_digest for table in tables if table.phase is not None and table.phase_digest}) > 1:
        raise EchofmError(
            "the tables' phase features come from different heads of one encoder; embed all data with one"
        )
    widths = {table.dim for table in tables}
    if len(widths) > 1:
        raise EchofmError(f"the tables have features of different widths, {sorted(widths)}, under one encoder digest")
    for table in tables[1:]:
        if table.settings != tables[0].settings:
            ours, theirs = dict(tables[0].settings), dict(table.settings)
            raise EchofmError(f"the tables were embedded with different settings, {ours} and {theirs}; use one for all")


def require_alike(tables: Sequence[EmbeddingTable]) -> None:
    """Raises EchofmError where some of the tables have motion or phase features or space-time tokens and some none."""
    kept = (("motion_NRCD", "motion features"), ("phase", "phase features"), ("tokens", "space-time tokens"))
    for name, title in kept:
        if len({getattr(table, name) is None for table in tables}) > 1:
            raise EchofmError(f"some of the tables have {title} and some have none; embed them alike")


def save_tables(tables: Sequence[EmbeddingTable], folder: Path) -> None:
    """Write tables of one encoder as one, one after another; features pass through memory in pieces.

    meta.json is written last: a folder without it is no table.
    """
    require_one_encoder(tables)
    rows = stack_rows([table.rows for table in tables])
    check_columns(rows)
    require_alike(tables)
    phases = [table.phase for table in tables if table.phase is not None]
    tokens = [table.tokens for table in tables if table.tokens is not None]
    motions = [table.motion_NRCD for table in tables if table.motion_NRCD is not None]
    meta = TableMeta(
        schema_version=SCHEMA_VERSION,
        echofm_version=echofm.__version__,
        encoder_digest=tables[0].encoder_digest,
        phase_digest=tables[0].phase_digest,
        contract=None if tables[0].contract is None else dict(tables[0].contract),
        settings=dict(tables[0].settings),
        clips=len(rows),
        features=tables[0].dim,
        motion=list(motions[0].shape[1:]) if motions else None,
        phase_tokens=sum(len(phase.feature_PD) for phase in phases) if phases else None,
        tokens=list(tokens[0].feature_NTRCD.shape[1:]) if tokens else None,
        labels=[name for name in rows.columns if name not in COLUMNS],
    )
    try:
        pieces: dict[str, Sequence[npt.NDArray]] = {"video": [table.video_ND for table in tables], **_pieces(phases)}
        if tokens:
            require_one_grid(tokens)
            pieces["tokens"] = [each.feature_NTRCD for each in tokens]
        if motions:
            pieces["motion"] = motions
        with whole_files([folder / name for name in (FEATURES, ROWS, META)]) as (features, table_rows, about):
            _write_tensors(features, pieces)
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


def load_parts(folder: Path) -> dict[str, Any]:
    """The fields of an `EmbeddingTable` out of its three files, checked against one another.

    Raises EchofmError with the file's name and what is wrong with it.
    """
    meta = _load_meta(folder / META)
    arrays = _load_features(folder / FEATURES)
    rows = _load_rows(folder / ROWS)
    if len(rows) != meta.clips:
        raise EchofmError(f"{ROWS} holds {len(rows)} rows; meta.json promises {meta.clips}")
    if "study_id" not in rows.columns:
        # Tables written before there were studies.
        rows = rows.assign(study_id=pd.array([None] * len(rows), "string"))
    missing = [name for name in (*COLUMNS, *meta.labels) if name not in rows.columns]
    if missing:
        raise EchofmError(f"{ROWS} lacks the columns {', '.join(missing)}")
    return {
        "video_ND": _promised(arrays, "video", "features", (meta.clips, meta.features)),
        "rows": rows[[*COLUMNS, *meta.labels]],
        "motion_NRCD": None
        if meta.motion is None
        else _promised(arrays, "motion", "motion features", (meta.clips, *meta.motion)),
        "phase": None if meta.phase_tokens is None else _phase(arrays, meta.phase_tokens),
        "tokens": None
        if meta.tokens is None
        else SpaceTimeTokens(
            feature_NTRCD=_promised(arrays, "tokens", "space-time tokens", (meta.clips, *meta.tokens))
        ),
        "encoder_digest": meta.encoder_digest,
        "phase_digest": meta.phase_digest,
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


def _promised(
    arrays: Mapping[str, npt.NDArray], name: str, title: str, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    array = arrays.get(name)
    if array is None or array.dtype != np.float32 or array.shape != shape:
        found = f"no tensor {name!r}" if array is None else f"{array.dtype} {array.shape}"
        raise EchofmError(f"{FEATURES} holds {found}; meta.json promises {title} float32 {shape}")
    return array


def _phase(arrays: Mapping[str, npt.NDArray], promised: int) -> PhaseTokens:
    for name, (_, dtype) in _PHASE.items():
        if name not in arrays or arrays[name].dtype != dtype:
            raise EchofmError(f"{FEATURES} lacks the tensor {name!r} of type {np.dtype(dtype)}")
    phase = PhaseTokens(**{attribute: arrays[name] for name, (attribute, _) in _PHASE.items()})
    if len(phase.feature_PD) != promised:
        raise EchofmError(f"{FEATURES} holds {len(phase.feature_PD)} phase tokens; meta.json promises {promised}")
    return phase


def _write_tensors(path: Path, tensors: Mapping[str, Sequence[npt.NDArray]]) -> None:
    """Name -> pieces that follow one another along the first axis, all of one type, so that a table larger than memory
    can be put together: the library writes only tensors that are whole in memory.

    Format: https://github.com/huggingface/safetensors
    """
    header: dict[str, dict[str, object]] = {}
    end = 0
    for name, pieces in tensors.items():
        assert len({(piece.dtype, piece.shape[1:]) for piece in pieces}) == 1, name
        start, end = end, end + sum(piece.nbytes for piece in pieces)
        shape = [sum(map(len, pieces)), *pieces[0].shape[1:]]
        header[name] = {"dtype": _DTYPES[pieces[0].dtype.name], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for pieces in tensors.values():
            for piece in pieces:
                _write(file, piece)


def _write(file: BinaryIO, piece: npt.NDArray) -> None:
    rows = max(1, _BLOCK_BYTES // max(1, piece[:1].nbytes))
    for first in range(0, len(piece), rows):
        block = np.ascontiguousarray(piece[first : first + rows])
        file.write(block.astype(block.dtype.newbyteorder("<"), copy=False).data)


def _cause(error: Exception) -> str:
    # An OSError's text names its path; its reason alone does not.
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error).splitlines()[0][:120]
