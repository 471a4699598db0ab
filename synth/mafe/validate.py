"""What is measured on held-out pairs while training: the features' use first, the picture last.

B pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F

from echofm.engine.parallel import joined_rows, own_share, processes
from echofm.engine.task import Figure
from echofm.metric.collapse import rankme
from echofm.metric.pixel import psnr_db
from synth.mafe.batch import LessonBatch
from synth.mafe.learner import Learner
from synth.mafe.losses import flow_distance

_CELLS = 4


class Validation:
    """Figures of held-out pairs, the same each time."""

    def __init__(self, batch: LessonBatch) -> None:
        self._batch = batch

    @torch.no_grad()
    def __call__(self, model: Learner) -> Mapping[str, Figure]:
        """Measure a model in evaluation mode; every process calls it, and does its share.

        appearance_recall: how many last frames have their own clip's first frame as the nearest, by appearance; chance
        is one by the number of pairs. motion_rank, motion_rank_pooled: RankMe of motion on the coarse grid and of its
        mean over space. flow_px: distance from the teacher's flow. psnr_db: of middle frames that are no end, and of
        the mean of the ends beside it.
        """
        share = own_share(len(self._batch))
        rows = joined_rows(self._rows(model, cast(LessonBatch, self._batch[share])) if share.stop > share.start else {})
        cosine = F.normalize(rows["last"], dim=1) @ F.normalize(rows["first"], dim=1).T
        found = {
            "appearance_recall": (cosine.argmax(1) == torch.arange(len(cosine))).float().mean().item(),
            "motion_rank": rankme(rows["grid"]),
            "motion_rank_pooled": rankme(rows["grid"].unflatten(1, (-1, _CELLS**2)).mean(2)),
            "flow_px": rows["flow"].mean().item(),
            "psnr_db": rows["psnr"][rows["between"]].mean().item(),
            "psnr_of_mean_db": rows["psnr_of_mean"][rows["between"]].mean().item(),
        }
        if not processes().is_main_process:
            return found
        return {**found, "middle": _sheet(rows["picture"][:4])}

    def _rows(self, model: Learner, batch: LessonBatch) -> dict[str, torch.Tensor]:
        batch = cast(LessonBatch, batch.to(next(model.parameters()).device))
        first, middle, last = batch.video_BCTHW.unbind(2)
        found = model(first, last, batch.time_B, (first, last))
        pairs = len(first)
        grid = F.adaptive_avg_pool2d(found.motion, _CELLS).flatten(1)
        share = batch.time_B.view(-1, 1, 1, 1)
        mean = (1 - share) * first + share * last
        return {
            "first": found.appearance[0],
            "last": found.appearance[1],
            "grid": torch.cat([grid[:pairs], grid[pairs:]], 1),
            "flow": flow_distance(found.flow_B4hw, batch.flow_B4hw, batch.sector_BHW),
            "between": (batch.time_B > 0) & (batch.time_B < 1),
            "psnr": psnr_db(found.pred, middle),
            "psnr_of_mean": psnr_db(mean, middle),
            "picture": torch.cat([first, middle, found.pred, last], 3)[:, 0],
        }


def _sheet(picture_BHW: torch.Tensor) -> np.ndarray:
    """Rows of (first, middle, predicted, last), uint8 (H, W, 3)."""
    grey_HW = (picture_BHW.flatten(0, 1) * 255).round().byte().cpu().numpy()
    return np.repeat(grey_HW[..., None], 3, -1)
