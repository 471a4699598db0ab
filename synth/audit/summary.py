"""What is told of each set: counts, and a digest by which the same set is known again."""

from __future__ import annotations

import hashlib

import numpy as np

from echofm.embed.table import EmbeddingTable
from synth.audit.names import text
from synth.audit.result import SetSummary

_BLOCK_ROWS = 8192


def set_summary(table: EmbeddingTable, set_aside: int, *, real: bool) -> SetSummary:
    """Counts and digest; reads mapped features block by block."""
    digest = hashlib.sha256("\n".join(text(table.clip_id).tolist()).encode())
    for first in range(0, len(table), _BLOCK_ROWS):
        digest.update(np.ascontiguousarray(table.video_ND[first : first + _BLOCK_ROWS]).data)
    patients = int(table.rows["patient_id"].nunique()) if real else None
    return SetSummary(clips=len(table), patients=patients, digest=digest.hexdigest(), set_aside=set_aside)
