"""Galleries: what is ranked for which query, which rows are right, and what the ranked lists are worth.

N rows (clips, or tokens of their frames), Q queries, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import hypergeom

from echofm.embed.table import EmbeddingTable
from echofm.metric.circular import circular_distance
from echofm.nearest import unit_rows
from probe.phase.match import TOLERANCE, Comparing, descriptors

# Queries times gallery is held whole: 2,000 x 20,000 similarities are 320 MB.
MOST_QUERIES, MOST_ROWS = 2_000, 20_000
# Similarities held at once beside the order itself: 40 MB at 20,000 rows.
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """Of each query the relevant gallery rows' places in its list.

    precision_Q: average precision. first_Q: place of the first relevant row, 1 the best. relevant_Q, offered_Q: how
    many rows are relevant, and how many are listed. best_Q: the row listed first.
    """

    precision_Q: npt.NDArray[np.float64]
    first_Q: npt.NDArray[np.int64]
    relevant_Q: npt.NDArray[np.int64]
    offered_Q: npt.NDArray[np.int64]
    best_Q: npt.NDArray[np.int64]

    def recall_Q(self, k: int) -> npt.NDArray[np.float64]:
        """1 where one of the first k is relevant, else 0 (retrieval's recall@k)."""
        return (self.first_Q <= k).astype(np.float64)

    def chance_precision_Q(self) -> npt.NDArray[np.float64]:
        """Mean over all orders of a list: (H + (R - 1) (N - H) / (N - 1)) / N with H = 1 + 1/2 + ... + 1/N."""
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, self.offered_Q.max() + 1))])[self.offered_Q]
        rows, relevant = self.offered_Q, self.relevant_Q
        return (harmonic + (relevant - 1) * (rows - harmonic) / np.maximum(1, rows - 1)) / rows

    def chance_recall_Q(self, k: int) -> npt.NDArray[np.float64]:
        """Probability that k rows drawn at random hold a relevant one."""
        return 1 - hypergeom.pmf(0, self.offered_Q, self.relevant_Q, np.minimum(k, self.offered_Q))


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
        features_ND = self.features_ND if features_ND is None else features_ND
        return rank(features_ND, self.queries_Q, self.relevant_QN, self.hidden_QN)

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


def phase_gallery(table: EmbeddingTable, *, seed: int) -> Gallery | None:
    """Tokens: right is one within 5 % of a cycle in another patient's clip of the view."""
    phase = table.phase
    assert phase is not None
    features = descriptors(phase, Comparing())
    known = np.flatnonzero(np.isfinite(phase.cycle_P) & (np.linalg.norm(features, axis=1) > 0))
    known = known[drawn(len(known), MOST_ROWS, seed=seed)]
    rows = table.rows[["clip_id", "patient_id", "view"]].iloc[phase.clip_P[known]].reset_index(drop=True)
    cycle = phase.cycle_P[known]
    patient, view = _numbers(rows)
    queries = drawn(len(known), MOST_QUERIES, seed=seed)
    relevant = circular_distance(cycle[queries][:, None], cycle) <= TOLERANCE + 1e-6
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
    features_ND: npt.NDArray, rows: pd.DataFrame, queries: npt.NDArray, relevant: npt.NDArray, hidden: npt.NDArray
) -> Gallery | None:
    """The queries that have a relevant row; None where there are none."""
    relevant = relevant & ~hidden
    able = relevant.any(1)
    if not able.any():
        return None
    of_queries = {"queries_Q": queries[able], "relevant_QN": relevant[able], "hidden_QN": hidden[able]}
    return Gallery(features_ND=features_ND, rows=rows, **of_queries)


def rank(
    features_ND: npt.NDArray[np.floating],
    queries_Q: npt.NDArray[np.int64],
    relevant_QN: npt.NDArray[np.bool_],
    hidden_QN: npt.NDArray[np.bool_],
) -> Ranked:
    """Rank all rows by cosine similarity to each query; rows hidden from a query (itself at least) do not count.

    Every query needs a relevant row that is not hidden.
    """
    order_QN = _order(features_ND, queries_Q)
    listed_QN = ~np.take_along_axis(hidden_QN, order_QN, 1)
    good_QN = np.take_along_axis(relevant_QN, order_QN, 1) & listed_QN
    place_QN = np.cumsum(listed_QN, 1)
    relevant_Q = good_QN.sum(1)
    assert relevant_Q.min() > 0, "a query without a relevant row"
    precision = np.where(good_QN, np.cumsum(good_QN, 1) / np.maximum(place_QN, 1), 0).sum(1) / relevant_Q
    rows = np.arange(len(queries_Q))
    return Ranked(
        precision_Q=precision,
        first_Q=place_QN[rows, good_QN.argmax(1)],
        relevant_Q=relevant_Q,
        offered_Q=listed_QN.sum(1),
        best_Q=order_QN[rows, listed_QN.argmax(1)],
    )


def _order(features_ND: npt.NDArray[np.floating], queries_Q: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(Q, N) all rows, the most similar first, of equals the lower. A whole list needs no index: FAISS is made for
    short ones."""
    unit_ND = unit_rows(features_ND).astype(np.float64)
    parts = []
    for first in range(0, len(queries_Q), _QUERIES_AT_ONCE):
        similarity = unit_ND[queries_Q[first : first + _QUERIES_AT_ONCE]] @ unit_ND.T
        # Equal rows must stay equal, whichever way the library adds up.
        parts.append(np.argsort(-similarity.round(12), axis=1, kind="stable"))
    return np.concatenate(parts)
