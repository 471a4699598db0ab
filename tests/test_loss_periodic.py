"""The periodic losses against a naive loop, closed forms, and the sums that make one batch of many."""

from __future__ import annotations

import math
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import echofm
from echofm.loss import periodic


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive(prior: np.ndarray, similarity: np.ndarray, margin: float, tau: float) -> tuple[float, int, int, float]:
    """Triplet sum, active, valid, cycle sum by loops over clips, anchors and partners."""
    triplet, active, valid, cycle = 0.0, 0, 0, 0.0
    for q, s in zip(prior, similarity):
        times = len(q)
        for i in range(times):
            others = [j for j in range(times) if j != i]
            mean = sum(q[i, j] for j in others) / len(others)
            positives = [s[i, j] for j in others if q[i, j] > mean]
            negatives = [s[i, j] for j in others if q[i, j] <= mean and abs(i - j) > 1]
            if positives and negatives:
                hinge = max(0.0, max(negatives) - min(positives) + margin)
                valid, active, triplet = valid + 1, active + (hinge > 0), triplet + hinge
            weight = [math.exp(q[i, j] / tau) for j in others]
            model = [math.exp(s[i, j] / tau) for j in others]
            for a, b in zip(weight, model):
                p, r = a / sum(weight), b / sum(model)
                cycle += p * math.log(p / r)
    return triplet, active, valid, cycle


@pytest.mark.parametrize("times", [2, 3, 5, 8])
def test_against_a_naive_loop(times: int) -> None:
    prior = periodic.cosine_similarity(rand(3, times, 6).double())
    similarity = periodic.cosine_similarity(rand(3, times, 4, seed=1).double())
    mined = periodic.mine(prior, similarity)
    triplet, active = periodic.triplet_sum(similarity, mined, margin=0.2)
    cycle = periodic.cycle_sum(prior, similarity, temperature=0.1)
    expected = naive(prior.numpy(), similarity.numpy(), 0.2, 0.1)
    assert float(triplet) == pytest.approx(expected[0], abs=1e-9)
    assert (int(active), int(mined.valid_BT.sum())) == expected[1:3]
    assert int(periodic.valid_anchors(prior)) == expected[2]
    assert float(cycle) == pytest.approx(expected[3], abs=1e-9)


def test_two_alternating_states_have_a_closed_form() -> None:
    # Even times point along x, odd ones along y; the embedding knows nothing: all cosines 1.
    prior = periodic.cosine_similarity(torch.eye(2)[torch.arange(6) % 2][None])
    similarity = torch.ones(1, 6, 6)
    mined = periodic.mine(prior, similarity)
    assert mined.valid_BT.all()
    triplet, active = periodic.triplet_sum(similarity, mined, margin=0.2)
    assert float(triplet) == pytest.approx(6 * 0.2) and int(active) == 6
    # q puts e^(1/tau) on 2 partners and 1 on 3, p is uniform over 5.
    high, low = math.exp(1 / 0.5), 1.0
    total = 2 * high + 3 * low
    kl = 2 * high / total * math.log(5 * high / total) + 3 * low / total * math.log(5 * low / total)
    assert float(periodic.cycle_sum(prior, similarity, temperature=0.5)) == pytest.approx(6 * kl, rel=1e-5)


def test_an_embedding_that_agrees_costs_nothing() -> None:
    prior = periodic.cosine_similarity(torch.eye(2)[torch.arange(6) % 2][None])
    triplet, active = periodic.triplet_sum(prior, periodic.mine(prior, prior), margin=0.2)
    assert (float(triplet), int(active)) == (0.0, 0)
    assert float(periodic.cycle_sum(prior, prior, temperature=0.1)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("times", [1, 2])
def test_too_few_times_for_triplets(times: int) -> None:
    similarity = rand(2, times, times).requires_grad_()
    prior = periodic.cosine_similarity(rand(2, times, 3))
    triplet, active = periodic.triplet_sum(similarity, periodic.mine(prior, similarity), margin=0.2)
    (triplet + periodic.cycle_sum(prior, similarity, temperature=0.1)).backward()
    assert (triplet.item(), int(active)) == (0.0, 0)
    assert similarity.grad is not None and torch.isfinite(similarity.grad).all()


def test_a_still_clip_teaches_nothing_and_breaks_nothing() -> None:
    prior = periodic.pixel_prior(torch.full((1, 1, 8, 64, 64), 0.5), tubelet=2)
    assert torch.equal(prior, torch.zeros(1, 4, 4))
    assert int(periodic.valid_anchors(prior)) == 0


def test_ties_take_the_first() -> None:
    prior = torch.tensor([[1.0, 0.9, 0.9, -0.9, -0.9]]).expand(5, 5)[None]
    mined = periodic.mine(prior, torch.zeros(1, 5, 5))
    assert int(mined.positive_BT[0, 0]) == 1 and int(mined.negative_BT[0, 0]) == 3


def test_gradient_reaches_the_similarity_and_not_the_prior() -> None:
    prior = periodic.cosine_similarity(rand(2, 6, 4))
    similarity = periodic.cosine_similarity(rand(2, 6, 4, seed=1).requires_grad_())
    similarity.retain_grad()
    triplet, active = periodic.triplet_sum(similarity, periodic.mine(prior, similarity), margin=0.2)
    triplet.backward()
    assert similarity.grad is not None
    assert float(similarity.grad.sum()) == pytest.approx(0.0, abs=1e-6)
    assert float(similarity.grad.clamp(min=0).sum()) == int(active) > 0


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (2, 6, 6), elements=st.floats(-1, 1, width=32)), st.floats(0.05, 1.0))
def test_divergence_is_never_negative(raw: np.ndarray, temperature: float) -> None:
    prior, similarity = torch.from_numpy(raw), torch.from_numpy(raw.transpose(0, 2, 1).copy())
    assert float(periodic.cycle_sum(prior, similarity, temperature=temperature)) >= -1e-4
    assert float(periodic.cycle_sum(prior, prior, temperature=temperature)) == pytest.approx(0.0, abs=1e-4)


