"""Teachers of optical flow: where what is at a pixel of one frame lies in another.

H rows, W columns; a flow is (x, y) in pixels, right and down positive.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Literal

import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError

FlowKind = Literal["dis", "raft"]
Frame = npt.NDArray[np.uint8]
Flow = npt.NDArray[np.float32]
Estimate = Callable[[Frame, Frame], Flow]
"""(from, to), uint8 (H, W) each -> (2, H, W)."""

# DIS looks for patches of eight pixels over octaves; smaller frames are enlarged for it.
_LEAST_SIDE = 112


def flow_teacher(kind: FlowKind) -> Estimate:
    """OpenCV's dense inverse search (medium preset), or torchvision's RAFT, small, with its published weights.

    Raises EchofmError where what it needs is not installed or cannot be fetched.
    """
    return dis_flow if kind == "dis" else _raft()


def dis_flow(origin_HW: Frame, target_HW: Frame) -> Flow:
    """Dense inverse search (arXiv 1603.03590), in one thread: the same bytes on every machine with this OpenCV."""
    cv2 = opencv()
    height, width = origin_HW.shape
    scale = max(1.0, _LEAST_SIDE / min(height, width))
    size = (round(width * scale), round(height * scale))
    large = [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in (origin_HW, target_HW)]
    flow_HW2 = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*large, None)
    small_HW2 = cv2.resize(flow_HW2, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.moveaxis(small_HW2, -1, 0) / np.float32(scale), np.float32)


def divergence(flow_2HW: Flow) -> npt.NDArray[np.floating]:
    """(H, W) growth of area at each pixel: negative where tissue draws together."""
    return np.gradient(flow_2HW[0], axis=1) + np.gradient(flow_2HW[1], axis=0)


def opencv() -> ModuleType:
    """OpenCV, in one thread. Raises EchofmError naming what to install."""
    try:
        import cv2
    except ImportError:
        raise EchofmError("motion features need OpenCV: pip install 'echofm[synth]'") from None
    cv2.setNumThreads(1)
    return cv2


def _raft() -> Estimate:
    import torch
    from torchvision.models.optical_flow import Raft_Small_Weights, raft_small

    try:
        network = raft_small(weights=Raft_Small_Weights.DEFAULT, progress=False).eval()
    except OSError as error:
        raise EchofmError(
            f"RAFT's weights cannot be fetched ({type(error).__name__}); take --teachers.flow dis, or fetch them once "
            "with network"
        ) from None

    @torch.no_grad()
    def estimate(origin_HW: Frame, target_HW: Frame) -> Flow:
        # RAFT needs 128 pixels and multiples of 8; values in [-1, 1].
        side = max(128, -(-max(origin_HW.shape) // 8) * 8)
        pair = [torch.from_numpy(frame)[None, None].float() / 127.5 - 1 for frame in (origin_HW, target_HW)]
        large = [torch.nn.functional.interpolate(each, (side, side), mode="bilinear") for each in pair]
        flow_12HW = network(*(each.expand(-1, 3, -1, -1) for each in large))[-1]
        scale = torch.tensor([origin_HW.shape[1] / side, origin_HW.shape[0] / side])[:, None, None]
        small = torch.nn.functional.interpolate(flow_12HW, origin_HW.shape, mode="area")[0] * scale
        return small.numpy()

    return estimate
