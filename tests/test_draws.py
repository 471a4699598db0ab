"""Draws of a clip: the published hash, the distributions, and that no number depends on the other clips."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from echofm.draws import Stream, bernoulli, hashed, integers, normal, uniform

DRAWS = torch.tensor([0, 1, -5, 2**62, 12345])


def splitmix(seed: int, count: int) -> list[int]:
    """The published generator in whole numbers, as the reference: mix(seed) is its state, one output per step."""
    mask = 2**64 - 1

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    state = mix(seed & mask)
    return [mix((state + i * 0x9E3779B97F4A7C15) & mask) & (2**63 - 1) for i in range(1, count + 1)]


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_scores_are_splitmix(seed: int) -> None:
    assert hashed(torch.tensor([seed]), 5, stream=Stream.MASK)[0].tolist() == splitmix(seed, 5)


def test_scores_are_uniform_and_streams_differ() -> None:
    scores = uniform(torch.arange(100), 1000, stream=Stream.MASK)
    assert scores.min() >= 0 and scores.max() < 1
    assert abs(float(scores.mean()) - 0.5) < 0.005
    assert abs(float(scores.var()) - 1 / 12) < 0.002
    assert not torch.equal(hashed(DRAWS, 4, stream=Stream.MASK), hashed(DRAWS, 4, stream=Stream.DECODED))


def test_normal_is_normal() -> None:
    drawn = normal(torch.arange(50), 4, 500, stream=Stream.NOISE)
    assert drawn.shape == (50, 4, 500) and drawn.dtype == torch.float32 and drawn.isfinite().all()
    assert kstest(drawn.flatten().double(), "norm").pvalue > 0.01


def test_choices_have_their_shares() -> None:
    dropped = bernoulli(torch.arange(20_000), probability=0.1, stream=Stream.CONDITION)
    assert dropped.shape == (20_000,) and abs(float(dropped.double().mean()) - 0.1) < 0.01
    assert bernoulli(DRAWS, probability=1.0, stream=Stream.CONDITION).all()
    assert not bernoulli(DRAWS, probability=0.0, stream=Stream.CONDITION).any()
    rolled = integers(torch.arange(6000), high=6, stream=Stream.PAIR)
    assert rolled.bincount().tolist() == pytest.approx([1000] * 6, rel=0.15)


@pytest.mark.parametrize("draw", [uniform, normal], ids=lambda draw: draw.__name__)
def test_a_clip_draws_the_same_alone(draw: object) -> None:
    together = draw(DRAWS, 2, 3, stream=Stream.NOISE)  # type: ignore[operator]
    for index in range(len(DRAWS)):
        assert torch.equal(draw(DRAWS[index : index + 1], 2, 3, stream=Stream.NOISE)[0], together[index])  # type: ignore[operator]


def test_every_stream_has_its_own_number() -> None:
    assert len({int(stream) for stream in Stream}) == len(Stream.__members__)
