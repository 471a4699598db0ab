"""Neighbours equal brute force in every rank, whatever the blocks; the approximate index states its recall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from echofm import nearest as module
from echofm.errors import EchofmError
from echofm.nearest import nearest, unit_rows
from synth.audit.statistics import search as search_module
from synth.audit.statistics.search import ApproximateIndex, Search


def clustered(rows: int, width: int, seed: int, clusters: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, width))
    return (centres[rng.integers(clusters, size=rows)] + 0.5 * rng.standard_normal((rows, width))).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "pearson"])
def test_faiss_torch_and_sklearn_agree_on_every_neighbour(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", 700)
    monkeypatch.setattr(module, "_QUERY_ROWS", 64)
    reference, queries = clustered(3000, 48, 0), clustered(200, 48, 1)
    found = nearest(queries, reference, k=10, metric=metric)

    double = [torch.from_numpy(unit_rows(rows, metric=metric)).double() for rows in (queries, reference)]
    by_torch = (double[0] @ double[1].T).topk(10)
    assert np.array_equal(found.index_QK, by_torch.indices.numpy())
    np.testing.assert_allclose(found.similarity_QK, by_torch.values.numpy(), rtol=0, atol=1e-12)

    kind = "cosine" if metric == "cosine" else "correlation"
    brute = NearestNeighbors(n_neighbors=10, algorithm="brute", metric=kind).fit(reference.astype(np.float64))
    assert np.array_equal(found.index_QK, brute.kneighbors(queries.astype(np.float64))[1])


def test_ties_go_to_the_lower_row() -> None:
    row = np.ones((1, 8), np.float32)
    reference = np.concatenate([-row, np.repeat(row, 5, 0)])
    assert nearest(row, reference, k=3).index_QK.tolist() == [[1, 2, 3]]


def test_own_patient_is_left_out_however_many_clips_it_has() -> None:
    reference = clustered(300, 16, 3)
    patients = np.repeat([f"p{i}" for i in range(10)], 30)
    found = nearest(reference, reference, k=5, exclude_QN=(patients, patients))
    similarity = unit_rows(reference).astype(np.float64) @ unit_rows(reference).astype(np.float64).T
    similarity[patients[:, None] == patients[None, :]] = -np.inf
    assert np.array_equal(found.index_QK, np.argsort(-similarity, axis=1, kind="stable")[:, :5])


def test_a_large_patient_that_nobody_asks_about_takes_no_neighbours_away() -> None:
    reference = clustered(100, 8, 4)
    patients = np.array(["large"] * 90 + [f"p{i}" for i in range(10)])
    asked = nearest(reference[95:96], reference, k=99, exclude_QN=(["p5"], patients))
    assert sorted(asked.index_QK[0]) == [*range(95), *range(96, 100)]
    with pytest.raises(EchofmError, match="the reference offers 10"):
        nearest(reference[:1], reference, k=11, exclude_QN=(["large"], patients))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(2, 9), st.integers(0, 1000))
def test_equal_to_brute_force_at_any_size(queries: int, rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, asked = rng.standard_normal((rows, width)), rng.standard_normal((queries, width))
    k = int(rng.integers(1, rows + 1))
    truth = unit_rows(asked).astype(np.float64) @ unit_rows(reference).astype(np.float64).T
    assert np.array_equal(nearest(asked, reference, k=k).index_QK, np.argsort(-truth, axis=1, kind="stable")[:, :k])


@pytest.mark.slow
def test_approximate_index_with_reranking_reaches_its_recall() -> None:
    reference, queries = clustered(20_000, 64, 5), clustered(2_000, 64, 6)
    index = ApproximateIndex(reference)
    assert index.recall(queries) >= 0.999
    exact = nearest(queries, reference)
    same = index.nearest(queries).index_QK == exact.index_QK
    np.testing.assert_array_equal(index.nearest(queries).similarity_QK[same], exact.similarity_QK[same])


def test_too_few_rows_for_codes_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(256, 8))
    with pytest.raises(EchofmError, match=r"255 rows.*search exactly"):
        ApproximateIndex(rows[:255])
    found = ApproximateIndex(rows, lists=1).nearest(rows[:3]).index_QK
    assert found[:, 0].tolist() == [0, 1, 2]


def test_features_of_unlike_spread_are_found_as_well() -> None:
    spread = np.arange(1, 97) ** -1.0
    rng = np.random.default_rng(0)
    reference, queries = ((rng.standard_normal((rows, 96)) * spread).astype(np.float32) for rows in (10_000, 300))
    assert ApproximateIndex(reference, code_bytes=8, candidates=50).recall(queries) > 0.9


def test_shards_on_disk_find_what_one_index_in_memory_finds(tmp_path: Path) -> None:
    reference, queries = clustered(12_000, 32, 7), clustered(300, 32, 8)
    path = tmp_path / "reference.npy"
    np.save(path, reference)
    mapped = np.load(path, mmap_mode="r")
    index = ApproximateIndex(mapped, shard_rows=5_000, folder=tmp_path)
    assert len(list(tmp_path.glob("*.faiss"))) == 3
    assert index.recall(queries) >= 0.999
    assert (index.nearest(queries).index_QK == nearest(queries, reference).index_QK).mean() >= 0.999


def test_the_audit_searches_exactly_up_to_its_limit_and_says_its_recall_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, queries = clustered(8_000, 32, 9), clustered(100, 32, 10)
    assert Search(reference, metric="cosine").is_exact
    monkeypatch.setattr(search_module, "EXACT_UP_TO", 5_000)
    beyond = Search(reference, metric="cosine")
    assert not beyond.is_exact and 0.99 <= beyond.recall_on(queries) <= 1
    assert Search(reference, metric="cosine", kind="exact").is_exact
    groups = np.arange(100).astype(str), np.arange(8_000).astype(str)
    exact = nearest(queries, reference, exclude_QN=groups)
    assert np.array_equal(beyond.nearest(queries, exclude_QN=groups).index_QK, exact.index_QK)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.full((2, 4), np.nan), "not finite"),
        (np.zeros((2, 4)), "no direction"),
        (np.ones((2, 5)), "cannot be compared"),
    ],
)
def test_unusable_embeddings_are_refused(rows: np.ndarray, says: str) -> None:
    with pytest.raises(EchofmError, match=says):
        nearest(rows, np.eye(4, dtype=np.float32))


def test_constant_rows_have_no_pearson_direction() -> None:
    with pytest.raises(EchofmError, match="no direction"):
        nearest(np.ones((1, 4)), np.eye(4), metric="pearson")


@pytest.mark.parametrize(("value", "width"), [(0.1, 768), (1 / 3, 7), (123.456, 1000)])
def test_a_constant_that_its_mean_does_not_meet_has_no_direction_either(value: float, width: int) -> None:
    with pytest.raises(EchofmError, match="no direction under pearson"):
        unit_rows(np.full((1, width), value), metric="pearson")


def test_a_small_variation_about_a_large_mean_has_a_direction() -> None:
    rows = 100 + 0.01 * np.random.default_rng(0).standard_normal((4, 768))
    assert np.isfinite(unit_rows(rows, metric="pearson")).all()


def test_more_neighbours_than_rows_are_refused() -> None:
    with pytest.raises(EchofmError, match="offers 4"):
        nearest(np.eye(4), np.eye(4), k=5)
