"""The page of motion features: flow, the middle frame, modes, swaps; one look tells whether they are any good.

T times, H rows, W columns.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torchvision.utils import flow_to_image

from echofm.embed.table import EmbeddingTable
from echofm.metric.collapse import rankme
from echofm.report.blocks import FilmStrip, Picture, Prose, Table
from echofm.report.page import Page
from synth.mafe.network import Mafe
from synth.mafe.watch import Watched, swapped

Bytes = npt.NDArray[np.uint8]
# Modes shown of each clip, where none were asked for.
_MODES = 4
_SHOWN = 8


def motion_page(net: Mafe, table: EmbeddingTable, clips: Sequence[Watched], *, phantom: bool) -> Page:
    """clips: a few of the table's, the first two or more of different patients."""
    of = "phantom" if phantom else "given"
    page = Page("Motion and appearance", f"{len(table)} {of} clips; pictures of {len(clips)} of them.")
    page.add("Features", _ranks(table))
    for number, clip in enumerate(clips, 1):
        page.add(f"Clip {number}", _strip(net, clip), Picture(functools.partial(_modes, clip), alt=_ALT))
    if len(clips) > 1:
        page.add(
            "Swaps",
            Prose(
                "The first clip's fullest frame moved as each clip moves. Rows that move alike whoever's motion it is, "
                "or not at all, are a model that has not learnt."
            ),
            *[_swap(net, clips[0], other, number) for number, other in enumerate(clips, 1)],
        )
    return page


_ALT = "The clip's first motion modes as arrows over its fullest frame, and their courses in pixels over time."


def _ranks(table: EmbeddingTable) -> Table:
    """How many directions the features use."""
    motion_NRCD = table.motion_NRCD
    assert motion_NRCD is not None
    grid = torch.from_numpy(np.array(motion_NRCD)).flatten(1)
    pooled = torch.from_numpy(motion_NRCD.mean((1, 2)))
    look = torch.from_numpy(np.array(table.video_ND))
    rows = [
        ("motion on the coarse grid", grid.shape[1], rankme(grid)),
        ("motion averaged over space", pooled.shape[1], rankme(pooled)),
        ("appearance", look.shape[1], rankme(look)),
    ]
    return Table(("feature", "numbers", "effective rank"), rows, caption="RankMe over the clips; 1 is a collapse.")


def _strip(net: Mafe, clip: Watched) -> FilmStrip:
    """Frames, the same predicted from their neighbours, the flow since the fullest frame."""
    frames_THW = clip.followed.frames_BTHW[0]
    times = np.unique(np.linspace(1, len(frames_THW) - 2, _SHOWN).round().astype(int))
    with torch.no_grad():
        half = torch.full((len(times),), 0.5, device=frames_THW.device)
        found = net(frames_THW[times - 1][:, None], frames_THW[times + 1][:, None], half)
    mean = (frames_THW[times - 1] + frames_THW[times + 1]) / 2
    rows = {
        "frame": _bytes(frames_THW[times]),
        "predicted from its neighbours": _bytes(found.pred[:, 0]),
        "mean of its neighbours": _bytes(mean),
        "flow": flow_colours(clip.flow_T2HW[times]),
    }
    return FilmStrip(
        rows=rows,
        alt="frames, predictions and flow over time",
        columns=[_seconds(second) for second in clip.time_s_T[times]],
        caption="Seconds since the fullest frame. Flow: where what is seen came from since then; colour is direction "
        "(the key is in the lower right corner), strength is length.",
    )


def _modes(clip: Watched) -> Figure:
    found = clip.modes(_MODES)
    frame_HW = clip.followed.anatomy(0)[0][0, 0].cpu().numpy()
    count = len(found.mode_K2RC)
    figure, axes = plt.subplots(1, count + 1, figsize=(2.1 * (count + 1), 2.2), layout="constrained")
    side = frame_HW.shape[0] / found.mode_K2RC.shape[2]
    place = (np.arange(found.mode_K2RC.shape[2]) + 0.5) * side - 0.5
    for number, (axis, mode_2RC) in enumerate(zip(axes, found.mode_K2RC), 1):
        axis.imshow(frame_HW, cmap="gray", vmin=0, vmax=1)
        axis.quiver(place, place, mode_2RC[0], mode_2RC[1], angles="xy", color="C1")
        axis.set(title=f"mode {number}", xticks=[], yticks=[])
        axis.grid(False)
        axes[-1].plot(clip.time_s_T, found.course_KT[number - 1], label=str(number))
    axes[-1].set(xlabel="s", title=f"{found.energy:.0%} of the motion")
    axes[-1].legend()
    return figure


def _swap(net: Mafe, anatomy: Watched, motion: Watched, number: int) -> FilmStrip:
    moved = swapped(net, anatomy, motion)
    times = np.unique(np.linspace(0, len(moved) - 1, _SHOWN).round().astype(int))
    rows = {
        f"clip {number}": _bytes(motion.followed.frames_BTHW[0, times]),
        "clip 1 moved so": (moved[times] * 255).round().astype(np.uint8),
    }
    return FilmStrip(
        rows=rows,
        alt=f"clip 1 moved as clip {number}",
        columns=[_seconds(second) for second in motion.time_s_T[times]],
        caption="Its own motion." if number == 1 else f"Motion of clip {number}.",
    )


def flow_colours(flow_T2HW: npt.NDArray[np.float32]) -> Bytes:
    """(T, H, W, 3): direction as hue, length as strength, white none; a key in the lower right corner."""
    side = max(8, flow_T2HW.shape[2] // 6)
    key_2HW = (np.mgrid[:side, :side] - (side - 1) / 2)[::-1] / (side / 2)
    key_2HW = np.where(np.hypot(*key_2HW) <= 1, key_2HW, 0) * np.hypot(*flow_T2HW.swapaxes(0, 1)).max()
    keyed_T2HW = flow_T2HW.copy()
    keyed_T2HW[:, :, -side:, -side:] = key_2HW
    return flow_to_image(torch.from_numpy(keyed_T2HW)).permute(0, 2, 3, 1).numpy()


def _bytes(frames_THW: torch.Tensor) -> Bytes:
    return (frames_THW.clamp(0, 1) * 255).round().byte().cpu().numpy()


def _seconds(second: float) -> str:
    return "" if np.isnan(second) else f"{second:.2f} s"
