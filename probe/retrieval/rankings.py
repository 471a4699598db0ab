"""Ranked lists and what they are worth: average precision, recall at k, and both by chance.

Q queries, N gallery rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from echofm.nearest import unit_rows

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
