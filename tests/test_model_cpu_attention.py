"""Attention computed a few heads at a time equals torch's own, in values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from echofm.model import attention
from echofm.model.attention import Attention, attend_by_heads, attends_by_heads


def rows(queries: int, keys: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 8)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def results(attend: object, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    out = attend(*inputs)  # type: ignore[operator]
    return [out, *torch.autograd.grad(out.square().sum(), inputs)]


@pytest.mark.parametrize("at_a_time", [1, 2 * 5 * 7, 10**9], ids=["one head", "two heads", "all heads"])
@pytest.mark.parametrize("queries", [5, 1])
def test_equals_the_fused_kernel(monkeypatch: pytest.MonkeyPatch, at_a_time: int, queries: int) -> None:
    monkeypatch.setattr(attention, "_SCORES_AT_A_TIME", at_a_time)
    inputs = rows(queries, 7, torch.float64)
    for own, fused in zip(
        results(attend_by_heads, inputs), results(F.scaled_dot_product_attention, inputs), strict=True
    ):
        torch.testing.assert_close(own, fused, rtol=1e-10, atol=1e-10)


def test_bf16_is_as_exact_as_its_format() -> None:
    inputs = rows(64, 64, torch.bfloat16)
    exact = results(F.scaled_dot_product_attention, [x.detach().double().requires_grad_() for x in inputs])
    for own, true in zip(results(attend_by_heads, inputs), exact, strict=True):
        assert (own - true).abs().mean() < 0.01 * true.abs().mean()


def test_chosen_for_bf16_on_a_cpu_that_gains_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_bf16_without_amx", lambda: True)
    q = torch.zeros(1, 1, 1, 8)
    assert attends_by_heads(q.bfloat16())
    assert not attends_by_heads(q)
    assert not attends_by_heads(q.bfloat16().to("meta"))
    monkeypatch.setattr(attention, "_bf16_without_amx", lambda: False)
    assert not attends_by_heads(q.bfloat16())


def test_the_attention_layer_takes_it_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x_BND = Attention(16, heads=2), torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    outputs = []
    for by_heads in (True, False):
        monkeypatch.setattr(attention, "_bf16_without_amx", lambda by_heads=by_heads: by_heads)
        with torch.autocast("cpu", torch.bfloat16):
            outputs.append(layer(x_BND))
    assert outputs[0].dtype == outputs[1].dtype == torch.bfloat16
    torch.testing.assert_close(*outputs, rtol=0.02, atol=0.02)
