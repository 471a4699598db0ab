"""The three tables of an audit, and whether they can be set beside one another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from echofm.embed.alike import require_one_encoder
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.names import shown_digest, text
from synth.audit.result import SetSummary

_BLOCK_ROWS = 8192
# Part of the clips that would have to be others for the two sets to be alike.
_MOST_UNLIKE = 0.2
_WHY_UNLIKE = {
    "view": (
        "show",
        "views differ in how alike patients look, so the null fits badly; hold out clips of the same views",
    ),
    "kind": ("are", "an encoder sees other things in them, so the null fits badly; compare stills with stills"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """The three tables of one encoder, and canaries."""

    train: EmbeddingTable
    holdout: EmbeddingTable
    synthetic: EmbeddingTable
    canaries: EmbeddingTable | None = None

    def tables(self) -> list[EmbeddingTable]:
        """All that are there."""
        return [each for each in (self.train, self.holdout, self.synthetic, self.canaries) if each is not None]


def require_comparable(sets: Sets) -> None:
    """Raises EchofmError, with the fix, where the sets cannot be set beside one another."""
    require_one_encoder(sets.tables())
    for name, table in {"training": sets.train, "held-out": sets.holdout, "synthetic": sets.synthetic}.items():
        _require_sound(table, name)
    fix = "the null needs patients whom the generator never saw: take them out of one"
    patients = sorted(set(sets.train.patient_id) & set(sets.holdout.patient_id))
    if patients:
        raise EchofmError(
            f"{len(patients)} patient(s) are both in the training and the held-out table (first {patients[0]}); {fix}"
        )
    clips = sorted(set(sets.train.clip_id) & set(sets.holdout.clip_id))
    if clips:
        raise EchofmError(
            f"{len(clips)} clip(s) are both in the training and the held-out table, under other patients' names "
            f"(first {clips[0]}); {fix}"
        )


def _require_sound(table: EmbeddingTable, name: str) -> None:
    if len(table) == 0:
        raise EchofmError(f"the {name} table is empty")
    try:
        table.check_finite()
    except EchofmError as error:
        raise EchofmError(f"the {name} table: {error}") from None
    flat = table.video_ND.any(axis=1).argmin()
    if not table.video_ND[flat].any():
        raise EchofmError(
            f"the {name} table: the features of row {flat} are all 0, so nothing is like them; embed that clip "
            "again or drop the row"
        )


def unlike(sets: Sets) -> list[str]:
    """A note where the synthetic set has other views or kinds than the held-out set, which is then no null for it."""
    notes = []
    for column, (verb, why) in _WHY_UNLIKE.items():
        shares = [
            pd.Series(text(table.rows[column].to_numpy(object))).value_counts(normalize=True)
            for table in (sets.synthetic, sets.holdout)
            if column in table.rows and table.rows[column].notna().any()
        ]
        if len(shares) < 2:
            continue
        own, null = (each.reindex(shares[0].index.union(shares[1].index), fill_value=0.0) for each in shares)
        if (own - null).abs().sum() / 2 <= _MOST_UNLIKE:
            continue
        most = (own - null).idxmax()
        name = shown_digest(str(most)) if most else f"an unknown {column}"
        notes.append(
            f"{own[most]:.0%} of the synthetic clips {verb} {name}, but {null[most]:.0%} of the held-out ones: {why}"
        )
    return notes


def summary(table: EmbeddingTable, set_aside: int, *, real: bool) -> SetSummary:
    """Counts, and a digest by which the same set is known again; reads mapped features block by block."""
    digest = hashlib.sha256("\n".join(text(table.clip_id).tolist()).encode())
    for first in range(0, len(table), _BLOCK_ROWS):
        digest.update(np.ascontiguousarray(table.video_ND[first : first + _BLOCK_ROWS]).data)
    patients = int(table.rows["patient_id"].nunique()) if real else None
    return SetSummary(clips=len(table), patients=patients, digest=digest.hexdigest(), set_aside=set_aside)
