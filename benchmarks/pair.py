"""The two sides of every comparison: the same weights, the same clips, the same mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.baseline import PlainEchoFM, visible_positions
from echofm.engine.config import OptimConfig
from echofm.engine.player import make_optimizer
from echofm.errors import EchofmError
from echofm.model.config import MaskingConfig, NetworkConfig
from echofm.model.mae import VideoMae
from echofm.model.official import from_official

Size = Literal["tiny", "base", "large"]
Dtype = Literal["fp32", "bf16"]
MAX_GRAD_NORM = 0.02

_PUBLISHED = {
    "sep_pos_embed": True,
    "cls_embed": True,
    "mlp_ratio": 4.0,
    "in_chans": 3,
    "no_qkv_bias": False,
    "trunc_init": False,
    "phase_prior": "pixel",
    "img_size": 224,
    "patch_size": 16,
    "decoder_embed_dim": 512,
    "decoder_depth": 8,
    "decoder_num_heads": 16,
    "num_frames": 32,
    "t_patch_size": 4,
    "pred_t_dim": 8,
    "norm_pix_loss": True,
    "norm_eps": 1e-6,
    "triplet_weight": 1.0,
    "triplet_margin": 0.2,
    "cycle_weight": 1.0,
    "cycle_tau": 0.1,
    "prior_center_alpha": 1.0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    # Only to run every line in seconds; its ratios mean nothing.
    "tiny": _PUBLISHED
    | {"img_size": 64, "num_frames": 8, "t_patch_size": 2, "pred_t_dim": 4}
    | {"embed_dim": 64, "depth": 2, "num_heads": 2}
    | {"decoder_embed_dim": 32, "decoder_depth": 2, "decoder_num_heads": 2},
    "base": _PUBLISHED | {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": _PUBLISHED | {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}


def make_pair(size: Size, *, seed: int = 0) -> tuple[PlainEchoFM, VideoMae]:
    """The baseline with random weights, and EchoFM's model with the same."""
    torch.manual_seed(seed)
    plain = PlainEchoFM(CONFIGS[size])
    return plain, from_official(plain.state_dict(), CONFIGS[size])


def make_fast(size: Size) -> VideoMae:
    """Maths of its own around the encoder of `size`: grey 112^2 in 8-pixel patches, 85 % hidden (video bears 90 %:
    arXiv 2203.12602), half of that decoded by two narrow blocks."""
    network = {name: CONFIGS[size][theirs] for name, theirs in _ENCODER.items()}
    network |= {"size": 112, "patch": 8, "channels": 1, "decoder_width": 192, "decoder_depth": 2, "decoder_heads": 6}
    network |= {"size": 32, "frames": 8, "tubelet": 2, "predicted_frames": 4} if size == "tiny" else {}
    return VideoMae(NetworkConfig(**network), MaskingConfig(ratio=0.85, decode_ratio=0.5))


_ENCODER = {"width": "embed_dim", "depth": "depth", "heads": "num_heads"}


def make_clips(config: dict[str, Any], clips: int, *, seed: int = 1) -> tuple[Tensor, Tensor]:
    """(video_BCTHW in [0, 1], visible_BL): noise that beats, and the spatial positions of a 75 % mask."""
    generator = torch.Generator().manual_seed(seed)
    frames, size = config["num_frames"], config["img_size"]
    phase_T = torch.arange(frames) / frames * 2 * torch.pi * 1.7
    still, moving = (torch.rand(clips, 3, 1, size, size, generator=generator) for _ in range(2))
    video_BCTHW = (0.7 * still + 0.3 * moving * phase_T.sin()[:, None, None]).clamp(0, 1)
    positions = (size // config["patch_size"]) ** 2
    return video_BCTHW, visible_positions(torch.rand(clips, positions, generator=generator))


def token_ids(visible_BL: Tensor, config: dict[str, Any]) -> Tensor:
    """Ids of the visible tokens of all time indices, as VideoMae takes them."""
    positions = (config["img_size"] // config["patch_size"]) ** 2
    starts = positions * torch.arange(config["num_frames"] // config["t_patch_size"], device=visible_BL.device)
    return (starts[:, None] + visible_BL[:, None]).flatten(1)


def fused_optimizer(net: nn.Module) -> torch.optim.AdamW:
    """The engine's optimizer with the baseline's learning rate."""
    optimizer = make_optimizer(net, OptimConfig())
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    return optimizer


def autocast(dtype: Dtype, device: str = "cpu") -> torch.autocast:
    """What the engine does for bf16; nothing for fp32."""
    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bf16")


def training_step(net: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    """One update, the same on both sides: forward, backward, clipped gradients, AdamW."""
    optimizer.zero_grad()
    loss().backward()
    nn.utils.clip_grad_norm_(net.parameters(), MAX_GRAD_NORM)
    optimizer.step()


@torch.no_grad()
def require_equal(plain: PlainEchoFM, ours: VideoMae, video_BCTHW: Tensor, visible_BL: Tensor) -> float:
    """Largest difference of the two sides in fp32: losses, latents, phases, predictions of hidden tokens.

    Raises EchofmError above 1e-3: a faster wrong answer is not worth timing. The sums of so many terms in another
    order differ by some 1e-5; the golden tests hold both sides to 1e-5 on a small model.
    """
    theirs = plain(video_BCTHW, visible_BL)
    own = ours(video_BCTHW, token_ids(visible_BL, plain.config))
    pairs = [(getattr(theirs, name), own.figures[name]) for name in ("recon", "triplet", "cycle")]
    pairs += [(theirs.latent_BND, own.tokens_BKD), (theirs.cls_BTD, own.phase_BTD), (theirs.pred_BNV, own.pred_BPV)]
    worst = max(float((left - right).abs().max()) for left, right in pairs)
    if not worst <= 1e-3:
        raise EchofmError(f"the two models differ by {worst:.2g}; run tests/test_model_golden.py before any benchmark")
    return worst
