"""Retrieval: lists as scikit-learn rates them, chance as it is drawn, patients and views found where they are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from test_probe_phase import table as phase_table

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.metric.circular import circular_distance
from probe.inputs import ProbeInputs
from probe.retrieval import probe as retrieval_probe
from probe.retrieval.gallery import rank
from probe.retrieval.probe import probe_retrieval
from probe.targets import ProbeRequest, probe_target


def table(patients: int = 40, *, identity: float = 3.0, view: float = 0.0, seed: int = 0) -> EmbeddingTable:
    """Three clips a patient; features carry identity and view, under a large shared offset that hides both."""
    rng = np.random.default_rng(seed)
    views = rng.integers(0, 3, 3 * patients)
    own = np.repeat(rng.standard_normal((patients, 16)), 3, 0)
    noise = rng.standard_normal((3 * patients, 16))
    features = 40 + identity * own + view * np.eye(3, 16)[views] * 6 + noise
    # One loud feature that says nothing: standardising must be found to help.
    features[:, -1] += 200 * rng.standard_normal(3 * patients)
    return EmbeddingTable.from_arrays(
        features,
        clip_id=[f"c{n}" for n in range(3 * patients)],
        patient_id=[f"p{n // 3}" for n in range(3 * patients)],
        encoder_digest="b" * 64,
        split=["train" if n % 4 < 2 else "val" if n % 4 == 2 else "test" for n in range(patients) for _ in range(3)],
        view=[("A4C", "A2C", "PLAX")[n] for n in views],
    )


def test_lists_are_those_of_a_loop_and_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((40, 5)).astype(np.float32)
    group = rng.integers(0, 8, 40)
    queries = np.flatnonzero(np.bincount(group)[group] > 1)[:15]
    hidden = (queries[:, None] == np.arange(40)) | (rng.uniform(size=(15, 40)) < 0.1)
    relevant = group[queries][:, None] == group
    able = (relevant & ~hidden).any(1)
    found = rank(features, queries[able], relevant[able], hidden[able])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for n, query in enumerate(queries[able]):
        listed = np.flatnonzero(~hidden[able][n])
        order = listed[np.argsort(-(unit[listed] @ unit[query]), kind="stable")]
        good = relevant[able][n][order]
        expected = average_precision_score(good, -np.arange(len(order)))
        assert found.precision_Q[n] == pytest.approx(expected)
        assert found.first_Q[n] == 1 + good.argmax() and found.best_Q[n] == order[0]
        assert (found.relevant_Q[n], found.offered_Q[n]) == (good.sum(), len(order))
        for k in (1, 5):
            assert found.recall_Q(k)[n] == good[:k].any()


def test_chance_is_what_random_orders_give() -> None:
    rng = np.random.default_rng(2)
    features = rng.standard_normal((12, 3)).astype(np.float32)
    relevant = np.zeros((1, 12), bool)
    relevant[0, [3, 5, 8]] = True
    hidden = np.zeros((1, 12), bool)
    hidden[0, 0] = True
    found = rank(features, np.array([0]), relevant, hidden)
    drawn = np.array([rng.permutation(11) < 3 for _ in range(20_000)])
    precision = (drawn * drawn.cumsum(1) / np.arange(1, 12)).sum(1) / 3
    assert found.chance_precision_Q()[0] == pytest.approx(precision.mean(), abs=0.005)
    for k in (1, 5):
        assert found.chance_recall_Q(k)[0] == pytest.approx(drawn[:, :k].any(1).mean(), abs=0.012)
    assert found.chance_recall_Q(11)[0] == pytest.approx(1)


def test_patients_are_found_once_features_are_rescaled() -> None:
    blind = table(identity=0.0)
    probed = probe_retrieval(table(), baselines={"blind": blind}, draws=200)
    result = probed.result
    assert result.score("recall@1").low > 0.8 and result.chosen["probe"]["features"] in ("standardised", "whitened")
    chance = result.score("map", method="chance")
    assert result.score("map", method="blind").low < chance.value + 0.1 < result.score("map").low
    assert all(each.difference.low > 0.1 for each in result.comparisons if each.metric == "map")
    assert result.target == "patient-retrieval" and result.task == "retrieval"
    rows = probed.predictions
    assert len(rows) == 30 and (rows["relevant"] == 2).all() and (rows["offered"] == 29).all()
    hit = rows["best_patient_id"] == rows["patient_id"]
    assert result.score("recall@1").value == pytest.approx(hit.mean())
    assert (rows["best_clip_id"] != rows["clip_id"]).all()
    assert any("clip of their patient in their own view" in note for note in result.notes)


def test_views_are_sought_among_other_patients() -> None:
    probed = probe_retrieval(table(view=3.0), what="view", draws=50)
    assert probed.result.score("recall@5").value > 0.95
    assert (probed.predictions["best_patient_id"] != probed.predictions["patient_id"]).all()
    # The patients' own clips are hidden: seeing identity alone is no help.
    alone = probe_retrieval(table(identity=30.0), what="view", draws=50).result
    assert abs(alone.score("recall@1").value - alone.score("recall@1", method="chance").value) < 0.3


def test_phases_are_sought_among_other_patients() -> None:
    some = phase_table(24)
    probed = probe_retrieval(some, what="phase", baselines={"blind": phase_table(24, blind=True)}, draws=50)
    result = probed.result
    assert result.score("recall@1").low > 0.9 and result.score("map").low > 0.6
    chance = result.score("map", method="chance").value
    assert chance < 0.2 and abs(result.score("map", method="blind").value - chance) < 0.03
    assert len(result.comparisons) == 4 and result.comparisons[0].difference.low > 0.4
    rows = probed.predictions
    assert (rows["best_patient_id"] != rows["patient_id"]).all() and rows["time_s"].notna().all()
    assert circular_distance(0.98, 0.01) == pytest.approx(0.03)


def test_what_cannot_be_asked_is_reported() -> None:
    lone = table().select(np.arange(0, 120, 3))
    with pytest.raises(EchofmError, match="no test patient has two clips"):
        probe_retrieval(lone)
    with pytest.raises(EchofmError, match="no phase tokens"):
        probe_retrieval(table(), what="phase")
    with pytest.raises(EchofmError, match="clips are not in the table of 'other'"):
        probe_retrieval(table(), baselines={"other": table().select(np.arange(90))})


def test_equal_rows_are_listed_in_their_order_wherever_they_lie() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 33)).astype(np.float32)[rng.integers(0, 40, 700)]
    queries = np.arange(700)
    itself = queries[:, None] == queries
    order = rank(features, queries, ~itself, itself)
    same = (features[:, None, :1] == features[None, :, :1])[..., 0] & ~itself
    doubled = np.flatnonzero(same.any(1))
    np.testing.assert_array_equal(order.best_Q[doubled], same[doubled].argmax(1))


def test_rescaling_copies_no_more_training_clips_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    plain = retrieval_probe._rescaled

    def rescaled(train_ND: np.ndarray, features_ND: np.ndarray, how: str) -> np.ndarray:
        seen.append(len(train_ND))
        return plain(train_ND, features_ND, how)

    monkeypatch.setattr(retrieval_probe, "_rescaled", rescaled)
    monkeypatch.setattr(retrieval_probe, "MOST_ROWS", 50)
    probe_retrieval(table(), draws=20)
    assert set(seen) == {50}


def test_options_that_do_nothing_is_reported() -> None:
    inputs = ProbeInputs(table=table())
    request = ProbeRequest(target="retrieval:patient", label_fractions=(0.1, 1.0), kind="knn", draws=20)
    says = "--label-fractions, --kind: for labels of clips alone, and not used here"
    assert says in probe_target(request, inputs).result.notes
    usual = probe_target(ProbeRequest(target="retrieval:patient", draws=20), inputs).result.notes
    assert not any("not used here" in note for note in usual)
