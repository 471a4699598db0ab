"""InputContract: what an encoder was trained on, kept with it and checked at every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from echofm.errors import EchofmError
from echofm.schema import FrozenModel

if TYPE_CHECKING:
    import torch

# Frame rates are written with few digits (FrameTime 33.33 ms against 30 Hz).
_RATE_TOLERANCE = 0.02
# Float conversions may leave the range by round-off.
_RANGE_TOLERANCE = 1e-3


class InputContract(FrozenModel):
    """The clips that an encoder takes: (B, channels, frames, size, size), floats in `value_range`."""

    size: Annotated[int, Field(gt=0, le=1024)]
    """Rows and columns of a frame, pixels."""
    frames: Annotated[int, Field(gt=0, le=1024)]
    """Frames of a clip."""
    frame_rate_hz: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Frames per second, or null where it was trained on consecutive frames of any rate."""
    channels: Literal[1, 3] = 1
    """1 grey, 3 colour."""
    colour: Literal["grey_bt601", "rgb"] = "grey_bt601"
    """grey_bt601: BT.601 luma, repeated where there are three channels; rgb: colour as stored."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """Least and greatest pixel value; nothing is normalised further."""

    @model_validator(mode="after")
    def _consistent(self) -> InputContract:
        if self.colour == "rgb" and self.channels != 3:
            raise ValueError("colour 'rgb' needs 3 channels")
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range must be (least, greatest)")
        return self

    @property
    def repeats_grey(self) -> bool:
        """True where a grey clip is to be repeated over three channels."""
        return self.channels == 3 and self.colour == "grey_bt601"

    def check(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> None:
        """Raise EchofmError naming what does not fit and how to make it fit. `frame_rate_hz` None is not checked."""
        if is_traced():
            # A graph holds what is computed of any clips, and cannot look at the values of these.
            return
        self._check_shape(tuple(video_BCTHW.shape))
        if not video_BCTHW.is_floating_point():
            raise EchofmError(
                f"clips hold {video_BCTHW.dtype}, the encoder takes floats in {self._range}; "
                "convert with `video.float() / 255` or ClipBatch.to(device)"
            )
        if frame_rate_hz is not None and self.frame_rate_hz is not None:
            self._check_rate(frame_rate_hz)
        self._check_values(video_BCTHW)

    @property
    def _range(self) -> str:
        return f"[{self.value_range[0]:g}, {self.value_range[1]:g}]"

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        wanted = (self.channels, self.frames, self.size, self.size)
        if len(shape) != 5:
            raise EchofmError(f"clips have {len(shape)} axes; give (clips, channels, frames, rows, columns)")
        if shape[1] != self.channels:
            fix = "read with channels=1" if self.channels == 1 else "read with channels=3"
            raise EchofmError(
                f"clips have {shape[1]} channels, the encoder takes {self.channels} ({self.colour}); {fix}"
            )
        if shape[1:] != wanted:
            raise EchofmError(
                f"clips are {shape[2]} frames of {shape[3]}x{shape[4]}, the encoder takes {self.frames} of "
                f"{self.size}x{self.size}; use echofm.conform.conform(clip, size={self.size}) and windows of "
                f"{self.frames} frames"
            )

    def _check_rate(self, frame_rate_hz: float) -> None:
        assert self.frame_rate_hz is not None
        if abs(frame_rate_hz / self.frame_rate_hz - 1) > _RATE_TOLERANCE:
            raise EchofmError(
                f"clips run at {frame_rate_hz:g} frames/s, the encoder was trained at {self.frame_rate_hz:g}; "
                f"use echofm.conform.conform(clip, frame_rate_hz={self.frame_rate_hz:g})"
            )

    def _check_values(self, video_BCTHW: torch.Tensor) -> None:
        if video_BCTHW.numel() == 0:
            return
        least, greatest = (value.item() for value in video_BCTHW.detach().aminmax())
        low, high = self.value_range
        slack = _RANGE_TOLERANCE * (high - low)
        # Written so that NaN fails too.
        if not (least >= low - slack and greatest <= high + slack):
            raise EchofmError(
                f"pixel values run from {least:g} to {greatest:g}, the encoder takes {self._range}; "
                f"{_range_fix(least, greatest)}"
            )
        if (low, high) == (0.0, 1.0) and 0 < greatest <= 1 / 255 + 1e-6:
            raise EchofmError(
                f"the brightest pixel is {greatest:g} of 1: the clips look divided by 255 twice; divide once"
            )


def is_traced() -> bool:
    """Whether the encoder is being turned into a graph (torch.compile, torch.export, ONNX, TorchScript)."""
    import torch

    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _range_fix(least: float, greatest: float) -> str:
    if least != least or greatest != greatest:
        return "remove the NaN"
    if least >= 0 and greatest <= 255.5:
        return "divide by 255"
    return "undo the mean and standard deviation normalisation: give plain pixels"
