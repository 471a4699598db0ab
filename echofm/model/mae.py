"""VideoMae: the masked autoencoder with periodic contrastive learning of EchoFM (arXiv 2410.23413).

Shapes: B clips, C channels, T frames or time indices, H rows, W columns; N tokens, K visible ones, M hidden and
decoded ones; D encoder width, V values of a tubelet's target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from echofm.errors import EchofmError
from echofm.loss import periodic
from echofm.loss.contrastive import Embedded
from echofm.model.attention import set_attention
from echofm.model.config import MaskingConfig, NetworkConfig, ObjectiveConfig, require_learnable
from echofm.model.decoder import Decoder
from echofm.model.masks import ClipHead, check_visible, draw_part, draw_views, draw_visible, hidden_ids
from echofm.model.terms import Masked, Passed, full, make_terms, prior_of
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding, VideoEncoder
from echofm.saveable import Saveable
from echofm.schema import FrozenModel

_MASKING, _OBJECTIVE = MaskingConfig(), ObjectiveConfig()


@dataclass(frozen=True, kw_only=True, eq=False)
class MaeOutput:
    """What one pass computes.

    loss: scalar, the weighted sum of the losses.
    figures: scalars; the losses recon, triplet and cycle, unweighted, and triplet_active, the fraction of valid anchors
        whose triplet still pushes. Where clips are contrasted also clip, that loss, and clip_found, the part of the
        views whose most similar one is of their own clip.
    pred_BPV: predicted targets; row p belongs to the token pred_ids_BP[:, p].
    pred_ids_BP: all N tokens in order, or with `hidden_only` those that were hidden and decoded.
    tokens_BKD: the visible tokens' latents. phase_BTD: one vector per time index that has visible tokens.
    visible_BK: ids of the visible tokens, ascending.
    """

    loss: torch.Tensor
    figures: dict[str, torch.Tensor]
    pred_BPV: torch.Tensor
    pred_ids_BP: torch.Tensor
    tokens_BKD: torch.Tensor
    phase_BTD: torch.Tensor
    visible_BK: torch.Tensor


class VideoMae(Saveable):
    """Predicts hidden tubelets from visible ones, and makes like moments of the heart cycle alike in embedding.

    The loss is the weighted sum of the objective's terms (`echofm.model.terms`). Only `network` decides the weights,
    but for `clip_head`, which is there where clips are contrasted, and `latent_head`, where features are predicted.
    Raises EchofmError where nothing could be learnt.
    """

    kind: ClassVar[str] = "mae"
    about: ClassVar[str] = VideoEncoder.about
    schema: ClassVar[type[FrozenModel]] = NetworkConfig
    config: NetworkConfig

    def __init__(
        self,
        network: NetworkConfig,
        masking: MaskingConfig = _MASKING,
        objective: ObjectiveConfig = _OBJECTIVE,
    ) -> None:
        super().__init__()
        require_learnable(network, masking, objective)
        self.config, self.masking, self.objective = network, masking, objective
        self.encoder = VideoEncoder(network)
        self.decoder = Decoder(network, grid=self.encoder.positions.grid)
        self.clip_head = ClipHead(network.width) if objective.clip_contrast.weight else None
        self.latent_head = nn.Linear(network.decoder_width, network.width) if objective.latent.weight else None
        self._terms = make_terms(objective, network)

    @property
    def trained_for(self) -> dict[str, Any]:
        return {name: getattr(self, name).model_dump(mode="json") for name in ("masking", "objective")}

    @classmethod
    def build(cls, architecture: Mapping[str, Any], trained_for: Mapping[str, Any]) -> VideoMae:
        """From what was saved. Raises EchofmError naming the field that is wrong."""
        return cls(
            NetworkConfig.checked(architecture, where="architecture"),
            MaskingConfig.checked(trained_for.get("masking", {}), where="trained_for.masking"),
            ObjectiveConfig.checked(trained_for.get("objective", {}), where="trained_for.objective"),
        )

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
        denominators: torch.Tensor | None = None,
        views: Embedded | None = None,
        target_BND: torch.Tensor | None = None,
        hidden_only: bool = False,
    ) -> MaeOutput:
        """Losses and predictions of a batch, values in [0, 1].

        visible_ids: (B, K) ids of the visible tokens, ascending, as many in each time index; drawn from the clips'
            seeds `draw_B` (int64) where None, and these from torch's generator where None too.
        sector_BHW: bool, needed with `sector_only`.
        denominators: those of `denominators()`, summed over all processes and micro-batches of an update; the losses
            then are this batch's share of the global mean, to be summed. Without: this batch's own means.
        views: those of the global batch (`embedded_views` of all its parts) that this batch's are compared with;
            without: this batch's own.
        target_BND: the whole clips' tokens as the running mean embeds them, to predict; None: as this network does.
        hidden_only: predict only what is scored; for training.
        """
        if draw_B is None:
            draw_B = torch.randint(2**62, (len(video_BCTHW),)).to(video_BCTHW.device)
        batch = self._hide(video_BCTHW, visible_ids, draw_B, sector_BHW)
        visible, hidden = batch.visible_BK, batch.hidden_BM
        tokens = self.encoder(video_BCTHW, visible)
        phase_BTD = self.encoder.summarise(tokens, times=batch.times_BT.shape[1])
        decoded = self.decoder(tokens, visible, hidden, grid=batch.grid, hidden_only=hidden_only)
        pred, scored = self.decoder.pred(decoded), decoded[:, decoded.shape[1] - hidden.shape[1] :]
        latent = None if self.latent_head is None else self.latent_head(scored)
        own_views = self.embedded_views(video_BCTHW, draw_B)
        with torch.autocast(video_BCTHW.device.type, enabled=False):
            similarity = periodic.cosine_similarity(full(phase_BTD))
            passed = Passed(
                pred_BMV=full(pred[:, pred.shape[1] - hidden.shape[1] :]),
                similarity_BTT=similarity,
                prior_BTT=self._prior(batch, similarity),
                latent_BMD=None if latent is None else full(latent),
                target_BMD=None if latent is None else self._target(video_BCTHW, hidden, target_BND),
                views=own_views,
                compared=views or own_views,
            )
            figures = self._figures(batch, passed, denominators)
        losses = [term.weight * figures[term.name] for term in self._terms]
        ids = hidden
        if not hidden_only:
            ids, order = torch.cat([visible, hidden], dim=1).sort(dim=1)
            pred = pred.gather(1, order[..., None].expand_as(pred))
        return MaeOutput(
            loss=sum(losses[1:], losses[0]),
            figures=figures,
            pred_BPV=pred,
            pred_ids_BP=ids,
            tokens_BKD=tokens,
            phase_BTD=phase_BTD,
            visible_BK=visible,
        )

    @torch.no_grad()
    def denominators(
        self,
        video_BCTHW: torch.Tensor,
        visible_ids: torch.Tensor | None = None,
        *,
        sector_BHW: torch.Tensor | None = None,
        draw_B: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the losses of this batch are means over, one number a term of the objective; float64.

        Add them up over processes and micro-batches, then give the sums to every `forward`. Costs next to nothing,
        but for the prior "embedding", which needs a pass of the encoder. Give `draw_B` or `visible_ids`.
        """
        assert visible_ids is not None or draw_B is not None, "the same masks must be drawn again in forward"
        if draw_B is None:
            # Any will do: visible tokens are given, and without seeds only a decode_ratio of 1 is the same in forward.
            draw_B = torch.zeros(len(video_BCTHW), dtype=torch.int64, device=video_BCTHW.device)
        batch = self._hide(video_BCTHW, visible_ids, draw_B, sector_BHW)
        similarity = None
        if self.objective.prior.kind == "embedding":
            tokens_BKD = self.encoder(video_BCTHW, batch.visible_BK)
            phase_BTD = self.encoder.summarise(tokens_BKD, times=batch.times_BT.shape[1])
            similarity = periodic.cosine_similarity(full(phase_BTD))
        return self._denominators(batch, self._prior(batch, similarity))

    def embedded_views(self, video_BCTHW: torch.Tensor, draw_B: torch.Tensor) -> Embedded | None:
        """The views of the clips' contrast, drawn from their seeds; None where the model has no such contrast.

        Without gradient, and joined over all parts of a global batch, they are `forward`'s `views`.
        """
        if self.clip_head is None:
            return None
        grid, views = self.encoder.grid(video_BCTHW), self.objective.clip_contrast.views
        with torch.autocast(video_BCTHW.device.type, enabled=False):
            drawn = draw_views(full(video_BCTHW), draw_B, grid, views=views, tubelet=self.config.tubelet)
        vector_RD = self.clip_head(self.encoder.single_times(drawn.shown_RCTHW, drawn.ids_RK, grid=grid).mean(1))
        with torch.autocast(video_BCTHW.device.type, enabled=False):
            return Embedded(vector_RD=F.normalize(full(vector_RD), dim=1), clip_R=drawn.clip_R, number_R=drawn.number_R)

    @torch.no_grad()
    def _target(
        self, video_BCTHW: torch.Tensor, hidden_BM: torch.Tensor, target_BND: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, M, D) the hidden tokens' features to be predicted, each of mean 0 and variance 1 (arXiv 2404.08471).

        Without the clip's mean, which is most of a new network's features: it would be all that is learnt.
        """
        whole = full(self.encoder(video_BCTHW) if target_BND is None else target_BND)
        rows = (whole - whole.mean(1, keepdim=True)).gather(1, hidden_BM[..., None].expand(-1, -1, whole.shape[2]))
        return F.layer_norm(rows, rows.shape[2:])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no activation inside the blocks for the backward pass: less memory, one more forward pass."""
        self.encoder.grad_checkpointing = self.decoder.grad_checkpointing = enable

    def set_attention(self, backend: str) -> None:
        """Choose "sdpa" or "xformers" everywhere; raises EchofmError where it is unknown or not installed."""
        set_attention(self.modules(), backend)

    def _hide(
        self,
        video_BCTHW: torch.Tensor,
        visible_ids: torch.Tensor | None,
        draw_B: torch.Tensor,
        sector_BHW: torch.Tensor | None,
    ) -> Masked:
        """Draw what is visible, where it is not given, and which of the hidden tokens are decoded."""
        grid = self.encoder.grid(video_BCTHW)
        if visible_ids is None:
            visible = draw_visible(draw_B, grid, kind=self.masking.kind, ratio=self.masking.ratio)
            times_BT = self._times(visible, grid)
        else:
            visible, times_BT = visible_ids, self._times(visible_ids, grid)
            check_visible(visible, grid, times_BT=times_BT)
        hidden = hidden_ids(visible, grid.tokens)
        if self.masking.decode_ratio < 1:
            hidden = draw_part(draw_B, hidden, ratio=self.masking.decode_ratio)
        return Masked(
            video_BCTHW=video_BCTHW,
            sector_BHW=sector_BHW,
            grid=grid,
            visible_BK=visible,
            hidden_BM=hidden,
            times_BT=times_BT,
        )

    def _times(self, visible_BK: torch.Tensor, grid: Grid) -> torch.Tensor:
        """(B, T) the time indices that have visible tokens: all but under "frame" masks."""
        visible = visible_BK.shape[1]
        slots = visible // grid.space if self.masking.kind == "frame" else grid.time
        if slots == 0 or visible % slots:
            raise EchofmError(f"{visible} visible tokens cannot be shared out evenly over {slots} time indices")
        return visible_BK[:, :: visible // slots] // grid.space

    def _prior(self, batch: Masked, similarity: torch.Tensor | None) -> torch.Tensor:
        """(B, T, T) what says which of the time indices are alike."""
        return prior_of(self.objective.prior, batch, tubelet=self.config.tubelet, similarity=similarity)

    def _denominators(self, batch: Masked, prior_BTT: torch.Tensor) -> torch.Tensor:
        return torch.stack([term.denominator(batch, prior_BTT).double() for term in self._terms])

    def _figures(self, batch: Masked, passed: Passed, denominators: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """The terms' figures, each a mean over its denominator, of the global batch where that is given."""
        if denominators is None:
            denominators = self._denominators(batch, passed.prior_BTT)
        counts = denominators.to(passed.pred_BMV).clamp(min=1).unbind()
        return {
            name: value / count
            for term, count in zip(self._terms, counts, strict=True)
            for name, value in term.sums(batch, passed).items()
        }
