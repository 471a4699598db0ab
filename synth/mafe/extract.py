"""Motion and appearance of windows, and the same as an encoder whose tokens are motion.

B windows, T times, R rows and C columns of the coarse grid, D numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from echofm.contract import InputContract
from echofm.digest import tensor_digest
from echofm.errors import EchofmError
from echofm.hub import load_model
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding
from synth.mafe.follow import STRIDE, Followed, follow
from synth.mafe.network import Mafe


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionAppearance:
    """motion_BTRCD: at each time the motion since the window's fullest frame, then that to the next time, in places
    (4 pixels) by head and axis, on the coarse grid. appearance_BD: mean over the frames, of length one."""

    motion_BTRCD: torch.Tensor
    appearance_BD: torch.Tensor


def motion_appearance(net: Mafe, video_BCTHW: torch.Tensor) -> MotionAppearance:
    """Of windows of the network's contract."""
    return of_followed(net, follow(net, video_BCTHW))


@torch.no_grad()
def of_followed(net: Mafe, followed: Followed) -> MotionAppearance:
    """Of windows that are followed already."""
    windows, times = followed.forth.shape[:2]
    features = followed.features_BThwD
    next_BTJhw = net.motion(features[:, :-1].flatten(0, 1), features[:, 1:].flatten(0, 1)).unflatten(0, (windows, -1))
    # The last time has no next; its motion is taken to go on.
    next_BTJhw = torch.cat([next_BTJhw, next_BTJhw[:, -1:]], 1)
    both = torch.cat([followed.forth, next_BTJhw], 2).flatten(0, 1)
    return MotionAppearance(
        motion_BTRCD=net.coarse(both).unflatten(0, (windows, times)),
        appearance_BD=F.normalize(followed.looks_BTD.mean(1), dim=1),
    )


class MotionEncoder:
    """A Mafe as an encoder (`echofm.encoder.AnyEncoder`), so that tables of it are made as all others are.

    Its tokens are motion on the coarse grid: a table's `motion_NRCD` says how far each cell moves, its `phase` how, its
    `video_ND` is the appearance.
    """

    sees_time = True

    def __init__(self, net: Mafe) -> None:
        self.net = net.eval().requires_grad_(False)
        self.contract: InputContract = net.config.contract
        cells = net.config.heads.cells
        self.grid = Grid(-(-self.contract.frames // STRIDE), cells, cells)
        settings = [net.architecture, self.contract.model_dump(mode="json"), STRIDE]
        self.digest = tensor_digest(net.state_dict(), settings=settings)

    def encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> Encoding:
        """Raises EchofmError naming what does not fit the contract."""
        self.contract.check(video_BCTHW, frame_rate_hz)
        found = motion_appearance(self.net, video_BCTHW)
        return Encoding(
            tokens_BND=found.motion_BTRCD.flatten(1, 3),
            phase_BTD=found.motion_BTRCD.flatten(2),
            video_BD=found.appearance_BD,
        )

    def to(self, *args: Any, **kwargs: Any) -> MotionEncoder:
        """To a device."""
        self.net.to(*args, **kwargs)
        return self


def load_mafe(run: str | Path) -> Mafe:
    """The network of a run, or of what it exported. Raises EchofmError where there is none on an encoder."""
    folder = Path(run) / "export" if (Path(run) / "export").is_dir() else Path(run)
    net = load_model(folder)
    if not isinstance(net, Mafe):
        raise EchofmError(
            f"{folder}: a {getattr(net, 'kind', 'model')}, not motion features on an encoder; train them by "
            "`echofm synth train mafe echofm`"
        )
    return net.eval()
