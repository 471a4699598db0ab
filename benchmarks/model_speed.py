"""Training step and embedding on the CPU: EchoFM's model against the baseline, both with the same weights."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.baseline import plain_optimizer
from benchmarks.pair import (
    CONFIGS,
    Dtype,
    Size,
    autocast,
    fused_optimizer,
    make_clips,
    make_fast,
    make_pair,
    require_equal,
    token_ids,
    training_step,
)
from benchmarks.timing import Clock, Row, Variant, alternate
from echofm.model.mae import VideoMae

CLIPS = 2
STEP_TARGET = {"fp32": 2.0, "bf16": 4.0}
EMBED_TARGET = {"fp32": 2.0, "bf16": 5.0}
FAST_TARGET = 10.0


def step_rows(size: Size, dtypes: Sequence[Dtype], *, rounds: int, clock: Clock = time.perf_counter) -> list[Row]:
    """Seconds a clip of one update: forward, backward, clipping, AdamW; two clips, 75 % masked."""
    plain, ours = make_pair(size)
    video_BCTHW, visible_BL = make_clips(CONFIGS[size], CLIPS)
    difference = require_equal(plain, ours, video_BCTHW, visible_BL)
    plain_step = functools.partial(
        training_step, plain, plain_optimizer(plain), lambda: plain(video_BCTHW, visible_BL).loss
    )
    ids_BK, optimizer = token_ids(visible_BL, plain.config), fused_optimizer(ours)
    variants = [
        Variant(
            name=f"step {size} {dtype}",
            run=functools.partial(
                training_step, ours, optimizer, functools.partial(_loss, ours, video_BCTHW, ids_BK, dtype)
            ),
            clips=CLIPS,
            target_ratio=STEP_TARGET[dtype],
            note=f"before training within {difference:.0e} of the baseline" if dtype == "fp32" else "autocast",
        )
        for dtype in dtypes
    ]
    variants += [_fast_variant(size, dtype) for dtype in dtypes if dtype == "bf16"]
    return alternate(Variant(name="baseline step", run=plain_step, clips=CLIPS), variants, rounds=rounds, clock=clock)


def embed_rows(size: Size, dtypes: Sequence[Dtype], *, rounds: int, clock: Clock = time.perf_counter) -> list[Row]:
    """Seconds to embed one clip: tokens, clip and phase vectors, nothing masked."""
    plain, ours = make_pair(size)
    video_BCTHW, _ = make_clips(CONFIGS[size], 1)
    with torch.no_grad():
        theirs, own = plain.embed(video_BCTHW), ours.encode(video_BCTHW)
    torch.testing.assert_close((own.video_BD, own.phase_BTD), theirs, rtol=0, atol=1e-3)
    variants = [
        Variant(
            name=f"embed {size} {dtype}",
            run=_encoding(ours, video_BCTHW, dtype),
            clips=1,
            target_ratio=EMBED_TARGET[dtype],
            note="" if dtype == "fp32" else "autocast",
        )
        for dtype in dtypes
    ]

    @torch.no_grad()
    def plain_embed() -> object:
        return plain.embed(video_BCTHW)

    return alternate(Variant(name="baseline embed", run=plain_embed, clips=1), variants, rounds=rounds, clock=clock)


def _loss(net: VideoMae, video_BCTHW: Tensor, ids_BK: Tensor | None, dtype: Dtype) -> Tensor:
    with autocast(dtype):
        return net(video_BCTHW, ids_BK, hidden_only=True).loss


def _encoding(net: VideoMae, video_BCTHW: Tensor, dtype: Dtype) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode(), autocast(dtype):
            return net.encode(video_BCTHW)

    return run


def _fast_variant(size: Size, dtype: Dtype) -> Variant:
    net = make_fast(size)
    made, masking = net.config, net.masking
    video_BCTHW = make_clips({"num_frames": made.frames, "img_size": made.size, "patch_size": made.patch}, CLIPS)[0]
    step = functools.partial(
        training_step, net, fused_optimizer(net), functools.partial(_loss, net, video_BCTHW[:, :1], None, dtype)
    )
    return Variant(
        name=f"step {size} fast {dtype}",
        run=step,
        clips=CLIPS,
        target_ratio=FAST_TARGET,
        note=f"other maths: {made.size}^2 grey, patch {made.patch}, {masking.ratio:.0%} hidden, "
        f"{masking.decode_ratio:.0%} of that decoded by {made.decoder_depth} blocks of {made.decoder_width}",
    )
