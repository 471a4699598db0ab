"""Rank and standard deviation of embeddings against closed forms."""

from __future__ import annotations

import pytest
import torch

from echofm.metric.collapse import embedding_std, rankme


def test_rank_counts_the_directions() -> None:
    corners = torch.cat([torch.eye(6), -torch.eye(6)])
    assert rankme(corners) == pytest.approx(6.0)
    line = torch.randn(20, 1, generator=torch.Generator().manual_seed(0)) @ torch.ones(1, 5)
    assert rankme(line + 100) == pytest.approx(1.0, abs=1e-6)
    assert rankme(torch.ones(4, 3)) == 1.0


def test_std_is_zero_for_one_direction_and_one_for_opposites() -> None:
    assert embedding_std(torch.tensor([[1.0, 0.0], [5.0, 0.0]])) == pytest.approx(0.0)
    assert embedding_std(torch.tensor([[1.0, 0.0], [-5.0, 0.0]])) == pytest.approx(1.0)
