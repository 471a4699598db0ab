"""Galleries: what is ranked for which query, and which rows are right.

N rows (clips, or tokens of their frames), Q queries, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.metric.circular import circular_distance
from probe.phase.match import Comparing, descriptors
from probe.retrieval.rankings import Ranked, rank

# Queries times gallery is held whole: 2,000 x 20,000 similarities are 320 MB.
MOST_QUERIES, MOST_ROWS = 2_000, 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """rows: clip_id, patient_id, view, and time_s of tokens. relevant_QN, hidden_QN: see `rank`."""

    features_ND: npt.NDArray[np.floating]
    rows: pd.DataFrame
    queries_Q: npt.NDArray[np.int64]
    relevant_QN: npt.NDArray[np.bool_]
    hidden_QN: npt.NDArray[np.bool_]

    def ranked(self, features_ND: npt.NDArray | None = None) -> Ranked:
        """By these features, or the gallery's own."""
        features = self.features_ND if features_ND is None else features_ND
        return rank(features, self.queries_Q, self.relevant_QN, self.hidden_QN)

    @property
    def queries(self) -> pd.DataFrame:
        return self.rows.iloc[self.queries_Q].reset_index(drop=True)


def clip_gallery(table: EmbeddingTable, *, by: str, seed: int) -> Gallery | None:
    """Clips: "patient", right is another clip of the patient; "view", a clip of the view of another patient."""
    table = table.select(drawn(len(table), MOST_ROWS, seed=seed))
    rows = table.rows[["clip_id", "patient_id", "view"]].reset_index(drop=True)
    own, view = _numbers(rows)
    queries = drawn(len(table), MOST_QUERIES, seed=seed)
    itself = queries[:, None] == np.arange(len(table))
    patient_QN = own[queries][:, None] == own
    relevant, hidden = (patient_QN, itself) if by == "patient" else (view[queries][:, None] == view, patient_QN)
    return _able(np.asarray(table.video_ND), rows, queries, relevant, hidden)


def phase_gallery(table: EmbeddingTable, *, tolerance: float, seed: int) -> Gallery | None:
    """Tokens: right is one within `tolerance` of a cycle in another patient's clip of the view."""
    phase = table.phase
    assert phase is not None
    features = descriptors(phase, Comparing())
    known = np.flatnonzero(np.isfinite(phase.cycle_P) & (np.linalg.norm(features, axis=1) > 0))
    known = known[drawn(len(known), MOST_ROWS, seed=seed)]
    owner = np.repeat(np.arange(len(table)), np.diff(phase.start_N1))[known]
    rows = table.rows[["clip_id", "patient_id", "view"]].iloc[owner].reset_index(drop=True)
    cycle = phase.cycle_P[known]
    patient, view = _numbers(rows)
    queries = drawn(len(known), MOST_QUERIES, seed=seed)
    relevant = circular_distance(cycle[queries][:, None], cycle) <= tolerance + 1e-6
    hidden = (patient[queries][:, None] == patient) | (view[queries][:, None] != view)
    rows["time_s"] = phase.time_s_P[known]
    return _able(features[known], rows, queries, relevant, hidden)


def drawn(count: int, at_most: int, *, seed: int) -> npt.NDArray[np.int64]:
    """So many of `count` row numbers, rising."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:at_most])


def _numbers(rows: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of patient and view, equal where these are."""
    names = (rows[column].fillna("").to_numpy(str) for column in ("patient_id", "view"))
    patient, view = (np.unique(each, return_inverse=True)[1] for each in names)
    return patient, view


def _able(
    features_ND: npt.NDArray,
    rows: pd.DataFrame,
    queries: npt.NDArray[np.int64],
    relevant: npt.NDArray[np.bool_],
    hidden: npt.NDArray[np.bool_],
) -> Gallery | None:
    """The queries that have a relevant row; None where there are none."""
    able = (relevant & ~hidden).any(1)
    if not able.any():
        return None
    return Gallery(
        features_ND=features_ND,
        rows=rows,
        queries_Q=queries[able],
        relevant_QN=(relevant & ~hidden)[able],
        hidden_QN=hidden[able],
    )
