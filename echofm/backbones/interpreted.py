"""Somebody's encoder or module made one of ours: its output read by its axes, tried on clips of its own contract.

Shapes: B clips, C channels, T frames or times, R rows and C columns of tokens, D features.
"""

from __future__ import annotations

from typing import Any

import pydantic
import torch
from torch import nn

from echofm.backbones.frozen import FrozenEncoder, encode_frames, encoding_of_tokens
from echofm.contract import InputContract
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding
from echofm.schema import first_problem

# Part of the largest feature by which half precision and other orders of summation may differ.
_SAME = 0.02


class Interpreted(nn.Module):
    """A module whose output is read by its axes.

    (B, D): a vector per clip. (B, T, D): per time. (B, T, R, C, D): per time and place. Or an `Encoding`.
    per_frame: the module takes (N, C, H, W) images and gives (N, D) vectors.
    """

    def __init__(self, net: nn.Module, *, per_frame: bool = False) -> None:
        super().__init__()
        self.net, self.per_frame = net, per_frame
        self.axes: Grid | None = None
        """Times, rows and columns of the last output that had axes of their own for them."""

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Raises EchofmError on an output of other axes."""
        if self.per_frame:
            return encode_frames(lambda frames_NCHW: (_vectors(self.net(frames_NCHW)), None), video_BCTHW)
        output = getattr(self.net, "encode", self.net)(video_BCTHW)
        encoding = as_encoding(output, clips=len(video_BCTHW))
        self.axes = Grid(*output.shape[1:4]) if isinstance(output, torch.Tensor) and output.ndim == 5 else None
        return encoding


def as_encoding(output: object, *, clips: int) -> Encoding:
    """A module's output by its axes. Raises EchofmError where it cannot be read."""
    if isinstance(output, Encoding):
        return output
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else None
    if not isinstance(output, torch.Tensor) or shape is None or len(shape) not in (2, 3, 5) or shape[0] != clips:
        raise EchofmError(
            f"the encoder gave {type(output).__name__ if shape is None else shape} for {clips} clips; needed is "
            "(clips, D), (clips, times, D), (clips, times, rows, columns, D) or an echofm.model.vit.Encoding"
        )
    if len(shape) == 2:
        none = output.new_zeros(clips, 0, shape[1])
        return Encoding(tokens_BND=none, phase_BTD=none, video_BD=output)
    grid = Grid(*shape[1:4]) if len(shape) == 5 else Grid(shape[1], 1, 1)
    return encoding_of_tokens(output.flatten(1, -2), grid)


class _Complete:
    """Somebody's whole encoder, with what it left out filled in."""

    def __init__(self, made: Any, name: str) -> None:
        self._made = made
        self.contract, self.digest = contract_of(getattr(made, "contract", None), name), made.digest
        grid = getattr(made, "grid", None)
        self.grid = Grid(*grid) if grid is not None else None
        self.sees_time = bool(getattr(made, "sees_time", True))

    def encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> Encoding:
        self.contract.check(video_BCTHW, frame_rate_hz)
        with torch.no_grad():
            return as_encoding(self._made.encode(video_BCTHW), clips=len(video_BCTHW))

    def to(self, *args: Any, **kwargs: Any) -> _Complete:
        if hasattr(self._made, "to"):
            self._made = self._made.to(*args, **kwargs)
        return self


def whole_encoder(made: Any, name: str) -> AnyEncoder:
    """Somebody's encoder as it is. Raises EchofmError where it fails on a clip of its own contract."""
    if isinstance(made, nn.Module):
        made.eval()
    encoder = _Complete(made, name)
    _tried(encoder, name, may_be_elsewhere=True)
    return encoder


def interpreted(
    name: str,
    net: Interpreted,
    contract: InputContract,
    *,
    sees_time: bool,
    code: str,
    grid: Any = None,
    **pixels: Any,
) -> FrozenEncoder:
    """A module whose output is read by its axes, tried on a clip of its contract.

    code: digest of what computes it. pixels: `mean` and `std` of FrozenEncoder. Raises EchofmError where it fails.
    """
    encoder = FrozenEncoder(
        net,
        contract=contract,
        grid=None,
        sees_time=sees_time,
        settings={"encoder": name, "per_frame": net.per_frame, "code": code},
        **pixels,
    )
    tried = _tried(encoder, name)
    assert tried is not None
    times = tried.phase_BTD.shape[1]
    if times and contract.frames % times:
        raise EchofmError(
            f"{name}: {times} times do not divide the {contract.frames} frames of its contract; three axes are "
            "(clips, times, D), and tokens of places have axes of their own: (clips, times, rows, columns, D)"
        )
    encoder.grid = _found_grid(tried, grid if grid is not None else net.axes, name)
    return encoder


def _tried(encoder: AnyEncoder, name: str, *, may_be_elsewhere: bool = False) -> Encoding | None:
    """An even grey clip encoded alone.

    may_be_elsewhere: on a device that it is yet to be moved from, or to; None where it therefore fails.
    Raises EchofmError where it fails, or gives the clip other features beside a brighter one: tables would hold what
    chance made.
    """
    contract = encoder.contract
    low, high = contract.value_range
    shape = (1, contract.channels, contract.frames, contract.size, contract.size)
    grey, brighter = (torch.full(shape, low + part * (high - low)) for part in (0.5, 0.75))
    try:
        beside, alone = encoder.encode(torch.cat([grey, brighter])), encoder.encode(grey)
    except EchofmError as error:
        raise EchofmError(f"{name}: {error}") from None
    except Exception as error:  # whatever somebody's code raises
        if may_be_elsewhere and isinstance(error, RuntimeError):
            return None
        raise EchofmError(f"{name} fails on a clip of its own contract: {first_line(error)}") from None
    one, other = (encoding.video_BD[0].detach().float() for encoding in (alone, beside))
    # Rounding differs with the size of a batch; a network may have no finite answer to a clip without contrast.
    if not torch.allclose(one, other, rtol=_SAME, atol=_SAME * float(one.nan_to_num().abs().max()), equal_nan=True):
        raise EchofmError(
            f"{name} gives one clip other features from call to call, or beside another clip; switch off dropout, "
            "random masks and statistics of the batch (`.eval()`)"
        )
    return alone


def _found_grid(tried: Encoding, given: Any, name: str) -> Grid | None:
    tokens, times = tried.tokens_BND.shape[1], tried.phase_BTD.shape[1]
    if tokens == 0:
        return None
    if given is not None:
        grid = Grid(*given)
    else:
        side = round((tokens / max(1, times)) ** 0.5)
        grid = Grid(times, side, side)
    if grid.tokens != tokens:
        raise EchofmError(f"{name}: its {tokens} tokens are no grid of {tuple(grid)}; give it an attribute `grid`")
    return grid


def contract_of(given: object, name: str) -> InputContract:
    """An InputContract from one or its entries. Raises EchofmError where it is neither."""
    if isinstance(given, InputContract):
        return given
    try:
        return InputContract.model_validate(given)
    except pydantic.ValidationError as error:
        raise EchofmError(
            f"{name}: its attribute `contract` is no InputContract ({first_problem(error)}); give one, e.g. "
            "InputContract(size=224, frames=16, channels=3)"
        ) from None


def _vectors(output: object) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        raise EchofmError("an image model must give one vector per frame, (frames, D)")
    return output


def first_line(error: Exception) -> str:
    """What went wrong in somebody's code, in one line."""
    # A validation's own first line counts the faults and names none.
    if isinstance(error, pydantic.ValidationError):
        return f"{error.title}: {first_problem(error)}"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
