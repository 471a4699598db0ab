"""FrozenEncoder: someone's network behind a contract of plain pixels; PixelEncoder: no network at all.

The network's own normalisation happens inside, once, so that nobody can forget it or do it twice.
Shapes: B clips, C channels, T frames or times, H rows, W columns, N tokens or frames, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from echofm.contract import InputContract
from echofm.digest import tensor_digest
from echofm.errors import EchofmError
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Frames that an image model sees at once: 32 clips of 64 frames must not be 2,048 images in memory.
FRAMES_AT_ONCE = 64


class FrozenEncoder(nn.Module):
    """A network that takes (B, C, T, H, W) and gives an `Encoding`, made an encoder (`echofm.encoder.AnyEncoder`).

    Parameters
    ----------
    net: its `encode(video_BCTHW) -> Encoding` sees normalised pixels.
    contract: of plain pixels. mean, std: by channel, in the contract's units; applied before `net`.
    settings: all beside weights, contract, mean and std that decides the features; goes into the digest.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        contract: InputContract,
        grid: Grid | None,
        sees_time: bool,
        settings: Mapping[str, Any],
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.contract, self.grid, self.sees_time = contract, grid, sees_time
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None, None], persistent=False)
        self.digest = tensor_digest(
            net.state_dict(),
            settings=[dict(settings), contract.model_dump(mode="json"), list(mean), list(std)],
            label=lambda name, tensor: f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0",
        )

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stays in evaluation mode, with gradients or without."""
        return super().train(False)

    def encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None = None) -> Encoding:
        """Embed clips that fit the contract; a grey clip is repeated over three channels.

        Raises EchofmError naming what does not fit, with the fix.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(each.requires_grad for each in self.parameters())):
            return self._encode(video_BCTHW, frame_rate_hz)

    def _encode(self, video_BCTHW: torch.Tensor, frame_rate_hz: float | None) -> Encoding:
        if self.contract.channels == 3 and video_BCTHW.ndim == 5 and video_BCTHW.shape[1] == 1:
            video_BCTHW = video_BCTHW.expand(-1, 3, -1, -1, -1)
        self.contract.check(video_BCTHW, frame_rate_hz)
        return self.net.encode((video_BCTHW - self.mean) / self.std)  # type: ignore[operator]

    forward = encode


def encoding_of_tokens(tokens_BND: torch.Tensor, grid: Grid, *, video_BD: torch.Tensor | None = None) -> Encoding:
    """Tokens of a video model as an encoding: by time the mean over space; the clip their mean unless given."""
    return Encoding(
        tokens_BND=tokens_BND,
        phase_BTD=tokens_BND.unflatten(1, (grid.time, grid.space)).mean(2),
        video_BD=tokens_BND.mean(1) if video_BD is None else video_BD,
    )


def encode_frames(
    see: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]], video_BCTHW: torch.Tensor
) -> Encoding:
    """A clip through an image model, frames in bounded chunks: a vector per frame, their mean as the clip's.

    see: (N, C, H, W) frames to vectors (N, D) and tokens (N, places, D'), or None where the model has none.
    """
    clips, frames = video_BCTHW.shape[0], video_BCTHW.shape[2]
    frames_NCHW = video_BCTHW.transpose(1, 2).flatten(0, 1)
    seen = [see(chunk) for chunk in frames_NCHW.split(FRAMES_AT_ONCE)]
    phase_BTD = torch.cat([vector for vector, _ in seen]).unflatten(0, (clips, frames))
    positions = [tokens for _, tokens in seen if tokens is not None]
    tokens_BND = (
        torch.cat(positions).unflatten(0, (clips, frames)).flatten(1, 2)
        if positions
        else phase_BTD.new_zeros(clips, 0, phase_BTD.shape[2])
    )
    return Encoding(tokens_BND=tokens_BND, phase_BTD=phase_BTD, video_BD=phase_BTD.mean(1))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights made inside are those of `seed`; the generator outside does not notice."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def load_strictly(net: nn.Module, weights: Mapping[str, torch.Tensor], *, path: object) -> None:
    """Fill a network, be it on the meta device, with float32.

    Raises EchofmError naming the first tensor that is missing, unknown or of another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    odd = sorted(set(wanted) ^ set(weights))
    if odd:
        kind = "missing" if odd[0] in wanted else "unknown"
        raise EchofmError(f"{path}: {odd[0]!r} is {kind} ({len(odd)} such tensors in all); these are other weights")
    for name, shape in wanted.items():
        if tuple(weights[name].shape) != shape:
            raise EchofmError(f"{path}: {name!r} is {tuple(weights[name].shape)}, the architecture has {shape}")
    net.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=True, assign=True)


TIMES, SIDE = 16, 14


class _Downsample(nn.Module):
    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        times, rows, columns = self.grid
        grey_BTRC = F.adaptive_avg_pool3d(video_BCTHW.mean(1), (times, rows, columns))
        return Encoding(
            tokens_BND=grey_BTRC.flatten(1)[..., None], phase_BTD=grey_BTRC.flatten(2), video_BD=grey_BTRC.flatten(1)
        )


class PixelEncoder(FrozenEncoder):
    """Grey pixels averaged to at most 16 times x 14 x 14; features are that grid, flattened.

    contract: whose windows to take; that of the encoder it stands beside. Probes reduce its features by a principal
    component analysis of the training patients, its number of components chosen on validation patients.
    """

    def __init__(self, contract: InputContract) -> None:
        # Times must divide the window, so that each stands for as many frames.
        times = max(count for count in range(1, TIMES + 1) if contract.frames % count == 0)
        side = min(SIDE, contract.size)
        grid = Grid(times, side, side)
        settings = {"encoder": "pixels", "grid": list(grid)}
        super().__init__(_Downsample(grid), contract=contract, grid=grid, sees_time=True, settings=settings)
