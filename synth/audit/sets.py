"""The tables of an audit: names that may be shown, and whether the tables can be set beside one another.

Tables of someone else's features may carry real names or markup as ids. They are replaced on the way in by keyed
hashes, so that no report, table or message downstream can show them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.source import parsed
from echofm.embed.store import require_one_encoder
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.ids import IdKey, load_key
from synth.audit.result import SetSummary
from synth.audit.settings import Level

# The columns that make a table of canaries: what was planted, how strongly, from which training clip; and which clip to
# leave out of its search.
KIND, STRENGTH, SOURCE, LEFT_OUT = "canary_kind", "canary_strength", "canary_source", "canary_left_out"
MARKS = (KIND, STRENGTH, SOURCE, LEFT_OUT)
# A name of digits alone may be a hospital's number; of our hashes one in ten thousand is, and is hashed again.
_OURS = re.compile(r"(?=.*[a-f])[0-9a-f]{20}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,99}")
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


def shown(name: str, key: IdKey) -> str:
    """The name itself where it is a hash of ours or empty, else a keyed hash of it, which is then shown as it is."""
    while name and not _OURS.fullmatch(name):
        name = key.patient(f"audit\0{name}")
    return name


def safe_table(table: EmbeddingTable, *, key: IdKey | None = None) -> EmbeddingTable:
    """The table with every clip and patient id fit to be shown; one name has one hash in all tables of one key."""
    columns = [name for name in ("clip_id", "patient_id", SOURCE, LEFT_OUT) if name in table.rows.columns]
    if all(_all_ours(table.rows[name]) for name in columns):
        return table
    key = key or load_key()
    hashed = {
        name: pd.array([None if pd.isna(each) else shown(str(each), key) for each in table.rows[name]], dtype="string")
        for name in columns
    }
    return replace(table, rows=table.rows.assign(**hashed))


def shown_digest(digest: str, *, key: IdKey | None = None) -> str:
    """An encoder's digest or plain name; one with blanks or markup in it is hashed."""
    return digest if _PLAIN.fullmatch(digest) else (key or load_key()).patient(f"audit\0{digest}")


def set_name(given: str | Path | EmbeddingTable) -> str:
    """What a set is called on a page: its folder's own name as given, with its splits; "" of a table in memory.

    A single clip's file may be called by its patient's name, and is not named.
    """
    if isinstance(given, EmbeddingTable):
        return ""
    path, splits = parsed(str(given))
    if path.suffix.lower() == ".csv":
        path = path.parent
    elif path.is_file() and path.suffix.lower() != ".npz":
        return "a file"
    return ":".join([Path(os.path.abspath(path)).name, ",".join(splits)]).rstrip(":")


def text(values: npt.NDArray[np.object_]) -> npt.NDArray[np.str_]:
    """Object array of names as text; missing ones become ""."""
    return np.array(["" if pd.isna(each) else str(each) for each in values], dtype=np.str_)


def _all_ours(column: pd.Series) -> bool:
    return all(pd.isna(each) or not each or _OURS.fullmatch(str(each)) for each in column)


class Head(Protocol):
    """A re-identification model (synth.audit.reid): tables of an encoder become tables of identity."""

    @property
    def levels(self) -> Mapping[Any, Any]:
        """By level, what it can project to."""
        ...

    def digest(self, level: Level) -> str:
        """Changes with the head's weights and its encoder."""
        ...

    def usable(self, table: EmbeddingTable, *, level: Level) -> npt.NDArray[np.bool_]:
        """(N,) the clips that have features at a level."""
        ...

    def project(self, table: EmbeddingTable, *, level: Level) -> EmbeddingTable:
        """The same clips in the head's features; with `phase` where a level has several vectors a clip."""
        ...


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

    def seen_by(self, head: Head | None) -> Sets:
        """The clip level through a re-identification head; without one the same. Raises EchofmError on other tables."""
        if head is None:
            return self
        named = {name: table for name, table in vars(self).items() if table is not None}
        return Sets(**{name: head.project(table, level="clip") for name, table in named.items()})


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


def summary(table: EmbeddingTable, set_aside: int, *, real: bool, name: str = "") -> SetSummary:
    """Counts, and a digest by which the same set is known again; reads mapped features block by block."""
    digest = hashlib.sha256("\n".join(text(table.clip_id).tolist()).encode())
    for first in range(0, len(table), _BLOCK_ROWS):
        digest.update(np.ascontiguousarray(table.video_ND[first : first + _BLOCK_ROWS]).data)
    patients = int(table.rows["patient_id"].nunique()) if real else None
    return SetSummary(name=name, clips=len(table), patients=patients, digest=digest.hexdigest(), set_aside=set_aside)