def test_missing_times_keep_their_distance() -> None:
    prior = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])[None]
    next_to_each_other = periodic.mine(prior, prior)
    far_apart = periodic.mine(prior, prior, time_BT=torch.tensor([[0, 4, 8]]))
    assert next_to_each_other.valid_BT.tolist() == [[False, False, False]]
    assert far_apart.valid_BT.tolist() == [[True, True, False]]


def breathing_disc(radii: list[float]) -> torch.Tensor:
    """(1, 1, T, 64, 64) a bright soft disc of these radii, pixels."""
    axis = torch.arange(64) - 31.5
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    return torch.stack([torch.sigmoid(radius - distance) for radius in radii])[None, None]


def test_motion_prior_parts_filling_from_ejection_at_equal_volume() -> None:
    # Two beats of eight times; 1 and 7 have one volume, 1 filling, 7 emptying; 1 and 9 are the same moment.
    radii = [20 - 6 * math.cos(2 * math.pi * time / 8) for time in range(16)]
    video = breathing_disc(radii)
    still = periodic.pixel_prior(video, tubelet=1)[0]
    moving = periodic.motion_prior(video, tubelet=1)[0]
    assert float(still[2, 6]) > 0.99 and float(still[2, 10]) > 0.99
    assert float(moving[2, 6]) < 0.2
    assert float(moving[2, 10]) > 0.99


def direction_agreement(prior: torch.Tensor, area: np.ndarray, frame_rate_hz: float) -> float:
    """Share of frames whose best match, at least half a second away, grows or shrinks as they do."""
    index = np.arange(len(area))
    far = np.abs(index[:, None] - index) >= 0.5 * frame_rate_hz
    match = np.where(far, prior[0].numpy(), -np.inf).argmax(axis=1)
    growing = np.gradient(scipy.ndimage.gaussian_filter1d(area, 0.03 * frame_rate_hz)) > 0
    return float((growing == growing[match]).mean())


def test_motion_prior_on_real_clips(real_clips: Path) -> None:
    agreement = []
    for path in sorted(real_clips.glob("*.avi")):
        with np.load(path.with_suffix(".phase.npz"), allow_pickle=False) as truth:
            area, rate = truth["lv_area"].astype(float), float(truth["fps"])
        video = torch.from_numpy(echofm.read_clip(path).frames_TCHW).float().transpose(0, 1)[None] / 255
        agreement.append(
            [
                direction_agreement(prior(video, tubelet=1), area, rate)
                for prior in (periodic.pixel_prior, periodic.motion_prior)
            ]
        )
    still, moving = np.mean(agreement, axis=0)
    assert moving > 0.82 and still < 0.8


def test_motion_prior_without_weight_is_the_pixel_prior() -> None:
    video = rand(2, 3, 8, 32, 32).sigmoid()
    torch.testing.assert_close(
        periodic.motion_prior(video, tubelet=2, motion_weight=0.0), periodic.pixel_prior(video, tubelet=2)
    )


@pytest.mark.parametrize("reach", [0, 1, 3, 40])
def test_trajectories_are_means_along_the_diagonals(reach: int) -> None:
    prior = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = periodic.along_trajectories(prior, reach=reach)
    for i in range(9):
        for j in range(9):
            inside = [k for k in range(-reach, reach + 1) if 0 <= i + k < 9 and 0 <= j + k < 9]
            wanted = torch.stack([prior[:, i + k, j + k] for k in inside]).mean(0)
            torch.testing.assert_close(found[:, i, j], wanted)


def test_trajectories_part_times_at_rest() -> None:
    # A ventricle that beats in four of ten indices and rests in six: by its picture alone a resting moment matches any.
    area = torch.tensor([1.0, 0.3, 0.3, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0] * 3, dtype=torch.float64)
    prior = -(area[:, None] - area).square()[None]
    prior += 1e-3 * torch.randn(prior.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    apart = (torch.arange(30)[:, None] - torch.arange(30)).abs() >= 5

    def right(prior_BTT: torch.Tensor) -> float:
        match = prior_BTT[0].masked_fill(~apart, -torch.inf).argmax(1)
        return float(((match - torch.arange(30)) % 10 == 0).double().mean())

    assert right(prior) < 0.7
    assert right(periodic.along_trajectories(prior, reach=5)) > 0.9
