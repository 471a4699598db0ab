"""Tensors that published code computed (tests/golden)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch


@cache
def tensors(name: str) -> dict[str, torch.Tensor]:
    """All numeric arrays of one file, by name."""
    with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fiub"}
