"""Search: nearest training vectors, exactly up to about a million of them and by IVF-PQ with exact re-ranking above.

Q queries, N training vectors, K neighbours.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from echofm.nearest import Metric, Neighbours, nearest
from synth.audit.settings import IndexKind
from synth.audit.statistics.approximate import ApproximateIndex

EXACT_UP_TO = 1_000_000
# Below this an inverted index has too few vectors per list to be one.
_LEAST_ROWS = 4_000
_RECALL_QUERIES = 500


class Search:
    """Nearest neighbours among one set of vectors.

    kind: "auto" is exact up to EXACT_UP_TO vectors. An approximate index misses some neighbours of held-out and
    synthetic clips alike: p-values stay valid, but a copy may go unseen, so its recall is measured and told.
    """

    def __init__(self, vectors_ND: npt.NDArray[np.floating], *, metric: Metric, kind: IndexKind = "auto") -> None:
        self.vectors_ND, self.metric = vectors_ND, metric
        approximate = kind == "ivfpq" or (kind == "auto" and len(vectors_ND) > EXACT_UP_TO)
        self._index: ApproximateIndex | None = None
        if approximate and len(vectors_ND) >= _LEAST_ROWS:
            self._folder = tempfile.TemporaryDirectory(prefix="echofm-audit-")
            self._index = ApproximateIndex(vectors_ND, metric=metric, folder=Path(self._folder.name))

    @property
    def is_exact(self) -> bool:
        """Whether every neighbour is the true one."""
        return self._index is None

    def recall_on(self, queries_QD: npt.NDArray) -> float:
        """Part of the true nearest neighbours of some of these queries that are found; 1.0 for an exact search."""
        if self._index is None or len(queries_QD) == 0:
            return 1.0
        some = np.random.default_rng(0).permutation(len(queries_QD))[:_RECALL_QUERIES]
        return self._index.recall(queries_QD[np.sort(some)])

    def nearest(
        self,
        queries_QD: npt.NDArray,
        *,
        k: int = 1,
        exclude_QN: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    ) -> Neighbours:
        """The k nearest; with groups to leave out always exactly, as an index cannot leave any out."""
        k = min(k, len(self.vectors_ND))
        if self._index is None or exclude_QN is not None:
            return nearest(queries_QD, self.vectors_ND, k=k, metric=self.metric, exclude_QN=exclude_QN)
        return self._index.nearest(queries_QD, k=k)
