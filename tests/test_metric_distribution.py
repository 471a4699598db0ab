"""Distances of two feature sets, neighbourhood figures and the Vendi score: equal to torchmetrics and closed forms."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from echofm.intervals import half_samples
from echofm.metric.frechet import frechet_distance
from echofm.metric.kernel_distance import kernel_distance
from echofm.metric.neighbourhood import Distances
from echofm.metric.vendi import gaussian_kernel, vendi_score


def features(rows: int, *, width: int = 16, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)) + shift


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_kernel_distance_equals_torchmetrics(shift: float) -> None:
    first, second = features(80), features(80, shift=shift, seed=1)
    found = kernel_distance(first, second, draws=20)
    assert found.value == pytest.approx(float(poly_mmd(torch.tensor(first), torch.tensor(second))), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("first_rows", "second_rows", "width"), [(60, 90, 8), (20, 30, 40)])
def test_frechet_distance_equals_torchmetrics(first_rows: int, second_rows: int, width: int) -> None:
    """Also with fewer clips than features, where a covariance has no inverse."""
    first, second = features(first_rows, width=width), features(second_rows, width=width, shift=0.3, seed=1)
    gaussians = [x for each in (first, second) for x in (torch.tensor(each.mean(0)), torch.tensor(np.cov(each.T)))]
    assert frechet_distance(first, second) == pytest.approx(float(_compute_fid(*gaussians)), rel=1e-5)


def test_frechet_distance_of_gaussians_has_its_closed_form() -> None:
    first = features(50_000, width=3)
    assert frechet_distance(first, 2 * features(50_000, width=3, seed=1) + 1) == pytest.approx(3 * (1 + 1), rel=0.03)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_counts_no_pair_of_one_patient() -> None:
    """A set whose clips come in copies of three is as far as the set without them."""
    first, second = features(30), features(30, shift=0.5, seed=1)
    patients = np.repeat([f"p{index:02}" for index in range(30)], 3)
    alone = kernel_distance(first, second)
    copied = kernel_distance(np.repeat(first, 3, axis=0), second, first_patients=patients)
    assert [copied.value, copied.low, copied.high] == pytest.approx([alone.value, alone.low, alone.high])
    # Without names the copies are pairs, and the set looks nearer to itself than it is.
    assert kernel_distance(np.repeat(first, 3, axis=0), second).value > alone.value + 0.1


def clustered(patients: int, clips: int, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows = rng.normal(size=(patients, 1, 16)) * 0.7 + rng.normal(size=(patients, clips, 16)) * 0.7 + shift
    return rows.reshape(-1, 16), np.repeat(np.arange(patients).astype(str), clips)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_kernel_distance_is_unbiased_and_its_interval_covers(shift: float) -> None:
    """Of 400 simulated pairs of sets, 100 patients with 3 clips each against 100 of one: 90 to 98 % hold the truth."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        (first, patients), (second, _) = clustered(100, 3, 0.0, rng), clustered(100, 1, shift, rng)
        found.append(kernel_distance(first, second, first_patients=patients, draws=400))
    truth = _population_distance(shift)
    values = np.array([each.value for each in found])
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(len(values))
    covered = np.mean([each.low <= truth <= each.high for each in found])
    print(f"shift {shift}: truth {truth:.4f}, mean {values.mean():.4f}, covered {covered:.3f}")
    assert 0.90 <= covered <= 0.98


def _population_distance(shift: float, width: int = 16, scale: float = 0.98) -> float:
    """Of N(0, scale I) and N(shift, scale I): E (x . y / D + 1)^3 of independent rows, term by term."""

    def mean_kernel(first: float, second: float) -> float:
        dot = width * first * second
        variance = width * (scale**2 + scale * (first**2 + second**2))
        # The third central moment of x . y, x and y independent and normal.
        third = 6 * scale**2 * dot
        mean = dot / width + 1
        return mean**3 + 3 * mean * variance / width**2 + third / width**3

    return mean_kernel(0, 0) + mean_kernel(shift, shift) - 2 * mean_kernel(0, shift)


def test_half_samples_know_a_mean() -> None:
    """Of a mean the interval is that of the normal theory."""
    values = features(200, width=1)[:, 0]
    (found,) = half_samples(lambda chosen: (chosen @ values / chosen.sum(1))[:, None], [200], draws=4000)
    half_width = 1.97 * values.std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert [found.low, found.high] == pytest.approx([values.mean() - half_width, values.mean() + half_width], abs=0.02)


def test_too_few_patients_have_no_interval() -> None:
    with pytest.raises(ValueError, match="7 patients are too few"):
        kernel_distance(features(7), features(10))


def naive(real: np.ndarray, synthetic: np.ndarray, k: int) -> list[float]:
    def radius(rows: np.ndarray) -> list[float]:
        return [sorted(np.linalg.norm(rows - row, axis=1))[k] for row in rows]

    real_radius, synthetic_radius = radius(real), radius(synthetic)
    inside = np.array([[np.linalg.norm(r - s) <= reach for s in synthetic] for r, reach in zip(real, real_radius)])
    recalled = np.array(
        [[np.linalg.norm(r - s) <= reach for s, reach in zip(synthetic, synthetic_radius)] for r in real]
    )
    return [inside.any(0).mean(), recalled.any(1).mean(), inside.sum() / (k * len(synthetic)), inside.any(1).mean()]


def test_neighbourhood_figures_equal_a_plain_loop() -> None:
    real, synthetic = features(40, width=4), features(30, width=4, shift=0.6, seed=1)
    found = Distances.between(real, synthetic).of(np.arange(40), np.arange(30), neighbours=3)
    assert found.tolist() == pytest.approx(naive(real, synthetic, 3))


def test_neighbourhood_figures_tell_collapse_from_distance() -> None:
    real = features(60, width=4)
    rows = np.arange(60)
    one_patient = Distances.between(real, np.repeat(real[:1], 60, axis=0) + 1e-3 * features(60, width=4, seed=2))
    precision, recall, _, coverage = one_patient.of(rows, rows)
    assert precision == 1 and recall < 0.1 and coverage < 0.3
    far = Distances.between(real, features(60, width=4, shift=9, seed=1))
    assert far.of(rows, rows).tolist() == [0, 0, 0, 0]
    assert np.isnan(far.of(rows[:5], rows)).all()


@pytest.mark.parametrize("order", [1, 2])
def test_vendi_score_counts_what_is_different(order: Literal[1, 2]) -> None:
    groups = np.repeat(np.arange(7), 5)
    assert vendi_score((groups[:, None] == groups).astype(float), order=order) == pytest.approx(7)
    assert vendi_score(np.ones((9, 9)), order=order) == pytest.approx(1)
    kernel = gaussian_kernel(cdist(features(12), features(12)), bandwidth=4.0)
    share = np.linalg.eigvalsh(kernel / 12).clip(1e-300)
    entropy = -(share * np.log(share)).sum() if order == 1 else -np.log(np.square(share).sum())
    assert vendi_score(kernel, order=order) == pytest.approx(np.exp(entropy))
