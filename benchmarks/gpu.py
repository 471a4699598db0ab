"""Training throughput on a GPU: against the baseline's fp32, and as a share of the measured bf16 product rate."""

from __future__ import annotations

import functools
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baseline import PlainEchoFM, plain_optimizer
from benchmarks.pair import (
    CONFIGS,
    Size,
    autocast,
    fused_optimizer,
    make_clips,
    make_pair,
    require_equal,
    token_ids,
    training_step,
)
from benchmarks.timing import Row, Variant, alternate
from echofm.errors import EchofmError
from echofm.model.mae import VideoMae

THROUGHPUT_TARGET = 5.0
SHARE_TARGET = 0.45


def gpu_rows(size: Size, *, device: str, clips: int, rounds: int, product: int = 8192) -> list[Row]:
    """Step throughput, and the share of the bf16 product rate of (product x product) matrices that it reaches."""
    if device == "cuda" and not torch.cuda.is_available():
        raise EchofmError("the part gpu needs a CUDA device, and torch sees none; run the other parts")
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    plain, ours = make_pair(size)
    plain, ours = plain.to(device), ours.to(device)
    config = CONFIGS[size]
    video_BCTHW, visible_BL = (tensor.to(device) for tensor in make_clips(config, clips))
    difference = require_equal(plain, ours, video_BCTHW[:1], visible_BL[:1])
    flops_per_clip = 3 * forward_flops(ours, video_BCTHW[:1], token_ids(visible_BL[:1], config))
    ids_BK = token_ids(visible_BL, config)
    baseline = Variant(name="baseline step", run=_plain_step(plain, video_BCTHW, visible_BL), clips=clips)
    variant = Variant(
        name=f"step {size} bf16, {clips} clips",
        run=_own_step(ours, video_BCTHW, ids_BK, device),
        clips=clips,
        target_ratio=THROUGHPUT_TARGET,
        note=f"in fp32 within {difference:.0e} of the baseline",
    )
    (speed,) = alternate(baseline, [variant], rounds=rounds, synchronize=synchronize)
    rate = product_rate(product, device)
    shares = [flops_per_clip / speed.variant / rate]
    share = Row(
        name=f"share of the bf16 product rate, step {size}",
        unit="TFLOP/s",
        baseline=rate / 1e12,
        variant=flops_per_clip / speed.variant / 1e12,
        ratios=shares,
        target=f"share >= {SHARE_TARGET:.0%}",
        met=shares[0] >= SHARE_TARGET,
        note=f"first column: a {product}^3 product; {flops_per_clip / 1e9:.0f} GFLOP a clip, 3 x forward",
    )
    return [speed, share]


def forward_flops(net: VideoMae, video_BCTHW: torch.Tensor, ids_BK: torch.Tensor) -> int:
    """Operations of one forward pass as torch counts them: products and attention, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        net(video_BCTHW, ids_BK, hidden_only=True)
    return int(counter.get_total_flops())


@torch.no_grad()
def product_rate(size: int, device: str, *, repeats: int = 20) -> float:
    """Best of `repeats`: FLOP/s of a bf16 product of two (size, size) matrices."""
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    fastest_s = float("inf")
    for _ in range(repeats + 3):
        synchronize()
        start = time.perf_counter()
        left @ right
        synchronize()
        fastest_s = min(fastest_s, time.perf_counter() - start)
    return 2 * size**3 / fastest_s


def _plain_step(plain: PlainEchoFM, video_BCTHW: torch.Tensor, visible_BL: torch.Tensor) -> functools.partial[None]:
    return functools.partial(training_step, plain, plain_optimizer(plain), lambda: plain(video_BCTHW, visible_BL).loss)


def _own_step(net: VideoMae, video_BCTHW: torch.Tensor, ids_BK: torch.Tensor, device: str) -> functools.partial[None]:
    def loss() -> torch.Tensor:
        with autocast("bf16", device):
            return net(video_BCTHW, ids_BK, hidden_only=True).loss

    return functools.partial(training_step, net, fused_optimizer(net), loss)
