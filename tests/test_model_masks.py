"""Masks: kinds, counts, independence of batch order and device."""

from __future__ import annotations

import pytest
import torch

from echofm.model.masks import draw_part, draw_visible, hidden_ids
from echofm.model.tokens import Grid

GRID = Grid(8, 4, 5)
DRAWS = torch.tensor([0, 1, -5, 2**62, 12345])


@pytest.mark.parametrize(("kind", "count"), [("tube", 8 * 5), ("block", 8 * 5), ("random", 8 * 5), ("frame", 2 * 20)])
def test_counts_and_order(kind: str, count: int) -> None:
    visible = draw_visible(DRAWS, GRID, kind=kind, ratio=0.75)
    assert visible.shape == (5, count)
    assert (visible.diff(dim=1) > 0).all() and visible.min() >= 0 and visible.max() < GRID.tokens
    assert not torch.equal(visible[0], visible[1])


@pytest.mark.parametrize("kind", ["tube", "block"])
def test_tubes_and_blocks_have_one_spatial_mask(kind: str) -> None:
    visible = draw_visible(DRAWS, GRID, kind=kind, ratio=0.75)
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


@pytest.mark.parametrize("kind", ["tube", "block", "random", "frame"])
def test_a_clip_s_mask_depends_on_its_seed_alone(kind: str) -> None:
    together = draw_visible(DRAWS, GRID, kind=kind, ratio=0.6)
    alone = torch.cat([draw_visible(draw[None], GRID, kind=kind, ratio=0.6) for draw in DRAWS.flip(0)]).flip(0)
    assert torch.equal(together, alone)


def test_blocks_hide_neighbours_together() -> None:
    grid, draws = Grid(1, 12, 12), torch.arange(500)
    together = {}
    for kind in ("tube", "block"):
        visible = draw_visible(draws, grid, kind=kind, ratio=0.75)
        hidden = torch.ones(500, 144).scatter(1, visible, 0).view(500, 12, 12)
        together[kind] = float((hidden[:, :, 1:] == hidden[:, :, :-1]).float().mean())
        assert (hidden.mean(0) - 0.75).abs().max() < 0.08
    assert together["tube"] == pytest.approx(0.625, abs=0.01) and together["block"] > 0.8


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
    for kind in ("tube", "block", "random", "frame"):
        on_gpu = draw_visible(DRAWS.cuda(), GRID, kind=kind, ratio=0.75)
        assert torch.equal(on_gpu.cpu(), draw_visible(DRAWS, GRID, kind=kind, ratio=0.75))
