"""The bootstrap over patients covers, and is wider than one over clips."""

from __future__ import annotations

import numpy as np
import pytest

from echofm.intervals import patient_bootstrap


def test_patient_bootstrap_is_wider_than_one_over_clips() -> None:
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(30), 10).astype(str)
    values = np.repeat(rng.standard_normal(30), 10)
    by_patient = patient_bootstrap(lambda x: float(x.mean()), {"x": (values, patients)})
    by_clip = patient_bootstrap(lambda x: float(x.mean()), {"x": (values, np.arange(300).astype(str))})
    assert by_patient.high - by_patient.low > 2 * (by_clip.high - by_clip.low)
    assert by_patient.value == pytest.approx(values.mean())


@pytest.mark.slow
def test_coverage_is_that_asked_for() -> None:
    inside = []
    for repetition in range(400):
        rng = np.random.default_rng(repetition)
        patients = np.repeat(np.arange(80), 3).astype(str)
        values = np.repeat(rng.standard_normal(80), 3) + 0.3 * rng.standard_normal(240)
        found = patient_bootstrap(lambda x: float(x.mean()), {"x": (values, patients)}, draws=500, seed=repetition)
        inside.append(found.low <= 0 <= found.high)
    assert 0.92 <= np.mean(inside) <= 0.98
