"""The baseline: EchoFM's masked autoencoder computed plainly, as the published code computes it.

An independent implementation, for comparison only: its tests hold it to tensors that the published code computed. What
makes it plain, on purpose: every patch is embedded by a Conv3d before three quarters of them are dropped; q, k and v
are separate Linears; attention is an explicit softmax; the projector runs once per time index and computes every row
of which one is used; the decoder computes all tokens to the end; torch's default AdamW; fp32. Parameter names are the
released weights'.

Shapes: B clips, C 3 channels, F frames, T time indices, L spatial positions, K visible ones of them,
N = T * L tokens, D width, V values of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.baseline_losses import cycle_loss, pixel_similarity, similarity, triplet_loss


class PlainOutput(NamedTuple):
    """loss = recon + triplet_weight * triplet + cycle_weight * cycle."""

    loss: Tensor
    recon: Tensor
    triplet: Tensor
    cycle: Tensor
    triplet_active: Tensor
    pred_BNV: Tensor
    latent_BND: Tensor
    cls_BTD: Tensor


class PlainAttention(nn.Module):
    """Separate q, k, v and an explicit softmax over the whole attention matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        q_BHNd, k_BHNd, v_BHNd = (
            linear(x_BND).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.q, self.k, self.v)
        )
        weights_BHNN = (q_BHNd @ k_BHNd.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((weights_BHNN @ v_BHNd).transpose(1, 2).flatten(2))


class PlainMlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x_BND)))


class PlainBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, eps: float) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=eps), PlainAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=eps), PlainMlp(width, int(width * mlp_ratio))

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.attn(self.norm1(x_BND))
        return x_BND + self.mlp(self.norm2(x_BND))


class PlainPatchEmbed(nn.Module):
    """Conv3d whose kernel is its stride: one vector per tubelet."""

    def __init__(self, width: int, patch: int, frames_per_token: int) -> None:
        super().__init__()
        size = (frames_per_token, patch, patch)
        self.proj = nn.Conv3d(3, width, kernel_size=size, stride=size)

    def forward(self, video_BCFHW: Tensor) -> Tensor:
        return self.proj(video_BCFHW).flatten(3).permute(0, 2, 3, 1)


