"""A window followed from its fullest frame: motion to every time, on the window's own anatomy or another's.

B windows, T times, H rows, W columns, h = H / 4, w = W / 4, J heads, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from echofm.loss.periodic import pixel_prior
from synth.mafe.network import Mafe
from synth.mafe.warp import warp

# Every second frame: at 25 Hz one every 80 ms, six in an ejection.
STRIDE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed:
    """frames_BTHW: grey, [0, 1]. features_BThwD, looks_BTD: of each frame alone, the latter
    its appearance. reference_B: the fullest time, opposite_B: the
    emptiest. forth, back: motion (B, T, 2J, h, w) from the reference to each time and the reverse; back None unless
    asked for."""

    frames_BTHW: torch.Tensor
    features_BThwD: torch.Tensor
    looks_BTD: torch.Tensor
    reference_B: torch.Tensor
    opposite_B: torch.Tensor
    forth: torch.Tensor
    back: torch.Tensor | None

    def anatomy(self, window: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The fullest frame of a window (1, 1, H, W) and its features (1, h, w, D)."""
        time = int(self.reference_B[window])
        return self.frames_BTHW[window, time][None, None], self.features_BThwD[window, time][None]


@torch.no_grad()
def follow(net: Mafe, video_BCTHW: torch.Tensor, *, both_ways: bool = False, stride: int = STRIDE) -> Followed:
    """Follow windows of the network's contract, every second frame. both_ways: `back` is wanted, as for a flow.

    The fullest and the emptiest time are the ends of the leading direction of the pictures' similarity; the flow
    between them tells which is which, because a ventricle draws together as it empties.
    """
    frames_BTHW = video_BCTHW.mean(1)[:, ::stride]
    windows, times = frames_BTHW.shape[:2]
    features, tokens = net.frame(frames_BTHW.flatten(0, 1)[:, None])
    features_BThwD = features.unflatten(0, (windows, times))
    similarity_BTT = pixel_prior(frames_BTHW[:, None], tubelet=1)
    # On the CPU and in double: the same direction on every device.
    leading_BT = torch.linalg.eigh(similarity_BTT.double().cpu())[1][:, :, -1].to(frames_BTHW.device)
    one_B, other_B = leading_BT.argmax(1), leading_BT.argmin(1)
    each = torch.arange(windows, device=frames_BTHW.device)
    one, other = features_BThwD[each, one_B], features_BThwD[each, other_B]
    flow_B2HW = net.moved(net.motion(one, other), net.motion(other, one), one)
    # From the second end back to the first: apart where the second is the emptier.
    opens_B = _divergence(flow_B2HW) > 0
    reference_B, opposite_B = torch.where(opens_B, one_B, other_B), torch.where(opens_B, other_B, one_B)
    start = features_BThwD[each, reference_B][:, None].expand_as(features_BThwD).flatten(0, 1)
    every = features_BThwD.flatten(0, 1)
    return Followed(
        frames_BTHW=frames_BTHW,
        features_BThwD=features_BThwD,
        looks_BTD=net.appearance(tokens).unflatten(0, (windows, times)),
        reference_B=reference_B,
        opposite_B=opposite_B,
        forth=net.motion(start, every).unflatten(0, (windows, times)),
        back=net.motion(every, start).unflatten(0, (windows, times)) if both_ways else None,
    )


@torch.no_grad()
def flow_on(net: Mafe, followed: Followed, window: int, features_1hwD: torch.Tensor) -> torch.Tensor:
    """(T, 2, H, W) pixels: where in the anatomy's frame lies what is at a pixel at each time of a window's motion.

    features: of the frame of whoever's anatomy it is.
    """
    assert followed.back is not None, "a flow needs both ways"
    forth, back = followed.forth[window], followed.back[window]
    return net.moved(forth, back, features_1hwD.expand(len(forth), -1, -1, -1))


@torch.no_grad()
def animated(net: Mafe, followed: Followed, window: int, anatomy: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """(T, H, W): a frame, with its features, moved as a window moves; its own when the anatomy is its own."""
    frame_11HW, features_1hwD = anatomy
    flow_T2HW = flow_on(net, followed, window, features_1hwD)
    return warp(frame_11HW.expand(len(flow_T2HW), -1, -1, -1), flow_T2HW)[:, 0]


def _divergence(flow_B2HW: torch.Tensor) -> torch.Tensor:
    """(B,) mean growth of area."""
    across = flow_B2HW[:, 0, :, 1:] - flow_B2HW[:, 0, :, :-1]
    down = flow_B2HW[:, 1, 1:] - flow_B2HW[:, 1, :-1]
    return across.mean((1, 2)) + down.mean((1, 2))
