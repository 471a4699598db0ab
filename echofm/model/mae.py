"""VideoMae: the masked autoencoder with periodic contrastive learning of EchoFM (arXiv 2410.23413).

Shapes: B clips, C channels, T frames or time indices, H rows, W columns; N tokens, K visible ones, M hidden and
decoded ones; D encoder width, V values of a tubelet's target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from echofm.errors import EchofmError
from echofm.loss import contrast, periodic, pixel
from echofm.model.attention import set_attention
from echofm.model.decoder import Decoder
from echofm.model.masks import KINDS, check_visible, draw_part, draw_visible, hidden_ids
from echofm.model.tokens import Grid, cut
from echofm.model.views import ClipHead, draw_views
from echofm.model.vit import Encoding, VideoEncoder

PRIORS = ("pixel", "embedding", "pixel+difference")


@dataclass(frozen=True, kw_only=True, eq=False)
class MaeOutput:
    """What one pass computes. Losses are scalars, unweighted but for their total `loss`.

    triplet_active: fraction of valid anchors whose triplet still pushes; near 0 the triplets teach nothing.
    clip, clip_found: the contrast of clips, and the part of the views whose most similar one is of their own clip; 0
        where there is no such contrast.
    pred: (B, P, V) predicted targets; row p belongs to the token pred_ids_BP[:, p].
    pred_ids_BP: all N tokens in order, or with `hidden_only` those that were hidden and decoded.
    tokens: (B, K, D) the visible tokens' latents. phase_BTD: one vector per time index that has visible tokens.
    visible_BK: ids of the visible tokens, ascending.
    """

    loss: torch.Tensor
    recon: torch.Tensor
    triplet: torch.Tensor
    cycle: torch.Tensor
    triplet_active: torch.Tensor
    clip: torch.Tensor
    clip_found: torch.Tensor
    pred: torch.Tensor
    pred_ids_BP: torch.Tensor
    tokens: torch.Tensor
    phase_BTD: torch.Tensor
    visible_BK: torch.Tensor


class VideoMae(nn.Module):
    """Predicts hidden tubelets from visible ones, and makes like moments of the heart cycle alike in embedding.

    loss = recon + triplet_weight * triplet + cycle_weight * cycle + clip_weight * clip.

    Parameters
    ----------
    size, frames, channels, patch, tubelet, width, depth, heads, mlp_ratio, norm_eps, phase_centre: see VideoEncoder.
    decoder_width, decoder_depth, decoder_heads: of the decoder.
    predicted_frames: frames of a clip that are reconstructed, a multiple of frames / tubelet.
    mask: "tube", "frame" or "random", see `draw_visible`. mask_ratio: part of the tokens that is hidden.
    decode_ratio: part of the hidden tokens that is decoded and scored; below 1 saves decoder work.
    normalised_target: normalise each target tubelet. median_target: median-filter the target frames.
    sector_only: score only tubelets that touch the ultrasound sector.
    prior: what says which moments are alike, "pixel", "embedding" or "pixel+difference".
    prior_centre: how much of the clip's mean picture the prior leaves out. prior_reach: time indices to either side
        over which it compares the ways to and from two moments, see `along_trajectories`.
    triplet_weight, triplet_margin, cycle_weight, cycle_temperature: of the periodic losses.
    clip_weight, clip_views, clip_temperature: of the contrast of clips (`echofm.loss.contrast`), which the published
        model does not have; with a weight of 0 neither has this one.
    """

    def __init__(
        self,
        *,
        size: int = 224,
        frames: int = 32,
        channels: int = 3,
        patch: int = 16,
        tubelet: int = 4,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-6,
        phase_centre: float = 0.0,
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        predicted_frames: int = 8,
        mask: str = "tube",
        mask_ratio: float = 0.75,
        decode_ratio: float = 1.0,
        normalised_target: bool = True,
        median_target: bool = False,
        sector_only: bool = False,
        prior: str = "pixel",
        prior_centre: float = 1.0,
        prior_reach: int = 0,
        triplet_weight: float = 1.0,
        triplet_margin: float = 0.2,
        cycle_weight: float = 1.0,
        cycle_temperature: float = 0.1,
        clip_weight: float = 0.0,
        clip_views: int = 4,
        clip_temperature: float = 0.1,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.arguments: dict[str, Any] = arguments
        if mask not in KINDS or prior not in PRIORS:
            raise EchofmError(
                f"no mask {mask!r} or prior {prior!r}; masks {', '.join(KINDS)}; priors {', '.join(PRIORS)}"
            )
        self.mask, self.mask_ratio, self.decode_ratio = mask, mask_ratio, decode_ratio
        self.normalised_target, self.median_target, self.sector_only = normalised_target, median_target, sector_only
        self.prior, self.prior_centre, self.prior_reach = prior, prior_centre, prior_reach
        self.triplet_weight, self.triplet_margin = triplet_weight, triplet_margin
        self.cycle_weight, self.cycle_temperature = cycle_weight, cycle_temperature
        self.clip_weight, self.clip_views, self.clip_temperature = clip_weight, clip_views, clip_temperature
        shape: dict[str, Any] = {"mlp_ratio": mlp_ratio, "norm_eps": norm_eps}
        self.encoder = VideoEncoder(
            size=size, frames=frames, channels=channels, patch=patch, tubelet=tubelet,
            width=width, depth=depth, heads=heads, phase_centre=phase_centre, **shape,
        )  # fmt: skip
        grid = self.encoder.positions.grid
        if predicted_frames % grid.time or not grid.time <= predicted_frames <= frames:
            raise EchofmError(
                f"predicted_frames {predicted_frames} must be a multiple of the {grid.time} time indices, "
                f"at most {frames}"
            )
        self.predicted_per_time = predicted_frames // grid.time
        self.decoder = Decoder(
            grid=grid, encoder_width=width, width=decoder_width, depth=decoder_depth, heads=decoder_heads,
            values=self.predicted_per_time * patch**2 * channels, **shape,
        )  # fmt: skip
        self.clip_head = ClipHead(width) if clip_weight else None

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Tokens, phase and clip vectors of whole clips, nothing hidden; values in [0, 1]."""
        return self.encoder.encode(video_BCTHW)

    def forward(
        self,
        video_BCTHW: torch.Tensor,
        visible_ids: torch.Tensor | None = None,
        *,
        sector_BHW: torch.Tensor | None = None,
        draw_B: torch.Tensor | None = None,
        counts: torch.Tensor | None = None,
        views: contrast.Embedded | None = None,
        hidden_only: bool = False,
    ) -> MaeOutput:
        """Losses and predictions of a batch, values in [0, 1].

        visible_ids: (B, K) ids of the visible tokens, ascending, as many in each time index; drawn from the clips'
            seeds `draw_B` (int64) where None, and these from torch's generator where None too.
        sector_BHW: bool, needed with `sector_only`.
        counts: the denominators of `counts()`, summed over all processes and micro-batches of an update; the losses
            then are this batch's share of the global mean, to be summed. Without: this batch's own means.
        views: those of the global batch (`embedded_views` of all its parts) that this batch's are compared with;
            without: this batch's own.
        hidden_only: predict only what is scored; for training.
        """
        grid = self.encoder.grid(video_BCTHW)
        if draw_B is None:
            draw_B = torch.randint(2**62, (len(video_BCTHW),)).to(video_BCTHW.device)
        visible, hidden = self._choose(grid, visible_ids, draw_B)
        times_BT = self._times(visible, grid)
        tokens = self.encoder(video_BCTHW, visible)
        phase_BTD = self.encoder.summarise(tokens, times=times_BT.shape[1])
        pred = self.decoder(tokens, visible, hidden, grid=grid, hidden_only=hidden_only)
        own_views = self.embedded_views(video_BCTHW, draw_B)
        with torch.autocast(video_BCTHW.device.type, enabled=False):
            weight_BM = self._weight(hidden, grid, sector_BHW)
            recon = pixel.reconstruction_sum(
                _full(pred[:, pred.shape[1] - hidden.shape[1] :]),
                self._target(video_BCTHW, hidden),
                weight_BM=weight_BM,
            )
            similarity = periodic.cosine_similarity(_full(phase_BTD))
            prior = self._prior(video_BCTHW, times_BT, similarity)
            triplets = periodic.mine(prior, similarity, time_BT=times_BT)
            triplet, active = periodic.triplet_sum(similarity, triplets, margin=self.triplet_margin)
            cycle = periodic.cycle_sum(prior, similarity, temperature=self.cycle_temperature)
            clip, found = recon.new_zeros(2)
            if own_views is not None:
                clip, found = contrast.contrast_sum(own_views, views or own_views, temperature=self.clip_temperature)
        if counts is None:
            counts = self._counted(weight_BM, triplets.valid_BT.sum(), times_BT)
        tubelets, anchors, rows, asked = counts.to(recon).clamp(min=1).unbind()
        recon, triplet, cycle, clip = recon / tubelets, triplet / anchors, cycle / rows, clip / asked
        ids = hidden
        if not hidden_only:
            ids, order = torch.cat([visible, hidden], dim=1).sort(dim=1)
            pred = pred.gather(1, order[..., None].expand_as(pred))
        return MaeOutput(
            loss=recon + self.triplet_weight * triplet + self.cycle_weight * cycle + self.clip_weight * clip,
            recon=recon,
            triplet=triplet,
            cycle=cycle,
            triplet_active=active / anchors,
            clip=clip,
            clip_found=found / asked,
            pred=pred,
            pred_ids_BP=ids,
            tokens=tokens,
            phase_BTD=phase_BTD,
            visible_BK=visible,
        )

    @torch.no_grad()
    def counts(
        self,
        video_BCTHW: torch.Tensor,
        visible_ids: torch.Tensor | None = None,
        *,
        sector_BHW: torch.Tensor | None = None,
        draw_B: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the losses of this batch are means over: scored tubelets, valid anchors, anchors, views; float64.

        Add them up over processes and micro-batches, then give the sums to every `forward`. Costs next to nothing,
        but for the "embedding" prior, which needs a pass of the encoder. Give `draw_B` or `visible_ids`.
        """
        assert visible_ids is not None or draw_B is not None, "the same masks must be drawn again in forward"
        grid = self.encoder.grid(video_BCTHW)
        if draw_B is None:
            # Any will do: visible tokens are given, and without seeds only a decode_ratio of 1 is the same in forward.
            draw_B = torch.zeros(len(video_BCTHW), dtype=torch.int64, device=video_BCTHW.device)
        visible, hidden = self._choose(grid, visible_ids, draw_B)
        times_BT = self._times(visible, grid)
        similarity = None
        if self.prior == "embedding":
            phase_BTD = self.encoder.summarise(self.encoder(video_BCTHW, visible), times=times_BT.shape[1])
            similarity = periodic.cosine_similarity(_full(phase_BTD))
        prior = self._prior(video_BCTHW, times_BT, similarity)
        anchors = periodic.valid_anchors(prior, time_BT=times_BT)
        return self._counted(self._weight(hidden, grid, sector_BHW), anchors, times_BT)

    def embedded_views(self, video_BCTHW: torch.Tensor, draw_B: torch.Tensor) -> contrast.Embedded | None:
        """The views of the clips' contrast, drawn from their seeds; None where the model has no such contrast.

        Without gradient, and joined over all parts of a global batch, they are `forward`'s `views`.
        """
        if self.clip_head is None:
            return None
        grid = self.encoder.grid(video_BCTHW)
        with torch.autocast(video_BCTHW.device.type, enabled=False):
            drawn = draw_views(_full(video_BCTHW), draw_B, grid, views=self.clip_views, tubelet=self.encoder.tubelet)
        vector_RD = self.clip_head(self.encoder.moments(drawn.shown_RCTHW, drawn.ids_RK, grid=grid).mean(1))
        with torch.autocast(video_BCTHW.device.type, enabled=False):
            return contrast.Embedded(
                vector_RD=F.normalize(_full(vector_RD), dim=1), clip_R=drawn.clip_R, number_R=drawn.number_R
            )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no activation inside the blocks for the backward pass: less memory, one more forward pass."""
        self.encoder.recompute = self.decoder.recompute = enable

    def set_attention(self, backend: str) -> None:
        """Choose "sdpa" or "xformers" everywhere; raises EchofmError where it is unknown or not installed."""
        set_attention(self.modules(), backend)

    def _choose(
        self,
        grid: Grid,
        visible_ids: torch.Tensor | None,
        draw_B: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids of the visible tokens and of the hidden ones to decode."""
        if visible_ids is None:
            visible_ids = draw_visible(draw_B, grid, kind=self.mask, ratio=self.mask_ratio)
        else:
            check_visible(visible_ids, grid, times_BT=self._times(visible_ids, grid))
        hidden = hidden_ids(visible_ids, grid.tokens)
        if self.decode_ratio < 1:
            hidden = draw_part(draw_B, hidden, ratio=self.decode_ratio)
        return visible_ids, hidden

    def _times(self, visible_BK: torch.Tensor, grid: Grid) -> torch.Tensor:
        """(B, T) the time indices that have visible tokens: all but under "frame" masks."""
        visible = visible_BK.shape[1]
        slots = visible // grid.space if self.mask == "frame" else grid.time
        if slots == 0 or visible % slots:
            raise EchofmError(f"{visible} visible tokens cannot be shared out evenly over {slots} time indices")
        return visible_BK[:, :: visible // slots] // grid.space

    def _prior(
        self, video_BCTHW: torch.Tensor, times_BT: torch.Tensor, similarity: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, T, T) what says which of the time indices are alike."""
        if self.prior == "embedding":
            assert similarity is not None
            return periodic.along_trajectories(similarity.detach(), reach=self.prior_reach)
        prior_of = periodic.pixel_prior if self.prior == "pixel" else periodic.motion_prior
        prior = prior_of(_full(video_BCTHW), tubelet=self.encoder.tubelet, centre=self.prior_centre)
        prior = periodic.along_trajectories(prior, reach=self.prior_reach)
        times = times_BT.shape[1]
        if times == prior.shape[1]:
            return prior
        rows = prior.gather(1, times_BT[:, :, None].expand(-1, -1, prior.shape[2]))
        return rows.gather(2, times_BT[:, None, :].expand(-1, times, -1))

    def _weight(self, hidden_BM: torch.Tensor, grid: Grid, sector_BHW: torch.Tensor | None) -> torch.Tensor:
        """(B, M) 1 where a tubelet is scored, else 0."""
        if not self.sector_only:
            return torch.ones(hidden_BM.shape, device=hidden_BM.device)
        if sector_BHW is None:
            raise EchofmError("sector_only scores the tubelets in the ultrasound sector; give sector_BHW")
        inside = pixel.touches_sector(sector_BHW, patch=self.encoder.patch)
        return inside.gather(1, hidden_BM % grid.space).float()

    def _counted(self, weight_BM: torch.Tensor, anchors: torch.Tensor, times_BT: torch.Tensor) -> torch.Tensor:
        """float64 (scored tubelets, valid anchors, anchors, views)."""
        sizes = [times_BT.numel(), 0 if self.clip_head is None else len(times_BT) * self.clip_views]
        given = torch.tensor(sizes, dtype=torch.float64, device=anchors.device)
        return torch.cat([torch.stack([weight_BM.sum().double(), anchors.double()]), given])

    def _target(self, video_BCTHW: torch.Tensor, ids_BM: torch.Tensor) -> torch.Tensor:
        """(B, M, V) what the tubelets `ids_BM` should be: values over (frame, row, column, channel)."""
        frames = video_BCTHW.shape[2]
        per_time = self.predicted_per_time
        chosen = pixel.target_frames(frames, frames // self.encoder.tubelet * per_time).to(video_BCTHW.device)
        shown = _full(video_BCTHW[:, :, chosen])
        if self.median_target:
            shown = pixel.median_filtered(shown)
        target = cut(shown, ids_BM, tubelet=per_time, patch=self.encoder.patch, channels_last=True)
        return pixel.patch_normalised(target) if self.normalised_target else target


def _full(x: torch.Tensor) -> torch.Tensor:
    """In float32 at least: similarities and errors lose their meaning in bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
