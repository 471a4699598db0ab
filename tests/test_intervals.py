"""The bootstrap over patients covers, and is wider than one over clips."""

from __future__ import annotations

import numpy as np
import pytest

from echofm.intervals import Estimate, estimate, patient_bootstrap, patient_weights


def test_patient_bootstrap_is_wider_than_one_over_clips() -> None:
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(30), 10).astype(str)
    values = np.repeat(rng.standard_normal(30), 10)
    by_patient = patient_bootstrap(lambda x: float(x.mean()), {"x": (values, patients)})
    by_clip = patient_bootstrap(lambda x: float(x.mean()), {"x": (values, np.arange(300).astype(str))})
    assert by_patient.high - by_patient.low > 2 * (by_clip.high - by_clip.low)
    assert by_patient.value == pytest.approx(values.mean())


@pytest.mark.slow
@pytest.mark.parametrize("patients", [10, 80])
def test_coverage_is_that_asked_for(patients: int) -> None:
    names = np.repeat(np.arange(patients), 3).astype(str)
    inside = []
    for repetition in range(400):
        rng = np.random.default_rng(repetition)
        values = np.repeat(rng.standard_normal(patients), 3) + 0.3 * rng.standard_normal(3 * patients)
        found = patient_bootstrap(lambda x: float(x.mean()), {"x": (values, names)}, draws=500, seed=repetition)
        inside.append(found.low <= 0 <= found.high)
    assert 0.92 <= np.mean(inside) <= 0.98


def test_weights_are_draws_of_patients_with_all_their_clips() -> None:
    patients = np.array(["b", "a", "b", "c", "a", "b"])
    weights = np.concatenate(list(patient_weights(patients, draws=200, seed=3)))
    assert weights.shape == (200, 6)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 1] == weights[:, 4]).all()
    # Three patients are drawn each time, each counted once by one of its clips.
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert abs(weights[:, 3].mean() - 1) < 0.15


def test_weights_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = np.repeat(np.arange(20), 2).astype(str)
    at_once = np.concatenate(list(patient_weights(patients, draws=50, seed=1)))
    monkeypatch.setattr("echofm.intervals._WEIGHTS_AT_ONCE", 40 * 7)
    np.testing.assert_array_equal(np.concatenate(list(patient_weights(patients, draws=50, seed=1))), at_once)


def test_estimate_leaves_out_draws_without_a_value() -> None:
    found = estimate(0.5, np.array([np.nan, 0.0, 1.0, np.nan]), level=0.5)
    assert (found.value, found.low, found.high) == (0.5, 0.25, 0.75)
    unknown = estimate(float("nan"), np.full(3, np.nan))
    assert np.isnan([unknown.value, unknown.low, unknown.high]).all()
    assert Estimate.model_validate_json(unknown.to_json()).to_json() == unknown.to_json()


def test_intervals_of_few_patients_are_wider() -> None:
    redrawn = np.random.default_rng(0).standard_normal(100_000)
    widths = {}
    for patients in (10, 1000, None):
        found = estimate(0.0, redrawn, patients=patients)
        widths[patients] = found.high - found.low
    # Ten patients: Student's 2.262 for the normal's 1.960, and sqrt(10 / 9).
    assert widths[10] / widths[None] == pytest.approx(2.262 / 1.960 * np.sqrt(10 / 9), rel=0.02)
    assert widths[1000] / widths[None] == pytest.approx(1, rel=0.01)


def test_one_patient_has_no_interval() -> None:
    values, patients = np.arange(5.0), np.array(["p"] * 5)
    found = patient_bootstrap(lambda clips: float(clips.mean()), {"clips": (values, patients)}, draws=20)
    assert found.value == 2.0
    assert np.isnan([found.low, found.high]).all()
