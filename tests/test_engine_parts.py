"""Schedule, optimizer groups, running mean against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from echofm.engine.config import FitConfig, OptimConfig
from echofm.engine.player import Ema, make_optimizer
from echofm.errors import EchofmError


@given(steps=st.integers(1, 300), warmup=st.integers(0, 299), share=st.floats(0, 1))
def test_schedule_rises_then_falls_within_its_bounds(steps: int, warmup: int, share: float) -> None:
    warmup = min(warmup, steps - 1)
    optim = OptimConfig(base_lr=2.0, warmup_steps=warmup, min_lr_ratio=share)
    rates = [optim.lr_at(s, steps=steps, batch=256) for s in range(1, steps + 1)]
    assert all(0 < rate <= 2.0 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_schedule_closed_form() -> None:
    optim = OptimConfig(base_lr=1.0, warmup_steps=4, min_lr_ratio=0.1)
    rates = [optim.lr_at(s, steps=9, batch=256) for s in (1, 4, 7)]
    assert rates == pytest.approx([0.25, 1.0, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.5))])


def test_decay_falls_on_tensors_that_are_no_bias() -> None:
    net = nn.ModuleDict({"linear": nn.Linear(3, 2), "norm": nn.LayerNorm(2)})
    net.register_parameter("token", nn.Parameter(torch.zeros(1, 1, 2)))
    net.register_parameter("frozen", nn.Parameter(torch.zeros(2, 2), requires_grad=False))
    optimizer = make_optimizer(net, OptimConfig(weight_decay=0.3))
    decayed, plain = optimizer.param_groups
    assert {id(p) for p in decayed["params"]} == {id(net["linear"].weight), id(net.token)}
    assert {id(p) for p in plain["params"]} == {id(net["linear"].bias), id(net["norm"].weight), id(net["norm"].bias)}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert decayed["fused"] is True


def test_layers_may_learn_at_rates_of_their_own() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    groups = make_optimizer(
        net, OptimConfig(), lr_scale=lambda name: 0.5 if name.startswith("0.") else 1.0
    ).param_groups
    assert [(group["lr_scale"], group["weight_decay"]) for group in groups] == [
        (1, 0.05),
        (0.5, 0.05),
        (1, 0),
        (0.5, 0),
    ]
    assert groups[1]["params"][0] is net[0].weight


def test_running_mean() -> None:
    net = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1).requires_grad_(False))
    ema = Ema(net, 0.25)
    for t, value in enumerate((1.0, 2.0, 8.0), 1):
        nn.init.constant_(net[0].weight, value)
        net[0].num_batches_tracked += 1
        net[0].running_mean.fill_(value)
        ema.update(t)
    # 1 -> 2/11 * 1 + 9/11 * 1 -> 3/12 * 1 + 9/12 * 2 -> 0.25 * 1.75 + 0.75 * 8
    assert ema.net[0].weight.item() == pytest.approx(6.4375)
    assert ema.net[0].num_batches_tracked == 3 and ema.net[0].running_mean.item() == 8
    assert ema.net[1].weight is net[1].weight and not ema.net[0].weight.requires_grad and not ema.net.training
    assert set(ema.state()) == {f"0.{name}" for name in net[0].state_dict()}
    other = Ema(net, 0.25)
    other.load(ema.state())
    assert all(torch.equal(value, ema.net.state_dict()[name]) for name, value in other.net.state_dict().items())


def test_batch_that_does_not_divide_names_the_number() -> None:
    config = FitConfig(batch=12, accumulate=2)
    assert config.micro_batch(3) == 2
    with pytest.raises(EchofmError, match="multiple of 8"):
        config.micro_batch(4)
    assert config.optim.peak_lr(config.batch) == pytest.approx(1e-3 * 12 / 256)
