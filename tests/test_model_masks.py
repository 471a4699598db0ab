"""Masks: kinds, counts, independence of batch order and device, and the hash they are drawn with."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echofm.model.masks import draw_part, draw_scores, draw_visible, hidden_ids
from echofm.model.tokens import Grid

GRID = Grid(8, 4, 5)
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
    assert draw_scores(torch.tensor([seed]), 5, stream=0)[0].tolist() == splitmix(seed, 5)


def test_scores_are_uniform_and_streams_differ() -> None:
    scores = draw_scores(torch.arange(100), 1000, stream=0).double() / 2**63
    assert abs(float(scores.mean()) - 0.5) < 0.005
    assert abs(float(scores.var()) - 1 / 12) < 0.002
    assert not torch.equal(draw_scores(DRAWS, 4, stream=0), draw_scores(DRAWS, 4, stream=1))


@pytest.mark.parametrize(("kind", "count"), [("tube", 8 * 5), ("random", 8 * 5), ("frame", 2 * 20)])
def test_counts_and_order(kind: str, count: int) -> None:
    visible = draw_visible(DRAWS, GRID, kind=kind, ratio=0.75)
    assert visible.shape == (5, count)
    assert (visible.diff(dim=1) > 0).all() and visible.min() >= 0 and visible.max() < GRID.tokens
    assert not torch.equal(visible[0], visible[1])


def test_tube_has_one_spatial_mask() -> None:
    visible = draw_visible(DRAWS, GRID, kind="tube", ratio=0.75)
    places = visible.view(5, 8, 5) - torch.arange(8)[:, None] * 20
    assert (places == places[:, :1]).all()


def test_random_has_a_mask_for_every_time_of_equal_size() -> None:
    visible = draw_visible(DRAWS, GRID, kind="random", ratio=0.75).view(5, 8, 5)
    assert (visible // 20 == torch.arange(8)[:, None]).all()
    places = visible % 20
    assert not (places == places[:, :1]).all()


def test_frame_shows_whole_times_evenly_spaced() -> None:
    visible = draw_visible(torch.arange(200), GRID, kind="frame", ratio=0.75).view(200, 2, 20)
    times = visible[:, :, 0] // 20
    assert torch.equal(visible, times[:, :, None] * 20 + torch.arange(20))
    assert (times.diff(dim=1) == 4).all()
    assert times[:, 0].unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["tube", "random", "frame"])
def test_a_clip_s_mask_depends_on_its_seed_alone(kind: str) -> None:
    together = draw_visible(DRAWS, GRID, kind=kind, ratio=0.6)
    alone = torch.cat([draw_visible(draw[None], GRID, kind=kind, ratio=0.6) for draw in DRAWS.flip(0)]).flip(0)
    assert torch.equal(together, alone)


def test_every_place_is_shown_as_often() -> None:
    visible = draw_visible(torch.arange(4000), Grid(1, 4, 5), kind="tube", ratio=0.75)
    share = visible.flatten().bincount(minlength=20) / 4000
    assert (share - 0.25).abs().max() < 0.03


def test_hidden_is_the_rest() -> None:
    visible = draw_visible(DRAWS, GRID, kind="random", ratio=0.7)
    hidden = hidden_ids(visible, GRID.tokens)
    assert (hidden.diff(dim=1) > 0).all()
    assert torch.equal(torch.cat([visible, hidden], 1).sort(1).values, torch.arange(GRID.tokens).expand(5, -1))


def test_part_of_the_hidden() -> None:
    hidden = hidden_ids(draw_visible(DRAWS, GRID, kind="tube", ratio=0.75), GRID.tokens)
    part = draw_part(DRAWS, hidden, ratio=0.5)
    assert part.shape == (5, 60) and (part.diff(dim=1) > 0).all()
    assert all(set(some.tolist()) < set(every.tolist()) for some, every in zip(part, hidden))
    assert draw_part(DRAWS, hidden, ratio=1e-9).shape == (5, 1)


@pytest.mark.gpu
def test_masks_are_the_same_on_a_gpu() -> None:
    for kind in ("tube", "random", "frame"):
        on_gpu = draw_visible(DRAWS.cuda(), GRID, kind=kind, ratio=0.75)
        assert torch.equal(on_gpu.cpu(), draw_visible(DRAWS, GRID, kind=kind, ratio=0.75))
