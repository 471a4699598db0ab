"""Nearest training vectors: exactly up to about a million of them, by IVF-PQ with exact re-ranking above.

Shapes: Q queries, N reference rows, D features, K neighbours kept.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError
from echofm.nearest import Floats, Metric, Neighbours, best, inner_products, nearest, unit_rows
from synth.audit.settings import IndexKind

EXACT_UP_TO = 1_000_000
# Below this an inverted index has too few vectors per list to be one.
_LEAST_TO_SEARCH = 4_000
_RECALL_QUERIES = 500
# Below 39 rows a list k-means is ill-determined; FAISS warns.
_TRAINING_ROWS_PER_LIST, _TRAINING_ROWS = 40, 16_384
# Of as many centroids as a code's byte tells apart k-means needs a row each.
_LEAST_ROWS = 256
_ADDED_ROWS = 65_536
# The candidates' rows of a block of queries, 400 each, lie in memory at once.
_QUERY_ROWS = 256
# k-means of more lists takes longer than it saves.
_MOST_LISTS = 8_192


class ApproximateIndex:
    """IVF-PQ with exact re-ranking.

    Vectors are kept as product-quantisation codes (Jegou 2011, doi:10.1109/TPAMI.2010.57) of `code_bytes` bytes; the
    `candidates` best by code are read from the reference and ranked exactly. Defaults reach recall@1 >= 0.999 in
    tests/test_nearest.py; measure yours with `recall`.

    shard_rows: rows whose codes form one shard; every shard is searched and their candidates are ranked together.
    folder: where the shards' codes lie, mapped, instead of in memory; it must be there.
    Raises EchofmError for fewer than 256 rows.
    """

    def __init__(
        self,
        reference_ND: npt.NDArray[np.floating],
        *,
        metric: Metric = "cosine",
        lists: int | None = None,
        code_bytes: int = 64,
        probes: int = 128,
        candidates: int = 400,
        shard_rows: int = 4_000_000,
        folder: Path | None = None,
        seed: int = 0,
    ) -> None:
        rows, width = reference_ND.shape
        if rows < _LEAST_ROWS:
            raise EchofmError(f"an approximate index of {rows} rows is none; below {_LEAST_ROWS} search exactly")
        shard_rows = min(shard_rows, rows)
        lists = lists or max(1, min(int(4 * shard_rows**0.5), _MOST_LISTS, rows // 39))
        code_bytes = max(part for part in range(1, min(code_bytes, max(1, width // 4)) + 1) if width % part == 0)
        self._reference, self._metric, self._candidates = reference_ND, metric, candidates
        self._probes = min(probes, lists)
        empty = self._trained(lists, code_bytes, seed)
        self._shards = [
            (first, self._stored(self._filled(empty, first, min(first + shard_rows, rows)), first, folder))
            for first in range(0, rows, shard_rows)
        ]

    def _trained(self, lists: int, code_bytes: int, seed: int) -> faiss.Index:
        rows, width = self._reference.shape
        codes = faiss.IndexIVFPQ(faiss.IndexFlatIP(width), width, lists, code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
        codes.cp.seed = codes.pq.cp.seed = seed + 1
        # Each code stands for some neighbouring features; turned, all codes have the same part of the variance to tell.
        turned = faiss.RandomRotationMatrix(width, width)
        turned.init(seed + 1)
        index = faiss.IndexPreTransform(turned, codes)
        sample = np.random.default_rng(seed).permutation(rows)[: max(_TRAINING_ROWS_PER_LIST * lists, _TRAINING_ROWS)]
        index.train(unit_rows(self._reference[np.sort(sample)], metric=self._metric))
        return index

    def _filled(self, empty: faiss.Index, first: int, last: int) -> faiss.Index:
        index = faiss.clone_index(empty)
        for start in range(first, last, _ADDED_ROWS):
            index.add(unit_rows(self._reference[start : min(start + _ADDED_ROWS, last)], metric=self._metric))
        return index

    def _stored(self, index: faiss.Index, first: int, folder: Path | None) -> faiss.Index:
        if folder is not None:
            path = str(folder / f"rows-{first:012d}.faiss")
            faiss.write_index(index, path)
            index = faiss.read_index(path, faiss.IO_FLAG_MMAP)
        faiss.extract_index_ivf(index).nprobe = self._probes
        return index

    def nearest(self, queries_QD: npt.ArrayLike, *, k: int = 1) -> Neighbours:
        """As `echofm.nearest.nearest`, but a neighbour can be missed; fewer than k found are an error."""
        queries = np.asarray(queries_QD)
        starts = range(0, len(queries), _QUERY_ROWS)
        parts = [self._part(unit_rows(queries[i : i + _QUERY_ROWS], metric=self._metric), k) for i in starts]
        return Neighbours(
            similarity_QK=np.concatenate([part.similarity_QK for part in parts]),
            index_QK=np.concatenate([part.index_QK for part in parts]),
        )

    def recall(self, queries_QD: npt.ArrayLike, *, k: int = 1) -> float:
        """Part of the true k nearest neighbours of these queries that the index finds; searches exactly as well."""
        queries = np.asarray(queries_QD)
        truth = nearest(queries, self._reference, k=k, metric=self._metric).index_QK
        found = self.nearest(queries, k=k).index_QK
        return float((found[:, :, None] == truth[:, None, :]).any(1).mean())

    def _part(self, queries: Floats, k: int) -> Neighbours:
        index = self._candidate_rows(queries, max(self._candidates, k))
        wanted, position = np.unique(index[index >= 0], return_inverse=True)
        rows = unit_rows(self._reference[wanted], metric=self._metric)
        at = np.zeros(index.shape, np.int64)
        at[index >= 0] = position
        similarity = inner_products(queries, rows, at)
        similarity[index < 0] = -np.inf
        similarity, index = best(similarity, index, k)
        if not np.isfinite(similarity).all():
            raise EchofmError(f"the index found fewer than {k} neighbours; raise `probes` or search exactly")
        return Neighbours(similarity_QK=similarity, index_QK=index)

    def _candidate_rows(self, queries: Floats, wanted: int) -> npt.NDArray[np.int64]:
        """The candidates of all shards with the best codes, -1 where there are too few."""
        scores, rows = [], []
        for first, shard in self._shards:
            found = shard.search(queries, min(wanted, shard.ntotal))
            scores.append(np.where(found[1] >= 0, found[0], -np.inf))
            rows.append(np.where(found[1] >= 0, found[1] + first, -1))
        score, row = np.concatenate(scores, 1), np.concatenate(rows, 1)
        order = np.argsort(-score, axis=1, kind="stable")[:, :wanted]
        return np.take_along_axis(row, order, 1)


class Search:
    """Nearest neighbours among one set of vectors.

    kind: "auto" is exact up to EXACT_UP_TO vectors. An approximate index misses some neighbours of held-out and
    synthetic clips alike: p-values stay valid, but a copy may go unseen, so its recall is measured and told.
    """

    def __init__(self, vectors_ND: npt.NDArray[np.floating], *, metric: Metric, kind: IndexKind = "auto") -> None:
        self.vectors_ND, self.metric = vectors_ND, metric
        approximate = kind == "ivfpq" or (kind == "auto" and len(vectors_ND) > EXACT_UP_TO)
        self._index: ApproximateIndex | None = None
        if approximate and len(vectors_ND) >= _LEAST_TO_SEARCH:
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