class PlainEchoFM(nn.Module):
    """The published model from its config (tests/golden); `load_state_dict` takes the released names."""

    pos_embed_spatial: Tensor
    pos_embed_temporal: Tensor
    pos_embed_class: Tensor
    decoder_pos_embed_spatial: Tensor
    decoder_pos_embed_temporal: Tensor
    decoder_pos_embed_class: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = c = dict(config)
        width, decoder, eps, ratio = c["embed_dim"], c["decoder_embed_dim"], c["norm_eps"], c["mlp_ratio"]
        self.times, self.positions = c["num_frames"] // c["t_patch_size"], (c["img_size"] // c["patch_size"]) ** 2
        self.frames_per_group = c["t_patch_size"] * c["pred_t_dim"] // c["num_frames"]
        self.patch_embed = PlainPatchEmbed(width, c["patch_size"], c["t_patch_size"])
        for prefix, size in (("", width), ("decoder_", decoder)):
            for name, length in (("spatial", self.positions), ("temporal", self.times), ("class", 1)):
                self.register_parameter(f"{prefix}pos_embed_{name}", _table(length, size))
        self.cls_token, self.decoder_prj_cls_token = _table(1, width), _table(1, width)
        self.decoder_cls_token, self.mask_token = _table(1, decoder), _table(1, decoder)
        self.blocks = nn.ModuleList(PlainBlock(width, c["num_heads"], ratio, eps) for _ in range(c["depth"]))
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder_block, self.prj_norm = PlainBlock(width, c["num_heads"], ratio, eps), nn.LayerNorm(width, eps=eps)
        self.decoder_embed = nn.Linear(width, decoder)
        self.decoder_blocks = nn.ModuleList(
            PlainBlock(decoder, c["decoder_num_heads"], ratio, eps) for _ in range(c["decoder_depth"])
        )
        self.decoder_norm = nn.LayerNorm(decoder, eps=eps)
        self.decoder_pred = nn.Linear(decoder, self.frames_per_group * c["patch_size"] ** 2 * 3)

    def encode_tokens(self, video_BCFHW: Tensor, visible_BK: Tensor | None = None) -> Tensor:
        """latent_BND of the spatial positions in `visible_BK` (the same at every time), of all where None."""
        x_BTLD = self.patch_embed(video_BCFHW)
        pos_TLD = self.pos_embed_temporal[0][:, None] + self.pos_embed_spatial[0]
        pos_BTLD = pos_TLD.expand_as(x_BTLD)
        if visible_BK is not None:
            index = visible_BK[:, None, :, None].expand(-1, self.times, -1, x_BTLD.shape[-1])
            x_BTLD, pos_BTLD = x_BTLD.gather(2, index), pos_BTLD.gather(2, index)
        cls_B1D = (self.cls_token + self.pos_embed_class).expand(len(x_BTLD), -1, -1)
        x_BND = torch.cat([cls_B1D, (x_BTLD + pos_BTLD).flatten(1, 2)], dim=1)
        for block in self.blocks:
            x_BND = block(x_BND)
        return self.norm(x_BND)[:, 1:]

    def project(self, latent_BND: Tensor) -> Tensor:
        """cls_BTD: one summary per time index, one pass of the shared block for each."""
        rows = []
        for tokens_BKD in latent_BND.unflatten(1, (self.times, -1)).unbind(1):
            x_BKD = torch.cat([self.decoder_prj_cls_token.expand(len(tokens_BKD), -1, -1), tokens_BKD], dim=1)
            rows.append(self.prj_norm(self.decoder_block(x_BKD))[:, 0])
        return torch.stack(rows, dim=1)

    def decode(self, latent_BND: Tensor, visible_BK: Tensor) -> Tensor:
        """pred_BNV for every token, visible ones too."""
        seen_BTKE = self.decoder_embed(latent_BND).unflatten(1, (self.times, -1))
        index = visible_BK[:, None, :, None].expand_as(seen_BTKE)
        x_BTLE = self.mask_token.expand(len(seen_BTKE), self.times, self.positions, -1).scatter(2, index, seen_BTKE)
        x_BTLE = x_BTLE + self.decoder_pos_embed_spatial + self.decoder_pos_embed_temporal[0][:, None]
        cls_B1E = (self.decoder_cls_token + self.decoder_pos_embed_class).expand(len(x_BTLE), -1, -1)
        x_BNE = torch.cat([cls_B1E, x_BTLE.flatten(1, 2)], dim=1)
        for block in self.decoder_blocks:
            x_BNE = block(x_BNE)
        return self.decoder_pred(self.decoder_norm(x_BNE))[:, 1:]

    def target(self, video_BCFHW: Tensor) -> Tensor:
        """target_BNV before normalisation: selected frames in patches, channel fastest."""
        c, grid = self.config, self.config["img_size"] // self.config["patch_size"]
        frames = torch.linspace(0, c["num_frames"] - 1, c["pred_t_dim"]).long().to(video_BCFHW.device)
        x = video_BCFHW[:, :, frames].reshape(
            -1, 3, self.times, self.frames_per_group, grid, c["patch_size"], grid, c["patch_size"]
        )
        return torch.einsum("bctuhpwq->bthwupqc", x).flatten(4).flatten(1, 3)

    def reconstruction_loss(self, video_BCFHW: Tensor, pred_BNV: Tensor, visible_BK: Tensor) -> Tensor:
        """Mean over the removed tokens of the squared error against per-patch normalised pixels."""
        target_BNV = self.target(video_BCFHW)
        if self.config["norm_pix_loss"]:
            variance_BN1, mean_BN1 = torch.var_mean(target_BNV, dim=-1, keepdim=True)
            target_BNV = (target_BNV - mean_BN1) / (variance_BN1 + 1e-6).sqrt()
        removed_BL = torch.ones(len(visible_BK), self.positions, device=pred_BNV.device).scatter(1, visible_BK, 0.0)
        removed_BN = removed_BL.repeat(1, self.times)
        return (((pred_BNV - target_BNV) ** 2).mean(-1) * removed_BN).sum() / removed_BN.sum()

    def forward(self, video_BCFHW: Tensor, visible_BK: Tensor) -> PlainOutput:
        """Pretraining forward; `visible_BK`: ascending spatial positions that stay at every time index."""
        c = self.config
        latent_BND = self.encode_tokens(video_BCFHW, visible_BK)
        cls_BTD = self.project(latent_BND)
        pred_BNV = self.decode(latent_BND, visible_BK)
        prior_BTT = pixel_similarity(video_BCFHW, times=self.times, alpha=c["prior_center_alpha"])
        sim_BTT = similarity(cls_BTD)
        recon = self.reconstruction_loss(video_BCFHW, pred_BNV, visible_BK)
        triplet, active = triplet_loss(sim_BTT, prior_BTT, margin=c["triplet_margin"])
        cycle = cycle_loss(sim_BTT, prior_BTT, tau=c["cycle_tau"])
        loss = recon + c["triplet_weight"] * triplet + c["cycle_weight"] * cycle
        return PlainOutput(loss, recon, triplet, cycle, active, pred_BNV, latent_BND, cls_BTD)

    def embed(self, video_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
        """(video_BD, cls_BTD) of whole clips: the mean over all tokens, and the projector's rows."""
        latent_BND = self.encode_tokens(video_BCFHW)
        return latent_BND.mean(1), self.project(latent_BND)


def plain_optimizer(model: nn.Module, *, lr: float = 1e-4) -> torch.optim.AdamW:
    """torch's AdamW as it comes: a loop over tensors on the CPU; weight decay on matrices and tables only."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith(".bias")]
    kept = [p for name, p in model.named_parameters() if p.ndim <= 1 or name.endswith(".bias")]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


def visible_positions(noise_BL: Tensor, *, mask_ratio: float = 0.75) -> Tensor:
    """visible_BK: the int(L * (1 - mask_ratio)) positions of smallest noise, ascending."""
    keep = math.floor(noise_BL.shape[1] * (1 - mask_ratio))
    return noise_BL.argsort(dim=1)[:, :keep].sort(dim=1).values


def _table(length: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(1, length, width) * 0.02)
