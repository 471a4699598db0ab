"""Schedule, optimizer groups, running mean against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from echofm.engine.config import FitConfig, OptimConfig
from echofm.engine.optim import Ema, make_optimizer
from echofm.engine.schedule import lr_at
from echofm.errors import EchofmError


@given(steps=st.integers(1, 300), warmup=st.integers(0, 299), share=st.floats(0, 1))
def test_schedule_rises_then_falls_within_its_bounds(steps: int, warmup: int, share: float) -> None:
    warmup = min(warmup, steps - 1)
    rates = [lr_at(s, steps=steps, peak=2.0, warmup_steps=warmup, final_share=share) for s in range(1, steps + 1)]
    assert all(0 < rate <= 2.0 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_schedule_closed_form() -> None:
    rates = [lr_at(s, steps=9, peak=1.0, warmup_steps=4, final_share=0.1) for s in (1, 4, 7)]
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


def test_running_mean() -> None:
    net = nn.BatchNorm1d(1)
    ema = Ema(net, 0.75)
    for value in (1.0, 2.0):
        nn.init.constant_(net.weight, value)
        net.num_batches_tracked += 1
        ema.update(net)
    # 1 -> 0.75 * 1 + 0.25 * 1 -> 0.75 * 1 + 0.25 * 2
    assert float(ema.mean["weight"]) == pytest.approx(1.25)
    assert int(ema.mean["num_batches_tracked"]) == 2
    with ema.applied(net):
        assert net.weight.item() == pytest.approx(1.25)
    assert net.weight.item() == 2.0


def test_batch_that_does_not_divide_names_the_number() -> None:
    config = FitConfig(batch=12, accumulate=2)
    assert config.micro_batch(3) == 2
    with pytest.raises(EchofmError, match="multiple of 8"):
        config.micro_batch(4)
    assert config.peak_lr() == pytest.approx(1e-3 * 12 / 256)
