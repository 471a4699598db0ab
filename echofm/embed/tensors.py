"""Write a safetensors file piece by piece, so that a table larger than memory can be put together.

The safetensors library writes only tensors that are whole in memory. Format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

_DTYPES = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64"}
_BLOCK_BYTES = 1 << 26


def write_tensors(path: Path, tensors: Mapping[str, Sequence[npt.NDArray]]) -> None:
    """Name -> pieces that follow one another along the first axis, all of one type. Raises OSError."""
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
