"""Nearest neighbours among embeddings by cosine or Pearson similarity: exact by FAISS, block by block.

Above about a million reference rows the audit has an index that trades a little recall, which it states, for time.

Shapes: Q queries, N reference rows, D features, K neighbours kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import faiss
import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError

Floats = npt.NDArray[np.float32]
Metric = Literal["cosine", "pearson"]

# 200 MB of a mapped reference at 768 features: large enough for BLAS to run at its full rate.
_BLOCK_ROWS = 65_536
_QUERY_ROWS = 8_192
# Single precision can exchange neighbours whose similarities differ by less than its rounding. This many more
# candidates than asked for are kept and ranked again in double precision.
_SPARE = 8
# Of a row's length. Less than this left by the mean is the rounding of a constant row, not a direction.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """similarity_QK: float64, falling along K. index_QK: int64 rows of the reference; of equals the lower first."""

    similarity_QK: npt.NDArray[np.float64]
    index_QK: npt.NDArray[np.int64]


def unit_rows(features_ND: npt.ArrayLike, *, metric: Metric = "cosine") -> Floats:
    """Rows of length one, so that an inner product is the similarity; for Pearson their mean is removed first.

    Raises EchofmError where a row is not finite or has no direction.
    """
    rows = np.array(features_ND, np.float32)
    least: npt.NDArray[np.float64] | float = 0.0
    if metric == "pearson":
        least = _ROUNDING * _lengths(rows)
        rows -= rows.mean(1, keepdims=True)
    length = _lengths(rows)
    bad = ~(np.isfinite(length) & (length > least))
    if bad.any():
        raise EchofmError(
            f"row {int(bad.argmax())} of an embedding is not finite or has no direction under {metric} similarity; "
            "embed that clip again or drop it"
        )
    rows /= length[:, None].astype(np.float32)
    return rows


def _lengths(rows: Floats) -> npt.NDArray[np.float64]:
    return np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))


def nearest(
    queries_QD: npt.ArrayLike,
    reference_ND: npt.NDArray[np.floating],
    *,
    k: int = 1,
    metric: Metric = "cosine",
    exclude_QN: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> Neighbours:
    """The k most similar reference rows of every query, exactly, as a search through all pairs ranks them.

    The reference may be mapped from disk: it is read in blocks and never held twice. Candidates are ranked again in
    double precision, so that the result depends neither on the blocks nor on the BLAS library.

    exclude_QN: group names of the queries and of the reference rows; rows of a query's own group do not count
        (a patient's other clips, where a training set is searched in itself).
    Raises EchofmError where k exceeds what the reference offers, or widths differ.
    """
    queries = np.asarray(queries_QD)
    if queries.ndim != 2 or reference_ND.ndim != 2 or queries.shape[1] != reference_ND.shape[1]:
        raise EchofmError(f"embeddings of shapes {queries.shape} and {reference_ND.shape} cannot be compared")
    groups = None if exclude_QN is None else _group_numbers(*exclude_QN)
    crowd = 0 if groups is None else _largest_shared(groups)
    wanted = min(k + _SPARE + crowd, len(reference_ND))
    if k > len(reference_ND) - crowd:
        raise EchofmError(f"{k} neighbours were asked for, the reference offers {len(reference_ND) - crowd}")
    parts = []
    for first in range(0, len(queries), _QUERY_ROWS):
        part = slice(first, first + _QUERY_ROWS)
        own = None if groups is None else (groups[0][part], groups[1])
        unit = unit_rows(queries[part], metric=metric)
        parts.append(_exact(unit, reference_ND, k=k, wanted=wanted, metric=metric, groups=own))
    return Neighbours(
        similarity_QK=np.concatenate([part.similarity_QK for part in parts]),
        index_QK=np.concatenate([part.index_QK for part in parts]),
    )


Groups = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _group_numbers(of_queries: npt.ArrayLike, of_reference: npt.ArrayLike) -> Groups:
    names_Q, names_N = np.asarray(of_queries, str), np.asarray(of_reference, str)
    numbers = np.unique(np.concatenate([names_Q, names_N]), return_inverse=True)[1]
    return numbers[: len(names_Q)], numbers[len(names_Q) :]


def _largest_shared(groups: Groups) -> int:
    """Rows of the largest group of the reference that a query belongs to: as many may be left out of its search."""
    counts = np.bincount(groups[1], minlength=int(max(map(np.max, groups))) + 1)
    return int(counts[groups[0]].max())


def _exact(
    queries: Floats, reference_ND: npt.NDArray, *, k: int, wanted: int, metric: Metric, groups: Groups | None
) -> Neighbours:
    similarity = np.empty((len(queries), 0))
    index = np.empty((len(queries), 0), np.int64)
    for first in range(0, len(reference_ND), _BLOCK_ROWS):
        block = unit_rows(reference_ND[first : first + _BLOCK_ROWS], metric=metric)
        found = _search(queries, block, min(wanted, len(block)))
        fresh = inner_products(queries, block, found)
        if groups is not None:
            fresh[groups[0][:, None] == groups[1][first + found]] = -np.inf
        similarity, index = best(
            np.concatenate([similarity, fresh], 1), np.concatenate([index, found + first], 1), wanted
        )
    return Neighbours(similarity_QK=similarity[:, :k], index_QK=index[:, :k])


def _search(queries: Floats, block: Floats, k: int) -> npt.NDArray[np.int64]:
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
        resources = faiss.StandardGpuResources()
        return faiss.knn_gpu(resources, queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)[1]


def inner_products(queries: Floats, rows: Floats, index_QK: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Double-precision inner products of each query with its own candidates, a candidate column at a time."""
    columns = [np.einsum("qd,qd->q", queries, rows[column], dtype=np.float64) for column in index_QK.T]
    return np.stack(columns, 1)


def best(
    similarity_QC: npt.NDArray[np.float64], index_QC: npt.NDArray[np.int64], k: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The k best candidates of each query, of equals the lower row first."""
    order = np.lexsort((index_QC, -similarity_QC), axis=1)[:, :k]
    return np.take_along_axis(similarity_QC, order, 1), np.take_along_axis(index_QC, order, 1)
