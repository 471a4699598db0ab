"""Which tables can be put together or compared: those of one encoder, applied in one way, with the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.phase import PhaseTokens
from echofm.embed.tokens import SpaceTimeTokens
from echofm.errors import EchofmError


class TableLike(Protocol):
    """What an `EmbeddingTable` holds, as far as it is stored."""

    @property
    def video_ND(self) -> npt.NDArray[np.float32]: ...
    @property
    def rows(self) -> pd.DataFrame: ...
    @property
    def motion_NRCD(self) -> npt.NDArray[np.float32] | None: ...
    @property
    def phase(self) -> PhaseTokens | None: ...
    @property
    def tokens(self) -> SpaceTimeTokens | None: ...
    @property
    def encoder_digest(self) -> str: ...
    @property
    def contract(self) -> Mapping[str, Any] | None: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def dim(self) -> int: ...


def require_one_encoder(tables: Sequence[TableLike]) -> None:
    """Raises EchofmError where the tables come from different encoders: their features share no coordinates."""
    if not tables:
        raise EchofmError("no table was given")
    digests = list(dict.fromkeys(table.encoder_digest for table in tables))
    if len(digests) > 1:
        shown = ", ".join(digest[:12] for digest in digests)
        raise EchofmError(f"the tables come from different encoders ({shown}); embed all data with one")
    widths = {table.dim for table in tables}
    if len(widths) > 1:
        raise EchofmError(f"the tables have features of different widths, {sorted(widths)}, under one encoder digest")
    for table in tables[1:]:
        if table.settings != tables[0].settings:
            ours, theirs = dict(tables[0].settings), dict(table.settings)
            raise EchofmError(f"the tables were embedded with different settings, {ours} and {theirs}; use one for all")


def require_alike(tables: Sequence[TableLike]) -> None:
    """Raises EchofmError where some of the tables have motion or phase features or space-time tokens and some none."""
    kept = (("motion_NRCD", "motion features"), ("phase", "phase features"), ("tokens", "space-time tokens"))
    for name, title in kept:
        if len({getattr(table, name) is None for table in tables}) > 1:
            raise EchofmError(f"some of the tables have {title} and some have none; embed them alike")
