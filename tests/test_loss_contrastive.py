"""The contrast of clips: its loss against plain loops, and the views it is of."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from echofm.loss.contrastive import Embedded, clip_contrast_sum, info_nce
from echofm.model.masks import draw_views
from echofm.model.tokens import Grid

GRID = Grid(4, 8, 8)
DRAWS = torch.tensor([3, -7, 2**61])


def embedded(clips: list[int], numbers: list[int], *, seed: int = 0) -> Embedded:
    rows = torch.randn(len(clips), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Embedded(vector_RD=F.normalize(rows, dim=1), clip_R=torch.tensor(clips), number_R=torch.tensor(numbers))


def test_the_loss_is_the_papers_written_as_loops() -> None:
    views, temperature = embedded([9, 9, 9, -4, -4, 2], [0, 1, 2, 0, 1, 0]), 0.3
    rows, clips = views.vector_RD.tolist(), views.clip_R.tolist()
    loss, found = 0.0, 0
    for i, own in enumerate(rows):
        s = {k: sum(a * b for a, b in zip(own, other)) / temperature for k, other in enumerate(rows) if k != i}
        total = sum(math.exp(each) for each in s.values())
        positives = [k for k in s if clips[k] == clips[i]]
        loss += sum(-math.log(math.exp(s[k]) / total) for k in positives) / max(1, len(positives))
        found += max(s, key=lambda k: s[k]) in positives
    mine, mine_found = clip_contrast_sum(views, views, temperature=temperature)
    assert mine.item() == pytest.approx(loss, rel=1e-12) and mine_found.item() == found


def test_info_nce_in_closed_form() -> None:
    """Two clusters of n equal rows, opposite: each row has n - 1 keys at cosine 1, all positives, and n at -1."""
    for n, temperature in ((2, 0.5), (5, 0.1), (3, 2.0)):
        rows = torch.tensor([[1.0, 0.0]] * n + [[-1.0, 0.0]] * n, dtype=torch.float64)
        label = torch.arange(2 * n) // n
        found = info_nce(
            rows, rows, same_QK=label[:, None] == label, itself_QK=torch.eye(2 * n).bool(), temperature=temperature
        )
        near, far = math.exp(1 / temperature), math.exp(-1 / temperature)
        expected = -math.log(near / ((n - 1) * near + n * far))
        assert found.loss_Q.tolist() == pytest.approx([expected] * (2 * n), rel=1e-12)
        assert found.found_Q.all() and (found.positives_Q == n - 1).all()


def test_views_are_asked_one_by_one_as_all_at_once_and_only_the_asked_learn() -> None:
    views = embedded([1, 1, 2, 2], [0, 1, 0, 1])
    vectors = views.vector_RD.requires_grad_()
    whole, _ = clip_contrast_sum(views, views, temperature=0.1)
    (gradient,) = torch.autograd.grad(whole, vectors)
    parts = [
        Embedded(vector_RD=vectors[i : i + 1], clip_R=views.clip_R[i : i + 1], number_R=views.number_R[i : i + 1])
        for i in range(4)
    ]
    losses = [clip_contrast_sum(part, views, temperature=0.1)[0] for part in parts]
    torch.testing.assert_close(sum(losses), whole)
    torch.testing.assert_close(sum(torch.autograd.grad(loss, vectors)[0] for loss in losses), gradient)


def test_a_clip_apart_from_others_costs_nothing_and_is_found() -> None:
    one, other = torch.eye(2, dtype=torch.float64)
    apart = Embedded(
        vector_RD=torch.stack([one, one, other, other]),
        clip_R=torch.tensor([5, 5, 6, 6]),
        number_R=torch.tensor([0, 1, 0, 1]),
    )
    loss, found = clip_contrast_sum(apart, apart, temperature=0.01)
    assert loss.item() < 1e-6 and found.item() == 4


def video() -> torch.Tensor:
    return torch.rand(3, 1, 8, 64, 64, generator=torch.Generator().manual_seed(0))


def test_views_depend_on_the_clips_seed_alone() -> None:
    clips = video()
    whole = draw_views(clips, DRAWS, GRID, views=5, tubelet=2)
    assert whole.shown_RCTHW.shape == (15, 1, 2, 64, 64) and whole.ids_RK.shape == (15, 40)
    last = draw_views(clips[2:], DRAWS[2:], GRID, views=5, tubelet=2)
    for name, rows in vars(last).items():
        assert torch.equal(rows, vars(whole)[name][10:]), name
    assert whole.clip_R.tolist() == [3] * 5 + [-7] * 5 + [2**61] * 5 and whole.number_R.tolist() == [0, 1, 2, 3, 4] * 3
    assert not torch.equal(draw_views(clips, DRAWS + 1, GRID, views=5, tubelet=2).ids_RK, whole.ids_RK)


def test_a_view_is_one_moment_of_its_clip() -> None:
    # Each frame is of its own grey, so that the moment shown tells its time.
    clips = (torch.arange(1, 9) / 16).view(1, 1, 8, 1, 1).expand(3, -1, -1, 64, 64)
    views = draw_views(clips, DRAWS, GRID, views=16, tubelet=2)
    times = views.ids_RK // GRID.space
    assert (times == times[:, :1]).all() and (views.ids_RK.diff(dim=1) > 0).all()
    assert set(times[:, 0].tolist()) == {0, 1, 2, 3}
    centre = views.shown_RCTHW[:, 0, :, 24:40, 24:40].mean((2, 3))
    assert (centre[:, 1] > centre[:, 0]).all(), "the later frame of a tubelet is the brighter one"


def test_views_stay_in_range_and_black_stays_black() -> None:
    clips = video()
    clips[..., :32] = 0
    shown = draw_views(clips, DRAWS, GRID, views=32, tubelet=2).shown_RCTHW
    assert shown.min() == 0 and shown.max() <= 1 and shown.isfinite().all()
    black_draws = draw_views(torch.zeros_like(clips), DRAWS, GRID, views=4, tubelet=2)
    assert not black_draws.shown_RCTHW.any()
    # Mirrored or not: the bright half comes to lie on either side.
    left_is_brighter = shown[..., :32].mean((1, 2, 3, 4)) > shown[..., 32:].mean((1, 2, 3, 4))
    assert 0.25 < left_is_brighter.double().mean() < 0.75
